"""Which numbers actions, rewards and poses may be: finite, of a size that can be learned from, and in their space."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lssvwm_models.data.spaces import Bounds, in_words

MOST: Final = 1e9
"""The most that a reward, or a component of an action, can be: beyond stand marks of errors, such as 3e38."""

FULL_TURN: Final = 2 * math.pi + 1e-3
"""The most that the angle of a pose can be, in radians: beyond are degrees, or turns that were added up."""

Fault = tuple[str, NDArray[np.bool_]]


def reward_faults(rew: NDArray[np.float32]) -> Iterator[Fault]:
    """What is wrong with rewards (N,), and with which of them."""
    yield from _number_faults("a reward", rew)


def action_faults(
    act: NDArray[Any],
    is_first: NDArray[np.bool_],
    bounds: Bounds | None = None,
) -> Iterator[Fault]:
    """What is wrong with actions (N,) or (N, A), and with which of them.

    Args:
        act: Actions that led to frames.
        is_first: Where an episode begins (N,): there is no action, so 0 stands there.
        bounds: Of `action_bounds`; None where the space is not known.
    """
    said = np.zeros(len(act), np.bool_)
    for what, wrong in _number_faults("an action", act):
        said |= wrong
        yield what, wrong
    least, most = bounds or ((0, np.inf) if act.ndim == 1 else (-np.inf, np.inf))
    inside = ((act >= least) & (act <= most)).reshape(len(act), -1).all(1)
    outside = ~inside & ~is_first & ~said
    if outside.any():
        yield f"an action is not in {in_words(bounds) if bounds else 'any space'}", outside


def pose_faults(pose: NDArray[Any]) -> Iterator[Fault]:
    """What is wrong with poses (N, 3), on a grid if they are integers, and with which of them."""
    yield from _number_faults("a pose", pose)
    heading = pose[:, 2]
    if np.issubdtype(pose.dtype, np.integer):
        outside = (heading < 0) | (heading > 3)
        if outside.any():
            yield "a heading is not 0 to 3 quarter turns", outside
    elif (outside := np.abs(heading) > FULL_TURN).any():
        yield "an angle is more than a full turn: is it in degrees?", outside


def pose_jump(pose: NDArray[Any] | None, is_first: NDArray[np.bool_], most: float = 10.0) -> str | None:
    """The longest step between two poses (N, 3) of an episode in words, if it is no step; None if there is none such.

    That is one in the plane that is more than `most` times as long as 90 % of the steps: units were mixed up, or an
    episode began anew and nobody said so.
    """
    if pose is None or np.issubdtype(pose.dtype, np.integer):
        return None
    length = np.linalg.norm(np.diff(pose[:, :2].astype(np.float64), axis=0), axis=1) * ~is_first[1:]
    if not length.any():
        return None
    longest = int(length.argmax())
    usual = float(np.quantile(length[length > 0], 0.9))
    if length[longest] <= most * usual:
        return None
    before, after = (pose[i, :2].round(2).tolist() for i in (longest, longest + 1))
    return (
        f"frame {longest + 1}: the pose jumps from {before} to {after}, {length[longest] / usual:,.0f} times as far as "
        "90 % of the steps go. If an episode begins there, the environment has to say so"
    )


def value_faults(
    key: str, values: NDArray[Any], is_first: NDArray[np.bool_], bounds: Bounds | None = None
) -> Iterator[Fault]:
    """What is wrong with the numbers of an array of a shard; of frames and tiles, any number will do."""
    if key == "rew":
        yield from reward_faults(values)
    elif key == "act":
        yield from action_faults(values, is_first, bounds)
    elif key == "pose":
        yield from pose_faults(values)


def first_fault(
    key: str, values: NDArray[Any], is_first: NDArray[np.bool_], bounds: Bounds | None = None
) -> str | None:
    """The first of `value_faults` in words, with the value and the frame; None if there are none."""
    for what, wrong in value_faults(key, values, is_first, bounds):
        return f"{what}: {values[wrong][0]} in frame {int(wrong.argmax())}"
    return None


def _number_faults(what: str, numbers: NDArray[Any]) -> Iterator[Fault]:
    rows = numbers.reshape(len(numbers), -1)
    no_number = ~np.isfinite(rows).all(1)
    if no_number.any():
        yield f"{what} is not a finite number", no_number
    too_large = (np.abs(rows) > MOST).any(1) & ~no_number
    if too_large.any():
        yield f"{what} is beyond {MOST:,.0f}", too_large
