"""Dataclasses and spaces as JSON, and back. The way there is `dataclasses.asdict` for dataclasses."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

ActionSpace = gym.spaces.Discrete | gym.spaces.Box


def from_json(hint: Any, value: Any, name: str) -> Any:
    """Rebuild what `dataclasses.asdict` and JSON made of a value of type `hint`.

    A field that is missing gets its default, if it has one: options are added over time, with defaults that change
    nothing.

    Args:
        hint: A dataclass, tuple, dict, optional or plain type; dataclasses are rebuilt field by field.
        value: What JSON gave.
        name: What the value is called in errors.

    Raises:
        ValueError: If a field is unknown, missing, of another type, or refused by its dataclass.
    """
    origin = get_origin(hint)
    args = get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
        hints = get_type_hints(hint)
        needed = {f.name for f in fields(hint) if f.default is MISSING and f.default_factory is MISSING}
        lines = [f"{name} lacks {k}" for k in sorted(needed - value.keys())]
        lines += [f"{name} has the unknown field {k}" for k in sorted(value.keys() - hints.keys())]
        if lines:
            raise ValueError("; ".join(lines))
        return hint(**{k: from_json(hints[k], v, f"{name}.{k}") for k, v in value.items()})
    if origin in (Union, types.UnionType) and len(args) == 2 and args[1] is types.NoneType:
        return None if value is None else from_json(args[0], value, name)
    if origin is tuple and isinstance(value, list):
        items = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(items) == len(value):
            return tuple(from_json(h, v, f"{name}[{i}]") for i, (h, v) in enumerate(zip(items, value, strict=True)))
    if type(value) is (origin or hint) or (origin is Literal and value in args):
        return value
    if hint is float and type(value) is int:
        return float(value)
    expected = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise ValueError(f"{name} is {value!r}; expected {expected}")


def space_from_json(description: Mapping[str, Any], name: str) -> ActionSpace:
    """Build the space that a dataset or simulator describes.

    Raises:
        ValueError: If it describes neither a Discrete nor a Box space; `name` says which one it was.
    """
    try:
        match description:
            case {"type": "Discrete", "n": int(n), **rest} if not rest:
                return gym.spaces.Discrete(n)
            case {"type": "Box", "low": low, "high": high, "shape": shape, "dtype": dtype, **rest} if not rest:
                lowest = np.broadcast_to(np.array(low, dtype), shape)
                highest = np.broadcast_to(np.array(high, dtype), shape)
                return gym.spaces.Box(lowest, highest, dtype=dtype)
    except (TypeError, ValueError, AssertionError, OverflowError) as error:
        raise ValueError(f"{name} is {description}, which is no valid space: {error}") from error
    raise ValueError(
        f"{name} is {description}; expected type Discrete with n, or type Box with low, high, shape and dtype"
    )


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
    """A bound of a Box: one number where all are the same."""
    first = bound.flat[0]
    return first.item() if (bound == first).all() else bound.tolist()
