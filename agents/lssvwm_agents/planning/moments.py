"""Imagined moments of a world, and the ways between them, for planners that search step by step.

A memory is a value of one size, whatever came before, so that moments can be kept, gone on from, and compared: those
that are the same are one, and what follows them is imagined once. Most ways of getting somewhere are detours: of
MiniGrid's 3^12 ways to turn and to go ahead twelve times, a room of twenty cells has eighty different ends. Where
nothing ever comes back, the ways are a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from lssvwm_agents.planning.protocols import Imaginer, Value
from lssvwm_agents.planning.rewards import differing
from lssvwm_models.memory.state import WorldModelState

EARNED_ALIKE: Final = 0.25  # moments that were reached by earning so much more or less are not the same


@dataclass(eq=False)
class Moment:
    """An imagined moment.

    Attributes:
        memory: One world's, in row `row` of a batch that it shares with what was imagined together.
        frame: What it looks like, (C, H, W).
        steps: The fewest steps that lead to it, as far as known. earned: The sum of rewards on the way.
        rest: What is estimated to come after it.
        worth: The return after it, as far as the search knows by now.
        ways: What each action leads to; without those that were not imagined.
        done: Whether a search need not come here again.
    """

    memory: WorldModelState
    row: int
    frame: Tensor
    steps: int = 0
    earned: float = 0.0
    rest: float = 0.0
    worth: float = 0.0
    ways: dict[int, Way] = field(default_factory=dict)
    done: bool = False

    def look_again(self, gamma: float) -> None:
        """Be worth what the best way pays, or what was estimated if there is none."""
        self.worth = max((way.worth(gamma) for way in self.ways.values()), default=self.rest)


@dataclass(eq=False)
class Way:
    """From a moment to the next.

    Attributes:
        to: That moment.
        rew: The reward on the way. goes_on: The chance that the episode does.
        visits: How often a search came along. pending: Searches that are still beyond it.
    """

    to: Moment
    rew: float
    goes_on: float
    visits: int = 0
    pending: int = 0

    def worth(self, gamma: float) -> float:
        """The reward and what follows."""
        return self.rew + gamma * self.goes_on * self.to.worth

    @property
    def ends(self) -> bool:
        """Whether it is likelier than not that the episode ends."""
        return self.goes_on <= 0.5


class Moments:
    """What was imagined of one world: all that follows from the moment in row `row` of a memory.

    Moments are the same if they are at the same place, earned about as much, and look the same: no square of 8 x 8
    pixels differs (see `rewards.differing`). What cannot be told from a moment's frame and its rewards is assumed to be
    the same, too.
    """

    def __init__(self, core: Imaginer, state: WorldModelState, row: int) -> None:
        self.row, self.all, self._alike = row, list[Moment](), dict[tuple[int, ...], list[Moment]]()
        self.root = self._known(Moment(state, row, core.decode(state[row : row + 1])[0]))

    def add(self, moment: Moment, parent: Moment, action: int, rew: float, goes_on: float) -> None:
        """Note where an action led to: to a moment that is known, or to a new one."""
        moment.steps, moment.earned, moment.worth = parent.steps + 1, parent.earned + rew, moment.rest
        way = Way(moment, rew, goes_on)
        if not way.ends:
            way.to = self._known(moment)
        parent.ways[action] = way

    def _known(self, moment: Moment) -> Moment:
        """The moment that is the same as this one, or else this one, now known."""
        same_place = self._alike.setdefault(tuple(moment.memory.pose[moment.row].tolist()), [])
        near = [other for other in same_place if abs(other.earned - moment.earned) < EARNED_ALIKE]
        if near:
            same = ~differing(torch.stack([other.frame for other in near]), moment.frame).flatten(1).any(1)
            if bool(same.any()):
                return near[int(same.int().argmax())]
        same_place.append(moment)
        self.all.append(moment)
        return moment


def go_on(
    core: Imaginer, wanted: Sequence[tuple[Moments, Moment, int]], keys: Tensor, value: Value | None = None
) -> None:
    """Imagine where actions lead to from moments of some worlds, all in one batch.

    Args:
        core: Where to imagine.
        wanted: Of each of N steps its world, the moment it sets out from, and the action.
        keys: (B,) long, of the dreams of each row's world; see `lssvwm_models.execution.noise`.
        value: What is still to be earned after a step; None: nothing.
    """
    row_of = {moment: i for i, moment in enumerate(dict.fromkeys(parent for _, parent, _ in wanted))}
    memory = WorldModelState.cat([parent.memory[parent.row : parent.row + 1] for parent in row_of])
    rows = [row_of[parent] for _, parent, _ in wanted]
    act = torch.tensor([action for *_, action in wanted], device=keys.device)
    frame, memory = core.imagine(memory[rows], act, keys[[world.row for world, *_ in wanted]])
    rest = torch.zeros_like(frame.rew) if value is None else value(frame.feats)
    numbers = zip(frame.rew.tolist(), (1 - frame.term_prob).tolist(), rest.tolist(), strict=True)
    for i, ((world, parent, action), (rew, goes_on, after)) in enumerate(zip(wanted, numbers, strict=True)):
        world.add(Moment(memory, i, frame.obs[i], rest=after), parent, action, rew, goes_on)
