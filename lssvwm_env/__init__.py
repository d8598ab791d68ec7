"""A trained video world model that is a Gymnasium environment.

Importing this package registers the bundled simulators, and is cheap: torch is only imported with the first simulator.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gymnasium as gym

from lssvwm_env.registry import BUNDLED, register_envs

if TYPE_CHECKING:
    from lssvwm_env.core import SimulatorCore
    from lssvwm_env.env import LSSVWMEnv
    from lssvwm_env.sb3 import LSSVWMVecEnv
    from lssvwm_env.simulator import Simulator, SimulatorError
    from lssvwm_env.vector import LSSVWMVectorEnv

__version__ = "0.1.0"
__all__ = [
    "BUNDLED",
    "LSSVWMEnv",
    "LSSVWMVecEnv",
    "LSSVWMVectorEnv",
    "Simulator",
    "SimulatorCore",
    "SimulatorError",
    "load",
    "register_envs",
]

_LAZY: Final = {
    "LSSVWMEnv": "lssvwm_env.env",
    "LSSVWMVecEnv": "lssvwm_env.sb3",
    "LSSVWMVectorEnv": "lssvwm_env.vector",
    "Simulator": "lssvwm_env.simulator",
    "SimulatorCore": "lssvwm_env.core",
    "SimulatorError": "lssvwm_env.simulator",
}


def load(
    path_or_id: str | Path, render_mode: str | None = None, denoising_steps: int | None = None
) -> gym.Env[Any, Any]:
    """Open a simulator as `gymnasium.make` opens a bundled one: with its time limit.

    Args:
        path_or_id: A simulator folder, or the id or name of a bundled simulator.
        render_mode: None, "rgb_array" or "human".
        denoising_steps: Network passes per frame, >= 1; None takes the simulator's own number.

    Returns:
        A `LSSVWMEnv`, truncated after the simulator's `horizon` steps. Its `unwrapped` saves, forks and observes.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
    """
    from lssvwm_env.env import LSSVWMEnv

    env = LSSVWMEnv(path_or_id, render_mode, denoising_steps)
    return gym.wrappers.TimeLimit(env, env.simulator.config.horizon)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_envs()
