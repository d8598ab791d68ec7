"""What a policy says: distributions over actions, one for each of B worlds.

A distribution draws *raw actions*: the number of a discrete action, or a vector before it is squashed into its box. Log
probabilities are of these; `ActorCritic.to_actions` makes actions of the space of them.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

UNIMIX: Final = 0.01  # share of the uniform distribution: no action becomes too rare to be tried again (DreamerV3)
MIN_STD: Final = 0.1  # of continuous actions, before they are squashed
QUADRATURE_NODES: Final = 16


class ActionDistribution(Protocol):
    """A distribution over raw actions in each of B worlds."""

    def sample(self, rng: torch.Generator) -> Tensor:
        """A raw action per world, (B,) or (B, A); `rng` must be on the distribution's device."""

    def from_noise(self, noise: Tensor) -> Tensor:
        """The sample that standard normal noise (B,) or (B, A) stands for, so that chance can belong to one world."""

    def mode(self) -> Tensor:
        """The likeliest raw action per world."""

    def log_prob(self, raw: Tensor) -> Tensor:
        """(B,) of raw actions (B,) or (B, A)."""

    def entropy(self) -> Tensor:
        """(B,), in nats; of continuous actions as if they ranged from -1 to 1."""

    def normalized_entropy(self) -> Tensor:
        """(B,) the entropy as a share: from 0, always the same action, to 1, all alike."""


class Categorical:
    """A distribution over n actions, of logits (B, n); a raw action is its number."""

    def __init__(self, logits: Tensor) -> None:
        self.probs = (1 - UNIMIX) * logits.float().softmax(-1) + UNIMIX / logits.shape[-1]

    def sample(self, rng: torch.Generator) -> Tensor:
        """See `ActionDistribution`."""
        return torch.multinomial(self.probs, 1, generator=rng)[:, 0]

    def from_noise(self, noise: Tensor) -> Tensor:
        """See `ActionDistribution`."""
        quantile = torch.special.ndtr(noise).unsqueeze(-1)
        return (self.probs.cumsum(-1)[..., :-1] < quantile).sum(-1)

    def mode(self) -> Tensor:
        """See `ActionDistribution`."""
        return self.probs.argmax(-1)

    def log_prob(self, raw: Tensor) -> Tensor:
        """See `ActionDistribution`."""
        return self.probs.gather(-1, raw.unsqueeze(-1)).squeeze(-1).log()

    def entropy(self) -> Tensor:
        """See `ActionDistribution`."""
        return -(self.probs * self.probs.log()).sum(-1)

    def normalized_entropy(self) -> Tensor:
        """See `ActionDistribution`."""
        return self.entropy() / max(math.log(self.probs.shape[-1]), 1e-8)


class TanhGaussian:
    """A distribution over vectors in (-1, 1)^A, of parameters (B, 2 A); a raw action is the vector before the tanh.

    `log_prob` is of the raw action: that of the action differs by a term without parameters, which no gradient sees.
    """

    def __init__(self, parameters: Tensor) -> None:
        mean, raw_std = parameters.float().chunk(2, -1)
        self.mean = mean
        self.std = MIN_STD + F.softplus(raw_std)  # 0.8 for zeros: squashed, nearly uniform

    def sample(self, rng: torch.Generator) -> Tensor:
        """See `ActionDistribution`."""
        dtype, device = self.mean.dtype, self.mean.device
        return self.from_noise(torch.randn(self.mean.shape, generator=rng, dtype=dtype, device=device))

    def from_noise(self, noise: Tensor) -> Tensor:
        """See `ActionDistribution`."""
        return self.mean + self.std * noise

    def mode(self) -> Tensor:
        """See `ActionDistribution`."""
        return self.mean

    def log_prob(self, raw: Tensor) -> Tensor:
        """See `ActionDistribution`."""
        z = (raw - self.mean) / self.std
        return -(z.square() / 2 + self.std.log() + math.log(2 * math.pi) / 2).sum(-1)

    def entropy(self) -> Tensor:
        """See `ActionDistribution`."""
        return self._entropies().sum(-1)

    def normalized_entropy(self) -> Tensor:
        """See `ActionDistribution`: the share of the range that a uniform distribution of the same entropy covers."""
        return (self._entropies().mean(-1) - math.log(2)).exp()

    def _entropies(self) -> Tensor:
        """Entropy of each number, (B, A): the Gaussian's, and the mean of log |d tanh(u) / du|.

        There is no formula for the latter. As it is smooth and of one number, Gauss-Hermite quadrature gives it nearly
        exactly, where samples would bring noise.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
        u = self.mean.unsqueeze(-1) + self.std.unsqueeze(-1) * torch.from_numpy(nodes).to(self.mean)
        log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log(1 - tanh(u)^2), without cancellation
        mean_log_slope = (log_slope * torch.from_numpy(weights).to(self.mean)).sum(-1) / math.sqrt(2 * math.pi)
        gaussian = self.std.log() + math.log(2 * math.pi * math.e) / 2
        return gaussian + mean_log_slope
