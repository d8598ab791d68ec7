"""A MiniGrid world to come back to: rooms full of objects, and no task."""

from __future__ import annotations

import sys
from typing import Any

from minigrid.core.constants import COLOR_NAMES
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Key
from minigrid.minigrid_env import MiniGridEnv

Cell = tuple[int, int]

_OBJECTS_PER_CELL = 1 / 3  # fuller rooms could not keep every free cell reachable


class ObjectRoomsEnv(MiniGridEnv):
    """Rooms in a square, joined by open doorways, with keys, balls and boxes strewn about.

    There is no goal and no reward, and the episode never ends by itself: what matters is whether what was
    seen is still there on the way back. At the start every free cell can be reached, and no object lies in a
    doorway or right before one. Objects can be picked up, dropped and (boxes) broken open as in any MiniGrid
    environment.

    Args:
        size: Cells along each side, outer walls included. `size - 1` must be a multiple of `rooms`, and each
            room must be at least 3 cells wide inside.
        num_objects: Objects at the start, at most a third of the cells inside rooms.
        rooms: Rooms along each side.
        max_steps: Steps until truncation; None for an endless world.
        **kwargs: Passed on to `MiniGridEnv`, e.g. `render_mode`.

    Raises:
        ValueError: If rooms or objects do not fit.
    """

    def __init__(
        self,
        size: int = 13,
        num_objects: int = 12,
        rooms: int = 2,
        max_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        if rooms < 1 or (size - 1) % rooms or (size - 1) // rooms < 4:
            raise ValueError(
                f"size={size} cannot be cut into rooms={rooms} equal rooms per side of at least 3x3 cells: "
                "choose size = rooms * (inside + 1) + 1 with inside >= 3, such as size=13 with rooms=2."
            )
        self.rooms = rooms
        self.pitch = (size - 1) // rooms  # from one wall to the next, in cells
        self.num_objects = num_objects
        most = int(_OBJECTS_PER_CELL * (rooms * (self.pitch - 1)) ** 2)
        if not 0 <= num_objects <= most:
            raise ValueError(f"num_objects={num_objects} must lie in 0..{most} for size={size}, rooms={rooms}.")
        super().__init__(
            mission_space=MissionSpace(mission_func=lambda: "look around"),
            grid_size=size,
            max_steps=sys.maxsize if max_steps is None else max_steps,
            see_through_walls=False,
            **kwargs,
        )

    def _gen_grid(self, width: int, height: int) -> None:
        self.mission = "look around"
        while True:  # a crowded layout can, very rarely, leave no place for the last object
            doorways = self._build_walls(width)
            if self._strew_objects(doorways):
                break
        self.agent_pos = self._rand_elem(self._free_cells())
        self.agent_dir = self._rand_int(0, 4)

    def _build_walls(self, size: int) -> list[Cell]:
        """Draw all walls and open one doorway in each wall between two rooms; return the doorways."""
        self.grid = Grid(size, size)
        for line in range(0, size, self.pitch):
            self.grid.horz_wall(0, line)
            self.grid.vert_wall(line, 0)
        doorways = []
        for line in range(self.pitch, size - 1, self.pitch):
            for start in range(0, size - 1, self.pitch):
                doorways.append((line, start + self._rand_int(1, self.pitch)))
                doorways.append((start + self._rand_int(1, self.pitch), line))
        for doorway in doorways:
            self.grid.set(*doorway, None)
        return doorways

    def _strew_objects(self, doorways: list[Cell]) -> bool:
        """Put objects on random cells where they block no way; False if they do not all fit."""
        kept_free = {cell for doorway in doorways for cell in (doorway, *neighbours(doorway))}
        candidates = [cell for cell in self._free_cells() if cell not in kept_free]
        placed = 0
        for cell in self._rand_subset(candidates, len(candidates)):
            if placed == self.num_objects:
                break
            self.grid.set(*cell, self._rand_elem([Key, Ball, Box])(self._rand_elem(COLOR_NAMES)))
            if self._connected():
                placed += 1
            else:
                self.grid.set(*cell, None)
        return placed == self.num_objects

    def _free_cells(self) -> list[Cell]:
        return [(x, y) for y in range(self.height) for x in range(self.width) if self.grid.get(x, y) is None]

    def _connected(self) -> bool:
        """Whether one can walk from every free cell to every other."""
        free = set(self._free_cells())
        frontier = [free.pop()]
        while frontier:
            reached = [cell for cell in neighbours(frontier.pop()) if cell in free]
            free.difference_update(reached)
            frontier.extend(reached)
        return not free


def neighbours(cell: Cell) -> list[Cell]:
    """The four cells beside `cell`, in MiniGrid's order of headings: east, south, west, north."""
    x, y = cell
    return [(x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)]
