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

    Planners and policies that live on features never look at frames, so these are decoded when somebody does.
    """

    latents: Tensor
    rew: Tensor
    term_prob: Tensor
    feats: Tensor
    decode: Callable[[Tensor], Tensor]

    @staticmethod
    def cat(parts: Sequence[Prediction]) -> Prediction:
        """The frames of all worlds of all parts."""
        tensors = zip(*((part.latents, part.rew, part.term_prob, part.feats) for part in parts), strict=True)
        latents, rew, term_prob, feats = map(torch.cat, tensors)
        return Prediction(latents, rew, term_prob, feats, parts[0].decode)

    @cached_property
    def obs(self) -> Tensor:
        """The frames (B, C, H, W) in [-1, 1]."""
        return self.decode(self.latents)
