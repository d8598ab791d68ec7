"""Real environments as a simulator sees them: square RGB frames, and actions that are integers or vectors."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final, get_origin, get_type_hints

import gymnasium as gym
import numpy as np
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray
from PIL import Image

from lssvwm_env.real.contract import checked_picture, checked_reset, checked_step, kind_of, leaf, leaves
from lssvwm_env.real.flat_actions import FlatActions
from lssvwm_env.real.minigrid import PixelMiniGrid

SIZE: Final = 64  # pixels along each side of a frame, where pictures do not fit as they are
MULTIPLE: Final = 8  # a frame is cut into 8x8 patches


@dataclass(frozen=True)
class Framing:
    """How pictures of one kind become square RGB frames, without regard to their aspect ratio.

    Attributes:
        shape: Of a picture, uint8 (H, W, 3), or grey as (H, W, 1) or (H, W).
        size: Pixels along each side of a frame. None: those of the pictures if they are square and a multiple of 8,
            else 64.

    Raises:
        ValueError: If these are no pictures, or frames of that size cannot be cut into tokens.
    """

    shape: tuple[int, ...]
    size: int | None = None

    def __post_init__(self) -> None:
        if not self.fits(self.shape):
            raise ValueError(f"{self.shape} is not the shape of pictures (H, W, 3), (H, W, 1) or (H, W)")
        if self.size is not None and (self.size < MULTIPLE or self.size % MULTIPLE):
            raise ValueError(f"a frame size of {self.size} is no multiple of {MULTIPLE}; 64 fits the presets")

    @staticmethod
    def fits(shape: tuple[int, ...]) -> bool:
        """Whether arrays of this shape can be pictures; a code of few cells, as MiniGrid's 7x7x3, is none."""
        return len(shape) in (2, 3) and shape[2:] in ((), (1,), (3,)) and min(shape[:2]) >= MULTIPLE

    @property
    def side(self) -> int:
        """Pixels along each side of a frame."""
        height, width = self.shape[:2]
        return self.size or (height if height == width and height % MULTIPLE == 0 else SIZE)

    @property
    def words(self) -> str:
        """What is done to a picture; an empty string if nothing is."""
        resized = f"{self.shape[0]}x{self.shape[1]} resized to {self.side}x{self.side} by box averaging"
        parts = ["grey to RGB"] * (self.shape[2:] != (3,)) + [resized] * (self.shape[:2] != (self.side, self.side))
        return ", ".join(parts)

    def frame(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame (S, S, 3) of a picture."""
        rgb = picture if self.shape[2:] == (3,) else np.repeat(picture.reshape(*self.shape[:2], 1), 3, axis=2)
        if rgb.shape[:2] == (self.side, self.side):
            return rgb
        resized = Image.fromarray(np.ascontiguousarray(rgb)).resize((self.side, self.side), Image.Resampling.BOX)
        return np.array(resized)


class PixelEnv(gym.Wrapper[NDArray[np.uint8], Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Any environment, seen as square RGB frames and moved by an integer or a vector.

    Args:
        env: An environment whose observations are pictures, or that renders pictures.
        frame_size: See `Framing`.
        frame_skip: Times that each action is taken; rewards are summed, and frames between are not seen.
        render_frames: Take as frames what `env.render()` shows; its render mode must be "rgb_array".
        observation_key: The pictures' name, where observations are a dict; of dicts in it, as in "sensors/rgb".

    Attributes:
        preprocessing: What was done to the frames and actions, in words.
        frame: The last one.
        info: What the environment said with it.

    Raises:
        ValueError: If the environment's spaces or the arguments do not fit; later, if it breaks its promises.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        frame_size: int | None = None,
        frame_skip: int = 1,
        render_frames: bool = False,
        observation_key: str | None = None,
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(
            self,
            frame_size=frame_size,
            frame_skip=frame_skip,
            render_frames=render_frames,
            observation_key=observation_key,
        )
        gym.Wrapper.__init__(self, env)
        if frame_skip < 1:
            raise ValueError(f"cannot be played with frame_skip={frame_skip}, expected at least 1")
        if render_frames and observation_key is not None:
            raise ValueError(f"either renders frames or observes {observation_key}, expected one of the two")
        self._skip = frame_skip
        self._render = render_frames
        self._key = observation_key or ""
        self._pictures = self._rendered() if render_frames else picture_space(env.observation_space, observation_key)
        self._framing = Framing(self._pictures.shape, frame_size)
        self._actions = FlatActions(env.action_space)
        side = self._framing.side
        self.observation_space = gym.spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.action_space = self._actions.flat
        parts = [
            "rendered" * render_frames,
            f"{observation_key} of the observations" * (observation_key is not None),
            self._framing.words,
            f"each action taken {frame_skip} times" * (frame_skip > 1),
            f"actions {env.action_space} numbered" * isinstance(env.action_space, _MANY_DIGITS),
        ]
        self.preprocessing = ", ".join(filter(None, parts)) or "none"
        self.frame: NDArray[np.uint8]
        self.info: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode; see `gymnasium.Env.reset`."""
        obs, self.info = checked_reset(self.env, self.env.reset(seed=seed, options=options))
        self.frame = self._frame(obs)
        return self.frame, self.info

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Act, `frame_skip` times unless the episode ends before; see `gymnasium.Env.step`."""
        env_action = self._actions.to_env(action)
        total = 0.0
        for _ in range(self._skip):
            obs, reward, terminated, truncated, info = checked_step(self.env, self.env.step(env_action))
            total += reward
            if terminated or truncated:
                break
        self.info = info
        self.frame = self._frame(obs)
        return self.frame, total, terminated, truncated, info

    def _frame(self, obs: Any) -> NDArray[np.uint8]:
        picture: Any = self.env.render() if self._render else leaf(obs, self._key)
        return self._framing.frame(checked_picture(self.env, picture, self._pictures))

    def _rendered(self) -> gym.spaces.Box:
        """The space of what is rendered: nothing says it but the first picture."""
        self.env.reset(seed=0)
        picture: Any = self.env.render()
        if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and Framing.fits(picture.shape):
            return gym.spaces.Box(0, 255, picture.shape, np.uint8)
        raise ValueError(f"renders {kind_of(picture)}, expected arrays uint8 (H, W, 3)")


def picture_space(space: gym.Space[Any], key: str | None) -> gym.spaces.Box:
    """The pictures among observations.

    Args:
        space: Of the observations.
        key: The pictures' name, where observations are a dict; of dicts in it, as in "sensors/rgb".

    Raises:
        ValueError: If there are none, or none of that name; says the names of those that are there.
    """
    pictures = {
        name: part
        for name, part in leaves(space)
        if isinstance(part, gym.spaces.Box) and part.dtype == np.uint8 and Framing.fits(part.shape)
    }
    if (key or "") in pictures:
        return pictures[key or ""]
    if "" in pictures:
        advice = "leave out --observation"
    elif pictures:
        advice = f"say --observation {' or '.join(pictures)} (in Python: observation_key=...)"
    else:
        advice = "to learn from what it renders, say --render (in Python: render_frames=True)"
    found = f"{space}" if key is None else f"{space} and no pictures under {key!r}"
    raise ValueError(f"has observations {found}, expected pictures Box(0, 255, (H, W, 3) or (H, W), uint8): {advice}")


_MANY_DIGITS: Final = (gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)


def make_real(
    env_id: str,
    *,
    frame_size: int | None = None,
    frame_skip: int = 1,
    render_frames: bool = False,
    observation_key: str | None = None,
    **kwargs: Any,
) -> PixelEnv | PixelMiniGrid:
    """Make a real environment with square RGB frames, and with Discrete or float vector actions.

    Args:
        env_id: A Gymnasium id, such as `MiniGrid-MemoryS9-v0`; `module:id` if `module` registers it; or `module:name`
            for a class of environments, or a function annotated `-> gymnasium.Env`, in `module`.
        frame_size: Pixels along each side of a frame. None: those of the environment if they are square and a
            multiple of 8, else 64.
        frame_skip: Times that each action is taken; rewards are summed.
        render_frames: Take as frames what the environment renders, not what it observes.
        observation_key: The pictures' name, where observations are a dict; of dicts in it, as in "sensors/rgb".
        **kwargs: Passed on to `gymnasium.make`, or to the class or function.

    Returns:
        MiniGrid environments with their usual observations as `PixelMiniGrid`, all others as `PixelEnv`; their
        `preprocessing` says what was done.

    Raises:
        ValueError: If it cannot be made, or has no pictures.
    """
    env = _make(env_id, kwargs | ({"render_mode": "rgb_array"} if render_frames else {}))
    try:
        usual = isinstance(env.unwrapped, MiniGridEnv) and isinstance(env.observation_space, gym.spaces.Dict)
        if render_frames or observation_key is not None or not usual:
            return PixelEnv(env, frame_size, frame_skip, render_frames, observation_key)
        if (frame_size or SIZE) != SIZE or frame_skip != 1:
            raise ValueError(
                f"is a MiniGrid world, which is seen as {SIZE}x{SIZE} frames of every step: leave out "
                f"frame_size={frame_size} and frame_skip={frame_skip}, or say --render to see it from above"
            )
        return PixelMiniGrid(env)
    except ValueError as error:
        env.close()
        raise ValueError(f"{env_id} {error}.") from error


def _make(env_id: str, kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    """The environment itself."""
    module, _, name = env_id.partition(":")
    try:
        maker = getattr(import_module(module), name, None) if name else None
        if maker is not None and not _makes_an_env(maker):
            raise TypeError(f"{name} is no subclass of gymnasium.Env and no function annotated '-> gymnasium.Env'")
        return gym.make(env_id, **kwargs) if maker is None else maker(**kwargs)
    except (gym.error.Error, ImportError, TypeError) as error:
        raise ValueError(f"{env_id} cannot be made with {kwargs or 'no arguments'}: {error}") from error


def _makes_an_env(maker: Any) -> bool:
    """Whether something says of itself that it makes environments.

    Names and arguments are also read from the files of datasets and simulators, which may be strangers': nothing else
    may be called.
    """
    kind = maker
    if not isinstance(maker, type):  # what it returns; its parameters may be of types that only type checkers import
        signature = SimpleNamespace(__annotations__={"return": getattr(maker, "__annotations__", {}).get("return")})
        try:
            kind = get_type_hints(signature, globalns=getattr(maker, "__globals__", {}))["return"]
        except (TypeError, NameError):
            return False
    kind = get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, gym.Env)
