"""`LSSVWMVecEnv`: B simulated worlds in one batch, as a Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn
from torch import Tensor

from lssvwm_env.envs.arguments import as_actions, as_integer
from lssvwm_env.envs.core import CoreOptions
from lssvwm_env.envs.observations import ObservationKind, check_options
from lssvwm_env.envs.turns import Turn, in_turn
from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.utils.checks import shown


class LSSVWMVecEnv(VecEnv):
    """B worlds that a model dreams together, for the algorithms of Stable-Baselines3.

    World i shows what a single `LSSVWMEnv` in a `TimeLimit` would inside a `DummyVecEnv`.

    Args:
        simulator: A simulator, its folder, or the id or name of a registered one.
        num_envs: B.
        max_episode_steps: Steps after which an episode is truncated; None takes the simulator's `horizon`.
        render_mode: None or "rgb_array".
        observation: What is observed: "frames", "features", or "both" as a dict of the two.
        **core: `denoising_steps`, `device`, `bf16` and `uncertainty_samples` (its result is `info["uncertainty"]`), as
            for `SimulatorCore`.

    Attributes:
        env: The vector environment that does the work; its `core` saves, forks and observes.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
        ValueError: If an argument is none of the above.
    """

    def __init__(
        self,
        simulator: str | Path | Simulator,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        observation: ObservationKind = "frames",
        **core: Unpack[CoreOptions],
    ) -> None:
        same_step = AutoresetMode.SAME_STEP
        self.env = LSSVWMVectorEnv(
            simulator, num_envs, max_episode_steps, same_step, render_mode, observation=observation, **core
        )
        super().__init__(self.env.num_envs, self.env.single_observation_space, self.env.single_action_space)
        self.metadata = self.env.metadata
        self._actions: Tensor | None = None

    @property
    def turn(self) -> Turn:
        """Held while a thread uses these worlds."""
        return self.env.turn

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset: world i by seed + i.

        Raises:
            ValueError: If it is no integer, or negative.
        """
        return super().seed(None if seed is None else as_integer(seed, "seed"))

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Say where the next reset begins: options of `LSSVWMEnv.reset`, for all worlds, or one dict per world.

        Raises:
            ValueError: If they are none of these; those of before stay.
        """
        check_options(self.env.core, self._each(options))
        super().set_options(options)

    @in_turn
    def reset(self) -> VecEnvObs:
        """Begin episodes in all worlds, with the seeds and options given by `seed` and `set_options`."""
        obs, infos = self.env.reset(seed=self._seeds, options=self._options)
        self._reset_seeds()
        self._reset_options()
        self._actions = None
        self.reset_infos = [self._beliefs(infos, i) for i in range(self.num_envs)]
        return obs

    @in_turn
    def step_async(self, actions: NDArray[Any]) -> None:
        """Take note of the actions, integers (B,) or floats (B, A).

        Raises:
            RuntimeError: If those of before are still to be taken.
            ValueError: If they are not in the action space.
        """
        if self._actions is not None:
            raise RuntimeError("step_wait() comes first: two threads cannot step one environment, nor one step twice")
        self._actions = as_actions(self.env.core.action_space, actions, (self.num_envs,), "actions")

    @in_turn
    def step_wait(self) -> VecEnvStepReturn:
        """Dream one frame on in every world; where an episode ends, begin the next one."""
        actions = self._actions
        self._actions = None
        if actions is None:
            raise RuntimeError("step_async() comes first: there are no actions to take")
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        dones = terminated | truncated
        listed: list[dict[str, Any]] = []
        for i, done in enumerate(dones):
            beliefs = self._beliefs(infos["final_info"] if done else infos, i)
            listed.append(beliefs | {"TimeLimit.truncated": bool(truncated[i] and not terminated[i])})
            if done:
                listed[i]["terminal_observation"] = infos["final_obs"][i]
                self.reset_infos[i] = self._beliefs(infos, i)
        return obs, rewards.astype(np.float32), dones, listed

    def close(self) -> None:
        """Nothing is open."""
        self.env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """The last frame of every world."""
        return self.env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute, the same for all worlds as they share one environment."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refused: the worlds share one environment.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"worlds of one batch have no attributes of their own; set `env.{attr_name}` instead")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Refused: the worlds share one environment.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"worlds of one batch have no methods of their own; call `env.{method_name}` instead")

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether worlds are wrapped: none is."""
        return [False for _ in self._get_indices(indices)]

    def _each(self, options: Any) -> Sequence[Any]:
        """Options per world."""
        if options is None or isinstance(options, dict):
            return [options] * self.num_envs
        if not isinstance(options, list | tuple) or len(options) != self.num_envs:
            raise ValueError(f"options is {shown(options)}; expected a dict, or a list of {self.num_envs}")
        return options

    @staticmethod
    def _beliefs(infos: dict[str, Any], world: int) -> dict[str, Any]:
        """The info of one world."""
        return {name: infos[name][world] for name in ("term_prob", "uncertainty") if name in infos}
