"""Monte-Carlo tree search: look further where it paid (PUCT: Silver et al. 2017; MuZero: Schrittwieser et al. 2020).

Moments that are the same are one, so that the tree is a graph where ways meet again (Czech et al. 2021, "Improving
AlphaZero Using Monte-Carlo Graph Search"). A world's dreams are those of one key, and with one key what an action leads
to is certain: so a moment is worth what its best way pays and not the mean of all that was tried, detours lead nowhere
new, and what is known to its end need not be looked at again (Winands et al. 2008, "Monte-Carlo Tree Search Solver").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import gymnasium as gym
import torch
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.state import WorldModelState
from torch import Tensor

from lssvwm_agents.planning.moments import Moment, Moments, Way, go_on
from lssvwm_agents.planning.protocols import Budget, Imaginer, Meter, PlanResult
from lssvwm_agents.planning.shooting import SearchSettings, action_prior, with_first


class Tree(Moments):
    """What was imagined of one world, and what its simulations found.

    Attributes:
        least, most: Of what ways turned out to be worth.
    """

    least, most = math.inf, -math.inf

    def tell(self, path: list[Way], gamma: float, horizon: int) -> None:
        """Let all moments on a way know what came after them."""
        for i in range(len(path), -1, -1):
            moment = path[i - 1].to if i else self.root
            moment.done = not open_ways(moment) and (bool(moment.ways) or moment.steps >= horizon)
            for way in moment.ways.values():
                worth = way.worth(gamma)
                self.least, self.most = min(self.least, worth), max(self.most, worth)
            moment.look_again(gamma)
            if i:
                path[i - 1].visits, path[i - 1].pending = path[i - 1].visits + 1, 0

    def solve(self, begun: list[int], gamma: float) -> list[int]:
        """The best plan: of equals one that begins as given, or as most simulations did.

        `worth` of all moments is what the best plan pays from there.
        """
        horizon = len(begun)
        for moment in self.all:
            moment.worth = moment.rest
        for _ in range(horizon):  # from the far end, as most moments were found in the order of their steps
            for moment in reversed(self.all):
                moment.look_again(gamma)
        plan, moment = list[int](), self.root
        while moment.ways and len(plan) < horizon:
            kept = begun[len(plan)] if plan == begun[: len(plan)] else -1
            worths = {action: (way.worth(gamma), action == kept, way.visits) for action, way in moment.ways.items()}
            plan.append(max(worths, key=worths.__getitem__))
            moment = moment.ways[plan[-1]].to
        return plan


def open_ways(moment: Moment) -> dict[int, Way]:
    """The ways from a moment that are no detours, and lead to where not all is known, or nobody came so soon."""
    steps = moment.steps + 1
    return {
        action: way
        for action, way in moment.ways.items()
        if not way.ends and (way.to.steps > steps or (way.to.steps == steps and not way.to.done))
    }


@dataclass(frozen=True)
class MCTS(SearchSettings):
    """Tree search over discrete actions, for many worlds and several simulations of each at a time.

    A simulation follows the most promising of the ways that lead further (PUCT, values scaled to [0, 1] by the least
    and the largest seen) to a moment that was not gone on from, imagines all actions from there, and tells the moments
    on its way what they are worth now. One simulation of each round follows the warm start. The search ends early where
    all is known within the horizon. See `Moments` for when two moments are the same.

    Attributes:
        num_leaves: Simulations of each world that run side by side; those on their way count as visits that found
            nothing ("virtual loss"), so that they spread. More of them fill a batch, but each knows less.
        exploration: Weight of the prior and of doubt against value, above 0.

    The others are those of `SearchSettings`; actions that its prior holds impossible are never tried, and of
    `persistence` there is no use.

    Raises:
        ValueError: If one of them is out of range; from `plan` if the actions are not discrete, or the budget is less
            than one step for each of them.
    """

    num_leaves: int = 16
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
        """See `Planner.plan`. Plans are as long as all worlds' trees reach."""
        space = core.action_space
        if not isinstance(space, gym.spaces.Discrete):
            raise ValueError(f"the action space is {space}; a tree branches over Discrete actions, use CEM or MPPI")
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}; expected at least 1 action per plan")
        probs, dreams = action_prior(space, self.action_probs).tolist(), fold(keys, 1)
        actions = [action for action, prob in enumerate(probs) if prob > 0]
        none = torch.full((state.batch_size, 1, horizon), -1, device=keys.device)
        begun = with_first(none, warm_start)[:, 0].tolist()
        trees = [Tree(core, state, row) for row in range(state.batch_size)]
        meters, imagined = [Meter(budget) for _ in trees], 0
        while True:
            paths, steps = list[tuple[Tree, list[Way]]](), list[tuple[Tree, Moment, int]]()
            for tree, meter, plan in zip(trees, meters, begun, strict=True):
                number = meter.affordable(self.num_leaves, len(actions))
                ways, leaves = self._simulate(tree, number, plan, probs)
                meter.spend(len(leaves) * len(actions))
                paths += [(tree, path) for path in ways]
                steps += [(tree, leaf, action) for leaf in leaves for action in actions]
            if not paths:
                break
            if steps:
                go_on(core, steps, dreams, self.value)
                imagined += len(steps)
            for tree, path in paths:
                tree.tell(path, self.gamma, horizon)
        plans = [tree.solve(plan, self.gamma) for tree, plan in zip(trees, begun, strict=True)]
        shortest = min(map(len, plans))
        found = torch.tensor([plan[:shortest] for plan in plans], device=keys.device)
        return PlanResult(found, torch.tensor([tree.root.worth for tree in trees], device=keys.device), imagined)

    def _simulate(
        self, tree: Tree, number: int, begun: list[int], probs: list[float]
    ) -> tuple[list[list[Way]], list[Moment]]:
        """The ways of up to so many simulations that run side by side, and the moments to go on from."""
        paths, leaves = list[list[Way]](), list[Moment]()
        while len(paths) < number and not tree.root.done:
            path = self._descend(tree, [-1] * len(begun) if paths else begun, probs)
            paths.append(path)
            end = path[-1].to if path else tree.root
            if end in leaves:  # so small a tree has no others yet
                break
            if len(path) < len(begun) and not end.ways:
                leaves.append(end)
        return paths, leaves

    def _descend(self, tree: Tree, begun: list[int], probs: list[float]) -> list[Way]:
        """The way to a moment that was not gone on from: as a plan has begun, and then where it promises most."""
        path, moment = list[Way](), tree.root
        while ways := open_ways(moment):
            action = begun[len(path)]
            way = ways[action if action in ways else self._best(ways, tree, probs)]
            path.append(way)
            way.pending += 1
            if way.to.steps > moment.steps + 1:  # there is more time left than was known
                way.to.steps, way.to.done = moment.steps + 1, False
            moment = way.to
        return path

    def _best(self, ways: dict[int, Way], tree: Tree, probs: list[float]) -> int:
        """The action that promises the most, by value, prior and doubt."""
        root_of_all = math.sqrt(sum(way.visits + way.pending for way in ways.values()) + 1)

        def promise(action: int) -> float:
            way = ways[action]
            tried = way.visits + way.pending
            scaled = (way.worth(self.gamma) - tree.least) / max(tree.most - tree.least, 1e-8)
            value = scaled * way.visits / tried if tried else 0.0  # those on their way count as if they found nothing
            return value + self.exploration * probs[action] * root_of_all / (1 + tried)

        return max(ways, key=promise)
