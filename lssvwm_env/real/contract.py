"""What every environment promises to give, and one line where it gives something else.

Without, what it gives would be changed silently, or raise an error somewhere else that does not name the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lssvwm_models.data.values import MOST


def name_of(env: gym.Env[Any, Any]) -> str:
    """What an environment is called: by its id, if it has one."""
    spec = env.unwrapped.spec
    return type(env.unwrapped).__name__ if spec is None else spec.id


def checked_reset(env: gym.Env[Any, Any], given: Any) -> tuple[Any, dict[str, Any]]:
    """What `env.reset` gave.

    Raises:
        ValueError: If it is not an observation and an info.
    """
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[1], dict):
        raise ValueError(f"{name_of(env)} gave {kind_of(given)} on reset, expected (observation, info)")
    return given


def checked_step(env: gym.Env[Any, Any], given: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """What `env.step` gave, with the reward and the ends as plain numbers.

    Raises:
        ValueError: If it is not an observation, a finite reward, two booleans and an info.
    """
    if not isinstance(given, tuple) or len(given) != 5 or not isinstance(given[4], dict):
        raise ValueError(
            f"{name_of(env)} gave {kind_of(given)} on step, expected (observation, reward, terminated, truncated, info)"
        )
    obs, reward, terminated, truncated, info = given
    number = _single(reward, "fiub")
    if number is None or not abs(number) <= MOST:  # NaN is not, either
        raise ValueError(f"{name_of(env)} gave the reward {reward!r}, expected a finite number, up to {MOST:,.0f}")
    ends = []
    for name, end in (("terminated", terminated), ("truncated", truncated)):
        flag = _single(end, "b")
        if flag is None:
            raise ValueError(f"{name_of(env)} gave {name}={end!r}, expected True or False")
        ends.append(bool(flag))
    return obs, float(number), ends[0], ends[1], info


def checked_picture(env: gym.Env[Any, Any], picture: Any, space: gym.Space[Any]) -> NDArray[np.uint8]:
    """A picture that `env` gave, in memory as arrays usually are.

    Raises:
        ValueError: If it does not have the shape and dtype of its space.
    """
    if not isinstance(picture, np.ndarray) or picture.dtype != space.dtype or picture.shape != space.shape:
        raise ValueError(f"{name_of(env)} gave a picture {kind_of(picture)}, but its space is {space}")
    return np.ascontiguousarray(picture)


def leaves(space: gym.Space[Any], name: str = "") -> Iterator[tuple[str, gym.Space[Any]]]:
    """The spaces inside a Dict, also of Dicts in it: with the names of all they are in, as in "sensors/rgb"."""
    if not isinstance(space, gym.spaces.Dict):
        yield name, space
        return
    for key, inner in space.spaces.items():
        yield from leaves(inner, f"{name}/{key}" if name else str(key))


def leaf(observation: Any, name: str) -> Any:
    """The entry of an observation that `leaves` calls so; None if it is not there."""
    if not name:
        return observation
    if not isinstance(observation, Mapping):
        return None
    for key, inner in observation.items():
        if str(key) == name:
            return inner
        if name.startswith(f"{key}/") and (found := leaf(inner, name.removeprefix(f"{key}/"))) is not None:
            return found
    return None


def _single(value: Any, kinds: str) -> Any:
    """A number or boolean, also in an array of one; None if it is none."""
    array = np.asarray(value)
    return array.item() if array.size == 1 and array.dtype.kind in kinds else None


def kind_of(given: Any) -> str:
    """What something is, in words for an error."""
    if isinstance(given, np.ndarray):
        return f"{given.dtype} {given.shape}"
    if isinstance(given, tuple):
        return f"({', '.join(type(part).__name__ for part in given)})"
    return type(given).__name__
