"""A policy in the place of a planner."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor, nn

from lssvwm_agents import Budget, FollowPolicy, MPCAgent, PlanRequest, PlanResult, run_episode
from lssvwm_agents.policies.actor_critic import ActorCritic, ActorCriticConfig
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction
from tests.lssvwm_agents.room import DOWN, GOAL, RIGHT, SIZE, RealRoom, Room, keys, room_state


class SeeingRoom(Room):
    """Its features are the cell."""

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        frame, after = super().imagine(memory, act, keys)
        return frame, WorldModelState((), (), after.latents, after.latents[:, 0], after.pose, after.age)


def seen(state: WorldModelState) -> WorldModelState:
    return WorldModelState((), (), state.latents, state.latents[:, 0], state.pose, state.age)


class FirstRight(nn.Module):
    """Logits of going right while there is room, and down from there."""

    def forward(self, cell: Tensor) -> Tensor:
        logits = torch.zeros(*cell.shape[:-1], 5)
        logits[..., RIGHT] = 20 * (cell[..., 0] < SIZE - 1)
        logits[..., DOWN] = 20 * (cell[..., 0] == SIZE - 1)
        return logits


class Expecting(nn.Module):
    """The same, wherever it is."""

    def __init__(self, expected: float) -> None:
        super().__init__()
        self.expected = expected

    def forward(self, cell: Tensor) -> Tensor:
        return torch.full(cell.shape[:-1], self.expected)


def policy(expects: float = 0.0) -> ActorCritic:
    made = ActorCritic(ActorCriticConfig(2, {"type": "Discrete", "n": 5}))
    made.actor = FirstRight()
    made.critic = Expecting(expects)
    return made


def follow(
    planner: FollowPolicy,
    state: WorldModelState,
    horizon: int,
    steps: int,
    room: Room | None = None,
    keys: Tensor | None = None,
) -> PlanResult:
    own = torch.arange(state.batch_size) if keys is None else keys
    return planner.plan(PlanRequest(room or SeeingRoom(), state, horizon, Budget(steps), own))


def test_the_plan_is_what_the_policy_does_in_its_dream_and_is_worth_what_that_earns() -> None:
    found = follow(FollowPolicy(policy(), gamma=0.9), seen(room_state((0, 0), (4, 3))), 10, 99)
    assert found.actions[0, :8].tolist() == [RIGHT] * 4 + [DOWN] * 4 and found.actions[1, 0] == DOWN
    torch.testing.assert_close(found.value, torch.tensor([0.9**7, 1.0]))
    assert found.imagined_steps == 2 * 10


def test_the_critic_says_what_comes_after_the_dream_and_the_budget_ends_it() -> None:
    found = follow(FollowPolicy(policy(expects=0.5), gamma=0.9), seen(room_state((0, 0))), 10, 3)
    assert found.actions.shape == (1, 3) and found.imagined_steps == 3
    torch.testing.assert_close(found.value, torch.tensor([0.9**3 * 0.5]))
    at_goal = follow(FollowPolicy(policy(expects=0.5)), seen(room_state((4, 3))), 2, 9)
    torch.testing.assert_close(at_goal.value, torch.tensor([1.0]))  # nothing comes after the end


def test_an_agent_acts_by_it() -> None:
    class Remembering(SeeingRoom):
        def initial_memory(self, num_worlds: int) -> WorldModelState:
            return seen(super().initial_memory(num_worlds))

        def update_memory(self, memory: WorldModelState, obs, act, is_first) -> WorldModelState:
            return seen(super().update_memory(memory, obs, act, is_first))

    record = run_episode(MPCAgent(Remembering(), FollowPolicy(policy()), 1, Budget(imagined_steps=1)), RealRoom())
    assert record.terminated and record.actions.tolist() == [RIGHT] * 4 + [DOWN] * 4
    assert GOAL == (4, 4) and record.imagined_steps == 8


def test_actions_are_drawn_with_the_key_of_their_world() -> None:
    made = policy()
    made.actor = nn.Linear(2, 5, bias=False)
    nn.init.zeros_(made.actor.weight)  # all actions alike
    state = seen(room_state(*[(0, 0)] * 200))
    many = keys(200)
    drawn = [follow(FollowPolicy(made), state, 3, 3, keys=k).actions for k in (many, many, many.flip(0))]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2].flip(0))
    assert drawn[0].flatten().bincount(minlength=5).min() > 80  # 120 are expected
    likeliest = follow(FollowPolicy(made, deterministic=True), state, 3, 3).actions
    assert len(likeliest.unique()) == 1


def test_many_dreams_of_the_same_action_are_worth_their_mean_and_the_first_of_them_is_the_plan() -> None:
    N = 8
    state = seen(room_state(*[(0, 0)] * 50))
    made = policy()
    made.actor = nn.Linear(2, 5, bias=False)
    nn.init.zeros_(made.actor.weight)  # all actions alike
    room = SeeingRoom(luck=1e-3)
    alone = follow(FollowPolicy(made), state, 3, 3, room)
    acts = list[Tensor]()
    room.imagine = lambda memory, act, keys: acts.append(act) or SeeingRoom.imagine(room, memory, act, keys)  # type: ignore[method-assign]
    room.keys_seen.clear()
    together = follow(FollowPolicy(made, dreams=N), state, 3, 3 * N, room)
    assert torch.equal(together.actions, alone.actions) and together.imagined_steps == 50 * 3 * N
    first = acts[0].view(50, N)
    later = acts[2].view(50, N)
    assert (first == first[:, :1]).all() and (later != later[:, :1]).float().mean() > 0.6  # 0.7 are expected
    luck = (room.keys_seen[0] % 1000).view(50, N) * 1e-3
    assert len(luck[0].unique()) == N and (luck[:, 0] == keys(50) % 1000 * 1e-3).all()
    torch.testing.assert_close(together.value, luck.mean(1) * (1 + 0.99 + 0.99**2))


def test_a_policy_is_followed_without_gradients_as_one_dream_at_a_discount_of_99_percent() -> None:
    made = policy(expects=0.5)
    made.critic = nn.Linear(2, 1)
    made.critic.forward = lambda cell: cell[:, 0] * made.critic.bias  # type: ignore[method-assign]
    planner = FollowPolicy(made)
    assert not follow(planner, seen(room_state((0, 0))), 1, 1).value.requires_grad
    assert (planner.gamma, planner.dreams) == (0.99, 1)
    with pytest.raises(FrozenInstanceError):
        planner.dreams = 2  # type: ignore[misc]


def test_a_key_stands_for_the_same_actions_in_every_release() -> None:
    made = policy()
    made.actor = nn.Linear(2, 5, bias=False)
    nn.init.zeros_(made.actor.weight)  # all actions alike
    planner = FollowPolicy(made, dreams=2)
    room = SeeingRoom(luck=1e-3)
    found = follow(planner, seen(room_state((0, 0), (2, 2))), 6, 12, room)
    assert found.actions.tolist() == [[1, 2, 3, 3, 0, 0], [0, 4, 2, 0, 4, 0]]
    torch.testing.assert_close(found.value, torch.tensor([1.304993, 0.324785]))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma is 0"):
        FollowPolicy(policy(), gamma=0)
    with pytest.raises(ValueError, match="dreams=0 must be at least 1"):
        FollowPolicy(policy(), dreams=0)
    with pytest.raises(ValueError, match="imagined_steps is 3; expected at least 4"):
        follow(FollowPolicy(policy(), dreams=4), seen(room_state((0, 0))), 1, 3)
    with pytest.raises(ValueError, match="reads 2 features .* gives 1"):
        follow(FollowPolicy(policy()), room_state((0, 0)), 1, 1, Room())
    with pytest.raises(ValueError, match=r"acts in Discrete\(5\); the model gives 2 and wants Box"):
        follow(FollowPolicy(policy()), seen(room_state((0, 0))), 1, 1, SeeingRoom(kind="box"))
