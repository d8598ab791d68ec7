"""Worlds that pay for something else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_agents import CEM, MCTS, Budget, Curious, Planner, PlanRequest, TowardsGoal
from lssvwm_agents.planning.rewards import differing_patches
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction
from tests.lssvwm_agents.room import DOWN, LEFT, RIGHT, WAIT, Cell, LargeRoom, keys, room_state


class DarkRoom(LargeRoom):
    """What is in two squares of the upper left, seen from the column at the right, is not known before it is dreamt.

    A flickering room is so for keys below 10 only.
    """

    flickers = False

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        frame, after = super().imagine(memory, act, keys)
        dark = ((after.latents[:, 0, 0] == 4) & ~(self.flickers & (keys.abs() >= 10))).float()
        expected = frame.expected.clone()
        expected[:, :, :8, :16] += dark.view(-1, 1, 1, 1)
        return replace(frame, expected=expected), after


def picture(cell: Cell) -> NDArray[np.uint8]:
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[8 * cell[1] : 8 * cell[1] + 8, 8 * cell[0] : 8 * cell[0] + 8] = 255
    return frame


def test_likeness_is_the_share_of_squares_in_common() -> None:
    core = TowardsGoal(LargeRoom(), picture((2, 1)))
    likeness = core.likeness(core.decode(room_state((2, 1), (0, 0))))
    torch.testing.assert_close(likeness, torch.tensor([1.0, 23 / 25]))


def test_only_the_likeness_counts_and_reaching_it_ends_the_episode() -> None:
    core = TowardsGoal(LargeRoom(reward=100.0), picture((3, 4)))
    frame, after = core.imagine(room_state((3, 3), (3, 3), (4, 4)), torch.tensor([DOWN, RIGHT, WAIT]), keys(3))
    torch.testing.assert_close(frame.rew, torch.tensor([1 + 2 / 25, 0.0, 0.0]))
    assert frame.term_prob.tolist() == [1, 0, 0]
    assert after.latents[0, 0].tolist() == [3, 4]


@pytest.mark.parametrize("planner", [CEM(), MCTS(gamma=0.7)])
def test_planners_reach_a_picture(planner: Planner) -> None:
    core = TowardsGoal(LargeRoom(), picture((2, 1)))
    result = planner.plan(PlanRequest(core, room_state((0, 0)), 6, Budget(imagined_steps=1500), keys()))
    assert sorted(result.actions[0, :3].tolist()) == [RIGHT, RIGHT, DOWN]


def test_it_pays_to_see_what_is_not_known() -> None:
    core = Curious(DarkRoom(reward=0.0), weight=0.25)
    frame, after = core.imagine(room_state((3, 3), (3, 3)), torch.tensor([RIGHT, LEFT]), keys(2))
    torch.testing.assert_close(frame.rew, torch.tensor([2 * 0.25, 0.0]))
    assert after.latents[:, 0, 0].tolist() == [4, 2]


def test_what_one_noise_alone_does_not_know_pays_nothing() -> None:
    room = DarkRoom(reward=0.0)
    room.flickers = True
    frame, _ = Curious(room).imagine(room_state((3, 3)), torch.tensor([RIGHT]), keys())
    assert frame.rew.tolist() == [0]


def test_the_reward_of_the_world_still_counts() -> None:
    frame, _ = Curious(LargeRoom(reward=3.0)).imagine(room_state((4, 3)), torch.tensor([DOWN]), keys())
    assert frame.rew.tolist() == [3] and frame.term_prob.tolist() == [1]


def test_squares_differ_by_a_tenth_on_average() -> None:
    black = torch.zeros(1, 3, 16, 16)
    other = black.clone()
    other[:, :, :8, :8] = 0.101
    other[:, :, :8, 8:] = 0.099
    other[:, 0, 8:, 8:] = -0.4  # in one of three channels
    assert differing_patches(black, other).tolist() == [[[True, False], [False, True]]]
    assert differing_patches(black, other, 0.05).tolist() == [[[True, True], [False, True]]]


def test_squares_that_a_frame_cuts_off_count_by_what_is_there_of_them() -> None:
    black = torch.zeros(1, 3, 9, 9)
    other = black.clone()
    other[:, :, 8, 8] = 0.101
    assert differing_patches(black, other).tolist() == [[[False, False], [False, True]]]


def test_curiosity_pays_two_for_each_square_unless_told_otherwise() -> None:
    frame, _ = Curious(DarkRoom(reward=0.0)).imagine(room_state((3, 3)), torch.tensor([RIGHT]), keys())
    assert frame.rew.tolist() == [2 * 2.0]


def test_what_another_noise_does_not_know_either_is_asked_only_where_something_was_unknown() -> None:
    room = DarkRoom(reward=0.0)
    Curious(room).imagine(room_state((0, 0), (3, 3), (1, 1)), torch.tensor([RIGHT] * 3), torch.tensor([5, 6, 7]))
    assert room.imagined == 4 and room.keys_seen[0].tolist() == [5, 6, 7] and len(room.keys_seen[1]) == 1
    assert room.keys_seen[1].tolist() == [int(fold(torch.tensor(6), 1))]


def test_a_goal_is_reached_from_a_likeness_on() -> None:
    for reached, ends in ((23 / 25, 1.0), (0.93, 0.0)):
        core = TowardsGoal(LargeRoom(), picture((2, 1)), reached)
        frame, _ = core.imagine(room_state((0, 0)), torch.tensor([WAIT]), keys())
        assert frame.term_prob.tolist() == [ends]
