"""Norms that keep the dtype of what they norm, under autocast too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square norm that keeps its input's dtype, under autocast too."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)


class KeyNorm(nn.LayerNorm):
    """Layer norm of keys and queries, with a gain and perhaps a bias; keeps its input's dtype, under autocast too."""

    def __init__(self, width: int, gain: float = 1.0, bias: float | None = None) -> None:
        super().__init__(width, bias=bias is not None)
        nn.init.constant_(self.weight, gain)
        if bias is not None:
            nn.init.constant_(self.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, x.shape[-1:], self.weight.to(x.dtype), bias, self.eps)
