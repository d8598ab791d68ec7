"""Graph search: imagine everything near, once, and then choose the best way through it.

Most ways of getting somewhere are detours: of MiniGrid's 3^12 ways to turn and to go ahead twelve times, a room of
twenty cells has eighty different ends. A memory is a value, so that moments can be compared: those that are the same
are one, and what follows them is imagined once. What is left is a graph, whose best way follows from one sweep per
step (value iteration). Where nothing ever comes back, it is a tree.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from agents.planners import SearchSettings, action_prior
from agents.planning import Budget, Imaginer, Meter, PlanResult
from agents.rewards import differing
from world_models.noise import fold
from world_models.state import WorldModelState

EARNED_ALIKE: Final = 0.25  # moments that were reached by earning so much more or less are not the same


@dataclass(eq=False)
class Moment:
    """An imagined moment.

    Attributes:
        memory: One world's, in row `row` of a batch that it shares with what was imagined together.
        frame: What it looks like, (C, H, W).
        steps: The fewest steps that lead to it, as far as known. earned: The sum of rewards on the way.
        rest: What is estimated to come after it.
        ways: What each action leads to; empty where that was not imagined.
        worth: The best return after it.
    """

    memory: WorldModelState
    row: int
    frame: Tensor
    steps: int = 0
    earned: float = 0.0
    rest: float = 0.0
    ways: dict[int, Way] = field(default_factory=dict)
    worth: float = 0.0


class Way(NamedTuple):
    """From a moment to the next: the reward, and the chance that the episode goes on."""

    to: Moment
    rew: float
    goes_on: float

    def worth(self, gamma: float) -> float:
        """The reward and what follows."""
        return self.rew + gamma * self.goes_on * self.to.worth


class Graph:
    """What was imagined of one world, from the moment in row `row` of a memory on."""

    def __init__(self, core: Imaginer, state: WorldModelState, row: int) -> None:
        self.moments, self.alike = list[Moment](), dict[tuple[int, ...], list[Moment]]()
        self._order, self._open = count(), list[tuple[int, float, int, Moment]]()
        self.root = self._known(Moment(state, row, core.shown(state[row : row + 1])[0]))

    def nearest(self, number: int, horizon: int) -> list[Moment]:
        """Up to so many moments that were not gone on from: those with the fewest steps, and of these the richest."""
        found = list[Moment]()
        while self._open and len(found) < number and self._open[0][0] < horizon:
            found.append(heapq.heappop(self._open)[-1])
        return found

    def add(self, moment: Moment, parent: Moment, action: int, rew: float, term_prob: float) -> None:
        """Note where an action led to: to a moment that is known, or to a new one."""
        moment.steps, moment.earned = parent.steps + 1, parent.earned + rew
        if term_prob < 0.5:
            moment = self._known(moment)
        parent.ways[action] = Way(moment, rew, 1 - term_prob)

    def _known(self, moment: Moment) -> Moment:
        """The moment that is the same as this one, or else this one, now known."""
        same_place = self.alike.setdefault(tuple(moment.memory.pose[moment.row].tolist()), [])
        near = [other for other in same_place if abs(other.earned - moment.earned) < EARNED_ALIKE]
        if near:
            same = ~differing(torch.stack([other.frame for other in near]), moment.frame).flatten(1).any(1)
            if bool(same.any()):
                return near[int(same.int().argmax())]
        same_place.append(moment)
        self.moments.append(moment)
        heapq.heappush(self._open, (moment.steps, -moment.earned, next(self._order), moment))
        return moment

    def solve(self, horizon: int, gamma: float) -> list[int]:
        """The best plan; `worth` of all moments is what their best ways pay."""
        for moment in self.moments:
            moment.worth = moment.rest
        for _ in range(horizon):  # from the far end, as most moments were found in the order of their steps
            for moment in reversed(self.moments):
                if moment.ways:
                    moment.worth = max(way.worth(gamma) for way in moment.ways.values())
        plan, moment = list[int](), self.root
        while moment.ways and len(plan) < horizon:
            action, way = max(moment.ways.items(), key=lambda item: item[1].worth(gamma))
            plan.append(action)
            moment = way.to
        return plan


@dataclass(frozen=True)
class GraphSearch(SearchSettings):
    """Imagines all actions from the nearest moments on, for many worlds and several moments of each at a time.

    Moments are the same if they are at the same place, earned about as much, and look the same: no square of 8 x 8
    pixels differs (see `rewards.differing`). What cannot be told from a moment's frame and its rewards is assumed to be
    the same, too. A world's dreams are those of one key, as with all planners here.

    Attributes:
        num_moments: Moments of each world that are gone on from side by side, at least 1.

    The others are those of `SearchSettings`; actions that its prior holds impossible are never tried, and of
    `persistence` there is no use.

    Raises:
        ValueError: If one of them is out of range; from `plan` if the actions are not discrete, or the budget is less
            than one step for each of them.
    """

    num_moments: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_moments < 1:
            raise ValueError(f"num_moments is {self.num_moments}; expected at least 1")

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
        """See `Planner.plan`. A warm start is of no use: what it leads to is imagined anyway."""
        space = core.action_space
        if not isinstance(space, gym.spaces.Discrete):
            raise ValueError(f"the action space is {space}; a graph has numbered actions, use CEM or MPPI")
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}; expected at least 1 action per plan")
        actions = action_prior(space, self.action_probs).nonzero().flatten().tolist()
        graphs = [Graph(core, state, row) for row in range(state.batch_size)]
        meters, imagined, dreams = [Meter(budget) for _ in graphs], 0, fold(keys, 1)
        while True:
            wanted = [
                (row, moment)
                for row, (graph, meter) in enumerate(zip(graphs, meters, strict=True))
                for moment in graph.nearest(meter.affordable(self.num_moments, len(actions)), horizon)
            ]
            if not wanted:
                break
            self._imagine(core, graphs, wanted, actions, dreams)
            for row, _ in wanted:
                meters[row].spend(len(actions))
            imagined += len(wanted) * len(actions)
        plans = [graph.solve(horizon, self.gamma) for graph in graphs]
        shortest = min(map(len, plans))
        found = torch.tensor([plan[:shortest] for plan in plans], device=keys.device)
        return PlanResult(found, torch.tensor([graph.root.worth for graph in graphs], device=keys.device), imagined)

    def _imagine(
        self,
        core: Imaginer,
        graphs: list[Graph],
        wanted: list[tuple[int, Moment]],
        actions: list[int],
        keys: Tensor,
    ) -> None:
        """Go on from moments of some worlds by every action, all in one batch."""
        memory = WorldModelState.cat([moment.memory[moment.row : moment.row + 1] for _, moment in wanted])
        act = torch.tensor(actions, device=keys.device).repeat(len(wanted))
        world = torch.tensor([row for row, _ in wanted], device=keys.device).repeat_interleave(len(actions))
        frame, memory = core.imagine(memory.repeat_interleave(len(actions)), act, keys[world])
        rest = torch.zeros_like(frame.rew) if self.value is None else self.value(frame.feats)
        parents = [pair for pair in wanted for _ in actions]
        numbers = zip(frame.rew.tolist(), frame.term_prob.tolist(), rest.tolist(), strict=True)
        for i, ((row, parent), (rew, term_prob, after)) in enumerate(zip(parents, numbers, strict=True)):
            graphs[row].add(
                Moment(memory, i, frame.obs[i], rest=after), parent, actions[i % len(actions)], rew, term_prob
            )
