"""A policy as a planner: what it would do, and what its dream promises."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lssvwm_models.execution.noise import fold, frame_noise
from lssvwm_models.memory.state import WorldModelState
from torch import Tensor

from lssvwm_agents.planning.protocols import Budget, Imaginer, Meter, PlanResult
from lssvwm_agents.policies.actor_critic import ActorCritic


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
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in (0, 1]")
        if self.dreams < 1:
            raise ValueError(f"dreams is {self.dreams}; expected at least 1")

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
        B, N = state.batch_size, self.dreams
        steps = Meter(budget).affordable(horizon, each=N)
        actions = [self._acted(state, keys, 0)]
        world = torch.arange(B, device=keys.device).repeat_interleave(N)  # of each dream
        state, action, keys = state[world], actions[0][world], _streams(keys, N)
        value, weight = torch.zeros_like(state.feats[:, 0]), torch.ones_like(state.feats[:, 0])
        for step in range(1, steps + 1):
            frame, state = core.imagine(state, action, keys)
            value = value + weight * frame.rew
            weight = weight * self.gamma * (1 - frame.term_prob)
            if step < steps:
                action = self._acted(state, keys, step)
                actions.append(action[::N])
        value = value + weight * self.actor_critic.critic(state.feats)
        return PlanResult(torch.stack(actions, 1), value.view(B, N).mean(1), steps * B * N)

    def _acted(self, state: WorldModelState, keys: Tensor, step: int) -> Tensor:
        """What the policy does at a step of every dream, (B,) or (B, A)."""
        policy, noise_shape = self.actor_critic.policy(state.feats), self.actor_critic.action_space.shape or ()
        noise = frame_noise(keys, torch.full_like(keys, step), noise_shape)
        return self.actor_critic.actions(policy.mode() if self.deterministic else policy.drawn(noise))


def _streams(keys: Tensor, count: int) -> Tensor:
    """Keys of `count` dreams of each world, (B * count,); the first of them is the world's own."""
    return torch.stack([keys, *(fold(keys, number) for number in range(1, count))], 1).flatten()
