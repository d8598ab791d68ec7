"""`LSSVWMEnv`: one simulated world as a Gymnasium environment."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final, Literal, Unpack
from weakref import ref

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.wrappers import TimeLimit
from numpy.typing import ArrayLike, NDArray

from lssvwm_env.envs.arguments import as_actions, as_array, as_integer
from lssvwm_env.envs.core import CoreOptions, SimulatorCore
from lssvwm_env.envs.core_state import CoreState
from lssvwm_env.envs.keys import keys_to_action, require_pygame
from lssvwm_env.envs.observations import ObservationKind, as_arrays, begin, observation, observation_space
from lssvwm_env.envs.time_limits import calling_limits, set_elapsed
from lssvwm_env.envs.turns import Turn, in_turn
from lssvwm_env.simulator.simulator import Simulator, open_simulator
from lssvwm_models.utils.checks import of_type, shown

_WINDOW: Final = 512  # pixels along the longer side of the window, about


class LSSVWMEnv(gym.Env[Any, Any]):
    """A world that a model dreams, frame by frame.

    Beyond Gymnasium's interface, a world can be saved, forked, begun from a lived episode, and shown what really
    happened. Its saved state has a fixed size whatever its history. The random generator `np_random`, which only
    draws the seeds of new episodes, is no part of it.

    `copy.deepcopy` and `pickle` copy all of it, with the same future and no window. One thread may use a world at a
    time; another one gets a `RuntimeError` meanwhile.

    An episode ends where the model believes, with more than even odds, that the real one would; `info["term_prob"]`
    is that belief. `truncated` is always False here: `gymnasium.make` and `lssvwm_env.load` add the time limit.

    Args:
        simulator: A simulator, its folder, or the id or name of a registered one.
        render_mode: None, "rgb_array" (`render` returns the frame) or "human" (a window shows every frame).
        observation: What `reset` and `step` return: "frames", "features", or "both" as a dict of the two.
        **core: `denoising_steps`, `device`, `bf16` and `uncertainty_samples` (its result is `info["uncertainty"]`), as
            for `SimulatorCore`.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
        ValueError: If an argument is none of the above.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 10}  # noqa: RUF012 (typed so by Gymnasium)

    def __init__(
        self,
        simulator: str | Path | Simulator,
        render_mode: str | None = None,
        observation: ObservationKind = "frames",
        **core: Unpack[CoreOptions],
    ) -> None:
        if not of_type(Literal["rgb_array", "human"] | None, render_mode):
            raise ValueError(f"render_mode is {shown(render_mode)}; expected None, 'rgb_array' or 'human'")
        self.core = SimulatorCore(open_simulator(simulator), 1, **core)
        self.observation = observation
        self.observation_space = observation_space(self.simulator, observation)
        self.action_space = self.simulator.action_space
        self.render_mode = render_mode
        self._frame: NDArray[np.uint8] | None = None
        self._window: _Window | None = None
        self._limits: list[ref[TimeLimit[Any, Any]]] | None = None  # None: not known yet

    @property
    def simulator(self) -> Simulator:
        """What is simulated."""
        return self.core.simulator

    @property
    def turn(self) -> Turn:
        """Held while a thread uses this world."""
        return self.core.turn

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which open no window and are wrapped by others."""
        mode = None if self.render_mode == "human" else self.render_mode
        return vars(self) | {"render_mode": mode, "_window": None, "_limits": None}

    @in_turn
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode from one of the simulator's starts, or go on from a lived one.

        Args:
            seed: As in Gymnasium.
            options: `"context"`: real frames and actions `(obs, act)` to go on from, uint8 (T, H, W, C) and (T,) or
                (T, A), where `act[t]` led to frame t and `act[0]` is ignored. `"start"`: the number of one of the
                simulator's starts, or "nothing": then the first frame is imagined, too. `"allow_long_context"`: True
                accepts more frames than the model was trained on in one piece.

        Returns:
            The last frame of the context, uint8 (H, W, C), or what else `observation` asks for; and an info as that of
            `step`.

        Raises:
            ValueError: If the options are none of these, or the context does not fit; the old episode goes on then, and
                the next one is that which it would have been.
        """
        if seed is None:
            generator, number = self.np_random, self.np_random_seed
        else:
            generator, number = seeding.np_random(as_integer(seed, "seed"))
        frame = begin(self.core, [0], [generator], [options])[0]
        self._np_random = generator
        self._np_random_seed = number
        self._limits = calling_limits(self)
        return self._show(frame), _scalars(self.core.first_info())

    @in_turn
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream the next frame.

        Args:
            action: An integer, or a float vector (A,).

        Returns:
            The observation, the reward, whether the episode terminated, False, and an info with `term_prob` and, if
            asked for, `uncertainty`.

        Raises:
            ResetNeeded: If no episode has begun.
            ValueError: If the action is not in the action space; the world has not moved then.
        """
        act = as_actions(self.core.action_space, action, (), "action")
        step = self.core.step(act[None])
        if self._limits is None:  # a copy, perhaps with another moment loaded since
            self._limits = calling_limits(self)
            set_elapsed(self._limits, int(self.core.elapsed[0]) - 1)
        return self._show(step.obs[0]), float(step.rew[0]), bool(step.terminated[0]), False, _scalars(step.info())

    @in_turn
    def observe(self, obs: ArrayLike, act: ArrayLike) -> None:
        """Show the world what really happened next, in the middle of an episode.

        The frames follow the last one seen or dreamed. To put the truth in the place of a dream, load the state from
        before it first.

        Args:
            obs: Real frames, uint8 (T, H, W, C).
            act: The actions that led to them, all of them counting, (T,) or (T, A).

        Raises:
            ResetNeeded: If no episode has begun.
            ValueError: If an argument has another shape, type or range; the world has not changed then.
        """
        self._show(self.core.observe(as_array(obs, "obs")[None], as_array(act, "act")[None])[0])

    @in_turn
    def save_state(self, path: str | Path | None = None, include_rng: bool = True) -> CoreState:
        """Keep this moment.

        Args:
            path: Where to write it too, as a safetensors file.
            include_rng: Whether the random stream belongs to it: with it, the same actions give the same frames again.

        Raises:
            ResetNeeded: If no episode has begun.
            ValueError: If an argument is of another type.
            OSError: If the file cannot be written.
        """
        state = self.core.save_state(include_rng)
        if path is not None:
            state.save(path)
        return state

    @in_turn
    def load_state(self, state: str | Path | CoreState) -> Any:
        """Go back to a saved moment; without a random stream in it, this world keeps its own.

        The step counts of the time limits around this environment go back, too.

        Returns:
            The observation of that moment, its frame as the memory holds it.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no state of this simulator; the world has not changed then.
        """
        self.core.load_state(state if isinstance(state, CoreState) else CoreState.load(state))
        set_elapsed(self._limits or [], int(self.core.elapsed[0]))
        return self._show(self.core.frames()[0])

    @in_turn
    def fork(self, n: int) -> list[LSSVWMEnv]:
        """Make n environments that go on from here, each on its own; this one is left as it is.

        They share the weights. The first keeps the random stream, so it dreams what this one would; the others have
        streams of their own, functions of this one's. None of them opens a window.

        Raises:
            ResetNeeded: If no episode has begun.
            ValueError: If n is no integer, or less than 1.
        """
        return [self._child(core) for core in self.core.fork(n).split()]

    def get_keys_to_action(self) -> dict[tuple[int, ...], int]:
        """Which keys stand for which actions, as `gymnasium.utils.play` asks.

        In MiniGrid these are its own: arrows, space to toggle, page up and tab to pick up, page down and shift to drop,
        enter for "done". Elsewhere 0 to 9, then a to z, stand for the actions in their order. As long as no key is
        pressed, `play` takes action 0 unless it is given a `noop`, or `wait_on_player=True`.

        Raises:
            ValueError: If actions are vectors: give `play` a `keys_to_action`.
            DependencyNotInstalled: Without pygame.
        """
        return keys_to_action(self.simulator.config.env_id, self.action_space)

    def render(self) -> NDArray[np.uint8] | None:
        """The last frame, uint8 (H, W, C), in render mode "rgb_array"; "human" shows every frame by itself.

        Raises:
            ResetNeeded: If no episode has begun.
        """
        if self._frame is None:
            raise gym.error.ResetNeeded("call reset() before render()")
        if self.render_mode is None:
            gym.logger.warn("render() without a render mode does nothing; make the env with render_mode='rgb_array'")
        return self._frame.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _child(self, core: SimulatorCore) -> LSSVWMEnv:
        """An environment like this one around another core."""
        child = copy.copy(self)
        child.core = core
        child.observation_space = observation_space(self.simulator, self.observation)  # spaces have random generators
        child.action_space = self.simulator.action_space
        child._np_random = None
        child._np_random_seed = None
        return child

    def _show(self, frame: torch.Tensor) -> Any:
        """Make `frame` (H, W, C) the current one; returns the observation, for the user to keep."""
        self._frame = frame.cpu().numpy().copy()
        if self.render_mode == "human":
            self._window = self._window or _Window(frame.shape[0], frame.shape[1])
            self._window.show(self._frame, self.metadata["render_fps"])
        return as_arrays(observation(self.observation, frame[None], self.core.features()), 0)


def _scalars(beliefs: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """The info of a single world: NumPy's scalars, whose type and shape libraries can ask for."""
    return {name: belief[0] for name, belief in beliefs.items()}


class _Window:
    """A window that shows frames, enlarged by a whole factor."""

    def __init__(self, height: int, width: int) -> None:
        pygame = require_pygame("render_mode 'human'")
        scale = max(1, _WINDOW // max(height, width))
        self._pygame = pygame
        pygame.display.init()
        pygame.display.set_caption("lssvwm")
        self._screen = pygame.display.set_mode((width * scale, height * scale))
        self._clock = pygame.time.Clock()

    def show(self, frame: NDArray[np.uint8], fps: int) -> None:
        """Show a frame (H, W, 3), not before 1 / fps seconds have passed since the last."""
        picture = self._pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._screen.blit(self._pygame.transform.scale(picture, self._screen.get_size()), (0, 0))
        self._pygame.event.pump()  # or the desktop takes the window for dead
        self._pygame.display.flip()
        self._clock.tick(fps)

    def close(self) -> None:
        self._pygame.display.quit()
