"""`LSSVWMVectorEnv`: B simulated worlds in one batch, as a Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from lssvwm_env.envs.arguments import as_flag, as_integer
from lssvwm_env.envs.core import CoreOptions, SimulatorCore
from lssvwm_env.envs.core_state import CoreState
from lssvwm_env.envs.observations import ObservationKind, as_arrays, begin, observation, observation_space
from lssvwm_env.envs.turns import Turn, in_turn
from lssvwm_env.simulator.simulator import Simulator, open_simulator
from lssvwm_models.utils.checks import of_type, shown


class LSSVWMVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """B worlds that a model dreams together: one pass of the network moves all of them.

    World i shows what a single `LSSVWMEnv` in a `TimeLimit` would with the same seed and actions, through any number of
    episodes. `gymnasium.make_vec` makes one of a bundled simulator.

    Args:
        simulator: A simulator, its folder, or the id or name of a registered one.
        num_envs: B.
        max_episode_steps: Steps after which an episode is truncated; None takes the simulator's `horizon`.
        autoreset_mode: As in Gymnasium: `NEXT_STEP`, where the step after an end begins the next episode; `SAME_STEP`,
            where the step of the end does, and the last observation is in `infos["final_obs"]`; or `DISABLED`, where
            `reset` with `options={"reset_mask": ...}` does.
        render_mode: None or "rgb_array", where `render` returns all frames.
        observation: What is observed: "frames", "features", or "both" as a dict of the two.
        to_numpy: Whether observations, rewards and ends are numpy arrays; otherwise they are tensors on `device`.
        **core: `denoising_steps`, `device`, `bf16` and `uncertainty_samples` (its result is `infos["uncertainty"]`), as
            for `SimulatorCore`.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
        ValueError: If an argument is none of the above.
    """

    def __init__(
        self,
        simulator: str | Path | Simulator,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        observation: ObservationKind = "frames",
        to_numpy: bool = True,
        **core: Unpack[CoreOptions],
    ) -> None:
        if not of_type(Literal["rgb_array"] | None, render_mode):
            raise ValueError(f"render_mode is {shown(render_mode)}; expected None or 'rgb_array'")
        self.core = SimulatorCore(open_simulator(simulator), num_envs, **core)
        self.num_envs = self.core.num_envs
        self.render_mode = render_mode
        self.observation = observation
        limit = self.simulator.config.horizon if max_episode_steps is None else max_episode_steps
        self.max_episode_steps = as_integer(limit, "max_episode_steps", 1)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.to_numpy = as_flag(to_numpy, "to_numpy")
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 10, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(self.simulator, observation)
        self.single_action_space = self.simulator.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rngs: list[np.random.Generator | None] = [None] * self.num_envs
        self._ended = np.zeros(self.num_envs, bool)
        self._frames = torch.zeros((self.num_envs, *self.simulator.observation_space.shape), dtype=torch.uint8)

    @property
    def simulator(self) -> Simulator:
        """What is simulated."""
        return self.core.simulator

    @property
    def turn(self) -> Turn:
        """Held while a thread uses these worlds."""
        return self.core.turn

    @in_turn
    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | Sequence[dict[str, Any] | None] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes, in all worlds or, with `"reset_mask"` among the options, in some.

        Args:
            seed: As in Gymnasium: world i gets `seed + i`, or the i-th of a list.
            options: Those of `LSSVWMEnv.reset`, for all worlds, or one such dict per world. In a dict for all worlds,
                `"reset_mask"`: bool (B,), the worlds to begin in.

        Returns:
            The observations of all worlds, and infos as those of `step`, of the worlds that have begun.

        Raises:
            ResetNeeded: If other worlds were never reset.
            ValueError: If a seed or an option is not known or does not fit; the old episodes go on then, and the next
                ones are those which they would have been.
        """
        seeds = self._seeds(seed)
        mask = self._mask(options)
        if (fresh := np.flatnonzero(~self.core.begun().cpu().numpy() & ~mask)).size:
            raise gym.error.ResetNeeded(f"worlds {fresh} have not begun: the first reset is of all worlds")
        if isinstance(options, dict):
            options = [{name: value for name, value in options.items() if name != "reset_mask"}] * self.num_envs
        each = self._per_world(options, "options")
        ids = np.flatnonzero(mask).tolist()
        rngs = [None if seeds[i] is None else seeding.np_random(seeds[i])[0] for i in ids]
        self._begin(ids, rngs, [each[i] for i in ids])
        self._ended[ids] = False
        return self._observe(), _masked(self.core.first_info(), mask)

    @in_turn
    def step(self, actions: ArrayLike | torch.Tensor) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Dream one frame on in every world.

        Args:
            actions: Integers (B,) or floats (B, A).

        Returns:
            Observations, rewards (B,), terminated (B,), truncated (B,), and infos with `term_prob` (B,), the model's
            belief that the episode has ended, and, if asked for, `uncertainty` (B,).

        Raises:
            ResetNeeded: If a world was never reset, or has ended and resets are disabled.
            ValueError: If an action is not in the action space; no world has moved then.
        """
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise gym.error.ResetNeeded(f"reset the worlds that have ended first: {np.flatnonzero(self._ended)}")
        # Worlds that ended in the step before only begin anew in this one: their dreamt frame counts for nothing.
        idle = self._ended if self.autoreset_mode == AutoresetMode.NEXT_STEP else np.zeros_like(self._ended)
        step = self.core.step(actions)
        self._frames = step.obs
        active = torch.from_numpy(~idle).to(step.obs.device)
        rew = step.rew * active
        terminated = step.terminated & active
        truncated = (self.core.elapsed >= self.max_episode_steps) & active
        self._ended = (terminated | truncated).cpu().numpy()
        beliefs = step.info()
        infos: dict[str, Any] = {}
        begun = idle
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            begun = self._ended
            infos = self._final_infos(beliefs)
        if begun.any():
            self._begin(np.flatnonzero(begun).tolist())
            first = self.core.first_info()
            beliefs = {name: np.where(begun, first[name], belief) for name, belief in beliefs.items()}
        infos |= _masked(beliefs, np.ones(self.num_envs, bool))
        if not self.to_numpy:
            return self._observe(), rew, terminated, truncated, infos
        return self._observe(), rew.double().cpu().numpy(), terminated.cpu().numpy(), truncated.cpu().numpy(), infos

    def save_state(self, include_rng: bool = True) -> CoreState:
        """Keep this moment of all worlds, and how far their episodes are; see `SimulatorCore.save_state`."""
        return self.core.save_state(include_rng)

    @in_turn
    def load_state(self, state: CoreState) -> Any:
        """Go back to a saved moment; see `SimulatorCore.load_state`. Returns the observations of that moment."""
        self.core.load_state(state)
        self._frames = self.core.frames()
        self._ended = np.zeros(self.num_envs, bool)
        return self._observe()

    @in_turn
    def observe(self, obs: ArrayLike, actions: ArrayLike | torch.Tensor) -> Any:
        """Show all worlds what really happened next: see `SimulatorCore.observe`. Returns the new observations."""
        self._frames = self.core.observe(obs, actions)
        return self._observe()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The last frame of every world, B times uint8 (H, W, C)."""
        return None if self.render_mode is None else tuple(self._frames.cpu().numpy().copy())

    def _begin(
        self,
        ids: list[int],
        rngs: Sequence[np.random.Generator | None] | None = None,
        options: Sequence[dict[str, Any] | None] | None = None,
    ) -> None:
        """Begin episodes in some worlds, with new generators where there are some."""
        fresh = [
            new or self._rngs[i] or seeding.np_random()[0]
            for i, new in zip(ids, rngs or [None] * len(ids), strict=True)
        ]
        frames = begin(self.core, ids, fresh, options or [None] * len(ids))
        for i, rng in zip(ids, fresh, strict=True):
            self._rngs[i] = rng
        self._frames = self._frames.to(frames.device).index_copy(0, torch.tensor(ids, device=frames.device), frames)

    def _final_infos(self, beliefs: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
        """The infos of `SAME_STEP` about the ends of episodes."""
        last = self._observe()
        infos: dict[str, Any] = {}
        for i in np.flatnonzero(self._ended).tolist():
            obs = {k: v[i] for k, v in last.items()} if isinstance(last, dict) else last[i]
            final = {"final_obs": obs, "final_info": {name: belief[i] for name, belief in beliefs.items()}}
            infos = self._add_info(infos, final, i)
        return infos

    def _observe(self) -> Any:
        tensors = observation(self.observation, self._frames, self.core.features())
        return as_arrays(tensors) if self.to_numpy else tensors

    def _seeds(self, seed: Any) -> Sequence[int | None]:
        """One seed per world; None: it goes on with its generator."""
        if seed is None or isinstance(seed, int | np.integer):
            first = None if seed is None else as_integer(seed, "seed")
            return [None if first is None else first + i for i in range(self.num_envs)]
        seeds = seed.tolist() if isinstance(seed, np.ndarray) else seed
        return [None if s is None else as_integer(s, "seed") for s in self._per_world(seeds, "seed")]

    def _per_world(self, values: Any, name: str) -> Sequence[Any]:
        """A list with an entry per world; None stands for as many."""
        if values is None:
            return [None] * self.num_envs
        if not isinstance(values, list | tuple):
            raise ValueError(f"{name} is {shown(values)}; expected one for all worlds, or a list of one per world")
        if len(values) != self.num_envs:
            raise ValueError(f"{name} has {len(values)} entries; expected one per world, {self.num_envs}")
        return values

    def _mask(self, options: Any) -> NDArray[np.bool_]:
        mask = options.get("reset_mask") if isinstance(options, dict) else None
        if mask is None:
            return np.ones(self.num_envs, bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"options['reset_mask'] is {mask!r}; expected bool ({self.num_envs},), not all False")
        return mask


def _masked(beliefs: dict[str, NDArray[np.float64]], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Infos of the worlds of a mask, as Gymnasium puts them together."""
    infos: dict[str, Any] = {}
    for name, belief in beliefs.items():
        infos |= {name: belief * mask, f"_{name}": mask.copy()}
    return infos


def _autoreset_mode(mode: Any) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        known = ", ".join(str(each) for each in AutoresetMode)
        raise ValueError(f"autoreset_mode is {shown(mode)}; expected one of {known}") from error
