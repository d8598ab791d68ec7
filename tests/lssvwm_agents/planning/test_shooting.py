"""Shooting planners in a 5x5 room whose best plans are known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from lssvwm_agents import CEM, MCTS, MPPI, Budget, Planner, PlanResult, RandomShooting

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.simulator.simulator import Simulator
from tests.lssvwm_agents.room import DOWN, LEFT, RIGHT, Cell, Room, keys, room_state

ROUND = 64 * 10  # steps of a round of 64 plans of 10 steps
EVERY = [RandomShooting(), CEM(), MPPI(), MCTS()]
SHOOTING = EVERY[:3]


def plan(planner: Planner, *cells: Cell, rounds: float = 6, room: Room | None = None) -> PlanResult:
    budget = Budget(imagined_steps=int(rounds * ROUND))
    return planner.plan(room or Room(), room_state(*(cells or ((0, 0),))), 10, budget, keys(len(cells) or 1))


def same(a: PlanResult, b: PlanResult) -> bool:
    return torch.equal(a.actions, b.actions) and torch.equal(a.value, b.value)


@pytest.mark.parametrize("planner", [CEM(), MPPI()])
def test_refitting_finds_the_shortest_way(planner: Planner) -> None:
    result = plan(planner)
    assert result.value.item() == pytest.approx(0.99**7)  # 8 moves away, paid with the last of them
    assert sorted(result.actions[0, :8].tolist()) == [RIGHT] * 4 + [DOWN] * 4


def test_random_shooting_finds_it_with_enough_samples() -> None:
    assert plan(RandomShooting(), rounds=125).value.item() == pytest.approx(0.99**7)


@pytest.mark.parametrize("planner", SHOOTING)
def test_budgets_are_kept_and_steps_counted(planner: Planner) -> None:
    room = Room()
    result = plan(planner, (0, 0), (1, 1), rounds=2.5, room=room)
    assert ROUND < result.imagined_steps == room.imagined <= 2 * 2.5 * ROUND


@pytest.mark.parametrize("planner", SHOOTING)
def test_a_second_is_a_budget_too(planner: Planner) -> None:
    result = planner.plan(Room(), room_state((0, 0)), 10, Budget(seconds=1e-6), keys())
    assert result.imagined_steps <= ROUND


def test_the_first_round_of_all_is_random_shooting() -> None:
    first = plan(RandomShooting(), (1, 2), (3, 0), rounds=1)
    assert all(same(plan(planner, (1, 2), (3, 0), rounds=1), first) for planner in (CEM(), MPPI()))


@pytest.mark.parametrize("planner", SHOOTING)
def test_more_rounds_never_lose_the_best_plan(planner: Planner) -> None:
    values = [plan(planner, (0, 0), (2, 1), rounds=rounds).value for rounds in range(1, 6)]
    assert all((later >= earlier).all() for earlier, later in pairwise(values))


@pytest.mark.parametrize("planner", EVERY)
def test_planning_for_many_worlds_is_planning_for_each(planner: Planner) -> None:
    state, room, budget = room_state((0, 0), (3, 1), (2, 4), (4, 3)), Room(luck=1e-6), Budget(imagined_steps=3 * ROUND)
    together = planner.plan(room, state, 10, budget, keys(4))
    alone = [planner.plan(room, state[i : i + 1], 10, budget, keys(4)[i : i + 1]) for i in range(4)]
    h = together.actions.shape[1]
    assert torch.equal(together.actions, torch.cat([result.actions[:, :h] for result in alone]))
    torch.testing.assert_close(together.value, torch.cat([result.value for result in alone]))
    assert together.imagined_steps == sum(result.imagined_steps for result in alone)


@pytest.mark.parametrize("planner", EVERY)
def test_planning_leaves_the_state_as_it_was(planner: Planner) -> None:
    state = room_state((1, 1), (2, 3))
    before = state.clone()
    planner.plan(Room(), state, 10, Budget(imagined_steps=ROUND), keys(2))
    assert all(torch.equal(tensor, before.tensors()[name]) for name, tensor in state.tensors().items())


@pytest.mark.parametrize("planner", EVERY)
def test_impossible_actions_are_never_planned(planner: Planner) -> None:
    only = type(planner)(action_probs=(0.5, 0.0, 0.5, 0.0, 0.0))
    assert set(plan(only, (2, 2), (0, 0), room=Room(luck=1.0)).actions.flatten().tolist()) <= {RIGHT, LEFT}


@pytest.mark.parametrize("planner", SHOOTING)
def test_a_warm_start_is_a_candidate_and_wins_ties(planner: Planner) -> None:
    way = torch.tensor([[RIGHT] * 4 + [DOWN] * 4])
    for room in (Room(), Room(reward=0.0)):
        result = planner.plan(room, room_state((0, 0)), 10, Budget(imagined_steps=20), keys(), warm_start=way)
        assert torch.equal(result.actions[:, :8], way)


@pytest.mark.parametrize("shape", [(1, 11), (2, 10), (10,)])
def test_a_warm_start_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    start = torch.zeros(shape).long()
    with pytest.raises(ValueError, match=r"warm_start has shape .*expected \(1, 'at most 10'\)"):
        CEM().plan(Room(), room_state((0, 0)), 10, Budget(imagined_steps=ROUND), keys(), warm_start=start)


@pytest.mark.parametrize("planner", [CEM(), MPPI()])
def test_without_a_signal_the_distribution_stays(planner: CEM | MPPI) -> None:
    proposal = planner._prior(Room(), room_state((0, 0), (0, 0)), 10)
    plans = proposal.sample(keys(2), 64)
    returns = torch.zeros(2, 64)
    returns[1, :3] = 1.0  # three winners in the second world only
    improved = planner._improved(proposal, plans, returns)
    assert torch.equal(improved.probs[0], proposal.probs[0])  # type: ignore[attr-defined]
    assert not torch.equal(improved.probs[1], proposal.probs[1])  # type: ignore[attr-defined]


def test_a_single_bad_plan_is_no_signal_for_cem() -> None:
    planner = CEM()
    proposal = planner._prior(Room(), room_state((0, 0)), 10)
    returns = torch.zeros(1, 64)
    returns[0, 5] = -1.0
    improved = planner._improved(proposal, proposal.sample(keys(), 64), returns)
    assert torch.equal(improved.probs, proposal.probs)  # type: ignore[attr-defined]


@pytest.mark.parametrize("planner", [CEM(), MPPI()])
def test_continuous_actions_are_planned_too(planner: Planner) -> None:
    result = plan(planner, (2, 3), rounds=4, room=Room(kind="box"))
    assert result.actions.shape == (1, 10, 2) and result.actions.abs().max() <= 1
    assert result.value.item() == pytest.approx(0.99)  # two steps away: 1.5 to the right, 0.5 down


@pytest.mark.parametrize(
    "argument, value",
    [
        ("num_samples", 0),
        ("gamma", 0.0),
        ("gamma", 1.01),
        ("persistence", 1.0),
        ("action_probs", (0.5, 0.4, 0.0, 0.0, 0.0)),
        ("action_probs", (1.5, -0.5, 0.0, 0.0, 0.0)),
        ("action_probs", ()),
        ("num_elites", 0),
        ("num_elites", 64),
        ("smoothing", 1.0),
    ],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{argument} is .*expected"):
        CEM(**{argument: value})  # type: ignore[arg-type]


def test_temperatures_are_positive() -> None:
    with pytest.raises(ValueError, match="temperature is 0; expected more than 0"):
        MPPI(temperature=0)


@pytest.mark.parametrize("planner", [RandomShooting, MCTS])
def test_action_probs_must_fit_the_model(planner: type[RandomShooting | MCTS]) -> None:
    with pytest.raises(ValueError, match="action_probs has 2 entries; expected 5"):
        plan(planner(action_probs=(0.5, 0.5)))
    if planner is RandomShooting:
        with pytest.raises(ValueError, match="the actions are no numbered ones"):
            plan(planner(action_probs=(0.5, 0.5)), room=Room(kind="box"))


def test_a_horizon_has_a_step() -> None:
    with pytest.raises(ValueError, match="horizon is 0; expected at least 1"):
        CEM().plan(Room(), room_state((0, 0)), 0, Budget(imagined_steps=10), keys())


@pytest.mark.parametrize("planner", EVERY)
def test_a_real_simulator_can_be_planned_in(planner: Planner, toy_simulator: Simulator) -> None:
    core = SimulatorCore(toy_simulator, 2)
    core.reset([0, 1], [0, 1])
    result = planner.plan(core, core.memory, 2, Budget(imagined_steps=8), core.keys)
    assert result.actions.shape[0] == 2 and result.value.isfinite().all() and 0 < result.imagined_steps <= 2 * 8
