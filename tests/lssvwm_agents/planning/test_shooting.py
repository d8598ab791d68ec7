"""Shooting planners in a 5x5 room whose best plans are known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch

from lssvwm_agents import CEM, MCTS, MPPI, Budget, Planner, PlanRequest, PlanResult, RandomShooting
from lssvwm_agents.planning.proposals import CategoricalProposal
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.simulator.simulator import Simulator
from tests.lssvwm_agents.room import DOWN, LEFT, RIGHT, Cell, Room, keys, request, room_state

ROUND = 64 * 10  # steps of a round of 64 plans of 10 steps
EVERY = [RandomShooting(), CEM(), MPPI(), MCTS()]
SHOOTING = EVERY[:3]


def plan(planner: Planner, *cells: Cell, rounds: float = 6, room: Room | None = None) -> PlanResult:
    return planner.plan(request(*cells, room=room, steps=int(rounds * ROUND)))


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
    result = planner.plan(PlanRequest(Room(), room_state((0, 0)), 10, Budget(seconds=1e-6), keys()))
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
    several = request((0, 0), (3, 1), (2, 4), (4, 3), room=Room(luck=1e-6), steps=3 * ROUND)
    together = planner.plan(several)
    alone = [
        planner.plan(replace(several, state=several.state[i : i + 1], keys=several.keys[i : i + 1])) for i in range(4)
    ]
    h = together.actions.shape[1]
    assert torch.equal(together.actions, torch.cat([result.actions[:, :h] for result in alone]))
    torch.testing.assert_close(together.value, torch.cat([result.value for result in alone]))
    assert together.imagined_steps == sum(result.imagined_steps for result in alone)


@pytest.mark.parametrize("planner", EVERY)
def test_planning_leaves_the_state_as_it_was(planner: Planner) -> None:
    state = room_state((1, 1), (2, 3))
    before = state.clone()
    planner.plan(PlanRequest(Room(), state, 10, Budget(imagined_steps=ROUND), keys(2)))
    assert all(torch.equal(tensor, before.tensors()[name]) for name, tensor in state.tensors().items())


@pytest.mark.parametrize("planner", EVERY)
def test_impossible_actions_are_never_planned(planner: Planner) -> None:
    only = type(planner)(action_probs=(0.5, 0.0, 0.5, 0.0, 0.0))
    assert set(plan(only, (2, 2), (0, 0), room=Room(luck=1.0)).actions.flatten().tolist()) <= {RIGHT, LEFT}


@pytest.mark.parametrize("planner", SHOOTING)
def test_a_warm_start_is_a_candidate_and_wins_ties(planner: Planner) -> None:
    way = torch.tensor([[RIGHT] * 4 + [DOWN] * 4])
    for room in (Room(), Room(reward=0.0)):
        result = planner.plan(request(room=room, steps=20, warm_start=way))
        assert torch.equal(result.actions[:, :8], way)


@pytest.mark.parametrize("planner", [CEM(), MPPI()])
def test_without_a_signal_the_distribution_stays(planner: CEM | MPPI) -> None:
    proposal = planner._initial_proposal(request((0, 0), (0, 0)))
    plans = proposal.sample(keys(2), 64)
    returns = torch.zeros(2, 64)
    returns[1, :3] = 1.0  # three winners in the second world only
    improved = planner._refitted(proposal, plans, returns)
    assert torch.equal(improved.probs[0], proposal.probs[0])  # type: ignore[attr-defined]
    assert not torch.equal(improved.probs[1], proposal.probs[1])  # type: ignore[attr-defined]


def test_a_single_bad_plan_is_no_signal_for_cem() -> None:
    planner = CEM()
    proposal = planner._initial_proposal(request())
    returns = torch.zeros(1, 64)
    returns[0, 5] = -1.0
    improved = planner._refitted(proposal, proposal.sample(keys(), 64), returns)
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
        ("persistence", -0.1),
        ("smoothing", 1.0),
    ],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{argument}( is .*expected|=.*must be)"):
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


@pytest.mark.parametrize("planner", EVERY)
def test_a_real_simulator_can_be_planned_in(planner: Planner, toy_simulator: Simulator) -> None:
    core = SimulatorCore(toy_simulator, 2)
    core.reset([0, 1], [0, 1])
    result = planner.plan(PlanRequest(core, core.memory, 2, Budget(imagined_steps=8), core.keys))
    assert result.actions.shape[0] == 2 and result.value.isfinite().all() and 0 < result.imagined_steps <= 2 * 8


def stepwise(probs: torch.Tensor) -> CategoricalProposal:
    return CategoricalProposal(probs, 0.5)


def test_cem_moves_to_the_mean_of_its_elites_and_keeps_a_share_of_the_old() -> None:
    plans = torch.tensor([[[0], [0], [1], [2], [2], [2]]])  # (B, N, H)
    returns = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    planner = CEM(num_samples=6, num_elites=3, smoothing=0.25)
    refitted = planner._refitted(stepwise(torch.full((1, 1, 3), 1 / 3)), plans, returns)
    expected = 0.75 * torch.tensor([2 / 3, 1 / 3, 0.0]) + 0.25 / 3
    torch.testing.assert_close(refitted.probs[0, 0], expected)  # type: ignore[attr-defined]


def test_elites_that_tie_with_the_next_best_are_none() -> None:
    plans = torch.tensor([[[0], [1], [1], [2]]])
    returns = torch.tensor([[5.0, 4.0, 4.0, 4.0]])
    planner = CEM(num_samples=4, num_elites=2, smoothing=0.0)
    refitted = planner._refitted(stepwise(torch.full((1, 1, 3), 1 / 3)), plans, returns)
    assert refitted.probs[0, 0].tolist() == [1, 0, 0]  # type: ignore[attr-defined]


def test_the_last_round_may_have_fewer_plans_than_elites() -> None:
    plans = torch.tensor([[[0], [1]]])
    refitted = CEM(smoothing=0.0)._refitted(stepwise(torch.full((1, 1, 2), 0.5)), plans, torch.tensor([[1.0, 0.0]]))
    assert refitted.probs[0, 0].tolist() == [1, 0]  # type: ignore[attr-defined]


def test_an_elite_of_one_is_enough() -> None:
    CEM(num_samples=2, num_elites=1)
    with pytest.raises(ValueError, match="num_elites is 2; expected 1 to num_samples - 1 = 1"):
        CEM(num_samples=2, num_elites=2)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("temperature", [0.25, 0.5, 2.0])
def test_mppi_weighs_plans_by_the_exponential_of_their_return_in_units_of_its_spread(
    temperature: float, scale: float
) -> None:
    plans = torch.tensor([[[0], [1], [2]]])
    returns = scale * torch.tensor([[6.0, 0.0, 3.0]])  # their standard deviation is the root of 6
    refitted = MPPI(temperature=temperature)._refitted(stepwise(torch.full((1, 1, 3), 1 / 3)), plans, returns)
    expected = (returns[0] / (temperature * scale * 6**0.5)).softmax(0)
    torch.testing.assert_close(refitted.probs[0, 0], expected)  # type: ignore[attr-defined]


def test_continuous_plans_begin_in_the_middle_of_the_box_and_reach_half_its_width() -> None:
    class Wide(Room):
        def __init__(self) -> None:
            super().__init__(kind="box")
            self.action_space = gym.spaces.Box(np.array([-1, 2], np.float32), np.array([3, 8], np.float32))

    proposal = CEM()._initial_proposal(request(room=Wide(), horizon=2))
    assert proposal.mean.tolist() == [[[1, 5]] * 2] and proposal.std.tolist() == [[[2, 3]] * 2]  # type: ignore[attr-defined]


def test_rounds_draw_other_plans_but_dream_with_the_same_noise() -> None:
    drawn = list[torch.Tensor]()

    class Watched(RandomShooting):
        def _refitted(self, proposal, plans, returns):
            drawn.append(plans)
            return proposal

    room = Room()
    Watched(num_samples=8).plan(request(room=room, steps=3 * 80))
    assert len(drawn) == 3 and all(not torch.equal(a[:, 1:], b[:, 1:]) for a, b in pairwise(drawn))
    assert len({int(key) for seen in room.keys_seen for key in seen}) == 1


def test_defaults_are_those_of_the_papers() -> None:
    assert RandomShooting(8).num_samples == 8
    settings = CEM()
    assert (settings.num_samples, settings.num_elites, settings.smoothing) == (64, 8, 0.2)
    assert (settings.gamma, settings.persistence, MPPI().temperature) == (0.99, 0.5, 0.5)


@pytest.mark.parametrize("planner", EVERY)
def test_planners_imagine_without_gradients(planner: Planner) -> None:
    class Watching(Room):
        def imagine(self, memory, act, keys):
            assert not torch.is_grad_enabled()
            return super().imagine(memory, act, keys)

    with torch.enable_grad():
        planner.plan(request(room=Watching(), horizon=2, steps=10))


def test_a_key_stands_for_the_same_plans_in_every_release() -> None:
    lucky = request((2, 2), (0, 3), room=Room(luck=1e-3), horizon=5, steps=10)
    box = request((2, 2), room=Room(kind="box"), horizon=2, steps=4)
    shot = RandomShooting(2).plan(lucky)
    assert shot.actions.tolist() == [[0, 0, 3, 3, 3], [2, 2, 2, 2, 2]]
    torch.testing.assert_close(shot.value, torch.tensor([2.185844, 0.539110]))
    torch.testing.assert_close(MCTS().plan(lucky).value, torch.tensor([0.887540, 1.051797]))
    found = RandomShooting(2).plan(box).actions
    torch.testing.assert_close(found, torch.tensor([[[-0.416690, 0.234425], [1.0, 0.000362]]]), atol=1e-5, rtol=0)
