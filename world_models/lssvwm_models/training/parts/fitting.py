"""The loop that trains a part by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from lssvwm_models.utils.progress import progress

LR: Final = 2e-3
WARMUP: Final = 50  # steps


def fit(
    name: str,
    part: nn.Module,
    losses: Iterator[Tensor],
    total: int,
    clip: float = math.inf,
    betas: tuple[float, float] = (0.9, 0.999),
) -> list[float]:
    """Train a part in place, one step for each of `total` losses; returns these.

    Args:
        clip: largest norm of the gradients.
        betas: of AdamW.
    """
    optimizer = torch.optim.AdamW(part.parameters(), LR, betas, weight_decay=1e-2)
    seen: list[float] = []
    with progress(name, total) as report:
        for step, loss in enumerate(losses):
            optimizer.param_groups[0]["lr"] = lr_at(step, total)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(part.parameters(), clip)
            optimizer.step()
            seen.append(float(loss.detach()))
            report(step + 1, f"loss {seen[-1]:.5f}")
    return seen


def lr_at(step: int, total: int) -> float:
    """Learning rate at one of `total` steps: linear warm-up, plateau, and over the last two thirds down to nothing."""
    return LR * min(1.0, (step + 1) / WARMUP, 1.5 * (1 - step / total))
