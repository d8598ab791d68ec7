"""What planners have in common: where they imagine, what they are asked, what they may spend, what they find."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import gymnasium as gym
import torch
from torch import Tensor

from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction
from lssvwm_models.utils.checks import check_counts

ValueFunction = Callable[[Tensor], Tensor]
"""The expected return (N,) from where features (N, F) were seen."""


class Imaginer(Protocol):
    """Anything to plan in, such as a `SimulatorCore`."""

    @property
    def action_space(self) -> gym.Space:
        """Discrete, or a Box of vectors."""

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        """Generate the next frame of every world; see `SimulatorCore.imagine`."""

    def decode(self, memory: WorldModelState) -> Tensor:
        """The last frame of every world, float (B, C, H, W) in [-1, 1]."""


@dataclass(frozen=True)
class Budget:
    """What a decision may cost. Whichever runs out first ends the search, and the best plan so far is returned.

    Attributes:
        imagined_steps: Frames imagined for each world, all candidates together.
        seconds: Of wall-clock. The search ends after the round in which they run out, so that there always is a plan.

    Raises:
        ValueError: If neither is given, or one is not positive.
    """

    imagined_steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        limits = {"imagined_steps": self.imagined_steps, "seconds": self.seconds}
        if all(limit is None for limit in limits.values()):
            raise ValueError("a budget needs imagined_steps, seconds, or both: without them a search never ends")
        for name, limit in limits.items():
            if limit is not None and limit <= 0:
                raise ValueError(f"{name} is {limit}; expected more than 0")


class BudgetTracker:
    """How much of a budget is left. The clock runs from when it is made."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._began = time.perf_counter()
        self._spent = 0

    def affordable(self, wanted: int, each: int) -> int:
        """How many of `wanted` rollouts of `each` imagined steps are still affordable; at least one in the first round.

        Raises:
            ValueError: If there are too few imagined steps for a single rollout.
        """
        steps = self._budget.imagined_steps
        seconds = self._budget.seconds
        if steps is not None and not self._spent and steps < each:
            raise ValueError(f"imagined_steps is {steps}; expected at least {each}, what a single rollout takes")
        if seconds is not None and self._spent and time.perf_counter() - self._began >= seconds:
            return 0
        return wanted if steps is None else min(wanted, (steps - self._spent) // each)

    def spend(self, steps: int) -> None:
        """Count steps that were imagined, or would have been but for plans that begin alike."""
        self._spent += steps


@dataclass(frozen=True)
class PlanRequest:
    """What a planner is asked: the best plan for each of B worlds.

    Attributes:
        core: Where to imagine.
        state: The B worlds as they are now; it is left as it is.
        horizon: H, actions per plan.
        budget: What may be spent.
        keys: (B,) long, one per world: all candidates and dreams follow from it.
        warm_start: (B, h <= H) or (B, h, A), what one of the candidates begins with, usually the rest of an earlier
            plan. Where nothing is worth more, it is kept.

    Raises:
        ValueError: If these do not fit one another.
    """

    core: Imaginer
    state: WorldModelState
    horizon: int
    budget: Budget
    keys: Tensor
    warm_start: Tensor | None = None

    def __post_init__(self) -> None:
        check_counts(self, horizon=1)
        B = self.state.batch_size
        if self.keys.shape != (B,):
            raise ValueError(f"keys has shape {tuple(self.keys.shape)}; expected ({B},), one for each world of state")
        if self.warm_start is None:
            return
        shape = tuple(self.warm_start.shape)
        action = self.core.action_space.shape or ()
        if len(shape) < 2 or shape[1] > self.horizon or shape != (B, shape[1], *action):
            raise ValueError(
                f"warm_start has shape {shape}; expected {(B, f'at most {self.horizon}', *action)}, "
                "the first actions for each world of state"
            )


@dataclass(frozen=True)
class PlanResult:
    """The best plan found for each of B worlds.

    Attributes:
        actions: Long (B, h), or float (B, h, A); h is the horizon, or less where no more is known.
        value: (B,) float, what the plan is worth in imagination.
        imagined_steps: Frames imagined to find it, over all worlds and candidates. Plans that begin alike share these
            frames, so they are fewer than plans times horizon.
    """

    actions: Tensor
    value: Tensor
    imagined_steps: int


class Planner(Protocol):
    """Finds actions that are worth the most in imagination."""

    def plan(self, request: PlanRequest) -> PlanResult:
        """Plan for every world of a request.

        A world's plan is a function of its memory and its key. So planning for B worlds together finds what planning
        for them one after the other would.

        Raises:
            ValueError: If the request does not fit the planner.
        """


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What the planners that search have in common.

    Attributes:
        gamma: Discount per step, in (0, 1]. Below 1, of two plans with the same reward the quicker one wins.
        persistence: How strongly a step is like the one before, in [0, 1); see `lssvwm_agents.planning.proposals`.
        action_probs: Prior probability of each discrete action, for actions that are seldom of use. None: all alike.
        value: Value function at the horizon; None: nothing is earned beyond it.

    Raises:
        ValueError: If one of them is out of range.
    """

    gamma: float = 0.99
    persistence: float = 0.5
    action_probs: tuple[float, ...] | None = None
    value: ValueFunction | None = None

    def __post_init__(self) -> None:
        check_discount(self.gamma)
        if not 0 <= self.persistence < 1:
            raise ValueError(f"persistence is {self.persistence}; expected a share in [0, 1)")
        probs = self.action_probs
        if probs is not None and (any(p < 0 for p in probs) or not math.isclose(sum(probs), 1, abs_tol=1e-4)):
            raise ValueError(f"action_probs is {probs}; expected probabilities that sum to 1")

    def action_prior(self, space: gym.spaces.Discrete) -> Tensor:
        """The prior probability of each action, (n,).

        Raises:
            ValueError: If `action_probs` has another number of entries.
        """
        n = int(space.n)
        probs = self.action_probs
        if probs is not None and len(probs) != n:
            raise ValueError(f"action_probs has {len(probs)} entries; expected {n}, one for each action of the model")
        return torch.tensor(probs or (1 / n,) * n, dtype=torch.float32)


def check_discount(gamma: float) -> None:
    """Refuse discounts outside (0, 1].

    Raises:
        ValueError: Naming what came.
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma is {gamma}; expected a discount in (0, 1]")


@dataclass(frozen=True)
class Returns:
    """What N plans are worth in each of B worlds, (B, N), and how many frames were imagined to know it."""

    value: Tensor
    imagined_steps: int


@torch.no_grad()
def imagined_returns(
    core: Imaginer,
    state: WorldModelState,
    plans: Tensor,
    keys: Tensor,
    gamma: float,
    value: ValueFunction | None = None,
) -> Returns:
    """The discounted sum of rewards while the episode is likely to go on.

    The reward of step t counts `gamma**t` times the probability that no earlier step ended the episode. All plans of a
    world dream with that world's key: common random numbers, so that plans differ by their actions and not by luck. So
    discrete plans that begin alike dream alike, and what they share is dreamt once.

    Args:
        core: Where to imagine.
        state: B worlds.
        plans: Long (B, N, H), or float (B, N, H, A): N plans of H actions for each world.
        keys: (B,) long, one per world; see `lssvwm_models.execution.noise`.
        gamma: Discount per step.
        value: Value function after the last step; None: nothing is earned beyond it.

    Raises:
        ValueError: If `plans` or `keys` are not for B worlds.
    """
    B = state.batch_size
    if plans.dim() not in (3, 4) or plans.shape[0] != B or keys.shape != (B,):
        raise ValueError(
            f"plans has shape {tuple(plans.shape)} and keys {tuple(keys.shape)}; state holds {B} worlds, so "
            f"expected ({B}, plans, horizon) and ({B},)"
        )
    N = plans.shape[1]
    imagined = 0
    world = torch.arange(B, device=plans.device)  # of each dream
    dream = world.repeat_interleave(N)  # which of the dreams each plan has come to
    returns = torch.zeros(B * N, dtype=torch.float32, device=plans.device)
    weight = torch.ones_like(returns)
    for actions in plans.flatten(0, 1).unbind(1):
        dream, parent, act = _branches(dream, actions)
        world = world[parent]
        frame, state = core.imagine(state[parent], act, keys[world])
        imagined += len(parent)
        returns = returns + weight * frame.rew[dream]
        weight = weight * gamma * (1 - frame.term_prob[dream])
    if value is not None:
        returns = returns + weight * value(frame.feats)[dream]
    return Returns(returns.view(B, N), imagined)


def _branches(dream: Tensor, act: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The dreams that follow when each of M plans, now in one of the dreams, takes its action.

    Returns:
        which of the new dreams each plan is in (M,), and of each new dream its parent (D,) and action (D,) or (D, A).
    """
    if act.is_floating_point():  # no two of them are alike
        return torch.arange(len(act), device=act.device), dream, act
    pairs, of_plan = torch.stack([dream, act], 1).unique(dim=0, return_inverse=True)
    return of_plan, pairs[:, 0], pairs[:, 1]
