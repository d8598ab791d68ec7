"""Wrappers: a world model as the memory of an agent in the real environment, and a guard for agents in dreams."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from torch import Tensor

from lssvwm_env.envs.arguments import as_actions
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.observations import ObservationKind, as_arrays, observation, observation_space
from lssvwm_env.simulator.simulator import Simulator, open_simulator
from lssvwm_models.utils.checks import MOST, shown


class MemoryFeatures(gym.Wrapper[Any, Any, Any, Any]):
    """Shows every real frame to a world model, and an agent what the model makes of it.

    A policy without memory of its own then remembers what the model does. The features are those of `LSSVWMEnv` with
    the same `observation`: what was learned in the dream can be used here as it is.

    Args:
        env: A real environment with the simulator's frames and actions; see `lssvwm_env.real.make_real`.
        simulator: A simulator, its folder, or the id or name of a registered one.
        observation: "features", or "both" as a dict of features and frames; or "frames", for those who ask
            `core.features()` besides.
        device: Where the model runs, as for `SimulatorCore`.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
        ValueError: If the spaces of `env` are not the simulator's.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        simulator: str | Path | Simulator,
        observation: ObservationKind = "features",
        device: str = "cpu",
    ) -> None:
        super().__init__(env)
        simulator = open_simulator(simulator)
        self.core = SimulatorCore(simulator, 1, device=device)
        wanted = {"observation_space": simulator.observation_space, "action_space": simulator.action_space}
        for name, space in wanted.items():
            if getattr(env, name) != space:
                raise ValueError(
                    f"env has {name} {getattr(env, name)}, but the simulator has {space}: make the environment with "
                    f"lssvwm_env.real.make_recorded(simulator.config), of {simulator.config.env_id!r}"
                )
        self.observation = observation
        self.observation_space = observation_space(simulator, observation)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a real episode, with an empty memory."""
        frame, info = self.env.reset(seed=seed, options=options)
        space = self.core.action_space
        no_action = np.zeros((1, *(space.shape or ())), space.dtype)
        return self._observation(self.core.reset([0], [0], [(frame[None], no_action)])), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Act, and show the model the action and the frame it led to."""
        frame, reward, terminated, truncated, info = self.env.step(action)
        act = as_actions(self.core.action_space, action, (), "action")
        obs = self._observation(self.core.observe(frame[None, None], act[None, None]))
        return obs, reward, terminated, truncated, info

    def _observation(self, frames: Tensor) -> Any:
        return as_arrays(observation(self.observation, frames, self.core.features()), 0)


class UncertaintyGuard(gym.Wrapper[Any, Any, Any, Any]):
    """Truncates episodes, and lowers rewards, where a dream is unsure of its next frame.

    Agents that learn in a model find where it is wrong in their favour. What they gain there, they should not keep.

    Args:
        env: A `LSSVWMEnv`, perhaps wrapped, with `uncertainty_samples` of at least 2.
        limit: Uncertainty, a share of full brightness, above which the episode is truncated; None: nowhere.
        penalty: Reward lost per unit of uncertainty.

    Raises:
        ValueError: If `env` does not measure its uncertainty, or a number is none that it can be.
    """

    def __init__(self, env: gym.Env[Any, Any], limit: float | None = None, penalty: float = 0.0) -> None:
        super().__init__(env)
        core = getattr(env.unwrapped, "core", None)
        if not getattr(core, "uncertainty_samples", 0):
            raise ValueError(f"{env} does not measure its uncertainty; make it with uncertainty_samples=4")
        for name, number in (("limit", limit), ("penalty", penalty)):
            sound = isinstance(number, Real) and not isinstance(number, bool) and 0 <= number <= MOST
            if number is not None and not sound:
                raise ValueError(f"{name}={shown(number)} must be a number of at least 0")
        self.limit = limit
        self.penalty = penalty

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step; the reward is that of the dream less the penalty, and the info is that of the dream."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        uncertainty = info["uncertainty"]
        too_uncertain = self.limit is not None and bool(uncertainty > self.limit)
        return obs, float(reward) - self.penalty * float(uncertainty), terminated, truncated or too_uncertain, info
