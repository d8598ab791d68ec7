"""A trained video world model that is a Gymnasium environment.

Importing this package registers simulators, the bundled ones and your own, and is cheap: it reads their `config.json`;
torch is only imported with the first simulator.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gymnasium as gym

from lssvwm_env.simulator.folder import SimulatorError
from lssvwm_env.simulator.registry import SIMULATORS, RegisteredSimulator, register_envs
from lssvwm_env.version import __version__

if TYPE_CHECKING:
    from lssvwm_env.envs.core import SimulatorCore
    from lssvwm_env.envs.env import LSSVWMEnv
    from lssvwm_env.envs.sb3 import LSSVWMVecEnv
    from lssvwm_env.envs.vector import LSSVWMVectorEnv
    from lssvwm_env.envs.wrappers import MemoryFeatures, UncertaintyGuard
    from lssvwm_env.simulator.simulator import Simulator

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
    "__version__",
    "load",
    "register_envs",
]

_LAZY: Final = {
    "LSSVWMEnv": "lssvwm_env.envs.env",
    "LSSVWMVecEnv": "lssvwm_env.envs.sb3",
    "LSSVWMVectorEnv": "lssvwm_env.envs.vector",
    "MemoryFeatures": "lssvwm_env.envs.wrappers",
    "Simulator": "lssvwm_env.simulator.simulator",
    "SimulatorCore": "lssvwm_env.envs.core",
    "UncertaintyGuard": "lssvwm_env.envs.wrappers",
}


def load(simulator: str | Path | Simulator, **kwargs: Any) -> gym.Env[Any, Any]:
    """Open a simulator as `gymnasium.make` opens a registered one: with its time limit.

    Args:
        simulator: A simulator, its folder, or the id or name of a registered one.
        kwargs: Other arguments of `LSSVWMEnv`, such as `render_mode` and `device`.

    Returns:
        A `LSSVWMEnv`, truncated after the simulator's `horizon` steps. Its `unwrapped` saves, forks and observes.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
    """
    from lssvwm_env.envs.env import LSSVWMEnv

    env = LSSVWMEnv(simulator, **kwargs)
    return gym.wrappers.TimeLimit(env, env.simulator.config.horizon)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(globals().keys() | _LAZY.keys())


register_envs()
