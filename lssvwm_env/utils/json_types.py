"""Spaces as JSON, and back. For dataclasses see `lssvwm_models.utils.json_files`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lssvwm_models.utils.checks import of_type, shown

DTYPES: Final = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"]
INFINITIES: Final = ("inf", "-inf")
MOST_NUMBERS: Final = 2**24  # of a Box, whose bounds are arrays: a frame of 2,000 by 2,000 pixels

ActionSpace = gym.spaces.Discrete | gym.spaces.Box


def space_from_json(description: Mapping[str, Any], name: str) -> ActionSpace:
    """Build the space that a dataset or simulator describes.

    Raises:
        ValueError: If it describes neither a Discrete nor a Box space; `name` says which one it was.
    """
    try:
        match description:
            case {"type": "Discrete", "n": n, **rest} if not rest and of_type(int, n):
                return gym.spaces.Discrete(n)
            case {"type": "Box", "low": low, "high": high, "shape": shape, "dtype": str(dtype), **rest} if not rest:
                return _box(low, high, shape, dtype)
    except (TypeError, ValueError, AssertionError, OverflowError) as error:
        raise ValueError(f"{name} is {shown(description)}, which is no valid space: {error}") from error
    raise ValueError(
        f"{name} is {shown(description)}; expected type Discrete with n, or type Box with low, high, shape and dtype"
    )


def _box(low: Any, high: Any, shape: Any, dtype: str) -> gym.spaces.Box:
    """A Box, after a look at what it would take."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {shown(dtype)}; expected one of {', '.join(DTYPES)}")
    if not of_type(list[int], shape) or min(shape, default=0) < 0 or math.prod(shape) > MOST_NUMBERS:
        raise ValueError(f"shape is {shown(shape)}; expected sizes, with at most {MOST_NUMBERS:,} numbers in all")
    lowest, highest = (np.broadcast_to(_bound(bound, dtype), shape) for bound in (low, high))
    if (lowest > highest).any():
        raise ValueError("low is more than high")
    return gym.spaces.Box(lowest, highest, dtype=np.dtype(dtype).type)


def _bound(bound: Any, dtype: str) -> NDArray[Any]:
    numbers = np.array(bound, object)
    kind = int if "int" in dtype else float
    if wrong := [x for x in numbers.flat if not of_type(kind, x) and (kind is int or x not in INFINITIES)]:
        raise ValueError(f"{shown(wrong[0])} is no bound of {dtype}")
    return numbers.astype(dtype)


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """Describe a Discrete or Box space as plain JSON.

    Raises:
        ValueError: If it is another kind of space, or a Discrete space that does not start at 0.
    """
    if isinstance(space, gym.spaces.Discrete) and space.start == 0:
        return {"type": "Discrete", "n": int(space.n)}
    if isinstance(space, gym.spaces.Box):
        return {
            "type": "Box",
            "low": _bound_to_json(space.low),
            "high": _bound_to_json(space.high),
            "shape": list(space.shape),
            "dtype": str(space.dtype),
        }
    raise ValueError(f"Space {space} cannot be recorded: use Discrete(n) from 0 or Box, e.g. by TransformAction.")


def _bound_to_json(bound: NDArray[Any]) -> Any:
    """A bound of a Box: one number where all are the same. JSON has no infinity: that is the text "inf", or "-inf"."""
    same = (bound == bound.flat[0]).all()
    numbers = np.where(np.isfinite(bound), bound.astype(object), bound.astype(str))
    return numbers.flat[0] if same else numbers.tolist()
