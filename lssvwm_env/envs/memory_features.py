"""`MemoryFeatures`: the world model as the memory of an agent that lives in the real environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from lssvwm_env.envs.actions import as_actions
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.observations import ObservationKind, as_arrays, observation, observation_space
from lssvwm_env.simulator.simulator import Simulator


class MemoryFeatures(gym.Wrapper[Any, Any, Any, Any]):
    """Shows every real frame to a world model, and an agent what the model makes of it.

    A policy without memory of its own then remembers what the model does. The features are those of `LSSVWMEnv` with
    the same `observation`: what was learned in the dream can be used here as it is.

    Args:
        env: A real environment with the simulator's frames and actions; see `lssvwm_env.real.make_real`.
        simulator: A simulator, its folder, or the id or name of a registered one.
        observation: "features", or "both" as a dict of features and frames; or "frames", for those who ask
            `core.features()` besides.
        device: Where the model runs.

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
        simulator = simulator if isinstance(simulator, Simulator) else Simulator.load(simulator)
        self.core = SimulatorCore(simulator, 1, device=device)
        wanted = {"observation_space": simulator.observation_space, "action_space": simulator.action_space}
        for name, space in wanted.items():
            if getattr(env, name) != space:
                raise ValueError(
                    f"env has {name} {getattr(env, name)}, but the simulator has {space}: make the environment with "
                    f"lssvwm_env.real.make_real({simulator.config.env_id!r}, **{simulator.config.env_kwargs})"
                )
        self.observation, self.observation_space = observation, observation_space(simulator, observation)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a real episode, with an empty memory."""
        frame, info = self.env.reset(seed=seed, options=options)
        space = self.core.action_space
        nothing = np.zeros((1, *(space.shape or ())), space.dtype)
        return self._see(self.core.reset([0], [0], [(frame[None], nothing)])), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Act, and show the model the action and the frame it led to."""
        frame, reward, terminated, truncated, info = self.env.step(action)
        act = as_actions(self.core.action_space, action, (), "action")
        return self._see(self.core.observe(frame[None, None], act[None, None])), reward, terminated, truncated, info

    def _see(self, frames: Any) -> Any:
        return as_arrays(observation(self.observation, frames, self.core.features()), 0)
