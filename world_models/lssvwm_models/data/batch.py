"""B sequences of T recorded frames, as tensors: what a world model is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B sequences of T recorded frames.

    `obs` (B, T, C, H, W) in [-1, 1]; `act` (B, T) long or (B, T, A) float, the action that led to each frame;
    `rew` (B, T); `terminated`, `is_first` (B, T) bool; `pose` (B, T, 3), long on a grid and float in the plane, or None
    where none was recorded. `backwards` (B, T) bool: where time runs backwards, so that `act` is what led from a frame
    to the one before it here, and `rew` and `terminated` say nothing; None: nowhere.
    """

    obs: Tensor
    act: Tensor
    rew: Tensor
    terminated: Tensor
    is_first: Tensor
    pose: Tensor | None = None
    backwards: Tensor | None = None

    def __getitem__(self, frames: slice) -> Batch:
        """Some of the frames of every sequence."""
        return self._map(lambda v: v[:, frames])

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device."""
        return self._map(lambda v: v.to(device))

    def _map(self, f: Callable[[Tensor], Tensor]) -> Batch:
        pose, backwards = (None if v is None else f(v) for v in (self.pose, self.backwards))
        return Batch(f(self.obs), f(self.act), f(self.rew), f(self.terminated), f(self.is_first), pose, backwards)
