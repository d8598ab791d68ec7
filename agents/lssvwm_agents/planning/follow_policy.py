"""A policy as a planner: what it would do, and what its dream promises."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lssvwm_agents.planning.protocols import BudgetTracker, PlanRequest, PlanResult, check_discount
from lssvwm_agents.policies.actor_critic import ActorCritic
from lssvwm_models.execution.noise import fold, frame_noise
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.utils.checks import check_counts


@dataclass(frozen=True)
class FollowPolicy:
    """Dreams of doing what a policy does, so that an `MPCAgent` acts by it, at `horizon` imagined steps a dream.

    Nothing is searched for: the plan is what the policy does now, and what it would then do in its dream. What that is
    worth says how well the policy believes to do.

    Attributes:
        actor_critic: The policy, of features of the model that is dreamed with.
        gamma: Discount per step, in (0, 1].
        deterministic: Take the likeliest action; else one is drawn, as while the policy learned.
        dreams: Dreams that begin with the action taken now. The plan is what happens in the first; its worth is the
            mean over all, as each draws anew what is not known yet, be it of the world or of what the policy will do.

    Raises:
        ValueError: If `gamma` or `dreams` are out of range; from `plan` if the features or the actions are not the
            policy's, or the budget does not suffice for a step of every dream.
    """

    actor_critic: ActorCritic
    gamma: float = 0.99
    deterministic: bool = False
    dreams: int = 1

    def __post_init__(self) -> None:
        check_discount(self.gamma)
        check_counts(self, dreams=1)

    @torch.no_grad()
    def plan(self, request: PlanRequest) -> PlanResult:
        """See `Planner.plan`. The dream ends early where the budget does; a warm start is of no use to a policy."""
        config = self.actor_critic.config
        core = request.core
        state = request.state
        if state.feats.shape[-1] != config.feature_dim or core.action_space != self.actor_critic.action_space:
            raise ValueError(
                f"the policy reads {config.feature_dim} features and acts in {self.actor_critic.action_space}; the "
                f"model gives {state.feats.shape[-1]} and wants {core.action_space}. Take the simulator it was "
                "trained in"
            )
        B = state.batch_size
        N = self.dreams
        steps = BudgetTracker(request.budget).affordable(request.horizon, each=N)
        first = self._actions(state, request.keys, 0)
        world = torch.arange(B, device=request.keys.device).repeat_interleave(N)  # of each dream
        state = state[world]
        action = first[world]
        keys = _dream_keys(request.keys, N)
        plan = [first]
        value = torch.zeros_like(state.feats[:, 0])
        weight = torch.ones_like(value)
        for step in range(1, steps + 1):
            frame, state = core.imagine(state, action, keys)
            value = value + weight * frame.rew
            weight = weight * self.gamma * (1 - frame.term_prob)
            if step < steps:
                action = self._actions(state, keys, step)
                plan.append(action[::N])  # of the first dream of each world
        value = value + weight * self.actor_critic.critic(state.feats)
        return PlanResult(torch.stack(plan, 1), value.view(B, N).mean(1), steps * B * N)

    def _actions(self, state: WorldModelState, keys: Tensor, step: int) -> Tensor:
        """What the policy does at a step of every dream, (B,) or (B, A)."""
        policy = self.actor_critic.policy(state.feats)
        noise = frame_noise(keys, torch.full_like(keys, step), self.actor_critic.action_space.shape or ())
        return self.actor_critic.to_actions(policy.mode() if self.deterministic else policy.from_noise(noise))


def _dream_keys(keys: Tensor, count: int) -> Tensor:
    """Keys of `count` dreams of each world, (B * count,); the first of them is the world's own."""
    return torch.stack([keys, *(fold(keys, number) for number in range(1, count))], 1).flatten()
