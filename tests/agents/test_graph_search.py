"""Graph search in a 5x5 room whose best plans are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from agents import Budget, GraphSearch, PlanResult
from lssvwm_env.core import SimulatorCore
from lssvwm_env.simulator import Simulator
from tests.agents.room import DOWN, RIGHT, WAIT, Cell, LargeRoom, Room, keys, room_state
from world_models.prediction import Prediction
from world_models.state import WorldModelState

ALL = 25 * 5  # steps that there are in the room: five from every cell


def plan(
    *cells: Cell, room: Room | None = None, steps: int = 1000, horizon: int = 10, **settings: object
) -> PlanResult:
    planner = GraphSearch(**settings)  # type: ignore[arg-type]
    budget = Budget(imagined_steps=steps)
    return planner.plan(room or LargeRoom(), room_state(*cells), horizon, budget, keys(len(cells)))


@pytest.mark.parametrize("num_moments", [1, 8])
def test_the_shortest_way_is_found_and_no_step_is_imagined_twice(num_moments: int) -> None:
    room = LargeRoom()
    result = plan((0, 0), room=room, num_moments=num_moments, gamma=0.9)
    assert sorted(result.actions[0, :8].tolist()) == [RIGHT] * 4 + [DOWN] * 4
    assert result.value.item() == pytest.approx(0.9**7)
    assert result.imagined_steps == room.imagined <= ALL


def test_what_ends_is_not_looked_beyond() -> None:
    result = plan((4, 3), action_probs=(0.0, 1.0, 0.0, 0.0, 0.0))
    assert result.imagined_steps == 1 and result.actions.tolist() == [[DOWN]]


def test_planning_for_many_worlds_is_planning_for_each() -> None:
    cells: list[Cell] = [(0, 0), (3, 4), (2, 2)]
    together = plan(*cells, steps=60)
    for i, cell in enumerate(cells):
        alone = GraphSearch().plan(LargeRoom(), room_state(cell), 10, Budget(imagined_steps=60), keys(3)[i : i + 1])
        shortest = together.actions.shape[1]
        assert torch.equal(together.actions[i : i + 1], alone.actions[:, :shortest])
        assert together.value[i] == alone.value[0]


def test_budget_and_horizon_are_kept() -> None:
    assert plan((0, 0), steps=37).imagined_steps == 35  # a moment costs five steps
    near = plan((1, 1), horizon=1)
    assert near.imagined_steps == 5 and near.actions.shape == (1, 1)
    assert GraphSearch().plan(LargeRoom(), room_state((0, 0)), 9, Budget(seconds=1e-6), keys()).imagined_steps == 5
    with pytest.raises(ValueError, match="imagined_steps is 4; expected at least"):
        plan((0, 0), steps=4)


class Keyed(LargeRoom):
    """The upper right corner pays 0.5 and hands out a key, which is not to be seen; the goal pays who has it."""

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        frame, after = super().imagine(memory, act, keys)
        had = memory.age >= 1000
        found = (after.latents[:, 0] == torch.tensor([4, 0])).all(1) & ~had
        rew = torch.where(had, frame.rew, 0) + 0.5 * found
        return replace(frame, rew=rew), replace(after, age=after.age + 1000 * found)


def test_moments_that_look_the_same_differ_by_what_was_earned_on_the_way() -> None:
    result = plan((3, 0), room=Keyed(), gamma=0.95)
    assert result.actions[0].tolist() == [RIGHT, DOWN, DOWN, DOWN, DOWN]


class Turning(Room):
    """A room without anything to see, whose agent turns: moments differ by their heading alone."""

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        frame, after = super().imagine(memory, torch.full_like(act, WAIT), keys)
        turn = torch.tensor([1, 0, -1, 0, 0])[act]
        return frame, replace(after, pose=(memory.pose + torch.stack([0 * turn, 0 * turn, turn], 1)) % 4)

    def shown(self, memory: WorldModelState) -> Tensor:
        return torch.zeros(memory.batch_size, 3, 16, 16)


def test_places_are_told_apart_that_look_the_same() -> None:
    assert plan((0, 0), room=Turning()).imagined_steps == 4 * 5  # the four headings


def test_the_value_at_the_horizon_decides_where_rewards_are_out_of_reach() -> None:
    class Scented(LargeRoom):
        """Features tell how far down the agent is."""

        def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
            frame, after = super().imagine(memory, act, keys)
            return replace(frame, feats=after.latents[:, 0, 1:]), after

    result = plan((1, 0), room=Scented(reward=0.0), horizon=2, value=lambda feats: feats[:, 0])
    assert result.actions.tolist() == [[DOWN, DOWN]] and result.value.item() == pytest.approx(2 * 0.99**2)


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="a graph has numbered actions"):
        plan((0, 0), room=LargeRoom(kind="box"))


@pytest.mark.parametrize(("argument", "value"), [("num_moments", 0), ("gamma", 0.0), ("horizon", 0)])
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument} is {value}"):
        plan((0, 0), **{argument: value})  # type: ignore[arg-type]


def test_a_real_simulator_can_be_planned_in(toy_simulator: Simulator) -> None:
    core = SimulatorCore(toy_simulator, 2)
    core.reset([0, 1], [0, 1])
    steps = 3 * int(core.action_space.n)  # type: ignore[union-attr]
    result = GraphSearch().plan(core, core.memory, 2, Budget(imagined_steps=steps), core.keys)
    assert result.actions.shape[0] == 2 and result.value.isfinite().all() and 0 < result.imagined_steps <= 2 * steps
