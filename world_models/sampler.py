"""Few-step sampling of one frame by diffusion forcing's last frame (paper section 3): everything before it is clean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def sample(denoise: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Denoise pure noise (B, ...) along x_tau = (1 - tau) noise + tau x with Euler steps of equal size.

    Args:
        denoise: maps (x_tau, tau (B,)) to the clean x it predicts.
        steps: calls of `denoise`, >= 1. The last prediction is the sample.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; a frame takes at least 1 denoising step")
    x_tau = noise
    for i in range(steps):
        tau = i / steps
        x = denoise(x_tau, torch.full(noise.shape[:1], tau, device=noise.device))
        x_tau = x_tau + (x - x_tau) * (1 / steps) / (1 - tau)
    return x_tau
