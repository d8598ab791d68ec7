"""A policy as a planner: what it would do, and what its dream promises."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.actor_critic import ActorCritic
from agents.planning import Budget, Imaginer, PlanResult
from world_models.noise import frame_noise
from world_models.state import WorldModelState


@dataclass(frozen=True)
class FollowPolicy:
    """Dreams of doing what a policy does, so that an `MPCAgent` acts by it, at the cost of `horizon` imagined steps.

    Nothing is searched for: the plan is what the policy does now, and what it would then do in its dream. What that is
    worth says how well the policy believes to do.

    Attributes:
        actor_critic: The policy, of features of the model that is dreamed with.
        gamma: Discount per step, in (0, 1].
        deterministic: Take the likeliest action; else one is drawn, as while the policy learned.

    Raises:
        ValueError: If `gamma` is out of range; from `plan` if the features or the actions are not the policy's.
    """

    actor_critic: ActorCritic
    gamma: float = 0.99
    deterministic: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in (0, 1]")

    @torch.no_grad()
    def plan(
        self,
        core: Imaginer,
        state: WorldModelState,
        horizon: int,
        budget: Budget,
        keys: Tensor,
        warm_start: Tensor | None = None,
    ) -> PlanResult:
        """See `Planner.plan`. The dream ends early where the budget does; a warm start is of no use to a policy."""
        config = self.actor_critic.config
        if state.feats.shape[-1] != config.feature_dim or core.action_space != self.actor_critic.action_space:
            raise ValueError(
                f"the policy reads {config.feature_dim} features and acts in {self.actor_critic.action_space}; the "
                f"model gives {state.feats.shape[-1]} and wants {core.action_space}. Take the simulator it was "
                "trained in"
            )
        steps = horizon if budget.imagined_steps is None else min(horizon, budget.imagined_steps)
        value, weight = torch.zeros_like(state.feats[:, 0]), torch.ones_like(state.feats[:, 0])
        actions = list[Tensor]()
        shape = core.action_space.shape or ()
        for step in range(steps):
            policy = self.actor_critic.policy(state.feats)
            noise = frame_noise(keys, torch.full_like(keys, step), shape)
            actions.append(self.actor_critic.actions(policy.mode() if self.deterministic else policy.drawn(noise)))
            frame, state = core.imagine(state, actions[-1], keys)
            value = value + weight * frame.rew
            weight = weight * self.gamma * (1 - frame.term_prob)
        value = value + weight * self.actor_critic.critic(state.feats)
        return PlanResult(torch.stack(actions, 1), value, steps * state.batch_size)
