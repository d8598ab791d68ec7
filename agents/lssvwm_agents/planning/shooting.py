"""Planning by shooting: imagine many plans in forked worlds, keep the best, and look for more where it was found."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from itertools import count

import gymnasium as gym
import torch
from torch import Tensor

from lssvwm_agents.planning.proposals import CategoricalProposal, GaussianProposal, Proposal
from lssvwm_agents.planning.protocols import (
    BudgetTracker,
    PlanRequest,
    PlanResult,
    SearchSettings,
    imagined_returns,
)
from lssvwm_models.execution.noise import fold
from lssvwm_models.utils.checks import check_counts


@dataclass(frozen=True)
class RandomShooting(SearchSettings):
    """Draws plans at random, round after round, and keeps the best.

    Attributes:
        num_samples: N, plans per round and world.

    The others are those of `SearchSettings`.

    Raises:
        ValueError: If one of them is out of range; from `plan` if `action_probs` do not fit.
    """

    num_samples: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, num_samples=1)

    def plan(self, request: PlanRequest) -> PlanResult:
        """See `Planner.plan`."""
        proposal = self._initial_proposal(request)
        tracker = BudgetTracker(request.budget)
        sample_keys = fold(request.keys, 0)
        dream_keys = fold(request.keys, 1)
        best = request.warm_start
        value = torch.empty(0)
        imagined = 0
        for iteration in count():
            num_plans = tracker.affordable(self.num_samples, request.horizon)
            if not num_plans:
                break
            plans = with_beginning(proposal.sample(fold(sample_keys, iteration), num_plans), best)
            returns = imagined_returns(request.core, request.state, plans, dream_keys, self.gamma, self.value)
            best, value = _best(plans, returns.value)
            tracker.spend(num_plans * request.horizon)
            imagined += returns.imagined_steps
            proposal = self._refitted(proposal, plans, returns.value)
        assert best is not None  # there is at least one round
        return PlanResult(best, value, imagined)

    def _initial_proposal(self, request: PlanRequest) -> Proposal:
        """The distribution of plans before anything is known."""
        space = request.core.action_space
        device = request.state.age.device
        lead = (request.state.batch_size, request.horizon)
        if isinstance(space, gym.spaces.Discrete):
            probs = self.action_prior(space).to(device).expand(*lead, -1)
            return CategoricalProposal(probs, self.persistence)
        assert isinstance(space, gym.spaces.Box)
        if self.action_probs is not None:
            raise ValueError(f"action_probs is {self.action_probs}, but the actions are no numbered ones: {space}")
        low = torch.as_tensor(space.low, dtype=torch.float32, device=device)
        high = torch.as_tensor(space.high, dtype=torch.float32, device=device)
        mean = ((low + high) / 2).expand(*lead, -1)
        std = ((high - low) / 2).expand(*lead, -1)
        return GaussianProposal(mean, std, low, high, self.persistence)

    def _refitted(self, proposal: Proposal, plans: Tensor, returns: Tensor) -> Proposal:
        """The distribution that the next round draws from, given plans (B, N, H...) and their returns (B, N)."""
        return proposal


@dataclass(frozen=True)
class CEM(RandomShooting):
    """The cross-entropy method (Rubinstein 1999) with the improvements of iCEM (Pinneri et al. 2020).

    The first round is `RandomShooting`. Each round moves the distribution towards its elites, and keeps the best plan
    so far among the candidates of the next; steps of a plan are correlated; the rest of the last plan is a candidate.

    Elites are the plans worth more than the best plan outside the first `num_elites`. So ties make them fewer, never
    arbitrary: if three plans in a hundred find a reward, these three are the elites, and if all are worth the same, the
    distribution stays as it is.

    Attributes:
        num_elites: Most elites per round, below `num_samples`.
        smoothing: Share of the old distribution that each round keeps, in [0, 1).

    The others are those of `RandomShooting`.
    """

    _: KW_ONLY
    num_elites: int = 8
    smoothing: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_elites < self.num_samples:
            raise ValueError(f"num_elites is {self.num_elites}; expected 1 to num_samples - 1 = {self.num_samples - 1}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is {self.smoothing}; expected a share in [0, 1)")

    def _refitted(self, proposal: Proposal, plans: Tensor, returns: Tensor) -> Proposal:
        best_other = returns.topk(min(self.num_elites + 1, returns.shape[1])).values[:, -1:]
        elite = (returns > best_other).float()  # (B, N)
        return proposal.refit(plans, elite / elite.sum(1, keepdim=True).clamp(min=1), self.smoothing)


@dataclass(frozen=True)
class MPPI(RandomShooting):
    """Model-predictive path integral control (Williams et al. 2017): plans count by the exponential of their return.

    Attributes:
        temperature: Above 0, in units of the spread of a round's returns: small values trust the best plans alone.

    The others are those of `RandomShooting`.
    """

    _: KW_ONLY
    temperature: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; expected more than 0")

    def _refitted(self, proposal: Proposal, plans: Tensor, returns: Tensor) -> Proposal:
        spread = returns.std(1, keepdim=True, correction=0)
        weights = (returns / (self.temperature * spread).clamp(min=1e-8)).softmax(1)
        return proposal.refit(plans, weights * (spread > 1e-8), smoothing=0.0)


def with_beginning(plans: Tensor, beginning: Tensor | None) -> Tensor:
    """Plans (B, N, H...), the first of which begins with the actions (B, h...)."""
    if beginning is None:
        return plans
    plans = plans.clone()
    plans[:, 0, : beginning.shape[1]] = beginning
    return plans


def _best(plans: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """The best of plans (B, N, H...) and its return (B,); of equals the first, which is the one kept from before."""
    value, index = returns.max(1)
    return plans[torch.arange(len(plans), device=plans.device), index], value
