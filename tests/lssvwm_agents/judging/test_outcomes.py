"""Judging agents in real rooms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lssvwm_agents import CEM, Budget, MPCAgent
from lssvwm_agents.judging.outcomes import (
    Outcome,
    play_episodes,
    promised_and_paid,
    rank_correlation,
    summary,
    wilson_interval,
)
from tests.lssvwm_agents.room import DOWN, RIGHT, RealRoom, Room


def cem_agent(replan_every: int = 3) -> MPCAgent:
    return MPCAgent(Room(), CEM(gamma=0.9), 10, Budget(imagined_steps=4 * 640), replan_every=replan_every)


class Walker:
    """Goes right, then down; says how many worlds it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def predict(
        self, observation: NDArray[Any], state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[np.int64], None]:
        self.asked.append(len(observation))
        at_the_right = observation[:, :, 4, 0].max(1) > 0
        return np.where(at_the_right, DOWN, RIGHT), None


def test_plans_that_keep_their_promises() -> None:
    outcomes = play_episodes(cem_agent(), RealRoom, [3, 4, 5])
    assert [o.seed for o in outcomes] == [3, 4, 5]
    report = summary(outcomes, gamma=0.9)
    assert report["success"]["value"] == 1 and report["return"]["value"] == 1 and report["steps"]["value"] == 8
    promised, paid = promised_and_paid(outcomes, 0.9)
    np.testing.assert_allclose(promised, paid, rtol=1e-5)
    assert promised[:3].tolist() == pytest.approx([0.9**7, 0.9**4, 0.9])  # planned at steps 0, 3 and 6
    assert report["rank_correlation"] > 0.99 and report["overpromised"] == []
    assert 0 < report["decision_seconds"]["mean"] <= report["decision_seconds"]["most"]


def test_broken_promises_are_found() -> None:
    def blocked() -> RealRoom:
        return RealRoom(walls={(3, 4), (4, 3)}, limit=9)

    report = summary(play_episodes(cem_agent(), blocked, [7]), gamma=0.9)
    assert report["success"]["value"] == 0 and report["overpromised"] == [7]


def test_whoever_is_done_leaves_the_batch() -> None:
    walker = Walker()
    limits = iter([2, 5, 40])
    outcomes = play_episodes(walker, lambda: RealRoom(limit=next(limits)), [0, 1, 2])
    assert walker.asked == [3, 3, 2, 2, 2, 1, 1, 1]
    assert [o.success for o in outcomes] == [False, False, True] and [len(o.rewards) for o in outcomes] == [2, 5, 8]
    assert [o.terminated for o in outcomes] == [False, False, True]
    assert outcomes[0].promised is None and "rank_correlation" not in summary(outcomes, 0.9)


def test_agents_with_a_state_are_followed_when_others_leave() -> None:
    limits = iter([3, 40])
    outcomes = play_episodes(cem_agent(), lambda: RealRoom(limit=next(limits)), [0, 1])
    assert [o.success for o in outcomes] == [False, True] and len(outcomes[1].rewards) == 8


def test_what_is_paid_is_discounted_from_each_step_on() -> None:
    outcome = Outcome(0, np.array([0.0, 1.0, 2.0]), True, None, np.zeros(3, bool), np.zeros(3))
    assert outcome.returns(0.5).tolist() == [1.0, 2.0, 2.0]


def test_wilson_s_interval() -> None:
    all_of_them = wilson_interval(200, 200)
    assert all_of_them["value"] == 1 and all_of_them["low"] == pytest.approx(0.981, abs=1e-3)
    half = wilson_interval(50, 100)
    assert half["low"] == pytest.approx(0.404, abs=1e-3) and half["high"] == pytest.approx(0.596, abs=1e-3)
    assert wilson_interval(0, 0)["value"] is None


def test_ranks_count_not_values() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 1000.0])) == pytest.approx(1, abs=1e-5)
    assert rank_correlation(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
