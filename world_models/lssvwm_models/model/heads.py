"""What is read off a committed frame besides its pixels: features, reward, termination."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.norms import RMSNorm
from lssvwm_models.utils.two_hot import mean_bin, symexp, symlog, two_hot_loss


class FeatureHead(nn.Module):
    """What is in view and what is remembered around it, as one vector: every place squeezed, then all read together.

    The surroundings are what makes events learnable that depend on things now out of view: with the goal here and the
    cue there, both are facts of the present, and comparing them is no longer a matter of long credit assignment.

    Args:
        tokens: n, of the frame. d_model: their width. parts: places per token.
        surroundings: E, places around, perhaps 0. d_inner: width of what is remembered of each.
        width: of the features.
    """

    def __init__(
        self, tokens: int, d_model: int, parts: int, surroundings: int, d_inner: int, width: int, per_place: int = 8
    ) -> None:
        super().__init__()
        self.squeeze = nn.Linear(d_model, parts * per_place)
        self.squeeze_around = nn.Linear(d_inner, per_place)
        self.mix = nn.Linear((tokens * parts + surroundings) * per_place, width)
        self.norm = RMSNorm(width)

    def forward(self, x: Tensor, around: Tensor | None) -> Tensor:
        """Features (..., width) of finished tokens (..., n, d) and of memories (..., E, d_inner)."""
        places = self.squeeze(F.layer_norm(x, x.shape[-1:])).flatten(-2)
        if around is not None:  # normalised all together, so that what was never seen stays near zero
            around = F.rms_norm(around, around.shape[-2:], eps=1e-5)
            places = torch.cat([places, self.squeeze_around(around).flatten(-2).to(places.dtype)], -1)
        return self.norm(self.mix(F.silu(places)))


class RewardHead(nn.Module):
    """Two-hot regression on symlog bins (DreamerV3): exact for small rewards, stable for large, fit for sparse."""

    bins: Tensor

    def __init__(self, width: int, limit: float = 5.0, count: int = 65) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, count))
        self.register_buffer("bins", torch.linspace(-limit, limit, count), persistent=False)

    def forward(self, feats: Tensor) -> Tensor:
        """Expected reward (...) for features (..., width)."""
        return symexp(mean_bin(self.mlp(feats), self.bins))

    def loss(self, feats: Tensor, rew: Tensor) -> Tensor:
        """Cross-entropy (...) against the two bins nearest to the true reward."""
        target = symlog(rew).clamp(float(self.bins[0]), float(self.bins[-1]))
        position = (target - self.bins[0]) / (self.bins[1] - self.bins[0])
        low = position.floor().long().clamp(max=len(self.bins) - 2)
        return two_hot_loss(self.mlp(feats), low, position - low)


class TerminationHead(nn.Module):
    """The probability that an episode ends with the frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, feats: Tensor) -> Tensor:
        """Logits (...) for features (..., width)."""
        return self.mlp(feats).squeeze(-1).float()

    def loss(self, feats: Tensor, terminated: Tensor) -> Tensor:
        """Binary cross-entropy (...)."""
        return F.binary_cross_entropy_with_logits(self(feats), terminated.float(), reduction="none")
