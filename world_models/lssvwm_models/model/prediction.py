"""What a world model imagines. See `Prediction`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """One imagined frame per world: `latents` (B, M, k), `rew` (B,), `term_prob` (B,), `feats` (B, F).

    `expected` (B, M, k) is the frame after the first denoising step: the mean of all that was possible. Where it is not
    what the frame became, the memory did not know, and something was decided.

    Planners and policies that live on features never look at frames, so these are decoded when somebody does.
    """

    latents: Tensor
    expected: Tensor
    rew: Tensor
    term_prob: Tensor
    feats: Tensor
    decode: Callable[[Tensor], Tensor]

    @staticmethod
    def cat(parts: Sequence[Prediction]) -> Prediction:
        """The frames of all worlds of all parts."""
        tensors = zip(*((p.latents, p.expected, p.rew, p.term_prob, p.feats) for p in parts), strict=True)
        latents, expected, rew, term_prob, feats = map(torch.cat, tensors)
        return Prediction(latents, expected, rew, term_prob, feats, parts[0].decode)

    @cached_property
    def obs(self) -> Tensor:
        """The frames (B, C, H, W) in [-1, 1]."""
        return self.decode(self.latents)
