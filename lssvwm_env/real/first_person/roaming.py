"""A policy that gathers data in mazes seen in first person: it knows the map, to come back to what it has seen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lssvwm_env.real.object_rooms import Cell, neighbours

MOVES: Final = ("forward", "left", "right")  # actions that it cannot do without


class RoamPolicy:
    """Walks to places of a maze, comes back to where it was, and looks around; now and then it acts at random.

    Where `info` has a "target", x and y of what is rewarded when it is touched, some of its ways end there.

    It goes by `info`, as that of `MemoryMazeEnv`: "pose", x and y in cells and an angle, and "layout", whose cells (y,
    x) are 1 where a wall is. The environment's attribute `ACTIONS` names its actions: "forward", "left" and "right"
    have to be among them, and "forward_left" and "forward_right" are taken where they are.
    """

    _BACK = 0.3  # share of errands to where it was before
    _TARGET = 0.3  # and of those to the target, where there is one
    _LOOK = 0.25  # share of turns in place
    _TURNS = (2, 25)  # how many actions these take
    _NOISE = 0.04  # chance that a few random actions begin
    _NOISY = (1, 6)  # how many
    _AHEAD = math.radians(12)  # what counts as straight ahead, and
    _ASIDE = math.radians(45)  # up to where it walks and turns at once
    _PATIENCE = 60  # actions until an errand is given up

    def reset(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        """Begin an episode.

        Raises:
            ValueError: If `env` does not say what the policy goes by.
        """
        self._rng = rng
        self._actions = _numbered(env)
        self._been: list[Cell] = []
        self._planned: deque[int] = deque()
        self._goal: Cell | None = None
        self._target: tuple[float, float] | None = None  # if it is what the errand is for
        self._left = 0
        _told(env)

    def act(self, env: gym.Env[Any, Any]) -> int:
        """Take the next step of the current errand, or of a new one."""
        pose, layout = _told(env)
        here = _cell(pose)
        if not self._been or self._been[-1] != here:
            self._been.append(here)
        if self._planned:
            return self._planned.popleft()
        if self._rng.random() < self._NOISE:
            actions = list(self._actions.values())
            self._planned.extend(self._rng.choice(actions, int(self._rng.integers(*self._NOISY))).tolist())
            return self._planned.popleft()
        self._left -= 1
        target = _target(env)
        arrived = self._goal == here if self._target is None else self._target != target
        if self._goal is None or arrived or self._left < 0:
            self._choose(layout, target)
        if self._goal is None:
            side = self._actions["left" if self._rng.random() < 0.5 else "right"]
            self._planned.extend([side] * int(self._rng.integers(*self._TURNS)))
            return self._planned.popleft()
        if self._target is not None and here == self._goal:
            return self._towards(self._target, pose)
        return self._towards(_next_cell(layout, here, self._goal), pose)

    def _choose(self, layout: NDArray[Any], target: tuple[float, float] | None) -> None:
        """What to do next: to look around, to go somewhere, or to touch the target."""
        self._left = self._PATIENCE
        self._target = None
        if self._rng.random() < self._LOOK:
            self._goal = None
        elif target is not None and self._rng.random() < self._TARGET:
            self._target = target
            self._goal = _cell(target)
        else:
            self._goal = self._destination(layout)

    def _destination(self, layout: NDArray[Any]) -> Cell:
        if self._rng.random() < self._BACK:
            return self._been[int(self._rng.integers(len(self._been)))]
        free = np.argwhere(np.asarray(layout) == 0)
        y, x = free[int(self._rng.integers(len(free)))].tolist()
        return x, y

    def _towards(self, place: tuple[float, float], pose: NDArray[Any]) -> int:
        """The action that brings it nearer to a place in a cell beside, or in its own."""
        x, y, angle = (float(number) for number in pose)
        turn = (math.atan2(place[1] - y, place[0] - x) - angle + math.pi) % (2 * math.pi) - math.pi
        if abs(turn) < self._AHEAD:
            return self._actions["forward"]
        side = "right" if turn > 0 else "left"
        moving = f"forward_{side}"
        return self._actions[moving if abs(turn) < self._ASIDE and moving in self._actions else side]


def can_roam(env: gym.Env[Any, Any]) -> bool:
    """Whether an environment says what `RoamPolicy` needs; it may be reset."""
    if not _names_moves(env):
        return False
    _, info = env.reset(seed=0)
    return info.keys() >= {"pose", "layout"}


def _names_moves(env: gym.Env[Any, Any]) -> bool:
    return set(MOVES) <= set(getattr(env.unwrapped, "ACTIONS", ()))


def _numbered(env: gym.Env[Any, Any]) -> dict[str, int]:
    if not _names_moves(env):
        raise ValueError(
            f"RoamPolicy got {env}, expected one whose attribute ACTIONS names {', '.join(MOVES)} among its actions: "
            "use UniformPolicy for others."
        )
    names = getattr(env.unwrapped, "ACTIONS")  # noqa: B009  (an environment has none)
    return {name: number for number, name in enumerate(names)}


def _told(env: gym.Env[Any, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The pose and the layout of now."""
    info: dict[str, Any] = env.get_wrapper_attr("info")
    missing = [name for name in ("pose", "layout") if name not in info]
    if missing:
        raise ValueError(f"RoamPolicy got no info[{missing[0]!r}] of {env}: use UniformPolicy, or let it say that.")
    return info["pose"], info["layout"]


def _target(env: gym.Env[Any, Any]) -> tuple[float, float] | None:
    target = env.get_wrapper_attr("info").get("target")
    return None if target is None else (float(target[0]), float(target[1]))


def _cell(place: Sequence[float] | NDArray[Any]) -> Cell:
    return round(float(place[0])), round(float(place[1]))


def _next_cell(layout: NDArray[Any], here: Cell, goal: Cell) -> Cell:
    """The cell after `here` on a shortest way to `goal`; `here` if there is none."""
    after = {goal: goal}
    queue = deque([goal])
    while queue and here not in after:
        cell = queue.popleft()
        for beside in neighbours(cell):
            if beside not in after and not layout[beside[1], beside[0]]:
                after[beside] = cell
                queue.append(beside)
    return after.get(here, here)
