"""Planning by imagination: try many sequences of discrete actions in forked worlds, keep the best.

A planner plans for B worlds at once. From its generator it takes two keys per world, in order, and nothing else: all
candidates and dreams are functions of those keys. So planning for B worlds together finds what planning for them one
after the other would.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

import torch
from torch import Tensor

from world_models.actions import ActionSpec
from world_models.noise import fold
from world_models.state import WorldModelState
from world_models.world_model import Prediction


class HasAction(Protocol):
    """A model's config, as far as planners care."""

    @property
    def action(self) -> ActionSpec:
        """The action space."""


class Imaginer(Protocol):
    """Anything to plan in, such as a `WorldModel`."""

    @property
    def config(self) -> HasAction:
        """What it is made of."""

    def imagine(
        self, state: WorldModelState, act: Tensor, rng: Tensor, steps: int = 1
    ) -> tuple[Prediction, WorldModelState]:
        """Generate the next frame of every world; see `WorldModel.imagine`."""


@dataclass(frozen=True)
class PlanResult:
    """The best plan found for each of B worlds.

    Attributes:
        actions: (B, horizon) long.
        value: (B,) float, the plan's return in imagination.
        imagined_steps: Frames imagined to find it, over all worlds and candidates.
    """

    actions: Tensor
    value: Tensor
    imagined_steps: int


class Planner(Protocol):
    """Finds actions that are worth the most in imagination."""

    @property
    def steps(self) -> int:
        """Denoising steps per imagined frame."""

    def plan(
        self, model: Imaginer, state: WorldModelState, rng: torch.Generator, warm_start: Tensor | None = None
    ) -> PlanResult:
        """Plan for every world of `state`, which is left as it is.

        Args:
            model: Where to imagine.
            state: B worlds as they are now.
            rng: Gives the keys of all candidates and dreams.
            warm_start: (B, h <= horizon) long, what one of the candidates begins with, usually the rest of an earlier
                plan. Where nothing is worth more, it is kept.
        """


def imagined_returns(
    model: Imaginer, state: WorldModelState, actions: Tensor, keys: Tensor, gamma: float = 0.99, steps: int = 1
) -> Tensor:
    """What plans are worth in imagination: the discounted sum of rewards while the episode is likely to go on.

    The reward of step t counts `gamma**t` times the probability that no earlier step ended the episode. All N plans of
    a world dream with that world's key: common random numbers, so that plans differ by their actions and not by luck.

    Args:
        model: Where to imagine.
        state: B worlds.
        actions: (B, N, H) long, N plans of H actions for each world.
        keys: (B,) long, one per world; see `world_models.noise`.
        gamma: Discount per step.
        steps: Denoising steps per frame.

    Returns:
        (B, N) float.

    Raises:
        ValueError: If `actions` or `keys` are not for B worlds.
    """
    B = state.batch_size
    if actions.dim() != 3 or actions.shape[0] != B or keys.shape != (B,):
        raise ValueError(
            f"actions has shape {tuple(actions.shape)} and keys {tuple(keys.shape)}; state holds {B} worlds, so "
            f"expected ({B}, plans, horizon) and ({B},)"
        )
    N = actions.shape[1]
    worlds, keys = state.repeat_interleave(N), keys.repeat_interleave(N)
    returns = torch.zeros(B * N, device=actions.device)
    weight = torch.ones_like(returns)
    for act in actions.flatten(0, 1).unbind(1):
        frame, worlds = model.imagine(worlds, act, keys, steps)
        returns = returns + weight * frame.rew
        weight = weight * gamma * (1 - frame.term_prob)
    return returns.view(B, N)


def sample_plans(probs: Tensor, keys: Tensor, num_plans: int, persistence: float) -> Tensor:
    """Draw plans in which an action tends to last: dithering gets nowhere in a grid world.

    Each step repeats the random number of the step before with probability `persistence`, and turns it into an action
    by the inverse of its own distribution. So time steps are correlated, as by the coloured noise of iCEM (Pinneri et
    al. 2020, "Sample-efficient Cross-Entropy Method for Real-time Planning"), and yet each keeps its distribution.

    Args:
        probs: (B, H, n), the distribution of the action at each step.
        keys: (B,) long; the plans of a world are a function of its key and probabilities.
        num_plans: N.
        persistence: In [0, 1).

    Returns:
        (B, N, H) long.
    """
    B, H, _ = probs.shape
    numbers = torch.arange(2 * num_plans * H, device=keys.device)
    bits = fold(keys.unsqueeze(1), numbers)
    level, dice = (((bits >> 40) & 0xFFFFFF).float() / 2**24).view(B, 2, num_plans, H).unbind(1)
    drawn_at = torch.where(dice < persistence, 0, torch.arange(H, device=keys.device)).cummax(-1).values
    level = level.gather(-1, drawn_at)
    cdf = probs.cumsum(-1)
    cdf = cdf / cdf[..., -1:]  # exactly 1 from the last possible action on, or rounding would draw impossible ones
    return (level.unsqueeze(-1) >= cdf.unsqueeze(1)).sum(-1)


