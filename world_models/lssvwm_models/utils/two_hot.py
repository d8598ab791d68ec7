"""Numbers as distributions over bins (DreamerV3, Hafner et al. 2023): their mean, and the loss that fits them.

The gradients of a cross-entropy do not grow with the numbers, as those of a regression would.
"""

from __future__ import annotations

import torch
from torch import Tensor


def symlog(x: Tensor) -> Tensor:
    """Squeeze numbers of any size: near zero they stay as they are, far away only their logarithm counts."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return x.sign() * torch.expm1(x.abs())


def mean_bin(logits: Tensor, bins: Tensor) -> Tensor:
    """The mean (...) of distributions over bins, given logits (..., n) and the bins' values (n,)."""
    return (logits.float().softmax(-1) * bins).sum(-1)


def two_hot_loss(logits: Tensor, low: Tensor, high_share: Tensor) -> Tensor:
    """Cross-entropy (...) of logits (..., n) against targets that lie between two neighbouring bins.

    Args:
        logits: Of the n bins.
        low: Long (...), the lower of each target's two bins, up to n - 2.
        high_share: (...) from 0 to 1, how far each target lies from there towards the next bin.
    """
    log_prob = logits.float().log_softmax(-1)
    at_low = log_prob.gather(-1, low.unsqueeze(-1)).squeeze(-1)
    at_high = log_prob.gather(-1, (low + 1).unsqueeze(-1)).squeeze(-1)
    return -(1 - high_share) * at_low - high_share * at_high
