"""Where candidate plans come from: for each of B worlds a distribution that can be refitted to the good ones.

Plans in which an action tends to last get further: dithering gets nowhere. Both distributions correlate the steps of a
plan and leave each step its own distribution, as the coloured noise of iCEM does (Pinneri et al. 2020,
"Sample-efficient Cross-Entropy Method for Real-time Planning").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from lssvwm_models.execution.noise import fold, frame_noise


class Proposal(Protocol):
    """A distribution over plans, for each of B worlds."""

    def sample(self, keys: Tensor, num_plans: int) -> Tensor:
        """N plans, long (B, N, H) or float (B, N, H, A): a function of the keys (B,)."""

    def refit(self, plans: Tensor, weights: Tensor, smoothing: float) -> Self:
        """Move towards plans (B, N, H...) by weights (B, N).

        The weights of a world sum to 1, or to 0: then nothing is known there, and its distribution stays.
        `smoothing` is the share of the old distribution that is kept.
        """

    def mode(self) -> Tensor:
        """The most likely plan, (B, H) or (B, H, A)."""


@dataclass(frozen=True)
class CategoricalProposal:
    """Plans of discrete actions.

    Attributes:
        probs: (B, H, n), the distribution of the action at each step.
        persistence: Probability in [0, 1) that a step repeats the random number of the step before.
    """

    probs: Tensor
    persistence: float

    def sample(self, keys: Tensor, num_plans: int) -> Tensor:
        """See `Proposal.sample`. Random numbers become actions by the inverse of each step's own distribution."""
        B, H, _ = self.probs.shape
        bits = fold(keys.unsqueeze(1), torch.arange(2 * num_plans * H, device=keys.device))
        # 24 of the 64 bits, as many as a float32 holds exactly.
        uniform = (((bits >> 40) & 0xFFFFFF).float() / 2**24).view(B, 2, num_plans, H)
        fresh, repeats = uniform.unbind(1)
        source = torch.where(repeats < self.persistence, 0, torch.arange(H, device=keys.device)).cummax(-1).values
        quantile = fresh.gather(-1, source)
        cdf = self.probs.cumsum(-1)
        cdf = cdf / cdf[..., -1:]  # exactly 1 from the last possible action on, or rounding would draw impossible ones
        return (quantile.unsqueeze(-1) >= cdf.unsqueeze(1)).sum(-1)

    def refit(self, plans: Tensor, weights: Tensor, smoothing: float) -> CategoricalProposal:
        """See `Proposal.refit`."""
        one_hot = F.one_hot(plans, self.probs.shape[-1]).float()
        share = torch.einsum("bn,bnha->bha", weights, one_hot)
        return replace(self, probs=_moved(self.probs, share, weights, smoothing))

    def mode(self) -> Tensor:
        """See `Proposal.mode`."""
        return self.probs.argmax(-1)


@dataclass(frozen=True)
class GaussianProposal:
    """Plans of continuous actions, clipped to a box.

    Attributes:
        mean, std: (B, H, A).
        low, high: (A,), bounds of the box.
        persistence: Correlation in [0, 1) of the noise of one step with that of the next.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    persistence: float

    def sample(self, keys: Tensor, num_plans: int) -> Tensor:
        """See `Proposal.sample`."""
        shape = (num_plans, *self.mean.shape[1:])
        fresh = frame_noise(keys, torch.zeros_like(keys), shape)  # (B, N, H, A)
        rho = self.persistence
        noise = [fresh[:, :, 0]]
        for step in fresh[:, :, 1:].unbind(2):  # an AR(1) process, whose every step is a standard normal
            noise.append(rho * noise[-1] + (1 - rho**2) ** 0.5 * step)
        return (self.mean.unsqueeze(1) + self.std.unsqueeze(1) * torch.stack(noise, 2)).clamp(self.low, self.high)

    def refit(self, plans: Tensor, weights: Tensor, smoothing: float) -> GaussianProposal:
        """See `Proposal.refit`."""
        mean = torch.einsum("bn,bnha->bha", weights, plans)
        std = torch.einsum("bn,bnha->bha", weights, (plans - mean.unsqueeze(1)) ** 2).sqrt()
        return replace(
            self,
            mean=_moved(self.mean, mean, weights, smoothing),
            std=_moved(self.std, std, weights, smoothing),
        )

    def mode(self) -> Tensor:
        """See `Proposal.mode`."""
        return self.mean


def _moved(old: Tensor, new: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Parameters (B, H, ...) between old and new ones, in the worlds where some plan has weight."""
    known = (weights.sum(1) > 0).view(-1, 1, 1)
    return torch.where(known, torch.lerp(new, old, smoothing), old)
