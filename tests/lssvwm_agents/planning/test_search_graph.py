"""States that are the same are one node."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lssvwm_agents.planning.search_graph import Edge, Node, SearchGraph, expand
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction
from tests.lssvwm_agents.room import DOWN, GOAL, LEFT, RIGHT, UP, WAIT, LargeRoom, Room, keys, room_state


def graph(room: Room | None = None) -> SearchGraph:
    return SearchGraph(room or Room(), room_state((1, 1)), 0)


def child(frame: float = 0.0, heading: int = 0) -> Node:
    memory = room_state((0, 0))
    memory = replace(memory, pose=memory.pose + torch.tensor([0, 0, heading]))
    return Node(memory, 0, torch.full((3, 8, 8), frame))


def grown() -> tuple[SearchGraph, Node]:
    """A graph of two nodes, the second of a grey frame."""
    made = graph(LargeRoom())
    made.add(made.root, 0, Edge(child(), 0.5, 1.0))
    return made, made.root.edges[0].child


def test_a_new_node_is_a_step_further_and_earned_what_it_took() -> None:
    made, first = grown()
    root = made.root
    assert (root.depth, root.earned, root.estimate, root.value, root.solved) == (0, 0, 0, 0, False)
    assert (root.edges[0].visits, root.edges[0].in_flight) == (0, 0)
    assert (first.depth, first.earned, made.nodes) == (1, 0.5, [root, first])
    made.add(first, 3, Edge(Node(first.memory, 0, first.frame + 0.5, estimate=7.0), 0.25, 1.0))
    second = first.edges[3].child
    assert (second.depth, second.earned, second.value) == (2, 0.75, 7.0)


@pytest.mark.parametrize("reward, same", [(0.5, True), (0.74, True), (0.26, True), (0.75, False), (0.25, False)])
def test_nodes_are_the_same_that_earned_about_as_much(reward: float, same: bool) -> None:
    made, first = grown()
    made.add(made.root, 1, Edge(child(), reward, 1.0))
    assert (made.root.edges[1].child is first) == same and len(made.nodes) == 3 - same


@pytest.mark.parametrize("frame, heading, same", [(0.09, 0, True), (0.11, 0, False), (0.0, 1, False)])
def test_nodes_are_the_same_that_look_the_same_at_the_same_place(frame: float, heading: int, same: bool) -> None:
    made, first = grown()
    made.add(made.root, 1, Edge(child(frame, heading), 0.5, 1.0))
    assert (made.root.edges[1].child is first) == same


def test_the_first_of_several_alike_is_taken() -> None:
    made, first = grown()
    made.add(made.root, 1, Edge(child(0.15), 0.5, 1.0))
    made.add(made.root, 2, Edge(child(0.075), 0.5, 1.0))  # like both
    assert made.root.edges[2].child is first


@pytest.mark.parametrize("cont, merged", [(0.5, False), (0.51, True)])
def test_what_ends_is_no_node_of_the_graph(cont: float, merged: bool) -> None:
    made, first = grown()
    edge = Edge(child(), 0.5, cont)
    made.add(made.root, 1, edge)
    assert edge.terminal != merged and (edge.child is first) == merged and len(made.nodes) == 2


def test_an_action_is_worth_its_reward_and_what_follows() -> None:
    edge = Edge(child(), 2.0, 0.5)
    edge.child.value = 8.0
    assert edge.q(0.9) == pytest.approx(2 + 0.9 * 0.5 * 8)


def test_a_node_is_worth_its_best_action_or_else_what_is_estimated() -> None:
    made = child()
    made.estimate = 3.0
    made.update_value(0.9)
    assert made.value == 3
    made.edges = {0: Edge(child(), -1.0, 1.0), 1: Edge(child(), -2.0, 1.0)}
    made.update_value(0.9)
    assert made.value == -1


class Scented(Room):
    """Features tell how far down the agent is."""

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        frame, after = super().imagine(memory, act, keys)
        return replace(frame, feats=after.latents[:, 0, 1:]), after


def test_nodes_of_several_worlds_are_expanded_in_one_batch_each_with_its_own_key() -> None:
    room = Scented(reward=2.0, term_prob=0.75, luck=1e-3)
    state = room_state((0, 0), (4, 3), (2, 2))
    graphs = [SearchGraph(room, state, row) for row in range(3)]
    steps = [(graphs[2], graphs[2].root, UP), (graphs[1], graphs[1].root, DOWN), (graphs[2], graphs[2].root, WAIT)]
    expand(room, steps, torch.tensor([5, 6, 7]), lambda feats: 10 + feats[:, 0])
    assert [seen.tolist() for seen in room.keys_seen] == [[7, 6, 7]]
    assert not graphs[0].root.edges and set(graphs[2].root.edges) == {UP, WAIT}
    to_goal = graphs[1].root.edges[DOWN]
    assert to_goal.reward == pytest.approx(2 + 6e-3) and to_goal.cont == pytest.approx(0.25)
    assert to_goal.child.estimate == 10 + GOAL[1]
    above = graphs[2].root.edges[UP].child
    assert above.memory.latents[above.row, 0].tolist() == [2, 1] and above.estimate == 11
    assert torch.equal(above.frame, room.decode(room_state((2, 1)))[0])


def test_nodes_that_share_a_batch_keep_their_own_rows() -> None:
    room = Room()
    made = SearchGraph(room, room_state((1, 1)), 0)
    expand(room, [(made, made.root, action) for action in (RIGHT, DOWN, LEFT)], keys())
    children = [made.root.edges[action].child for action in (LEFT, RIGHT)]
    expand(room, [(made, node, DOWN) for node in children], keys())
    ends = [node.edges[DOWN].child for node in children]
    assert [end.memory.latents[end.row, 0].tolist() for end in ends] == [[0, 2], [2, 2]]
    assert made.root.edges[RIGHT].child.estimate == 0
