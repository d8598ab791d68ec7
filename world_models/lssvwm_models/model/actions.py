"""Actions as the model sees them: a discrete index or a vector, and the null action that begins an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lssvwm_models.utils.checks import check_fields


@dataclass(frozen=True)
class ActionSpec:
    """`kind` "discrete": integers 0..size-1. `kind` "box": float vectors of length `size`."""

    kind: Literal["discrete", "box"]
    size: int

    def __post_init__(self) -> None:
        check_fields(self, size=1)

    def check(self, act: Tensor) -> None:
        """Raise unless act is (B, T) long in range, or (B, T, size) float."""
        if self.kind == "box":
            if not act.is_floating_point() or act.shape[-1:] != (self.size,):
                raise ValueError(
                    f"act has shape {tuple(act.shape)} and dtype {act.dtype}; expected float (..., {self.size})"
                )
            if not act.isfinite().all():
                raise ValueError("act has values that are not finite")
        elif act.is_floating_point() or act.dtype == torch.bool:
            raise ValueError(f"act has dtype {act.dtype}; expected integers 0..{self.size - 1}")
        elif act.numel() and (int(act.min()) < 0 or int(act.max()) >= self.size):
            raise ValueError(f"act has values {int(act.min())}..{int(act.max())}; expected 0..{self.size - 1}")


class ActionEmbedding(nn.Module):
    """Actions (...) or (..., size) to vectors (..., width); first frames get the null action's own vector."""

    def __init__(self, spec: ActionSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.embed = nn.Embedding(spec.size, width) if spec.kind == "discrete" else nn.Linear(spec.size, width)
        self.null = nn.Parameter(torch.randn(width))

    def forward(self, act: Tensor, is_first: Tensor) -> Tensor:
        """Embed act; `is_first` (...) says where no action was taken."""
        return torch.where(is_first.unsqueeze(-1), self.null, self.embed(act))
