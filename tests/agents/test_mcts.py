"""Tree search in a 5x5 room whose best plans are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from agents import MCTS, Budget
from tests.agents.room import DOWN, LEFT, RIGHT, UP, Room, keys, room_state
from world_models.prediction import Prediction
from world_models.state import WorldModelState


@pytest.mark.parametrize("num_leaves", [1, 8])
def test_the_nearest_goal_is_found(num_leaves: int) -> None:
    budget = Budget(imagined_steps=1000)
    result = MCTS(num_leaves=num_leaves, gamma=0.7).plan(Room(), room_state((2, 3)), 8, budget, keys())
    assert sorted(result.actions[0, :3].tolist()) == [RIGHT, RIGHT, DOWN]


def test_nothing_is_imagined_twice() -> None:
    room = Room()
    budget = Budget(imagined_steps=400)
    result = MCTS().plan(room, room_state((0, 0)), 2, budget, keys())
    assert result.imagined_steps == room.imagined <= 5 + 25  # all there is to know


def test_what_is_certain_to_end_is_not_looked_beyond() -> None:
    room = Room()
    result = MCTS(action_probs=(0.0, 1.0, 0.0, 0.0, 0.0)).plan(
        room, room_state((4, 3)), 10, Budget(imagined_steps=100), keys()
    )
    assert result.imagined_steps == 1 and result.actions.tolist() == [[DOWN]]
    assert result.value.item() == pytest.approx(1.0)


def test_the_value_at_the_horizon_decides_where_rewards_are_out_of_reach() -> None:
    class Scented(Room):
        """Features tell how far to the right the agent is."""

        def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
            frame, after = super().imagine(memory, act, keys)
            return replace(frame, feats=after.latents[:, 0, :1]), after

    room, planner = Scented(reward=0.0), MCTS(value=lambda feats: feats[:, 0])
    result = planner.plan(room, room_state((0, 0)), 3, Budget(imagined_steps=300), keys())
    assert result.actions[0, 0] == RIGHT


def test_a_warm_start_is_the_first_simulation() -> None:
    way = torch.tensor([[RIGHT, DOWN, LEFT, UP]])
    planner = MCTS(num_leaves=1)
    result = planner.plan(Room(), room_state((0, 0)), 4, Budget(imagined_steps=4), keys(), warm_start=way)
    assert torch.equal(result.actions, way)


def test_a_warm_start_that_does_not_fit_is_refused() -> None:
    start = torch.zeros(1, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r"warm_start has shape .*expected \(1, 'at most 4'\)"):
        MCTS().plan(Room(), room_state((0, 0)), 4, Budget(imagined_steps=8), keys(), warm_start=start)


@pytest.mark.parametrize(
    "argument, value",
    [("num_leaves", 0), ("gamma", 0.0), ("exploration", 0.0), ("persistence", 1.0), ("action_probs", (0.5,))],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{argument} is .*expected"):
        MCTS(**{argument: value})  # type: ignore[arg-type]


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="a tree branches over Discrete actions, use CEM or MPPI"):
        MCTS().plan(Room(kind="box"), room_state((0, 0)), 4, Budget(imagined_steps=8), keys())


def test_simulations_go_where_it_pays() -> None:
    result = MCTS(gamma=0.7).plan(Room(), room_state((3, 3)), 6, Budget(imagined_steps=1200), keys())
    assert sorted(result.actions[0, :2].tolist()) == [RIGHT, DOWN]
    assert result.value.item() > 0.5  # 0.7 at best; the mean of all that was tried


def test_steps_that_were_spared_buy_more_simulations() -> None:
    result = MCTS().plan(Room(), room_state((0, 0)), 8, Budget(imagined_steps=300), keys())
    assert 300 - 8 * 8 < result.imagined_steps <= 300
