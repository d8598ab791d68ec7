"""What planners have in common: the worth of plans, and budgets."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from lssvwm_agents import Budget, PlanRequest, PlanResult, imagined_returns
from lssvwm_agents.planning.protocols import BudgetTracker, Returns, SearchSettings, check_discount
from tests.lssvwm_agents.room import DOWN, GOAL, LEFT, RIGHT, UP, WAIT, Room, keys, request, room_state


def test_nothing_is_earned_after_the_end() -> None:
    plans = torch.tensor([[[RIGHT, DOWN, WAIT, WAIT], [WAIT, RIGHT, DOWN, WAIT], [LEFT, UP, WAIT, WAIT]]])
    found = imagined_returns(Room(), room_state((3, 3)), plans, keys(), gamma=0.9)
    torch.testing.assert_close(found.value, torch.tensor([[0.9, 0.81, 0.0]]))


def test_later_rewards_count_by_the_chance_of_living_to_see_them() -> None:
    plans = torch.full((1, 1, 4), WAIT)
    found = imagined_returns(Room(reward=2.0, term_prob=0.25), room_state(GOAL), plans, keys(), gamma=0.8)
    assert found.value.item() == pytest.approx(2 * sum((0.8 * 0.75) ** t for t in range(4)))


def test_the_value_at_the_horizon_counts_like_a_reward_after_the_last_step() -> None:
    plans = torch.tensor([[[WAIT, WAIT], [RIGHT, DOWN]]])
    found = imagined_returns(
        Room(reward=0.0, term_prob=0.75), room_state((3, 3)), plans, keys(), 0.5, lambda feats: 8 + feats[:, 0]
    )
    torch.testing.assert_close(found.value, torch.tensor([[0.25 * 8, 0.25 * 0.25 * 8]]))


def test_plans_of_a_world_share_its_key_and_what_begins_alike_is_dreamt_once() -> None:
    room = Room()
    plans = torch.tensor([[[WAIT, UP], [WAIT, DOWN], [WAIT, UP]], [[LEFT, UP], [WAIT, UP], [WAIT, UP]]])
    found = imagined_returns(room, room_state((0, 0), (1, 1)), plans, torch.tensor([7, 8]), 1.0)
    assert [seen.tolist() for seen in room.keys_seen] == [[7, 8, 8], [7, 7, 8, 8]]
    assert found.imagined_steps == room.imagined == 7


def test_dreaming_shared_beginnings_once_changes_no_return() -> None:
    plans = torch.randint(5, (3, 50, 8), generator=torch.Generator().manual_seed(0))
    room = Room(reward=1.0, term_prob=0.3, luck=1e-3)
    state = room_state((0, 0), (3, 3), (4, 3))
    together = imagined_returns(room, state, plans, keys(3), 0.9)
    for n in range(50):
        alone = imagined_returns(room, state, plans[:, n : n + 1], keys(3), 0.9)
        torch.testing.assert_close(alone.value[:, 0], together.value[:, n])
    assert together.imagined_steps < plans.numel()


@pytest.mark.parametrize("shape, count", [((3, 4, 5), 2), ((2, 5), 2), ((2, 4, 5), 3)])
def test_plans_for_other_worlds_are_refused(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(ValueError, match="state holds 2 worlds"):
        imagined_returns(Room(), room_state((0, 0), (0, 0)), torch.zeros(shape).long(), keys(count), 0.9)


def test_steps_are_spent_to_the_last_whole_plan() -> None:
    tracker = BudgetTracker(Budget(imagined_steps=105))
    plans = []
    for _ in range(4):
        plans.append(tracker.affordable(4, each=10))
        tracker.spend(plans[-1] * 10)
    assert plans == [4, 4, 2, 0]


def test_a_clock_that_has_run_out_still_allows_one_round() -> None:
    tracker = BudgetTracker(Budget(seconds=1e-9))
    assert tracker.affordable(4, each=10) == 4
    tracker.spend(40)
    assert tracker.affordable(4, each=10) == 0


def test_budgets_that_buy_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="needs imagined_steps, seconds, or both"):
        Budget()
    with pytest.raises(ValueError, match="seconds is 0; expected more than 0"):
        Budget(seconds=0)
    with pytest.raises(ValueError, match="imagined_steps is 9; expected at least 10, what a single rollout takes"):
        BudgetTracker(Budget(imagined_steps=9)).affordable(4, each=10)


@pytest.mark.parametrize("spent, left", [(0, 3), (20, 3), (70, 3), (71, 2), (80, 2), (90, 1), (91, 0), (100, 0)])
def test_a_rollout_is_affordable_while_all_its_steps_are(spent: int, left: int) -> None:
    tracker = BudgetTracker(Budget(imagined_steps=100))
    tracker.spend(spent)
    assert tracker.affordable(3, each=10) == left


def test_a_budget_of_a_single_rollout_is_enough() -> None:
    assert BudgetTracker(Budget(imagined_steps=10)).affordable(4, each=10) == 1


def test_the_clock_counts_from_when_the_search_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    tracker = BudgetTracker(Budget(imagined_steps=1000, seconds=2.0))
    tracker.spend(10)
    now[0] = 101.9
    assert tracker.affordable(4, each=10) == 4
    now[0] = 102.0
    assert tracker.affordable(4, each=10) == 0


@pytest.mark.parametrize("shape", [(1, 11), (2, 10), (10,), (1, 10, 2)])
def test_a_warm_start_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"warm_start has shape .*expected \(1, 'at most 10'\)"):
        request(warm_start=torch.zeros(shape).long())


def test_a_warm_start_has_the_shape_of_actions() -> None:
    box = Room(kind="box")
    request(room=box, warm_start=torch.zeros(1, 10, 2))
    with pytest.raises(ValueError, match=r"expected \(1, 'at most 10', 2\)"):
        request(room=box, warm_start=torch.zeros(1, 3))


def test_requests_that_ask_for_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="horizon=0 must be at least 1"):
        request(horizon=0)
    with pytest.raises(ValueError, match=r"keys has shape \(3,\); expected \(1,\)"):
        PlanRequest(Room(), room_state((0, 0)), 1, Budget(1), keys(3))


@pytest.mark.parametrize("gamma", [0.0, -0.5, 1.01])
def test_discounts_are_above_0_and_up_to_1(gamma: float) -> None:
    with pytest.raises(ValueError, match="expected a discount in"):
        check_discount(gamma)


def test_settings_at_their_bounds_are_taken() -> None:
    SearchSettings(gamma=1.0, persistence=0.0, action_probs=(0.0, 1.0))
    with pytest.raises(TypeError, match="positional"):
        SearchSettings(0.9)  # type: ignore[misc]
    SearchSettings(action_probs=(0.33333, 0.33333, 0.33333))  # as people write thirds


def test_what_was_asked_and_found_is_a_value() -> None:
    asked = request()
    for value in (asked, asked.budget, PlanResult(keys(), keys(), 1), Returns(keys(), 1), SearchSettings()):
        with pytest.raises(FrozenInstanceError):
            value.imagined_steps = 2  # type: ignore[misc, union-attr]


def test_without_a_prior_all_actions_are_alike() -> None:
    assert SearchSettings().action_prior(Room().action_space).tolist() == pytest.approx([0.2] * 5)
    prior = (0.5, 0.1, 0.1, 0.1, 0.2)
    assert SearchSettings(action_probs=prior).action_prior(Room().action_space).tolist() == pytest.approx(prior)
