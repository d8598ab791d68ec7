"""Memory Maze (Pasukonis et al., 2022): find the target of the colour asked for, in a maze that must be remembered.

Importing this module registers `MemoryMaze/9x9-v0`, `11x11`, `13x13` and `15x15` with Gymnasium. The worlds themselves
are those of the package `memory-maze`, which comes with the extra of that name.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

TIME_LIMITS: Final = {9: 1000, 11: 2000, 13: 3000, 15: 4000}  # cells along each side, without the outer walls: steps


class MemoryMazeEnv(gym.Env[NDArray[np.uint8], np.int64]):
    """A ball rolls through a maze of textured walls and looks ahead; the border of the frame has the colour asked for.

    Nothing ends an episode but the time limit of the registered ids. Frames, actions and rewards (1 when the target
    asked for is reached) are those of `memory_maze.tasks`; a seed fixes all of them.

    `info` has, in the axes and sense of turning of a grid pose (x to the right, y down, angles clockwise from east):

    - `"pose"`, float32 (3,): x and y of the agent in cells, and the angle in radians, from -pi to pi. Whole numbers are
      the middles of cells: `layout[round(y), round(x)]` is where the agent is. Forward is (cos angle, sin angle). The
      camera is 0.075 cells ahead of there, sees 80 degrees across and as many up and down, and looks 5.7 degrees down.
    - `"layout"`, uint8 (H, W): 1 where a wall is, the outer ones among them.
    - `"targets"`, float32 (N, 2): x and y of each target. `"target_colors"`, uint8 (N, 3): their colours.
      `"target_color"`, uint8 (3,): the one asked for. `"target"`, float32 (2,): where that one is.

    Args:
        size: Cells along each side of the maze without its outer walls: 9, 11, 13 or 15.
        render_mode: None, or "rgb_array".

    Raises:
        ValueError: If there are no mazes of that size.
        gymnasium.error.DependencyNotInstalled: If the extra or OpenGL is missing.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4, "camera": {"fov": 80.0, "ahead": 0.075}}  # noqa: RUF012  (so is Gymnasium's)
    ACTIONS: Final = ("noop", "forward", "left", "right", "forward_left", "forward_right")

    def __init__(self, size: int = 9, render_mode: str | None = None) -> None:
        if size not in TIME_LIMITS:
            raise ValueError(f"there are no mazes of size {size!r}, expected one of {list(TIME_LIMITS)}")
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        self.action_space = gym.spaces.Discrete(len(self.ACTIONS))
        self._tasks = _tasks()
        self._world = _world(self._tasks, size)
        self._frame: NDArray[np.uint8] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Enter another maze; see `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        _reseed(self._world, int(self.np_random.integers(2**31)))
        with _without_a_known_warning():
            seen = self._world.reset().observation
        self._frame = np.array(seen["image"])
        return self._frame.copy(), self._info(seen)

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Act for a quarter of a second; see `gymnasium.Env.step`."""
        if self._frame is None:
            raise gym.error.ResetNeeded("call reset before the first step")
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}: {', '.join(self.ACTIONS)}")
        step = self._world.step(int(action))
        self._frame = np.array(step.observation["image"])
        return self._frame.copy(), float(step.reward), False, False, self._info(step.observation)

    def render(self) -> NDArray[np.uint8] | None:
        """The latest frame; None without a render mode."""
        return None if self.render_mode is None or self._frame is None else self._frame.copy()

    def close(self) -> None:
        """Free the physics and the renderer."""
        world, self._world, self._frame = self._world, None, None
        if world is not None:
            world.close()

    def _info(self, seen: dict[str, Any]) -> dict[str, Any]:
        free = seen["maze_layout"][::-1]  # without the outer walls, and from the bottom up
        layout = np.pad(1 - free, 1, constant_values=1)
        (right, up), targets = seen["agent_dir"], seen["targets_pos"]
        colors = np.array([*self._tasks.TARGET_COLORS[: len(targets)], seen["target_color"]])
        colors = np.rint(255 * colors).astype(np.uint8)
        asked = int((colors[:-1] == colors[-1]).all(1).argmax())
        places = _cells(targets, len(layout)).astype(np.float32)
        return {
            "pose": np.array([*_cells(seen["agent_pos"], len(layout)), math.atan2(-up, right)], np.float32),
            "layout": layout,
            "targets": places,
            "target": places[asked],
            "target_colors": colors[:-1],
            "target_color": colors[-1],
        }


def _cells(positions: NDArray[np.float64], height: int) -> NDArray[np.float64]:
    """x and y (down) from the middle of the top left wall, of x and y (up) from the inner corner at the bottom left."""
    return np.stack([positions[..., 0] + 0.5, height - 1.5 - positions[..., 1]], -1)


def _world(tasks: Any, size: int) -> Any:
    """The world of a published task, with no time limit of its own, and with less to keep and to do.

    As published, it has all textures ten times, for ten kinds of walls: a GB, sent to the renderer with every maze.
    """
    textures = tasks.labmaze_textures
    tasks.labmaze_textures = SimpleNamespace(WallTextures=cache(textures.WallTextures))
    try:
        world = getattr(tasks, f"memory_maze_{size}x{size}")(seed=0, global_observables=True)
    except Exception as error:  # of whatever kind: of a driver, of the C library, of what loads them
        raise _no_opengl(error) from error
    finally:
        tasks.labmaze_textures = textures
    inner = world
    while "env" in vars(inner):
        inner = inner.env
    inner._time_limit = math.inf
    _watch_all_targets_at_once(world)
    return world


def _watch_all_targets_at_once(world: Any) -> None:
    """Let targets look at the contacts only where they are in one.

    Each looks through all contacts after each of the 50 steps of the physics in a step, most of the time for nothing.
    """
    targets = _targets(world)
    look = type(targets[0]).after_substep
    for target in targets:
        target.after_substep = _nothing

    def after_substep(physics: Any, random_state: Any) -> None:
        if not physics.data.ncon:
            return
        touched = set(physics.data.contact.geom.ravel().tolist())
        for target in targets:
            if target._geom_id in touched:
                look(target, physics, random_state)

    world.add_extra_hook("after_substep", after_substep)


def _nothing(physics: Any, random_state: Any) -> None:
    pass


def _targets(world: Any) -> list[Any]:
    return [entity for entity in world.task.root_entity.iter_entities() if hasattr(entity, "activated")]


def _reseed(world: Any, seed: int) -> None:
    """Make the next reset the first one of a world that was made with `seed`."""
    world.random_state.seed(seed)
    arena = world.task.root_entity
    maze = arena.maze  # the library that draws mazes has a random stream of its own, which begins when one is made
    arena._maze = type(maze)(
        height=maze.height,
        width=maze.width,
        max_rooms=maze.max_rooms,
        room_min_size=maze.room_min_size,
        room_max_size=maze.room_max_size,
        max_variations=maze.max_variations,
        spawns_per_room=maze.spawns_per_room,
        objects_per_room=maze.objects_per_room,
        simplify=True,
        random_seed=world.random_state.randint(2**31),
    )
    for target in _targets(world):  # one that was just touched would not be asked for first
        target.initialize_episode_mjcf(world.random_state)


@contextmanager
def _without_a_known_warning() -> Iterator[None]:
    """At every reset one is told that the ball has no velocity to rotate."""
    logger = logging.getLogger("absl")

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Cannot set velocity on Entity")

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


@cache
def _tasks() -> ModuleType:
    """`memory_maze.tasks`, which not everyone needs."""
    os.environ.setdefault("MUJOCO_GL", "egl" if sys.platform == "linux" else "glfw")
    try:
        with _stand_in_for_gym():
            return import_module("memory_maze.tasks")
    except ModuleNotFoundError as error:
        raise gym.error.DependencyNotInstalled(
            f'Memory Maze is not installed ({error}); get it with: pip install "lssvwm-env[memory-maze]"'
        ) from error
    except Exception as error:  # of whatever kind, as in `_world`
        raise _no_opengl(error) from error


@contextmanager
def _stand_in_for_gym() -> Iterator[None]:
    """Let `memory_maze` be imported without the abandoned `gym`, in which it registers worlds of its own.

    Then `sys.modules` is as it was: whoever has `gym` can import the package anew and find its worlds there.
    """
    stand_ins = {name: ModuleType(name) for name in ("gym", "gym.envs", "gym.envs.registration")}
    vars(stand_ins["gym"]).update(Env=gym.Env, Space=gym.Space, spaces=gym.spaces)
    vars(stand_ins["gym.envs.registration"]).update(register=lambda **_: None)

    def loaded() -> dict[str, ModuleType]:
        return {name: at for name, at in sys.modules.items() if name.partition(".")[0] in ("gym", "memory_maze")}

    before = loaded()
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in loaded():
            del sys.modules[name]
        sys.modules.update(before)


def _no_opengl(error: Exception) -> gym.error.DependencyNotInstalled:
    return gym.error.DependencyNotInstalled(
        f"Memory Maze cannot draw with MUJOCO_GL={os.environ.get('MUJOCO_GL')} ({error}). It needs mujoco below 4: "
        'pip install "lssvwm-env[memory-maze]". And it needs OpenGL without a screen: on Debian and Ubuntu, '
        "apt install libegl1 libgl1-mesa-dri for MUJOCO_GL=egl, or libosmesa6 for MUJOCO_GL=osmesa"
    )


for _size, _steps in TIME_LIMITS.items():
    gym.register(
        f"MemoryMaze/{_size}x{_size}-v0",
        entry_point="lssvwm_env.real.first_person.memory_maze:MemoryMazeEnv",
        max_episode_steps=_steps,
        kwargs={"size": _size},
    )
