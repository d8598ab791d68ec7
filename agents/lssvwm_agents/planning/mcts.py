"""Monte-Carlo tree search: look further where it paid (PUCT: Silver et al. 2017; MuZero: Schrittwieser et al. 2020).

Nodes that are the same are one, so that the tree is a graph where paths meet again (Czech et al. 2021, "Improving
AlphaZero Using Monte-Carlo Graph Search"). A world's dreams are those of one key, and with one key what an action leads
to is certain: so a node is worth what its best action is, and not the mean of all that was tried, detours lead nowhere
new, and what is known to its end need not be visited again (Winands et al. 2008, "Monte-Carlo Tree Search Solver").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import gymnasium as gym
import torch

from lssvwm_agents.planning.protocols import BudgetTracker, PlanRequest, PlanResult, SearchSettings
from lssvwm_agents.planning.search_graph import Edge, Node, SearchGraph, expand
from lssvwm_models.execution.noise import fold
from lssvwm_models.utils.checks import check_counts


class SearchTree(SearchGraph):
    """What was imagined of one world, and what its simulations found.

    Attributes:
        min_q, max_q: The least and the largest action value seen, which scale all of them to [0, 1] (MuZero).
    """

    min_q = math.inf
    max_q = -math.inf

    def scaled(self, q: float) -> float:
        """An action value as a share of all that were seen."""
        return (q - self.min_q) / max(self.max_q - self.min_q, 1e-8)

    def backup(self, path: list[Edge], gamma: float, horizon: int) -> None:
        """Carry what a simulation found from its leaf back to the root."""
        for i in range(len(path), -1, -1):
            node = path[i - 1].child if i else self.root
            expanded = bool(node.edges)
            node.solved = not open_edges(node) and (expanded or node.depth >= horizon)
            for edge in node.edges.values():
                q = edge.q(gamma)
                self.min_q = min(self.min_q, q)
                self.max_q = max(self.max_q, q)
            node.update_value(gamma)
            if i:
                path[i - 1].visits += 1
                path[i - 1].in_flight = 0

    def best_plan(self, warm_start: list[int], gamma: float, horizon: int) -> list[int]:
        """The best plan: of equals one that begins with the warm start, or as most simulations did.

        The value of every node is then what the best plan pays from there.
        """
        for node in self.nodes:
            node.value = node.estimate
        # Value iteration, as a graph may have circles: after as many sweeps as steps, each value is that of a plan no
        # longer than the horizon. From the far end, as most nodes were found in the order of their depth.
        for _ in range(horizon):
            for node in reversed(self.nodes):
                node.update_value(gamma)
        plan = list[int]()
        node = self.root
        while node.edges and len(plan) < horizon:
            ranks = {
                action: (edge.q(gamma), [*plan, action] == warm_start[: len(plan) + 1], edge.visits)
                for action, edge in node.edges.items()
            }
            action = max(ranks, key=ranks.__getitem__)
            plan.append(action)
            node = node.edges[action].child
        return plan


def open_edges(node: Node) -> dict[int, Edge]:
    """The edges that are no detours, and lead to where not all is known, or where no path led so soon."""
    depth = node.depth + 1
    return {
        action: edge
        for action, edge in node.edges.items()
        if not edge.terminal and (edge.child.depth > depth or (edge.child.depth == depth and not edge.child.solved))
    }


@dataclass(frozen=True)
class MCTS(SearchSettings):
    """Tree search over discrete actions, for many worlds and several simulations of each at a time.

    A simulation selects edges by PUCT, with values scaled to [0, 1], down to a node that is not expanded, expands it by
    all actions, and backs up what it found. One simulation of each round follows the warm start. The search ends early
    where all is known within the horizon. See `SearchGraph` for when two nodes are the same.

    Attributes:
        num_leaves: Simulations of each world that run side by side; those in flight count as visits that found nothing
            ("virtual loss"), so that they spread. More of them fill a batch, but each knows less.
        exploration: Weight of the prior against the value, above 0.

    The others are those of `SearchSettings`; actions whose prior is 0 are never tried, and of `persistence` there is no
    use.

    Raises:
        ValueError: If one of them is out of range; from `plan` if the actions are not discrete, or the budget is less
            than one step for each of them.
    """

    num_leaves: int = 16
    exploration: float = 1.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, num_leaves=1)
        if self.exploration <= 0:
            raise ValueError(f"exploration is {self.exploration}; expected more than 0")

    @torch.no_grad()
    def plan(self, request: PlanRequest) -> PlanResult:
        """See `Planner.plan`. Plans are as long as all worlds' trees reach."""
        space = request.core.action_space
        if not isinstance(space, gym.spaces.Discrete):
            raise ValueError(f"the action space is {space}; a tree branches over Discrete actions, use CEM or MPPI")
        prior = self.action_prior(space).tolist()
        actions = [action for action, probability in enumerate(prior) if probability > 0]
        dream_keys = fold(request.keys, 1)
        warm_starts = [[]] * request.state.batch_size if request.warm_start is None else request.warm_start.tolist()
        trees = [SearchTree(request.core, request.state, row) for row in range(request.state.batch_size)]
        trackers = [BudgetTracker(request.budget) for _ in trees]
        imagined = 0
        while True:
            paths = list[tuple[SearchTree, list[Edge]]]()
            steps = list[tuple[SearchTree, Node, int]]()
            for tree, tracker, warm_start in zip(trees, trackers, warm_starts, strict=True):
                number = tracker.affordable(self.num_leaves, len(actions))
                selected, leaves = self._select(tree, number, request.horizon, warm_start, prior)
                tracker.spend(len(leaves) * len(actions))
                paths += [(tree, path) for path in selected]
                steps += [(tree, leaf, action) for leaf in leaves for action in actions]
            if not paths:
                break
            if steps:
                expand(request.core, steps, dream_keys, self.value)
                imagined += len(steps)
            for tree, path in paths:
                tree.backup(path, self.gamma, request.horizon)
        plans = [
            tree.best_plan(warm_start, self.gamma, request.horizon)
            for tree, warm_start in zip(trees, warm_starts, strict=True)
        ]
        shortest = min(map(len, plans))
        device = request.keys.device
        return PlanResult(
            actions=torch.tensor([plan[:shortest] for plan in plans], device=device),
            value=torch.tensor([tree.root.value for tree in trees], dtype=torch.float32, device=device),
            imagined_steps=imagined,
        )

    def _select(
        self, tree: SearchTree, number: int, horizon: int, warm_start: list[int], prior: list[float]
    ) -> tuple[list[list[Edge]], list[Node]]:
        """The paths of up to `number` simulations that run side by side, and the leaves to expand."""
        paths = list[list[Edge]]()
        leaves = list[Node]()
        while len(paths) < number and not tree.root.solved:
            path = self._descend(tree, [] if paths else warm_start, prior)
            paths.append(path)
            leaf = path[-1].child if path else tree.root
            if leaf in leaves:  # so small a tree has no others yet
                break
            if len(path) < horizon and not leaf.edges:
                leaves.append(leaf)
        return paths, leaves

    def _descend(self, tree: SearchTree, warm_start: list[int], prior: list[float]) -> list[Edge]:
        """The path to a leaf: along the warm start as far as it goes, and then by PUCT."""
        path = list[Edge]()
        node = tree.root
        while edges := open_edges(node):
            warm = warm_start[len(path)] if len(path) < len(warm_start) else None
            edge = edges[warm] if warm in edges else edges[self._puct(edges, tree, prior)]
            path.append(edge)
            edge.in_flight += 1
            if edge.child.depth > node.depth + 1:  # a shorter path: more of the horizon is left below than was thought
                edge.child.depth = node.depth + 1
                edge.child.solved = False
            node = edge.child
        return path

    def _puct(self, edges: dict[int, Edge], tree: SearchTree, prior: list[float]) -> int:
        """The action with the largest upper confidence bound."""
        siblings = sum(edge.visits + edge.in_flight for edge in edges.values())

        def bound(action: int) -> float:
            edge = edges[action]
            visits = edge.visits + edge.in_flight
            value = tree.scaled(edge.q(self.gamma)) * edge.visits / max(visits, 1)  # those in flight count as losses
            return puct(value, prior[action], visits, siblings, self.exploration)

        return max(edges, key=bound)


def puct(value: float, prior: float, visits: int, siblings: int, exploration: float) -> float:
    """The upper confidence bound of an action by the PUCT rule (Silver et al. 2017).

    Args:
        value: Of the action, in [0, 1].
        prior: Its prior probability.
        visits: How many simulations took it.
        siblings: How many simulations took any action of its node.
        exploration: Weight of the prior against the value.
    """
    return value + exploration * prior * math.sqrt(siblings + 1) / (1 + visits)
