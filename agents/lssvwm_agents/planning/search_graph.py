"""The graph of a tree search: imagined states of a world, and the actions between them.

A memory is a value of one size, whatever came before, so that states can be kept, expanded, and compared: those that
are the same are one node (a transposition), and what follows them is imagined once. Most ways of getting somewhere are
detours: of MiniGrid's 3^12 ways to turn and to go ahead twelve times, a room of twenty cells has eighty different ends.
Where nothing ever comes back, the graph is a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from lssvwm_agents.planning.protocols import Imaginer, ValueFunction
from lssvwm_agents.planning.rewards import differing_patches
from lssvwm_models.memory.state import WorldModelState

SAME_REWARD: Final = 0.25  # states that were reached by earning so much more or less are not the same


@dataclass(eq=False)  # two nodes are never equal by their contents
class Node:
    """An imagined state.

    Attributes:
        memory: One world's, in row `row` of a batch that it shares with what was imagined together.
        frame: What it looks like, (C, H, W).
        depth: The fewest steps that lead to it, as far as known.
        earned: The sum of rewards on the way.
        estimate: The value function's, of the return from here.
        value: The return from here, as far as the search knows by now.
        edges: What each action leads to; empty before the node is expanded.
        solved: Whether a search need not come here again.
    """

    memory: WorldModelState
    row: int
    frame: Tensor
    depth: int = 0
    earned: float = 0.0
    estimate: float = 0.0
    value: float = 0.0
    edges: dict[int, Edge] = field(default_factory=dict)
    solved: bool = False

    def update_value(self, gamma: float) -> None:
        """Take the value of the best action, or of the value function if there is none."""
        self.value = max((edge.q(gamma) for edge in self.edges.values()), default=self.estimate)


@dataclass
class Edge:
    """An action, from one node to the next.

    Attributes:
        child: The node that it leads to.
        reward: What it pays.
        cont: The probability that the episode goes on after it.
        visits: How many simulations came along.
        in_flight: Simulations that came along and are not backed up yet: the virtual loss.
    """

    child: Node
    reward: float
    cont: float
    visits: int = 0
    in_flight: int = 0

    def q(self, gamma: float) -> float:
        """The action's value: its reward, and what follows."""
        return self.reward + gamma * self.cont * self.child.value

    @property
    def terminal(self) -> bool:
        """Whether it is likelier than not that the episode ends."""
        return self.cont <= 0.5


class SearchGraph:
    """What was imagined of one world: all that follows from the root, which is in row `row` of a memory.

    Nodes are the same if they are at the same place, earned about as much, and look the same: no square of 8 x 8
    pixels differs (see `rewards.differing_patches`). What cannot be told from a node's frame and its rewards is assumed
    to be the same, too.

    Attributes:
        nodes: All of them, in the order in which they were found.
    """

    def __init__(self, core: Imaginer, state: WorldModelState, row: int) -> None:
        self.row = row
        self.nodes = list[Node]()
        self._at_pose = dict[tuple[int, ...], list[Node]]()
        self.root = self._merged(Node(state, row, core.decode(state[row : row + 1])[0]))

    def add(self, parent: Node, action: int, edge: Edge) -> None:
        """Add what an action of a node led to, unless its child is the same as a node that is there already."""
        child = edge.child
        child.depth = parent.depth + 1
        child.earned = parent.earned + edge.reward
        child.value = child.estimate
        if not edge.terminal:
            edge.child = self._merged(child)
        parent.edges[action] = edge

    def _merged(self, node: Node) -> Node:
        """The node that is the same as this one, or else this one, which is then one of the graph."""
        same_place = self._at_pose.setdefault(tuple(node.memory.pose[node.row].tolist()), [])
        near = [other for other in same_place if abs(other.earned - node.earned) < SAME_REWARD]
        if near:
            frames = torch.stack([other.frame for other in near])
            same = ~differing_patches(frames, node.frame).flatten(1).any(1)
            if bool(same.any()):
                return near[int(same.int().argmax())]  # the first of them
        same_place.append(node)
        self.nodes.append(node)
        return node


def expand(
    core: Imaginer, steps: Sequence[tuple[SearchGraph, Node, int]], keys: Tensor, value: ValueFunction | None = None
) -> None:
    """Imagine what actions lead to from nodes of some worlds, all in one batch.

    Args:
        core: Where to imagine.
        steps: Of each of N steps its graph, the node it sets out from, and the action.
        keys: (B,) long, of the dreams of each row's world; see `lssvwm_models.execution.noise`.
        value: Value function after a step; None: nothing more is earned.
    """
    row_of = {node: i for i, node in enumerate(dict.fromkeys(parent for _, parent, _ in steps))}
    memory = WorldModelState.cat([parent.memory[parent.row : parent.row + 1] for parent in row_of])
    rows = [row_of[parent] for _, parent, _ in steps]
    act = torch.tensor([action for *_, action in steps], device=keys.device)
    frame, after = core.imagine(memory[rows], act, keys[[graph.row for graph, *_ in steps]])
    reward = frame.rew.tolist()
    cont = (1 - frame.term_prob).tolist()
    estimate = [0.0] * len(steps) if value is None else value(frame.feats).tolist()
    for i, (graph, parent, action) in enumerate(steps):
        child = Node(after, i, frame.obs[i], estimate=estimate[i])
        graph.add(parent, action, Edge(child, reward[i], cont[i]))
