"""Actions as users give them, checked and made into tensors."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lssvwm_env.utils.json_types import ActionSpace


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
    if isinstance(values, Tensor):
        return values
    try:
        return torch.from_numpy(np.array(values))  # copied, as torch warns of arrays that are read-only
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {values!r}; expected numbers") from error
