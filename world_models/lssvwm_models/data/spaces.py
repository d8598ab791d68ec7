"""What `dataset.json` says of frames and actions, as numbers to compare arrays with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lssvwm_models.utils.checks import of_type, shown

MOST_PIXELS: Final = 4096  # along each side of a frame
MOST_ACTIONS: Final = 2**20  # of a Discrete space: a model learns a vector for each
MOST_COMPONENTS: Final = 2**16  # of a Box
INFINITIES: Final = ("inf", "-inf")  # as JSON has them

Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The least and the greatest of something."""


def frame_shape(space: Mapping[str, Any]) -> tuple[int, int, int]:
    """Height, width and 3: the shape of the frames of an `observation_space`.

    Raises:
        ValueError: If it describes no RGB frames, or larger ones than `MOST_PIXELS`.
    """
    match space:
        case {"type": "Box", "low": low, "high": high, "shape": [*shape], "dtype": "uint8", **rest} if not rest:
            if of_type(list[int], [low, high, *shape]) and (low, high, shape[2:]) == (0, 255, [3]):
                height, width, _ = shape
                if min(height, width) >= 1 and max(height, width) <= MOST_PIXELS:
                    return height, width, 3
    raise ValueError(
        f"observation_space={shown(space)} must be a Box from 0 to 255 of dtype uint8 and shape [H, W, 3], with sides "
        f"up to {MOST_PIXELS}"
    )


def action_bounds(space: Mapping[str, Any]) -> Bounds:
    """The least and the greatest action of an `action_space`, both () if it is Discrete, and (A,) if it is a Box.

    Raises:
        ValueError: If it is neither a Discrete space nor a Box of float32 vectors.
    """
    match space:
        case {"type": "Discrete", "n": n, **rest} if not rest and of_type(int, n) and 1 <= n <= MOST_ACTIONS:
            return np.array(0.0), np.array(n - 1.0)
        case {"type": "Box", "low": low, "high": high, "shape": [size], "dtype": "float32", **rest} if not rest:
            if of_type(int, size) and 1 <= size <= MOST_COMPONENTS:
                lowest, highest = _bound(low, size), _bound(high, size)
                if lowest is not None and highest is not None and (lowest <= highest).all():
                    return lowest, highest
    raise ValueError(
        f"action_space={shown(space)} must be type Discrete with n up to {MOST_ACTIONS:,}, or type Box of dtype "
        "float32 and shape [A], with low up to high in numbers, 'inf' or '-inf'"
    )


def in_words(bounds: Bounds) -> str:
    """A space of actions in words, given its `action_bounds`."""
    least, most = bounds
    return f"Box{least.shape}" if least.ndim else f"Discrete({int(most) + 1})"


def _bound(bound: Any, size: int) -> NDArray[np.float64] | None:
    """A bound of a Box: one number, or one for each component; None if it is neither."""
    numbers = bound if isinstance(bound, list) else [bound] * size
    if len(numbers) != size or not all(of_type(float, x) or x in INFINITIES for x in numbers):
        return None
    return np.array(numbers, np.float64)