@dataclass(frozen=True)
class RandomShooting:
    """Draws plans at random and keeps the best.

    Attributes:
        num_samples: N, plans per world.
        horizon: H, actions per plan.
        gamma: Discount per step, in (0, 1]. Below 1, of two plans with the same reward the quicker one wins.
        steps: Denoising steps per imagined frame.
        persistence: Probability that an action is repeated rather than redrawn, in [0, 1).
        action_probs: Probability of each action when redrawn, for actions that are seldom of use. None: all alike.

    Raises:
        ValueError: If one of them is out of range; from `plan` if the model's actions are not discrete, or if
            `action_probs` or `warm_start` do not fit.
    """

    num_samples: int
    horizon: int
    gamma: float = 0.99
    steps: int = 1
    persistence: float = 0.5
    action_probs: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("num_samples", "horizon", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in (0, 1]")
        if not 0 <= self.persistence < 1:
            raise ValueError(f"persistence is {self.persistence}; expected a probability in [0, 1)")
        probs = self.action_probs
        if probs is not None and (min(probs, default=-1) < 0 or not math.isclose(sum(probs), 1, abs_tol=1e-4)):
            raise ValueError(f"action_probs is {probs}; expected probabilities that sum to 1")

    def plan(
        self, model: Imaginer, state: WorldModelState, rng: torch.Generator, warm_start: Tensor | None = None
    ) -> PlanResult:
        """See `Planner.plan`."""
        probs, (draws, dreams) = self._prior(model, state), _keys(state, rng)
        plans = self._candidates(probs, fold(draws, 0), warm_start)
        returns = imagined_returns(model, state, plans, dreams, self.gamma, self.steps)
        return PlanResult(*_best(plans, returns), imagined_steps=plans.numel())

    def _prior(self, model: Imaginer, state: WorldModelState) -> Tensor:
        """The distribution of actions before anything is known, (B, H, n)."""
        n = num_actions(model)
        probs = self.action_probs or (1 / n,) * n
        if len(probs) != n:
            raise ValueError(f"action_probs has {len(probs)} entries; expected {n}, one for each action of the model")
        return torch.tensor(probs, device=state.age.device).expand(state.batch_size, self.horizon, n)

    def _candidates(self, probs: Tensor, keys: Tensor, kept: Tensor | None) -> Tensor:
        """Draw plans (B, N, H), the first of which begins with the actions `kept` (B, h)."""
        plans = sample_plans(probs, keys, self.num_samples, self.persistence)
        if kept is not None:
            B, h = probs.shape[0], kept.shape[-1]
            if kept.shape != (B, h) or h > self.horizon:
                raise ValueError(
                    f"warm_start has shape {tuple(kept.shape)}; expected ({B}, at most {self.horizon}), the first "
                    "actions for each world of state"
                )
            plans[:, 0, :h] = kept
        return plans


@dataclass(frozen=True)
class CategoricalCEM(RandomShooting):
    """The cross-entropy method (Rubinstein 1999) on one categorical distribution per time step.

    The first round is `RandomShooting`. Each round moves the distribution towards its elites and keeps the best plan
    so far among the candidates of the next (iCEM's kept elite; Pinneri et al. 2020).

    Elites are the plans worth more than the best plan outside the first `num_elites`. So ties make them fewer, never
    arbitrary: if three plans in a hundred find a reward, these three are the elites, and if all are worth the same, the
    distribution stays as it is.

    Attributes:
        num_elites: Most elites per round, below `num_samples`.
        num_iterations: Rounds; each imagines N plans per world.
        smoothing: Share of the old distribution that each round keeps, in [0, 1).

    The others are those of `RandomShooting`.
    """

    _: KW_ONLY
    num_elites: int
    num_iterations: int
    smoothing: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_elites < self.num_samples:
            raise ValueError(f"num_elites is {self.num_elites}; expected 1 to num_samples - 1 = {self.num_samples - 1}")
        if self.num_iterations < 1:
            raise ValueError(f"num_iterations is {self.num_iterations}; expected at least 1")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is {self.smoothing}; expected a share in [0, 1)")

    def plan(
        self, model: Imaginer, state: WorldModelState, rng: torch.Generator, warm_start: Tensor | None = None
    ) -> PlanResult:
        """See `Planner.plan`."""
        probs, (draws, dreams) = self._prior(model, state), _keys(state, rng)
        kept = warm_start
        for iteration in range(self.num_iterations):
            plans = self._candidates(probs, fold(draws, iteration), kept)
            returns = imagined_returns(model, state, plans, dreams, self.gamma, self.steps)
            result = PlanResult(*_best(plans, returns), imagined_steps=(iteration + 1) * plans.numel())
            kept = result.actions
            probs = self._refit(probs, plans, returns)
        return result

    def _refit(self, probs: Tensor, plans: Tensor, returns: Tensor) -> Tensor:
        """Move probs (B, H, n) towards the elites of plans (B, N, H) with returns (B, N)."""
        best_other = returns.topk(self.num_elites + 1).values[:, -1:]
        elite = (returns > best_other).float()  # (B, N)
        chosen = torch.nn.functional.one_hot(plans, probs.shape[-1]).float()
        count = elite.sum(1).view(-1, 1, 1)
        share = torch.einsum("bn,bnha->bha", elite, chosen) / count.clamp(min=1)
        return torch.where(count > 0, torch.lerp(share, probs, self.smoothing), probs)


def num_actions(model: Imaginer) -> int:
    """The number of discrete actions of a model.

    Raises:
        ValueError: If its actions are continuous.
    """
    spec = model.config.action
    if spec.kind != "discrete":
        raise ValueError(
            f"the model's actions are of kind {spec.kind!r}; these planners search over discrete actions only. "
            "Make the env's actions discrete and train on those"
        )
    return spec.size


def _keys(state: WorldModelState, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two keys for each world, (B,) each: for its candidates and for its dreams."""
    keys = torch.randint(2**62, (state.batch_size, 2), generator=rng, device=rng.device).to(state.age.device)
    return keys[:, 0], keys[:, 1]


def _best(plans: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """The best of plans (B, N, H) and its return (B,); of equals the first, which is the one kept from before."""
    value, index = returns.max(1)
    return plans[torch.arange(len(plans), device=plans.device), index], value
