"""Monte-Carlo tree search: look further where it paid (PUCT: Silver et al. 2017; MuZero: Schrittwieser et al. 2020).

A world's memory has the same size at every node, whatever its depth, so that a tree costs bytes per node and nothing
per step of history. What a simulation imagines on its way to the horizon stays in the tree: nothing is dreamt twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count

import gymnasium as gym
import torch
from torch import Tensor

from agents.planners import SearchSettings, action_prior, with_first
from agents.planning import Budget, Imaginer, Meter, PlanResult
from agents.proposals import Categorical
from world_models.noise import fold
from world_models.state import WorldModelState


@dataclass(eq=False)
class Node:
    """An imagined moment.

    Attributes:
        memory: One world's, in row `row` of a batch that it shares with what was imagined together.
        rew: The reward that came with it. term_prob: The chance that it ended the episode.
        rest: What was estimated to come after it when it was made: the value at the horizon.
        children: By action. visits: Simulations that came through. total: The sum of the returns they found after it.
        pending: Simulations on their way through it now.
    """

    memory: WorldModelState
    row: int
    rew: float = 0.0
    term_prob: float = 0.0
    rest: float = 0.0
    children: dict[int, Node] = field(default_factory=dict)
    visits: int = 0
    total: float = 0.0
    pending: int = 0

    def worth(self, gamma: float) -> float:
        """The mean return of coming here: the reward, and what follows while the episode goes on."""
        following = self.total / self.visits if self.visits else self.rest
        return self.rew + gamma * (1 - self.term_prob) * following


@dataclass(frozen=True)
class MCTS(SearchSettings):
    """Tree search over discrete actions, for many worlds and several simulations of each at a time.

    A simulation follows the most promising known actions (PUCT, values scaled to [0, 1] by the least and the largest
    seen), leaves the tree by one that is new, goes on by the prior until the horizon, where `value` takes over, and
    tells all moments on its way what they turned out to be worth.

    Attributes:
        num_leaves: Simulations of each world that run side by side; those on their way count as visits that found
            nothing ("virtual loss"), so that they spread. More of them fill a batch, but each knows less.
        exploration: Weight of the prior and of doubt against value, above 0.

    The others are those of `SearchSettings`; actions that its prior holds impossible are never tried.

    Raises:
        ValueError: If one of them is out of range; from `plan` if the actions are not discrete.
    """

    num_leaves: int = 8
    exploration: float = 1.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_leaves < 1:
            raise ValueError(f"num_leaves is {self.num_leaves}; expected at least 1")
        if self.exploration <= 0:
            raise ValueError(f"exploration is {self.exploration}; expected more than 0")

    @torch.no_grad()
    def plan(
        self,
        core: Imaginer,
        state: WorldModelState,
        horizon: int,
        budget: Budget,
        keys: Tensor,
        warm_start: Tensor | None = None,
    ) -> PlanResult:
        """See `Planner.plan`. The plan is the way most simulations went, as far as all worlds' trees know one."""
        space = core.action_space
        if not isinstance(space, gym.spaces.Discrete):
            raise ValueError(f"the action space is {space}; a tree branches over Discrete actions, use CEM or MPPI")
        probs, device = action_prior(space, self.action_probs), state.age.device
        prior = Categorical(probs.to(device).expand(state.batch_size, horizon, -1), self.persistence)
        draws, dreams = fold(keys, 0), fold(keys, 1)
        roots = [Node(state, row) for row in range(state.batch_size)]
        meters, imagined = [Meter(budget) for _ in roots], 0
        for iteration in count():
            leaves = [meter.affordable(self.num_leaves, horizon) for meter in meters]
            if not any(leaves):
                break
            drawn = prior.sample(fold(draws, iteration), self.num_leaves)  # ways to go where there is no tree yet
            drawn = with_first(drawn, None if iteration else warm_start)
            ways = [own[:number] for own, number in zip(drawn.tolist(), leaves, strict=True)]
            spent = self._simulate(core, roots, ways, probs.tolist(), dreams)
            for meter, steps, number in zip(meters, spent, leaves, strict=True):
                meter.spend(max(steps, number))  # a tree that knows all there is to know must come to an end, too
            imagined += sum(spent)
        chosen = [_favourites(root) for root in roots]
        shortest = min(map(len, chosen))
        actions = torch.tensor([way[:shortest] for way in chosen], device=device)
        value = torch.tensor([root.children[way[0]].worth(self.gamma) for root, way in zip(roots, chosen, strict=True)])
        return PlanResult(actions, value.to(device), imagined)

    def _simulate(
        self, core: Imaginer, roots: list[Node], ways: list[list[list[int]]], probs: list[float], keys: Tensor
    ) -> list[int]:
        """Run simulations, as many in each world as it has ways; returns how many frames each world imagined."""
        paths, rests, world = list[list[Node]](), list[list[int]](), list[int]()
        for row, (root, own) in enumerate(zip(roots, ways, strict=True)):
            least, most = _range(root, self.gamma)
            for way in own:
                path, rest = self._descend(root, way, probs, least, most)
                paths.append(path)
                rests.append(rest)
                world.append(row)
        imagined = [0] * len(roots)
        for depth in range(max(map(len, rests))):
            going = [i for i, rest in enumerate(rests) if depth < len(rest) and paths[i][-1].term_prob < 0.5]
            wanted = {(paths[i][-1], rests[i][depth]): i for i in going if rests[i][depth] not in paths[i][-1].children}
            if wanted:
                rows = [world[i] for i in wanted.values()]
                self._expand(core, wanted, keys[rows])
                for row in rows:
                    imagined[row] += 1
            for i in going:
                paths[i].append(paths[i][-1].children[rests[i][depth]])
        for path in paths:
            self._tell(path)
        return imagined

    def _descend(
        self, root: Node, way: list[int], probs: list[float], least: float, most: float
    ) -> tuple[list[Node], list[int]]:
        """The known part of a simulation, and the actions after it: the first is new, the others those of the way."""
        path = [root]
        while len(path) <= len(way) and path[-1].term_prob < 0.5:
            node, depth = path[-1], len(path) - 1
            if not node.children:
                return path, way[depth:]
            action = self._best(node, probs, least, most)
            if action not in node.children:
                return path, [action, *way[depth + 1 :]]
            path.append(node.children[action])
            path[-1].pending += 1
        return path, []

    def _best(self, node: Node, probs: list[float], least: float, most: float) -> int:
        """The action that promises the most, by value, prior and doubt."""
        tries = {a: child.visits + child.pending for a, child in node.children.items()}
        root_of_all = math.sqrt(sum(tries.values()) + 1)

        def promise(action: int) -> float:
            value, tried = 0.0, tries.get(action, 0)
            if tried:
                child = node.children[action]
                scaled = (child.worth(self.gamma) - least) / max(most - least, 1e-8)
                value = scaled * child.visits / tried  # those on their way count as if they found nothing
            return value + self.exploration * probs[action] * root_of_all / (1 + tried)

        return max((a for a, p in enumerate(probs) if p > 0), key=promise)

    def _expand(self, core: Imaginer, wanted: dict[tuple[Node, int], int], keys: Tensor) -> None:
        """Imagine children of nodes, all in one batch."""
        parents, actions = zip(*wanted, strict=True)
        memory = WorldModelState.cat([node.memory[node.row : node.row + 1] for node in parents])
        frame, memory = core.imagine(memory, torch.tensor(actions, device=keys.device), keys)
        rest = self.value(frame.feats) if self.value is not None else torch.zeros_like(frame.rew)
        for row, numbers in enumerate(zip(frame.rew.tolist(), frame.term_prob.tolist(), rest.tolist(), strict=True)):
            parents[row].children[actions[row]] = Node(memory, row, *numbers)

    def _tell(self, path: list[Node]) -> None:
        """Let all moments of a simulation know what came after them."""
        following = path[-1].rest
        for node in reversed(path):
            node.visits, node.total, node.pending = node.visits + 1, node.total + following, 0
            following = node.rew + self.gamma * (1 - node.term_prob) * following


def _range(root: Node, gamma: float) -> tuple[float, float]:
    """The least and the largest worth in a tree."""
    worths, todo = list[float](), [root]
    while todo:
        node = todo.pop()
        worths += [child.worth(gamma) for child in node.children.values()]
        todo += node.children.values()
    return min(worths, default=0.0), max(worths, default=0.0)


def _favourites(root: Node) -> list[int]:
    """The actions most simulations took, from the root to where the tree ends; of equals the more valuable."""
    way = list[int]()
    while root.children:
        action, root = max(root.children.items(), key=lambda item: (item[1].visits, item[1].total))
        way.append(action)
    return way
