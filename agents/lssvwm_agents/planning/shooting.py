"""Planning by shooting: imagine many plans in forked worlds, keep the best, and look for more where it was found."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from itertools import count

import gymnasium as gym
import torch
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.state import WorldModelState
from torch import Tensor

from lssvwm_agents.planning.proposals import Categorical, Gaussian, Proposal
from lssvwm_agents.planning.protocols import Budget, Imaginer, Meter, PlanResult, Value, imagined_returns


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What every planner here is told.

    Attributes:
        gamma: Discount per step, in (0, 1]. Below 1, of two plans with the same reward the quicker one wins.
        persistence: How strongly a step is like the one before, in [0, 1); see `lssvwm_agents.planning.proposals`.
        action_probs: Probability of each discrete action, for actions that are seldom of use. None: all alike.
        value: What is still to be earned at the horizon; None: nothing.

    Raises:
        ValueError: If one of them is out of range.
    """

    gamma: float = 0.99
    persistence: float = 0.5
    action_probs: tuple[float, ...] | None = None
    value: Value | None = None

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in (0, 1]")
        if not 0 <= self.persistence < 1:
            raise ValueError(f"persistence is {self.persistence}; expected a share in [0, 1)")
        probs = self.action_probs
        if probs is not None and (min(probs, default=-1) < 0 or not math.isclose(sum(probs), 1, abs_tol=1e-4)):
            raise ValueError(f"action_probs is {probs}; expected probabilities that sum to 1")


@dataclass(frozen=True)
class RandomShooting(SearchSettings):
    """Draws plans at random, round after round, and keeps the best.

    Attributes:
        num_samples: N, plans per round and world.

    The others are those of `SearchSettings`.

    Raises:
        ValueError: If one of them is out of range; from `plan` if `action_probs` or `warm_start` do not fit.
    """

    num_samples: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_samples < 1:
            raise ValueError(f"num_samples is {self.num_samples}; expected at least 1")

    def plan(
        self,
        core: Imaginer,
        state: WorldModelState,
        horizon: int,
        budget: Budget,
        keys: Tensor,
        warm_start: Tensor | None = None,
    ) -> PlanResult:
        """See `Planner.plan`."""
        proposal, meter, imagined = self._prior(core, state, horizon), Meter(budget), 0
        draws, dreams = fold(keys, 0), fold(keys, 1)
        kept, value = warm_start, None
        for iteration in count():
            if not (num_plans := meter.affordable(self.num_samples, horizon)):
                break
            plans = with_first(proposal.sample(fold(draws, iteration), num_plans), kept)
            found = imagined_returns(core, state, plans, dreams, self.gamma, self.value)
            kept, value = _best(plans, found.value)
            meter.spend(num_plans * horizon)
            imagined += found.imagined_steps
            proposal = self._improved(proposal, plans, found.value)
        assert kept is not None and value is not None  # there is at least one round
        return PlanResult(kept, value, imagined)

    def _prior(self, core: Imaginer, state: WorldModelState, horizon: int) -> Proposal:
        """The distribution of plans before anything is known."""
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}; expected at least 1 action per plan")
        space, lead, device = core.action_space, (state.batch_size, horizon), state.age.device
        if isinstance(space, gym.spaces.Discrete):
            return Categorical(action_prior(space, self.action_probs).to(device).expand(*lead, -1), self.persistence)
        assert isinstance(space, gym.spaces.Box)
        if self.action_probs is not None:
            raise ValueError(f"action_probs is {self.action_probs}, but the actions are no numbered ones: {space}")
        low, high = (torch.as_tensor(bound, dtype=torch.float32, device=device) for bound in (space.low, space.high))
        middle, spread = ((low + high) / 2).expand(*lead, -1), ((high - low) / 2).expand(*lead, -1)
        return Gaussian(middle, spread, low, high, self.persistence)

    def _improved(self, proposal: Proposal, plans: Tensor, returns: Tensor) -> Proposal:
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

    def _improved(self, proposal: Proposal, plans: Tensor, returns: Tensor) -> Proposal:
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

    def _improved(self, proposal: Proposal, plans: Tensor, returns: Tensor) -> Proposal:
        spread = returns.std(1, keepdim=True, correction=0)
        weights = (returns / (self.temperature * spread).clamp(min=1e-8)).softmax(1)
        return proposal.refit(plans, weights * (spread > 1e-8), smoothing=0.0)


def action_prior(space: gym.spaces.Discrete, probs: tuple[float, ...] | None) -> Tensor:
    """The probability of each action, (n,).

    Raises:
        ValueError: If their number is another.
    """
    n = int(space.n)
    if probs is not None and len(probs) != n:
        raise ValueError(f"action_probs has {len(probs)} entries; expected {n}, one for each action of the model")
    return torch.tensor(probs or (1 / n,) * n)


def with_first(plans: Tensor, beginning: Tensor | None) -> Tensor:
    """Plans (B, N, H...), the first of which begins with the actions (B, h...).

    Raises:
        ValueError: If these do not fit.
    """
    if beginning is None:
        return plans
    B, _, H = plans.shape[:3]
    h = beginning.shape[1] if beginning.dim() > 1 else H + 1
    if h > H or beginning.shape != (B, h, *plans.shape[3:]):
        raise ValueError(
            f"warm_start has shape {tuple(beginning.shape)}; expected {(B, f'at most {H}', *plans.shape[3:])}, "
            "the first actions for each world of state"
        )
    plans = plans.clone()
    plans[:, 0, :h] = beginning
    return plans


def _best(plans: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """The best of plans (B, N, H...) and its return (B,); of equals the first, which is the one kept from before."""
    value, index = returns.max(1)
    return plans[torch.arange(len(plans), device=plans.device), index], value
