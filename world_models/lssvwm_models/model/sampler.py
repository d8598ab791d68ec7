"""Few-step sampling of one frame by diffusion forcing's last frame (paper section 3): everything before it is clean."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Sample(NamedTuple):
    """A sample `x`, and what was `expected` before anything was decided: the mean of all that was possible."""

    x: Tensor
    expected: Tensor


def sample(denoise: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Sample:
    """Denoise pure noise (B, ...) along x_tau = (1 - tau) noise + tau x with Euler steps of equal size.

    Args:
        denoise: maps (x_tau, tau (B,)) to the clean x it predicts.
        steps: calls of `denoise`, >= 1. The last prediction is the sample, the first one what was expected.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; a frame takes at least 1 denoising step")
    x_tau = expected = noise
    for i in range(steps):
        tau = i / steps
        x = denoise(x_tau, torch.full(noise.shape[:1], tau, dtype=torch.float32, device=noise.device))
        expected = x if i == 0 else expected
        x_tau = x_tau + (x - x_tau) * (1 / steps) / (1 - tau)
    return Sample(x_tau, expected)
