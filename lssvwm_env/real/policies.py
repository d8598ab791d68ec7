"""Policies that gather data: they see a world's inside, to see much of its outside."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from minigrid.core.actions import Actions
from minigrid.core.world_object import Box, Door, Key
from minigrid.envs.dynamicobstacles import DynamicObstaclesEnv
from minigrid.envs.memory import MemoryEnv
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

from lssvwm_env.real.object_rooms import Cell, neighbours

Action = int | NDArray[np.float32]


class Policy(Protocol):
    """Chooses actions for data collection.

    What is seen is `env.get_wrapper_attr("frame")`, uint8 (H, W, 3), in environments of `make_real`.
    """

    def reset(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        """Begin an episode in the freshly reset `env`; all randomness until its end comes from `rng`."""

    def act(self, env: gym.Env[Any, Any]) -> Action:
        """Choose the next action in the current state of `env`."""


class UniformPolicy:
    """Acts uniformly at random, in Discrete and in bounded Box action spaces."""

    def reset(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        """Begin an episode."""
        self._rng = rng

    def act(self, env: gym.Env[Any, Any]) -> Action:
        """Draw an action."""
        space = env.action_space
        if isinstance(space, gym.spaces.Discrete):
            return int(self._rng.integers(space.n))
        if isinstance(space, gym.spaces.Box) and space.is_bounded():
            return self._rng.uniform(space.low, space.high).astype(np.float32)
        raise ValueError(f"UniformPolicy cannot draw from {space}: it needs a Discrete or a bounded Box space.")


class StickyPolicy:
    """Acts at random, and goes on with what it does: it repeats its last action with a probability that is drawn anew
    for each episode (sticky actions, Machado et al. 2018). So it comes further than a policy that draws every action.

    In Discrete and in bounded Box action spaces.
    """

    _MOST = 0.95  # probability of a repetition: runs of twenty

    def reset(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        """Begin an episode."""
        self._rng = rng
        self._sticks = rng.uniform(0, self._MOST)
        self._drawn = UniformPolicy()
        self._drawn.reset(env, rng)
        self._action: Action | None = None

    def act(self, env: gym.Env[Any, Any]) -> Action:
        """Draw an action, or take the last one again."""
        if self._action is None or self._rng.random() >= self._sticks:
            self._action = self._drawn.act(env)
        return self._action


def policy_words(policy: str) -> str:
    """A policy as reports name it.

    Args:
        policy: As `dataset.json` has it: the name of a policy, as `make_policy` takes it, or of an agent, or several in
            their order, such as "wander, then actor-critic 305001a64c7a".
    """
    scripts = [part for part in policy.split(",")[0].split("+") if part in ("wander", "roam")]
    # Said so that nobody takes its numbers for those of an agent that has to see.
    return f"{policy} policy" + (f" ({scripts[0]} is a script that knows the map)" if scripts else "")


_BLINDLY: Final = (Actions.left, Actions.right, Actions.forward, Actions.forward)
_IDLY: Final = (Actions.pickup, Actions.drop, Actions.toggle, Actions.done)


class _Errand(NamedTuple):
    """Walk onto `cell`, or only up to it and `face` it, and then do the actions of `then`."""

    cell: Cell
    face: bool = False
    then: tuple[Actions, ...] = ()


@dataclass
class WanderPolicy:
    """Runs errands in a MiniGrid world so that places, once seen, are often seen again.

    It walks shortest paths to random cells (opening doors on the way), goes to look at things, picks them up
    and drops them elsewhere, breaks a box now and then, and spins to look around. Cells that end the episode
    (goals, lava, the two ends of the Memory hallway) are shunned until a random time is over; then one of
    them is sought on purpose, successes and failures with equal odds. Where there are such, some episodes make
    haste: an end sought before anything was seen shows what does not follow from the rest. A model without them
    believes that whoever knows nothing wins. Some spins are long, so that memories outlast them. And it runs into
    things, and blindly into walls, or stands there with its hands going, as whoever plans or learns in dreams does as
    soon as somebody seems to pay for it. Where running into things ends the episode (Dynamic-Obstacles), it does so
    when an end is sought, and by chance.

    Attributes:
        noise: Share of actions drawn uniformly at random.
    """

    noise: float = 0.1

    _PATIENCE = (10, 70)  # steps before an end is sought: drawn per episode
    _HASTE = 0.25  # share of episodes without any
    _SPIN = (2, 5)
    _LONG_SPIN = (8, 41)  # turns in place
    _LONG = 0.25  # share of long spins
    _BUMP = 0.4
    _BUMPS = (1, 6)  # share of the things run into, and how often
    _BLIND = 0.3
    _BLIND_STEPS = (3, 13)  # share of errands that are blind steps and turns, and how many
    _IDLE = 0.3  # share of these that are of no use at all

    def reset(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        """Begin an episode.

        Raises:
            ValueError: If `env` is not a MiniGrid environment.
        """
        world = _world(env)
        self._rng = rng
        self._wins, self._losses = _ends(world)
        self._fragile = isinstance(world, DynamicObstaclesEnv)  # to run into things ends it, and there are no hands
        self._patience = int(rng.integers(*self._PATIENCE))
        if self._wins and rng.random() < self._HASTE:
            self._patience = 0
        self._errand: _Errand | None = None
        self._then: deque[Actions] = deque()

    def act(self, env: gym.Env[Any, Any]) -> int:
        """Take the next step of the current errand, or of a new one."""
        world = _world(env)
        self._patience -= 1
        if self._rng.random() < self.noise:
            return int(self._rng.integers(_num_actions(world)))
        for _ in range(10):  # some errands end at once, or lead nowhere
            if self._then:
                action = self._then.popleft()
                if action == Actions.forward and self._patience >= 0 and _cell(world.front_pos) in self._ends:
                    continue
                return int(action)
            if self._errand is None:
                self._errand = self._next_errand(world)
            step = self._walk(world, self._errand)
            if step is not None:
                return int(step)
        return int(self._rng.choice([Actions.left, Actions.right]))

    @property
    def _ends(self) -> set[Cell]:
        return self._wins | self._losses

    def _next_errand(self, world: MiniGridEnv) -> _Errand:
        here = _cell(world.agent_pos)
        reached = _distances(world, here, self._ends)
        if self._patience < 0 and (end := self._reachable_end(world)):
            return _Errand(end)
        if self._wins and self._rng.random() < self._BLIND and not self._fragile:
            kind = _IDLY if self._rng.random() < self._IDLE else _BLINDLY
            steps = self._rng.choice(kind, int(self._rng.integers(*self._BLIND_STEPS)))
            return _Errand(here, then=tuple(Actions(step) for step in steps))
        free = [cell for cell in reached if world.grid.get(*cell) is None]
        handled = [] if self._fragile else _things(world)
        things = [cell for cell in handled if any(side in reached for side in neighbours(cell))]
        dice = self._rng.random()
        if world.carrying and dice < 0.4 and (room := [cell for cell in free if _is_open(world, cell)]):
            return _Errand(self._pick(room), face=True, then=(Actions.drop,))
        if things and dice < 0.4:
            cell = self._pick(things)
            thing = world.grid.get(*cell)
            if self._wins and not isinstance(thing, Door) and self._rng.random() < self._BUMP:
                return _Errand(cell, face=True, then=(Actions.forward,) * int(self._rng.integers(*self._BUMPS)))
            breaks = isinstance(thing, Door) or (isinstance(thing, Box) and self._rng.random() < 0.1)
            return _Errand(cell, face=True, then=(Actions.toggle if breaks else Actions.pickup,))
        if dice < 0.55:
            turn = Actions.left if self._rng.random() < 0.5 else Actions.right
            long = self._wins and self._rng.random() < self._LONG
            return _Errand(here, then=(turn,) * int(self._rng.integers(*(self._LONG_SPIN if long else self._SPIN))))
        return _Errand(self._pick(free)) if free else _Errand(here, then=(Actions.left,))

    def _reachable_end(self, world: MiniGridEnv) -> Cell | None:
        """An end of the episode to walk to; None where no way leads to one."""
        here = _cell(world.agent_pos)
        sides = [self._wins, set(_things(world)) if self._fragile else self._losses]
        if self._rng.random() < 0.5:
            sides.reverse()
        for side in sides:
            cells = [cell for cell in sorted(side) if here in _distances(world, cell, self._ends)]
            if cells:
                return self._pick(cells)
        return None

    def _walk(self, world: MiniGridEnv, errand: _Errand) -> Actions | None:
        """The next action towards an errand's cell; None if the walk is over, and the errand settled."""
        here = _cell(world.agent_pos)
        ahead = _cell(world.front_pos)
        distance = _distances(world, errand.cell, self._ends)
        left = distance.get(here)
        if left is None or left == 0 or (errand.face and left == 1 and ahead == errand.cell):
            self._errand = None
            if left is not None and not (errand.face and left == 0):
                self._then.extend(errand.then)
            return None
        closer = [heading for heading, cell in enumerate(neighbours(here)) if distance.get(cell) == left - 1]
        turns = {(heading - world.agent_dir) % 4 for heading in closer}
        if 0 in turns:
            door = world.grid.get(*ahead)
            return Actions.toggle if isinstance(door, Door) and not door.is_open else Actions.forward
        # Either way round is as short for a half turn, and if ways lead off on both sides.
        to_left = turns == {3} or (turns != {1} and self._rng.random() < 0.5)
        return Actions.left if to_left else Actions.right

    def _pick(self, cells: list[Cell]) -> Cell:
        return cells[int(self._rng.integers(len(cells)))]


