"""What keeps a memory healthy while it is trained, on plain tensors; `losses.py` puts it into the loss.

Two things go wrong with carried states. They *drift*: over thousands of frames their scale leaves the range that the
layers reading them were trained on. And they *forget*: predicting the next frame asks for what is near, so nothing
teaches a memory to keep what was seen long ago.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def state_moments(states: Sequence[Tensor], eps: float = 1e-4) -> Tensor:
    """How far states are from mean 0 and variance 1, against drift.

    Mean squared plus log variance squared of every head of every layer, averaged. It is zero for states of unit scale,
    and the same for those twice as large as for those half as large.

    Args:
        states: of every scan layer, (B, tubes, H, P, N).
        eps: added to variances, so that the gradient of an empty state is zero.
    """
    if not states:
        raise ValueError(
            "state_moments regularises the states of scans, but no layer of this network has one; set it to 0"
        )
    of_heads = []
    for state in states:
        variance, mean = torch.var_mean(state.float(), (0, 1, 3, 4), correction=0)  # (H,)
        of_heads.append(mean.square() + (variance + eps).log().square())
    return torch.cat(of_heads).mean()


def hidden_frames(is_first: Tensor, rng: torch.Generator) -> Tensor:
    """How many of the latest frames are hidden from each of the frames (B, T), against trust in the moment.

    From half of them none, and from the others up to 64. Dreams come back to where the latest frames are dreamt, too,
    and a little wrong: what is old and was seen is worth more.
    """
    count = torch.randint(1, 65, is_first.shape, generator=rng, device=is_first.device)
    return count * (torch.rand(is_first.shape, generator=rng, device=is_first.device) < 0.5)


def earlier_frames(is_first: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """For every sequence (B, T) a random frame before the last one, of the same episode, against forgetting.

    Args:
        is_first: (B, T) bool.
        rng: on the device of `is_first`.

    Returns:
        index (B,) of that frame, and (B,) bool, false where the last frame is itself the first of its episode.
    """
    T = is_first.shape[1]
    start = torch.where(is_first, torch.arange(T, device=is_first.device), 0).amax(1)
    earlier = T - 1 - start
    drawn = torch.rand(len(start), generator=rng, device=start.device)
    return start + (drawn * earlier).long(), earlier > 0
