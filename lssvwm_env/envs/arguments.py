"""What callers hand in, checked once: whatever is wrong is named before anything has changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lssvwm_env.utils.json_types import ActionSpace
from lssvwm_models.utils.checks import shown

LONG: Final = 2**63 - 1


def as_integer(value: Any, name: str, least: int = 0, most: int = LONG) -> int:
    """An integer, Python's or NumPy's, but no bool.

    Raises:
        ValueError: Naming the argument, if it is none, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name}={shown(value)} must be an integer")
    if not least <= value <= most:
        raise ValueError(f"{name}={value} must be at {f'least {least}' if value < least else f'most {most}'}")
    return int(value)


def as_flag(value: Any, name: str) -> bool:
    """True or False, Python's or NumPy's.

    Raises:
        ValueError: Naming the argument, if it is neither.
    """
    if not isinstance(value, bool | np.bool):
        raise ValueError(f"{name}={shown(value)} must be True or False")
    return bool(value)


def as_file(value: Any, name: str) -> Path:
    """The path of a file, which need not be there.

    Raises:
        ValueError: Naming the argument, if it is no path.
        IsADirectoryError: If there is a folder.
    """
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise ValueError(f"{name} is {shown(value)}; expected the path of a file")
    path = Path(value)
    if path.is_dir():
        raise IsADirectoryError(
            f"{name} is {shown(str(value))}, a folder; expected the path of a file, such as one in it"
        )
    return path


def as_array(values: ArrayLike | Tensor, name: str) -> NDArray[Any]:
    """Numbers, or frames, as an array that torch takes: those that are flipped, byte-swapped or long doubles are
    copied.

    Raises:
        ValueError: Naming the argument, if there are no numbers.
    """
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} is {shown(values)}; expected numbers ({error})") from error
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{name} is {shown(values)}; expected numbers")
    if array.dtype.kind != "b" and _holds_bools(values):  # among numbers, numpy takes them for 0 and 1
        raise ValueError(f"{name} is {shown(values)}; expected numbers, which True and False are not")
    size = min(array.dtype.itemsize, 16 if array.dtype.kind == "c" else 8)  # of numpy's many names of a type, torch's
    return np.require(array, np.dtype(f"{array.dtype.kind}{size}"), "C")


def _holds_bools(values: Any) -> bool:
    if isinstance(values, list | tuple):
        return any(map(_holds_bools, values))
    return isinstance(values, bool | np.bool)


def as_actions(space: ActionSpace, action: ArrayLike | Tensor, lead: tuple[int, ...], name: str) -> Tensor:
    """Actions as the model takes them, long (*lead) or float (*lead, A).

    Args:
        space: Discrete(n), or a Box of float vectors (A,).
        action: What the user gave.
        lead: The shape before that of one action; () for a single one.
        name: What `action` is called in errors.

    Raises:
        ValueError: If `action` has another shape or type, or lies outside the space.
    """
    act = as_tensor(action, name)
    if isinstance(space, gym.spaces.Discrete):
        shape = lead
        low = torch.tensor(0)
        high = torch.tensor(int(space.n) - 1)
        fits = not act.is_floating_point()
        expected = f"integers from 0 to {int(high)}"
    else:
        low = torch.from_numpy(space.low)
        high = torch.from_numpy(space.high)
        shape = (*lead, *low.shape)
        fits = True
        expected = f"numbers in {space}"
    if act.shape != shape or not fits or act.is_complex() or act.dtype == torch.bool:
        raise ValueError(f"{name} is {act.dtype} {tuple(act.shape)}; expected {expected} of shape {shape}")
    act = act.to(torch.long if isinstance(space, gym.spaces.Discrete) else torch.float32)
    inside = (act >= low.to(act.device)) & (act <= high.to(act.device)) & act.isfinite()
    if not inside.all():
        raise ValueError(f"{name} has the values {act[~inside].tolist()[:8]}; expected {expected}")
    return act


def as_tensor(values: ArrayLike | Tensor, name: str) -> Tensor:
    """Numbers as a tensor; `name` is what they are called in errors."""
    if isinstance(values, Tensor) and values.layout == torch.strided and not values.is_meta:
        return values.detach()
    return torch.from_numpy(as_array(values, name).copy())  # as torch warns of arrays that are read-only
