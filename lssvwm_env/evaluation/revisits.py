"""Was this seen before? In first person, by where the eye stood and which way it looked.

A revisit is a pose within half a cell and 20 degrees of an earlier one. There, memory can be right; elsewhere a dream
has to invent.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NEAR: Final = 0.5  # cells
TURN: Final = np.radians(20)
NEVER: Final = -1  # the age of what was not seen before
AGES: Final = ("1_1", "2_8", "9_32", "33_128", "129_512", "513_up")  # frames since something was last in sight


class Revisits(NamedTuple):
    """What the frames (B, H) after a context of N frames have in common with those in it.

    Attributes:
        nearest: Number of the frame of the context that was seen from the nearest pose, the latest of them.
        age: How many frames ago the pose was visited last, in the context; `NEVER`.
    """

    nearest: NDArray[np.int64]
    age: NDArray[np.int64]

    @property
    def revisited(self) -> NDArray[np.bool_]:
        """Whether the pose was visited in the context."""
        return self.age != NEVER


def revisits(pose: NDArray[Any], context: int, cell: float = 1.0) -> Revisits:
    """Look for the poses (B, T, 3) of frames from `context` on among those before.

    Poses may be on a grid or in the plane, in any unit of which `cell` make a cell. How near two of them are is counted
    in half cells and 20 degrees, together.
    """
    turn = np.pi / 2 if np.issubdtype(pose.dtype, np.integer) else 1.0
    plane = pose.astype(np.float64) * (1 / cell, 1 / cell, turn)
    before = plane[:, None, :context]  # (B, 1, N, 3)
    after = plane[:, context:, None]  # (B, H, 1, 3)
    apart = np.linalg.norm(after[..., :2] - before[..., :2], axis=-1) / NEAR
    turned = np.abs((after[..., 2] - before[..., 2] + np.pi) % (2 * np.pi) - np.pi) / TURN
    latest_first = np.hypot(apart, turned)[..., ::-1]
    nearest = context - 1 - latest_first.argmin(-1)
    number = np.arange(context)
    here = (apart <= 1 + 1e-9) & (turned <= 1 + 1e-9)  # poses may be whole numbers, and rounded
    last = np.where(here, number, NEVER).max(-1)
    frame = np.arange(context, pose.shape[1])
    return Revisits(nearest, np.where(last == NEVER, NEVER, frame - last))


def within(age: NDArray[np.int64], span: str) -> NDArray[np.bool_]:
    """Whether ages are in one of `AGES`."""
    low, high = span.split("_")
    return (age >= int(low)) & (high == "up" or age <= int(high))
