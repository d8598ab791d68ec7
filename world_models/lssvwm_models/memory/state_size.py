"""How many channels of its memory a world needs: they are put in order in training, and counted afterwards.

The state of a scan is (B, tubes, H, P, N). Its P value channels never meet, so those at the end can be left out and the
others stay what they are. Training with reads that see only the first few, a random number of them (nested dropout:
Rippel et al. 2014; Matryoshka: Kusupati et al. 2022), makes the first ones the most important. Then every tube can keep
as many as it needs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_channels(batch: int, layers: int, channels: int, share: float, rng: torch.Generator) -> Tensor:
    """How many of P channels the reads of each sequence see in each layer, (B, L) long, for training.

    Args:
        channels: P.
        share: of the sequences see only the first m, log-uniform: m is 1 as often as 2 or 3, and as 4 to 7. The others
            see all.
        rng: the stream to draw from; the result is on its device.
    """
    few = (channels + 1.0) ** torch.rand(batch, layers, generator=rng, device=rng.device)
    of_few = torch.rand(batch, 1, generator=rng, device=rng.device) < share
    return torch.where(of_few, few.long().clamp(max=channels), channels)


def first_channels(count: Tensor, channels: int) -> Tensor:
    """(..., P) bool: the first `count` (...) of so many channels."""
    return torch.arange(channels, device=count.device) < count.unsqueeze(-1)


def needed_channels(memory: Tensor, tolerance: float) -> Tensor:
    """How many channels each tube of a memory (B, tubes, H, P, N) needs, (B, tubes) long.

    The least number, such that the channels after it hold at most `tolerance` of the squared norm of an average tube of
    that world. So what is dropped of the layer is at most that share of it, and a tube with little in it keeps little.
    With tolerance 0 only channels that are exactly zero are not needed.

    Raises:
        ValueError: If the tolerance is no share.
    """
    if not 0 <= tolerance <= 1:
        raise ValueError(
            f"tolerance={tolerance} must be from 0 to 1: the share of the squared norm of a state that may be dropped"
        )
    energy = memory.double().square().sum((2, 4))  # (B, tubes, P); in double, so that nothing small becomes zero
    dropped = energy.flip(-1).cumsum(-1).flip(-1)  # by a tube that keeps 0, 1, ... P - 1 channels
    allowed = tolerance * energy.sum(-1).mean(-1)
    return (~(dropped <= allowed[:, None, None])).sum(-1)  # so put that a broken memory, not a number, is kept
