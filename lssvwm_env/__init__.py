"""A trained video world model that is a Gymnasium environment.

Importing this package registers simulators, the bundled ones and your own, and is cheap: it reads their `config.json`;
torch is only imported with the first simulator.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gymnasium as gym

from lssvwm_env.registry import SIMULATORS, RegisteredSimulator, register_envs
from lssvwm_env.simulator_folder import SimulatorError

if TYPE_CHECKING:
    from lssvwm_env.core import SimulatorCore
    from lssvwm_env.env import LSSVWMEnv
    from lssvwm_env.memory_features import MemoryFeatures
    from lssvwm_env.sb3 import LSSVWMVecEnv
    from lssvwm_env.simulator import Simulator
    from lssvwm_env.uncertainty import UncertaintyGuard
    from lssvwm_env.vector import LSSVWMVectorEnv

__version__ = "0.1.0"
__all__ = [
    "SIMULATORS",
    "LSSVWMEnv",
    "LSSVWMVecEnv",
    "LSSVWMVectorEnv",
    "MemoryFeatures",
    "RegisteredSimulator",
    "Simulator",
    "SimulatorCore",
    "SimulatorError",
    "UncertaintyGuard",
    "load",
    "register_envs",
]

_LAZY: Final = {
    "LSSVWMEnv": "lssvwm_env.env",
    "LSSVWMVecEnv": "lssvwm_env.sb3",
    "LSSVWMVectorEnv": "lssvwm_env.vector",
    "MemoryFeatures": "lssvwm_env.memory_features",
    "Simulator": "lssvwm_env.simulator",
    "SimulatorCore": "lssvwm_env.core",
    "UncertaintyGuard": "lssvwm_env.uncertainty",
}


def load(simulator: str | Path | Simulator, **kwargs: Any) -> gym.Env[Any, Any]:
    """Open a simulator as `gymnasium.make` opens a registered one: with its time limit.

    Args:
        simulator: A simulator, its folder, or the id or name of a registered one.
        kwargs: Other arguments of `LSSVWMEnv`, such as `render_mode`.

    Returns:
        A `LSSVWMEnv`, truncated after the simulator's `horizon` steps. Its `unwrapped` saves, forks and observes.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
    """
    from lssvwm_env.env import LSSVWMEnv

    env = LSSVWMEnv(simulator, **kwargs)
    return gym.wrappers.TimeLimit(env, env.simulator.config.horizon)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_envs()
