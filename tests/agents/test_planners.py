"""Planning in a 5x5 room whose best plans are known."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from agents import CategoricalCEM, PlanResult, RandomShooting, imagined_returns
from agents.planners import sample_plans
from world_models.actions import ActionSpec
from world_models.state import WorldModelState
from world_models.world_model import Prediction, WorldModel, preset

SIZE = 5
GOAL = (4, 4)
RIGHT, DOWN, LEFT, UP, WAIT = range(5)
MOVES = torch.tensor([(1, 0), (0, 1), (-1, 0), (0, -1), (0, 0)])


class Room:
    """A perfect model of a walled room. Each step on the goal pays `reward` and ends the episode with `term_prob`.

    A frame (3, 5, 5) is black but for the agent's cell. The memory is the cell x, y, as `latents` (B, 1, 2).
    """

    def __init__(self, reward: float = 1.0, term_prob: float = 1.0, luck: float = 0.0, kind: str = "discrete") -> None:
        self.config = SimpleNamespace(action=ActionSpec(kind, len(MOVES)))
        self.reward, self.term_prob, self.luck = reward, term_prob, luck
        self.keys_seen: list[Tensor] = []

    def initial_state(self, batch_size: int) -> WorldModelState:
        return room_state(*[(0, 0)] * batch_size)

    def observe(
        self, state: WorldModelState, obs: Tensor, act: Tensor, is_first: Tensor
    ) -> tuple[WorldModelState, Tensor]:
        cell = obs[:, -1, 0].flatten(1).argmax(1)
        age = torch.where(is_first[:, 0], 0, state.age) + obs.shape[1]
        return make_state(torch.stack([cell % SIZE, cell // SIZE], 1), age), torch.zeros(*is_first.shape, 1)

    def imagine(
        self, state: WorldModelState, act: Tensor, rng: Tensor, steps: int = 1
    ) -> tuple[Prediction, WorldModelState]:
        self.keys_seen.append(rng)
        cell = (state.latents[:, 0].long() + MOVES[act]).clamp(0, SIZE - 1)
        at_goal = (cell == torch.tensor(GOAL)).all(1).float()
        luck = self.luck * (rng % 1000).float()
        obs = torch.full((len(cell), 3, SIZE * SIZE), -1.0)
        obs[torch.arange(len(cell)), :, cell[:, 0] + SIZE * cell[:, 1]] = 1
        obs = obs.view(-1, 3, SIZE, SIZE)
        frame = Prediction(obs, self.reward * at_goal + luck, self.term_prob * at_goal, torch.zeros(len(cell), 1))
        return frame, make_state(cell, state.age + 1)


def make_state(cell: Tensor, age: Tensor) -> WorldModelState:
    return WorldModelState(
        (), (), cell.float().unsqueeze(1), torch.zeros(len(cell), 1), torch.zeros(len(cell), 3, dtype=torch.long), age
    )


def room_state(*cells: tuple[int, int]) -> WorldModelState:
    return make_state(torch.tensor(cells), torch.ones(len(cells), dtype=torch.long))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cem(**changes: object) -> CategoricalCEM:
    settings = {"num_samples": 64, "horizon": 10, "num_elites": 8, "num_iterations": 6} | changes
    return CategoricalCEM(**settings)  # type: ignore[arg-type]


def shooting(**changes: object) -> RandomShooting:
    return RandomShooting(**{"num_samples": 64, "horizon": 10} | changes)  # type: ignore[arg-type]


def same(a: PlanResult, b: PlanResult) -> bool:
    return torch.equal(a.actions, b.actions) and torch.equal(a.value, b.value)


# --- imagined returns ---


def test_nothing_is_earned_after_the_end() -> None:
    plans = torch.tensor([[[RIGHT, DOWN, WAIT, WAIT], [WAIT, RIGHT, DOWN, WAIT], [LEFT, UP, WAIT, WAIT]]])
    returns = imagined_returns(Room(), room_state((3, 3)), plans, torch.zeros(1, dtype=torch.long), gamma=0.9)
    torch.testing.assert_close(returns, torch.tensor([[0.9, 0.81, 0.0]]))


def test_later_rewards_count_by_the_chance_of_living_to_see_them() -> None:
    plans = torch.full((1, 1, 4), WAIT)
    room = Room(reward=2.0, term_prob=0.25)
    returns = imagined_returns(room, room_state(GOAL), plans, torch.zeros(1, dtype=torch.long), gamma=0.8)
    assert returns.item() == pytest.approx(2 * sum((0.8 * 0.75) ** t for t in range(4)))


def test_plans_of_a_world_share_its_key() -> None:
    room = Room()
    plans = torch.full((2, 3, 1), WAIT)
    imagined_returns(room, room_state((0, 0), (1, 1)), plans, torch.tensor([7, 8]))
    assert room.keys_seen[0].tolist() == [7, 7, 7, 8, 8, 8]


@pytest.mark.parametrize("shape, keys", [((3, 4, 5), 2), ((2, 5), 2), ((2, 4, 5), 3)])
def test_plans_for_other_worlds_are_refused(shape: tuple[int, ...], keys: int) -> None:
    with pytest.raises(ValueError, match="state holds 2 worlds"):
        imagined_returns(
            Room(), room_state((0, 0), (0, 0)), torch.zeros(shape).long(), torch.zeros(keys, dtype=torch.long)
        )


# --- candidates ---


def test_candidates_follow_each_step_s_distribution_and_persist() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.7, 0.0]]).expand(1, 6, 4)
    plans = sample_plans(probs, torch.tensor([3]), 20_000, persistence=0.5)[0]
    share = torch.nn.functional.one_hot(plans, 4).float().mean(0)
    torch.testing.assert_close(share, probs[0], atol=0.02, rtol=0)
    kept = (plans[:, 1:] == plans[:, :-1]).float().mean().item()
    by_chance = 0.1**2 + 0.2**2 + 0.7**2
    assert kept == pytest.approx(0.5 + 0.5 * by_chance, abs=0.02)


def test_impossible_actions_are_never_drawn() -> None:
    result = shooting(num_samples=500, action_probs=(0.5, 0.0, 0.5, 0.0, 0.0)).plan(
        Room(luck=1.0), room_state((2, 2), (0, 0)), generator()
    )
    assert set(result.actions.flatten().tolist()) <= {RIGHT, LEFT}
    thirds = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]).expand(1, 50, 4)  # their sum is not exactly 1
    assert sample_plans(thirds, torch.tensor([0]), 20_000, persistence=0.0).max() == 2


# --- planners ---


def test_cem_finds_the_shortest_way() -> None:
    result = cem().plan(Room(), room_state((0, 0)), generator())
    assert result.value.item() == pytest.approx(0.99**7)  # 8 moves away, paid with the last of them
    assert sorted(result.actions[0, :8].tolist()) == [RIGHT] * 4 + [DOWN] * 4
    assert result.imagined_steps == 64 * 10 * 6


def test_random_shooting_finds_it_with_enough_samples() -> None:
    result = shooting(num_samples=8000).plan(Room(), room_state((0, 0)), generator())
    assert result.value.item() == pytest.approx(0.99**7)
    assert result.imagined_steps == 8000 * 10


def test_the_first_round_of_cem_is_random_shooting() -> None:
    state = room_state((1, 2), (3, 0))
    one_round = cem(num_iterations=1).plan(Room(), state, generator())
    assert same(one_round, shooting().plan(Room(), state, generator()))


def test_more_rounds_never_lose_the_best_plan() -> None:
    state = room_state((0, 0), (2, 1))
    values = [cem(num_iterations=i).plan(Room(), state, generator()).value for i in range(1, 6)]
    assert all((later >= earlier).all() for earlier, later in pairwise(values))


@pytest.mark.parametrize("planner", [shooting(), cem(num_iterations=3)])
def test_planning_for_many_worlds_is_planning_for_each(planner: RandomShooting) -> None:
    state = room_state((0, 0), (3, 1), (2, 4), (4, 4))
    room = Room(luck=1e-6)
    together = planner.plan(room, state, generator())
    rng = generator()
    alone = [planner.plan(room, state[i : i + 1], rng) for i in range(4)]
    assert torch.equal(together.actions, torch.cat([result.actions for result in alone]))
    torch.testing.assert_close(together.value, torch.cat([result.value for result in alone]))
    assert together.imagined_steps == sum(result.imagined_steps for result in alone)


def test_planning_leaves_the_state_as_it_was() -> None:
    state = room_state((1, 1), (2, 3))
    before = state.clone()
    cem().plan(Room(), state, generator())
    assert all(torch.equal(tensor, before.tensors()[name]) for name, tensor in state.tensors().items())


def test_without_a_signal_the_distribution_stays() -> None:
    planner = cem()
    probs = torch.rand(2, 10, 5, generator=generator()).softmax(-1)
    plans = sample_plans(probs, torch.tensor([1, 2]), 64, 0.5)
    returns = torch.zeros(2, 64)
    returns[1, :3] = 1.0  # three winners in the second world only
    refit = planner._refit(probs, plans, returns)
    assert torch.equal(refit[0], probs[0])
    winners = torch.nn.functional.one_hot(plans[1, :3], 5).float().mean(0)
    torch.testing.assert_close(refit[1], 0.2 * probs[1] + 0.8 * winners)


def test_a_single_bad_plan_is_no_signal_either() -> None:
    planner = cem()
    probs = torch.full((1, 10, 5), 0.2)
    returns = torch.zeros(1, 64)
    returns[0, 5] = -1.0
    assert torch.equal(planner._refit(probs, sample_plans(probs, torch.tensor([1]), 64, 0.5), returns), probs)


@pytest.mark.parametrize("planner", [shooting(num_samples=2), cem(num_samples=2, num_elites=1)])
def test_a_warm_start_is_a_candidate_and_wins_ties(planner: RandomShooting) -> None:
    way = torch.tensor([[RIGHT] * 4 + [DOWN] * 4])
    result = planner.plan(Room(), room_state((0, 0)), generator(), warm_start=way)
    assert torch.equal(result.actions[:, :8], way)
    nothing_to_gain = planner.plan(Room(reward=0.0), room_state((0, 0)), generator(), warm_start=way)
    assert torch.equal(nothing_to_gain.actions[:, :8], way)


@pytest.mark.parametrize("shape", [(1, 11), (2, 10), (10,)])
def test_a_warm_start_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"warm_start has shape .*expected \(1, at most 10\)"):
        cem().plan(Room(), room_state((0, 0)), generator(), warm_start=torch.zeros(shape).long())


@pytest.mark.parametrize(
    "argument, value",
    [
        ("num_samples", 0),
        ("horizon", 0),
        ("steps", 0),
        ("gamma", 0.0),
        ("gamma", 1.01),
        ("persistence", 1.0),
        ("action_probs", (0.5, 0.4, 0.0, 0.0, 0.0)),
        ("action_probs", (1.5, -0.5, 0.0, 0.0, 0.0)),
        ("action_probs", ()),
        ("num_elites", 0),
        ("num_elites", 64),
        ("num_iterations", 0),
        ("smoothing", 1.0),
    ],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{argument} is .*expected"):
        cem(**{argument: value})


def test_action_probs_must_fit_the_model() -> None:
    with pytest.raises(ValueError, match="action_probs has 2 entries; expected 5"):
        shooting(action_probs=(0.5, 0.5)).plan(Room(), room_state((0, 0)), generator())


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="'box'; these planners search over discrete actions only"):
        shooting().plan(Room(kind="box"), room_state((0, 0)), generator())


def test_a_real_world_model_can_be_planned_in() -> None:
    torch.manual_seed(0)
    model = WorldModel(preset("debug", ActionSpec("discrete", 5))).eval()
    planner = cem(num_samples=4, num_elites=2, num_iterations=2, horizon=2)
    result = planner.plan(model, model.initial_state(2), generator())
    assert result.actions.shape == (2, 2) and result.value.isfinite().all()
    assert result.imagined_steps == 2 * 4 * 2 * 2
