"""Scripted walks that ask a memory a question: what does it look like where I was before?

They move and turn, and touch nothing, so the world stays as it was seen.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from minigrid.core.actions import Actions
from minigrid.envs.memory import MemoryEnv
from minigrid.minigrid_env import MiniGridEnv

from lssvwm_env.real.object_rooms import Cell, neighbours
from lssvwm_models.utils.checks import check_counts

_SPIN: Final = [Actions.right] * 4
_REVERSED: Final = {Actions.left: Actions.right, Actions.right: Actions.left, Actions.forward: Actions.forward}
_WEST: Final = 2
_LOOKOUT: Final = 2  # x of the cell in the first room of a Memory world from which its cue is looked at


@dataclass(frozen=True)
class OutAndBack:
    """Spins round once, walks `n` actions out, turns round and comes back by the exact same way.

    The way out leads along shortest paths to random cells of the farther half. On the way back forward stays forward,
    and left and right are swapped. A half turn at the end makes the last pose, and so the last frame, the first one.

    Raises:
        ValueError: If `n` is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_counts(self, n=1)

    @property
    def context(self) -> int:
        """Frames up to the turning point, the first of the episode included."""
        return 1 + len(_SPIN) + self.n

    @property
    def horizon(self) -> int:
        """Frames after the turning point."""
        return self.n + 4

    def plan(self, world: MiniGridEnv, rng: np.random.Generator) -> list[Actions]:
        """All actions of an episode in the freshly reset `world`.

        Raises:
            ValueError: If there is nowhere to walk to.
        """
        out: list[Actions] = []
        cell = _cell(world.agent_pos)
        heading = int(world.agent_dir)
        while len(out) < self.n:
            distance = _distances(world, cell)
            far = [there for there, steps in distance.items() if 2 * steps > max(distance.values())]
            if not far:
                raise ValueError(f"{world} has no free cell beside {cell}: the agent has nowhere to walk to.")
            goal = far[int(rng.integers(len(far)))]
            actions, heading = _way(world, cell, heading, goal, rng)
            out = out + actions
            cell = goal
        out = out[: self.n]
        back = [_REVERSED[action] for action in reversed(out)]
        return [*_SPIN, *out, *_half_turn(rng), *back, *_half_turn(rng)]


@dataclass(frozen=True)
class LookAgain:
    """Looks at the cue of a Memory world, leaves, and looks again when it was last in sight `gap` frames ago.

    The agent goes to the lookout, faces the cue and spins round once; goes into the corridor, where it looks about but
    never towards the cue, and then turns to it and walks up to it. The episode's last `context + horizon` frames are
    the same for all: `context` from the first look on, and then `horizon`, in each of which the cue is in sight.

    Raises:
        ValueError: If `gap` is below 7, or 8 if even.
    """

    gap: int

    def __post_init__(self) -> None:
        if self.gap < 4 + self._away:
            raise ValueError(f"gap={self.gap} must be at least {4 + self._away} frames: the agent leaves and returns.")

    @property
    def _away(self) -> int:
        """Cells from the lookout to where the cue is out of sight unless faced; turns come in pairs, so an odd gap
        needs an odd way."""
        return 4 - self.gap % 2

    @property
    def context(self) -> int:
        """Frames from the first look on, until just before the cue is in sight again."""
        return len(_SPIN) + self.gap

    @property
    def horizon(self) -> int:
        """Frames from then on."""
        return 1 + self._away

    def plan(self, world: MiniGridEnv, rng: np.random.Generator) -> list[Actions]:
        """All actions of an episode in the freshly reset `world`.

        Raises:
            ValueError: If `world` is no Memory environment, or its corridor is too short.
        """
        if not isinstance(world, MemoryEnv):
            raise ValueError(f"LookAgain got {world}, expected a Memory environment such as MiniGrid-MemoryS9-v0.")
        here = _cell(world.agent_pos)
        lookout = _LOOKOUT, here[1]
        if _distances(world, lookout).get((_LOOKOUT + self._away, here[1])) != self._away:
            raise ValueError(f"{world} is too short for gap={self.gap}: take MiniGrid-MemoryS9-v0 or a larger one.")
        to_lookout, heading = _way(world, here, int(world.agent_dir), lookout, rng)
        ahead = [Actions.forward] * self._away
        about: list[Actions] = []  # to the north or the south and back to the east, again and again
        for _ in range((self.gap - 4 - self._away) // 2):
            aside = Actions.left if rng.random() < 0.5 else Actions.right
            about += [aside, _REVERSED[aside]]
        leave = [Actions.left, Actions.left, *ahead]  # by the south: the cue is in the north-west
        look = [*_turns(heading, _WEST, rng), *_SPIN]
        return [*to_lookout, *look, *leave, *about, *_half_turn(rng), *ahead]


def _way(
    world: MiniGridEnv, start: Cell, heading: int, goal: Cell, rng: np.random.Generator
) -> tuple[list[Actions], int]:
    """The actions of a shortest way, with turns where they cannot be avoided, and the heading at its end."""
    distance = _distances(world, goal)
    actions: list[Actions] = []
    cell = start
    while cell != goal:
        sides = neighbours(cell)
        closer = [side for side in range(4) if distance.get(sides[side]) == distance[cell] - 1]
        wanted = heading if heading in closer else closer[int(rng.integers(len(closer)))]
        actions += [*_turns(heading, wanted, rng), Actions.forward]
        heading = wanted
        cell = sides[wanted]
    return actions, heading


def _turns(heading: int, wanted: int, rng: np.random.Generator) -> list[Actions]:
    """The fewest turns from one heading to another."""
    quarters = (wanted - heading) % 4
    if quarters == 2:
        return _half_turn(rng)
    return [Actions.left] if quarters == 3 else [Actions.right] * quarters


def _half_turn(rng: np.random.Generator) -> list[Actions]:
    return [Actions.left if rng.random() < 0.5 else Actions.right] * 2


def _distances(world: MiniGridEnv, start: Cell) -> dict[Cell, int]:
    """Steps from `start` to every cell that can be walked to over empty cells that do not end the episode."""
    ends = {_cell(world.success_pos), _cell(world.failure_pos)} if isinstance(world, MemoryEnv) else set()
    distance = {start: 0}
    queue = deque([start])
    while queue:
        cell = queue.popleft()
        for beside in neighbours(cell):
            if beside not in distance and beside not in ends and world.grid.get(*beside) is None:
                distance[beside] = distance[cell] + 1
                queue.append(beside)
    return distance


def _cell(position: Any) -> Cell:
    return int(position[0]), int(position[1])
