"""Tree search in a 5x5 room whose best plans are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lssvwm_agents import MCTS, Budget, PlanRequest, PlanResult
from lssvwm_agents.planning.mcts import SearchTree, open_edges, puct
from lssvwm_agents.planning.search_graph import Edge, Node, expand
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction
from tests.lssvwm_agents.room import DOWN, RIGHT, SIZE, UP, WAIT, Cell, Room, keys, request, room_state

ALL = 25 * 5  # steps that there are in the room: five from every cell


def plan(
    *cells: Cell,
    room: Room | None = None,
    steps: int = 1000,
    horizon: int = 10,
    warm_start: Tensor | None = None,
    **arguments: object,
) -> PlanResult:
    planner = MCTS(**arguments)  # type: ignore[arg-type]
    return planner.plan(request(*cells, room=room, horizon=horizon, steps=steps, warm_start=warm_start))


@pytest.mark.parametrize("num_leaves", [1, 16])
def test_the_shortest_way_is_found_and_no_step_is_imagined_twice(num_leaves: int) -> None:
    room = Room()
    result = plan((0, 0), room=room, num_leaves=num_leaves, gamma=0.9)
    assert sorted(result.actions[0, :8].tolist()) == [RIGHT] * 4 + [DOWN] * 4
    assert result.value.item() == pytest.approx(0.9**7)
    assert result.imagined_steps == room.imagined <= ALL


@settings(max_examples=20, deadline=None)
@given(
    cell=st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda cell: cell != (4, 4)),
    horizon=st.integers(1, 10),
    num_leaves=st.integers(1, 20),
)
def test_the_goal_is_found_if_and_only_if_it_is_within_the_horizon(cell: Cell, horizon: int, num_leaves: int) -> None:
    steps = 8 - sum(cell)
    found = plan(cell, horizon=horizon, num_leaves=num_leaves, gamma=0.9).value.item()
    assert found == pytest.approx(0.9 ** (steps - 1) if steps <= horizon else 0)


def test_simulations_go_where_it_pays() -> None:
    """A trail of crumbs leads to the goal: far fewer steps are imagined than there are."""

    class Crumbs(Room):
        def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
            frame, after = super().imagine(memory, act, keys)
            nearer = (after.latents - memory.latents).sum((1, 2))
            return replace(frame, rew=frame.rew + 0.5 * nearer), after

    result = plan((0, 0), room=Crumbs(), steps=60, num_leaves=1)
    assert sorted(result.actions[0, :8].tolist()) == [RIGHT] * 4 + [DOWN] * 4


def test_what_ends_is_not_looked_beyond() -> None:
    result = plan((4, 3), action_probs=(0.0, 1.0, 0.0, 0.0, 0.0))
    assert result.imagined_steps == 1 and result.actions.tolist() == [[DOWN]]
    assert result.value.item() == pytest.approx(1.0)


def test_planning_for_many_worlds_is_planning_for_each() -> None:
    cells: list[Cell] = [(0, 0), (3, 4), (2, 2)]
    together = plan(*cells, steps=60)
    for i, cell in enumerate(cells):
        alone = MCTS().plan(PlanRequest(Room(), room_state(cell), 10, Budget(imagined_steps=60), keys(3)[i : i + 1]))
        shortest = together.actions.shape[1]
        assert torch.equal(together.actions[i : i + 1], alone.actions[:, :shortest])
        assert together.value[i] == alone.value[0]


def test_budget_and_horizon_are_kept() -> None:
    assert plan((0, 0), steps=37).imagined_steps == 35  # a node costs five steps
    near = plan((1, 1), horizon=1)
    assert near.imagined_steps == 5 and near.actions.shape == (1, 1)
    assert MCTS().plan(PlanRequest(Room(), room_state((0, 0)), 9, Budget(seconds=1e-6), keys())).imagined_steps == 5
    with pytest.raises(ValueError, match="imagined_steps is 4; expected at least"):
        plan((0, 0), steps=4)


def test_a_search_ends_where_all_is_known() -> None:
    assert MCTS().plan(PlanRequest(Room(), room_state((0, 0)), 8, Budget(seconds=600), keys())).imagined_steps <= ALL


class Keyed(Room):
    """The upper right corner pays 0.5 and hands out a key, which is not to be seen; the goal pays who has it."""

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        frame, after = super().imagine(memory, act, keys)
        had = memory.age >= 1000
        found = (after.latents[:, 0] == torch.tensor([4, 0])).all(1) & ~had
        rew = torch.where(had, frame.rew, 0) + 0.5 * found
        return replace(frame, rew=rew), replace(after, age=after.age + 1000 * found)


def test_states_that_look_the_same_differ_by_what_was_earned_on_the_way() -> None:
    result = plan((3, 0), room=Keyed(), gamma=0.95)
    assert result.actions[0].tolist() == [RIGHT, DOWN, DOWN, DOWN, DOWN]


class Turning(Room):
    """A room without anything to see, whose agent turns: states differ by their heading alone."""

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        frame, after = super().imagine(memory, torch.full_like(act, WAIT), keys)
        turn = torch.tensor([1, 0, -1, 0, 0])[act]
        return frame, replace(after, pose=(memory.pose + torch.stack([0 * turn, 0 * turn, turn], 1)) % 4)

    def decode(self, memory: WorldModelState) -> Tensor:
        return torch.zeros(memory.batch_size, 3, 16, 16)


def test_places_are_told_apart_that_look_the_same() -> None:
    assert plan((0, 0), room=Turning()).imagined_steps == 4 * 5  # the four headings


class Shortcut(Room):
    """Waiting at the start leads to the cell in the middle at once; who walks takes four steps."""

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        at_start = (memory.latents[:, 0] == 0).all(1) & (act == WAIT)
        jumped = torch.where(at_start[:, None, None], torch.tensor([1.0, 2.0]), memory.latents)
        act = torch.where(at_start, RIGHT, act)
        return super().imagine(replace(memory, latents=jumped), act, keys)


def test_who_comes_sooner_by_another_way_gets_further() -> None:
    """The warm start walks to the middle first, where the horizon ends; the shortcut leaves time for the goal."""
    walk = torch.tensor([[RIGHT, RIGHT, DOWN, DOWN, RIGHT]])
    result = plan((0, 0), room=Shortcut(), horizon=5, num_leaves=1, warm_start=walk)
    assert result.actions[0, 0] == WAIT and result.value.item() == pytest.approx(0.99**4)


def test_the_value_at_the_horizon_decides_where_rewards_are_out_of_reach() -> None:
    class Scented(Room):
        """Features tell how far down the agent is."""

        def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
            frame, after = super().imagine(memory, act, keys)
            return replace(frame, feats=after.latents[:, 0, 1:]), after

    result = plan((1, 0), room=Scented(reward=0.0), horizon=2, value=lambda feats: feats[:, 0])
    assert result.actions.tolist() == [[DOWN, DOWN]] and result.value.item() == pytest.approx(2 * 0.99**2)


def test_a_warm_start_is_kept_where_nothing_is_worth_more() -> None:
    way = torch.tensor([[DOWN, RIGHT, UP]])
    result = plan((0, 0), room=Room(reward=0.0), horizon=3, steps=60, warm_start=way)
    assert result.actions.tolist() == way.tolist()


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_leaves", 0), ("gamma", 0.0), ("exploration", 0.0), ("action_probs", (0.5,))],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{argument}( is .*expected|=.*must be)"):
        plan((0, 0), **{argument: value})  # type: ignore[arg-type]


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="a tree branches over Discrete actions, use CEM or MPPI"):
        plan((0, 0), room=Room(kind="box"))


def test_a_real_simulator_can_be_planned_in(toy_simulator: Simulator) -> None:
    core = SimulatorCore(toy_simulator, 2)
    core.reset([0, 1], [0, 1])
    steps = 3 * int(core.action_space.n)  # type: ignore[union-attr]
    result = MCTS().plan(PlanRequest(core, core.memory, 2, Budget(imagined_steps=steps), core.keys))
    assert result.actions.shape[0] == 2 and result.value.isfinite().all() and 0 < result.imagined_steps <= 2 * steps


# --- by hand ---


def tree(*cells: Cell) -> SearchTree:
    return SearchTree(Room(), room_state(*(cells or ((0, 0),))), 0)


def node(depth: int = 0, value: float = 0.0) -> Node:
    return Node(room_state((0, 0)), 0, torch.zeros(3, SIZE, SIZE), depth=depth, estimate=value, value=value)


def test_puct_weighs_the_prior_by_the_visits_of_siblings_against_its_own() -> None:
    assert puct(0.5, 0.2, visits=3, siblings=8, exploration=1.25) == pytest.approx(0.5 + 1.25 * 0.2 * 3 / 4)
    assert puct(0.0, 1.0, visits=0, siblings=0, exploration=2.0) == pytest.approx(2.0)


def test_values_are_scaled_by_the_least_and_the_largest_seen() -> None:
    searched = tree()
    searched.min_q = -1.0
    searched.max_q = 3.0
    assert [searched.scaled(q) for q in (-1.0, 0.0, 3.0)] == [0.0, 0.25, 1.0]
    searched.max_q = -0.5
    assert searched.scaled(-0.75) == 0.5
    searched.max_q = -1.0
    assert searched.scaled(-1.0) == 0.0


@pytest.mark.parametrize("rewards", [(0.0, 1.0), (0.0, 100.0), (-500.0, -400.0)])
def test_selection_does_not_depend_on_the_size_of_rewards(rewards: tuple[float, float]) -> None:
    searched = tree()
    searched.min_q = min(rewards)
    searched.max_q = max(rewards)
    for prior, best in (([0.5, 0.5], 1), ([0.99, 0.01], 0)):
        edges = {action: Edge(node(), reward, 1.0, visits=2) for action, reward in enumerate(rewards)}
        assert MCTS(exploration=1.5)._puct(edges, searched, prior) == best


@pytest.mark.parametrize("in_flight, best", [(0, 1), (1, 1), (2, 0)])
def test_simulations_in_flight_count_as_losses(in_flight: int, best: int) -> None:
    searched = tree()
    searched.min_q = 0.0
    searched.max_q = 1.0
    edges = {0: Edge(node(), 0.5, 1.0, visits=2), 1: Edge(node(), 1.0, 1.0, visits=2, in_flight=in_flight)}
    assert MCTS(exploration=0.1)._puct(edges, searched, [0.5, 0.5]) == best


def test_a_single_visit_counts_in_full() -> None:
    searched = tree()
    searched.min_q = 0.0
    searched.max_q = 1.0
    edges = {0: Edge(node(), 1.0, 1.0, visits=1), 1: Edge(node(), 0.6, 1.0, visits=3)}
    assert MCTS(exploration=1e-6)._puct(edges, searched, [0.5, 0.5]) == 0


def test_the_first_simulations_go_where_the_prior_is_largest() -> None:
    searched = tree()
    searched.min_q = 0.0
    searched.max_q = 1.0
    edges = {action: Edge(node(), 1.0, 1.0) for action in range(3)}
    assert MCTS()._puct(edges, searched, [0.2, 0.5, 0.3]) == 1


def chain() -> tuple[SearchTree, Edge, Edge]:
    """From the root by action 0 to a node, and from there by action 2 to a leaf; action 1 ends the episode."""
    searched = tree()
    leaf = node(2, value=10.0)
    second = Edge(leaf, 2.0, 0.5 + 1e-6, in_flight=3)
    middle = node(1)
    middle.edges = {2: second}
    first = Edge(middle, 1.0, 0.75, visits=4, in_flight=1)
    searched.root.edges = {0: first, 1: Edge(node(1), -3.0, 0.0)}
    return searched, first, second


def test_a_backup_discounts_by_gamma_and_by_the_chance_that_the_episode_goes_on() -> None:
    searched, first, second = chain()
    searched.backup([first, second], gamma=0.5, horizon=9)
    in_the_middle = 2 + 0.5 * 0.500001 * 10
    assert first.child.value == pytest.approx(in_the_middle)
    assert searched.root.value == pytest.approx(1 + 0.5 * 0.75 * in_the_middle)
    assert (searched.min_q, searched.max_q) == (-3.0, pytest.approx(in_the_middle))
    assert (first.visits, first.in_flight, second.visits, second.in_flight) == (5, 0, 1, 0)


@pytest.mark.parametrize("horizon, solved", [(2, True), (3, False)])
def test_a_node_is_solved_at_the_horizon_and_where_all_that_follows_is(horizon: int, solved: bool) -> None:
    searched, first, second = chain()
    searched.backup([first, second], 0.5, horizon)
    assert [second.child.solved, first.child.solved, searched.root.solved] == [solved] * 3


def test_edges_are_open_that_go_on_to_where_something_is_to_be_found() -> None:
    parent = node(depth=3)
    solved = node(depth=4)
    solved.solved = True
    late = node(depth=6)
    late.solved = True
    parent.edges = {
        0: Edge(node(depth=4), 0.0, 0.51),
        1: Edge(node(depth=4), 0.0, 0.5),  # likelier than not that it ends
        2: Edge(node(depth=3), 0.0, 1.0),  # a detour
        3: Edge(solved, 0.0, 1.0),
        4: Edge(late, 0.0, 1.0),  # reached sooner than before
    }
    assert set(open_edges(parent)) == {0, 4}


def test_the_best_plan_is_no_longer_than_the_horizon_and_ties_go_to_the_warm_start_then_to_visits() -> None:
    searched = tree()
    for action, visits in enumerate((1, 3, 2)):
        searched.root.edges[action] = Edge(node(1), 0.0, 1.0, visits=visits)
    assert searched.best_plan([], 0.9, horizon=2) == [1]
    assert searched.best_plan([2], 0.9, horizon=2) == [2]
    assert searched.best_plan([2, 0], 0.9, horizon=1) == [2]
    searched.root.edges[0].reward = 0.1
    assert searched.best_plan([2], 0.9, horizon=2) == [0] and searched.root.value == pytest.approx(0.1)


def test_who_left_the_warm_start_does_not_come_back_to_it() -> None:
    searched = tree()
    child = node(1)
    searched.root.edges = {0: Edge(child, 1.0, 1.0), 1: Edge(node(1), 0.0, 1.0)}
    child.edges = {0: Edge(node(2), 0.0, 1.0, visits=1), 1: Edge(node(2), 0.0, 1.0)}
    assert searched.best_plan([1, 1], 0.9, horizon=3) == [0, 0]
    assert searched.best_plan([0, 1], 0.9, horizon=3) == [0, 1]


def test_circles_are_gone_round_no_longer_than_the_horizon() -> None:
    searched = tree()
    searched.root.edges[0] = Edge(searched.root, 1.0, 1.0)
    assert searched.best_plan([], 0.5, horizon=3) == [0, 0, 0]
    assert searched.root.value == pytest.approx(1 + 0.5 + 0.25)


def test_simulations_side_by_side_expand_different_leaves() -> None:
    searched = tree()
    planner = MCTS(num_leaves=4)
    prior = [0.2] * 5
    paths, leaves = planner._select(searched, 4, 10, [], prior)
    assert paths[0] == [] and leaves == [searched.root] and len(paths) == 2  # the second finds no other leaf
    expand(Room(), [(searched, searched.root, action) for action in range(5)], keys())
    for path in paths:
        searched.backup(path, 0.99, 10)
    paths, leaves = planner._select(searched, 4, 10, [DOWN], prior)
    assert len({id(leaf) for leaf in leaves}) == len(leaves) == 2  # right and down; the walls and waiting lead back
    assert paths[0] == [searched.root.edges[DOWN]]


def test_the_number_of_leaves_is_a_limit() -> None:
    room = Room()
    plan((2, 2), room=room, steps=30, num_leaves=1)
    assert [len(seen) for seen in room.keys_seen] == [5] * 6
    room = Room()
    plan((2, 2), room=room, steps=30, num_leaves=3)
    assert [len(seen) for seen in room.keys_seen] == [5, 15, 10]


def test_defaults_are_those_of_muzero() -> None:
    assert (MCTS().num_leaves, MCTS().exploration) == (16, 1.25)
    assert MCTS(3).num_leaves == 3