def _world(env: gym.Env[Any, Any]) -> MiniGridEnv:
    world = env.unwrapped
    if not isinstance(world, MiniGridEnv):
        raise ValueError(f"WanderPolicy got {env}, expected a MiniGrid environment: use UniformPolicy for others.")
    return world


def _num_actions(world: MiniGridEnv) -> int:
    assert isinstance(world.action_space, gym.spaces.Discrete)  # as in all of MiniGrid
    return int(world.action_space.n)


def _cell(position: Any) -> Cell:
    return int(position[0]), int(position[1])


def _ends(world: MiniGridEnv) -> tuple[set[Cell], set[Cell]]:
    """The cells that end the episode with success, and with failure."""
    wins = _cells_of(world, "goal")
    losses = _cells_of(world, "lava")
    if isinstance(world, MemoryEnv):  # its ends are plain floor
        wins.add(_cell(world.success_pos))
        losses.add(_cell(world.failure_pos))
    return wins, losses


def _cells_of(world: MiniGridEnv, *kinds: str) -> set[Cell]:
    return {
        (index % world.width, index // world.width)
        for index, thing in enumerate(world.grid.grid)
        if thing is not None and thing.type in kinds
    }


def _things(world: MiniGridEnv) -> list[Cell]:
    """Cells of things to handle; sorted, as data must not depend on the order of a set."""
    return sorted(_cells_of(world, "key", "ball", "box", "door"))


def _is_open(world: MiniGridEnv, cell: Cell) -> bool:
    """Whether no wall is near: a thing dropped here blocks no doorway."""
    x, y = cell
    around = [world.grid.get(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    return all(thing is None or thing.type not in ("wall", "door") for thing in around)


def _can_pass(world: MiniGridEnv, cell: Cell) -> bool:
    """Whether the agent can get onto a cell, opening the door there if need be."""
    thing = world.grid.get(*cell)
    if isinstance(thing, Door):
        key = world.carrying
        return not thing.is_locked or (isinstance(key, Key) and key.color == thing.color)
    return thing is None or thing.can_overlap()


def _distances(world: MiniGridEnv, start: Cell, shunned: set[Cell]) -> dict[Cell, int]:
    """Steps from `start`, whatever stands there, to each cell that can be walked to around `shunned` ones."""
    distance = {start: 0}
    queue = deque([start])
    while queue:
        cell = queue.popleft()
        for beside in neighbours(cell):
            if beside not in distance and beside not in shunned and _can_pass(world, beside):
                distance[beside] = distance[cell] + 1
                queue.append(beside)
    return distance
