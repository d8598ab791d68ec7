"""Pictures as goals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents import CEM, MCTS, Budget, Planner, TowardsGoal
from tests.agents.room import DOWN, RIGHT, WAIT, Room, keys, picture, room_state


def towards(cell: tuple[int, int], **room: float) -> TowardsGoal:
    return TowardsGoal(Room(**room), picture(cell), patch=1)  # type: ignore[arg-type]


def test_likeness_is_the_share_of_squares_in_common() -> None:
    core = towards((2, 1))
    frames = core.shown(room_state((2, 1), (0, 0)))
    torch.testing.assert_close(core.likeness(frames), torch.tensor([1.0, 23 / 25]))


def test_only_the_likeness_counts_and_reaching_it_ends_the_episode() -> None:
    core = towards((3, 4), reward=100.0)
    state = room_state((3, 3), (3, 3), (4, 4))
    frame, after = core.imagine(state, torch.tensor([DOWN, RIGHT, WAIT]), keys(3))
    torch.testing.assert_close(frame.rew, torch.tensor([1 + 2 / 25, 0.0, 0.0]))
    assert frame.term_prob.tolist() == [1, 0, 0]
    assert after.latents[0, 0].tolist() == [3, 4]


@pytest.mark.parametrize("planner", [CEM(), MCTS(gamma=0.7)])
def test_planners_reach_a_picture(planner: Planner) -> None:
    result = planner.plan(towards((2, 1)), room_state((0, 0)), 6, Budget(imagined_steps=1500), keys())
    assert sorted(result.actions[0, :3].tolist()) == [RIGHT, RIGHT, DOWN]


def test_real_frames_can_be_goals() -> None:
    goal = np.zeros((64, 64, 3), np.uint8)
    assert TowardsGoal(Room(), goal).likeness(torch.full((1, 3, 64, 64), -1.0)).item() == 1
