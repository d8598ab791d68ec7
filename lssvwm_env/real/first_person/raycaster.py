"""MiniGrid in first person: 64x64 RGB frames, and exactly which cells each of them shows.

The eye looks along the agent's heading, from half a wall's height and `EYE_BEHIND` cells behind the middle of the
agent's cell. From the middle, a wall one cell ahead would fill the frame, and the cells at the agent's sides would
never be seen. From there, such a wall fills the middle half of the frame, and the rest shows what is at the sides. The
view is 90 degrees wide and high: at depth z (cells along the heading, from the eye) a frame is 2 z cells wide and high.
Column c of 64 looks along the ray that goes (2 c + 1) / 64 - 1 cells to the right for each cell forward, and row r as
far down.

Nothing limits how far one sees but what stands in the way: walls, and doors that are not open. They fill their cells,
and so does all that lies outside the grid. Keys, balls and boxes are pictures that stand upright in the middle of their
cells, across the view. An open door is its frame and its threshold. Floor, goal and lava are ground.

The agent stands in the middle of a cell and looks in one of four directions, so rays cross the same cells around it
wherever it is: the way of each ray, and the texel that it meets on each face, is worked out once per size of grid.
Light fades with depth. The palette has the shades of a hue one after the other: to darken a texel is to add to its
paint.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Final, NamedTuple

import gymnasium as gym
import numpy as np
from minigrid.core.constants import COLOR_TO_IDX, COLORS, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import ArrayLike, NDArray

from lssvwm_env.real.contract import checked_reset, checked_step

SIDE: Final = 64
"""Pixels along each side of a frame."""
FIELD_OF_VIEW: Final = 90.0
"""Degrees between the left and the right edge of a frame, and between the upper and the lower one."""
EYE_BEHIND: Final = 0.4
"""How far the eye is behind the middle of the agent's cell, in cells."""
EYE_HEIGHT: Final = 0.5
"""How high the eye is; walls are 1 high and cells 1 wide."""
WALL_BLOCK: Final = 3
"""Walls of a block of 3x3 cells have one colour, the blocks counted from the grid's corner."""

_SLOPES: Final = (2 * np.arange(SIDE) + 1) / SIDE - 1  # of columns to the right and of rows down; tan 45 degrees is 1
_HORIZON: Final = SIDE // 2
_FORWARD: Final = ((1, 0), (0, 1), (-1, 0), (0, -1))
_TEXELS: Final = 32  # along each side of a texture
_PER_FACE: Final = _TEXELS**2 + 1  # texel 0 is where a face is not
_CARRIED: Final = 14  # pixels along each side of what the agent carries, at the bottom
_PER_GROUND: Final = _TEXELS**2
_FADE: Final = 0.07  # light falls to half in 14 cells
_SIDE_LIGHT: Final = 0.7  # of faces to north and south, against those to east and west
_SHADES: Final = 96  # of each hue in the palette, each darker than the one before ...
_OCTAVE: Final = 12  # ... and half as bright as the twelfth before; so to darken is to add

_AIR, _SOLID, _STANDING, _FRAME = range(4)

_KNOWN: Final = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))
_CODES: Final = np.indices(_KNOWN, np.uint8).reshape(3, -1).T  # (object, colour, state) by number
_NUMBERS: Final = {tuple(code): number for number, code in enumerate(_CODES.tolist())}
_EMPTY: Final = _NUMBERS[OBJECT_TO_IDX["empty"], 0, 0]
_GREY_WALL: Final = _NUMBERS[OBJECT_TO_IDX["wall"], COLOR_TO_IDX["grey"], 0]


def _number(codes: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers of codes (..., 3)."""
    return np.ravel_multi_index(tuple(np.moveaxis(codes, -1, 0)), _KNOWN)


class Sight(NamedTuple):
    """What is seen from a pose.

    Attributes:
        frame: uint8 (64, 64, 3).
        cells: uint8 (H, W, 4), by y and x: object, colour and state of each cell in sight, and how many pixels show it,
            at most 255. All four are 0 where a cell is not in sight. A cell is in sight if a pixel shows what is in it:
            it would have another colour if what is there had. Of empty cells, floor, goal and lava that is the ground,
            of an open door the threshold, too.
        shown: int32 (64, 64): the cell that a pixel shows, as y * W + x. It is -1 for the ceiling, what is carried, the
            outside, and the ground below a key, ball or box, which does not tell what stands on it.
    """

    frame: NDArray[np.uint8]
    cells: NDArray[np.uint8]
    shown: NDArray[np.int32]


class Variants(NamedTuple):
    """K pictures of one grid that differ in what one cell holds.

    Attributes:
        where: Which pixels are not the same in all of them, bool (64, 64).
        pixels: Those pixels in each of them, row by row, uint8 (K, n, 3).
    """

    where: NDArray[np.bool_]
    pixels: NDArray[np.uint8]


class Raycaster:
    """Draws grids of one size in first person. It keeps no state: the same cells and pose give the same bytes.

    Args:
        height: Of the grid, in cells.
        width: Of the grid, in cells.
    """

    def __init__(self, height: int, width: int) -> None:
        self._rays = _rays(max(height, width) + 1)
        self._shape = height, width
        self._stride = width + 2  # a ring of wall lies around the grid
        self._paths = [self._steps(self._rays.cells, heading) for heading in range(4)]
        self._grounds = [self._steps(self._rays.ground_cells, heading) for heading in range(4)]
        cell = np.full((height + 2, width + 2), -1)
        cell[1:-1, 1:-1] = np.arange(height * width).reshape(height, width)
        self._cells = cell.ravel().astype(np.int32)  # of a place in the ringed grid
        self._nothing = np.full((SIDE, SIDE), -1, np.int32)

    def look(self, codes: NDArray[np.uint8], pose: ArrayLike, carried: ArrayLike | None = None) -> Sight:
        """Look at a grid.

        Args:
            codes: MiniGrid's (object, colour, state) of every cell, uint8 (H, W, 3), by y and x. What is "unseen" is
                drawn as empty.
            pose: x, y and heading in quarter turns clockwise from east.
            carried: The code of what the agent carries; None, or that of an empty cell, for nothing.

        Raises:
            ValueError: If `codes` is of another size or no codes, or the pose is not in the grid.
        """
        height, width = self._shape
        x, y, heading = (int(number) for number in np.asarray(pose))
        if codes.shape != (height, width, 3):
            raise ValueError(f"codes has shape {codes.shape}, expected {(height, width, 3)}.")
        if not (0 <= x < width and 0 <= y < height and 0 <= heading <= 3):
            raise ValueError(
                f"pose is {(x, y, heading)}, expected x, y in {width}x{height} cells and a heading 0 to 3."
            )
        held = np.asarray((OBJECT_TO_IDX["empty"], 0, 0) if carried is None else carried)
        if (codes >= _KNOWN).any() or (held >= _KNOWN).any():
            raise ValueError(f"codes or carried go beyond MiniGrid's {_KNOWN} objects, colours and states.")
        return self.look_at_numbers(_number(codes), (x, y, heading), int(_number(held)))

    def look_at_numbers(self, numbers: NDArray[np.int64], pose: tuple[int, int, int], carried: int) -> Sight:
        """As `look`, with the numbers of codes, (H, W), and unchecked."""
        height, width = self._shape
        paint, shown = self._paint(numbers, pose, carried)
        pixels = np.bincount(shown.T.ravel() + 1, minlength=height * width + 1)[1:].reshape(height, width)
        cells = np.empty((height, width, 4), np.uint8)
        cells[..., :3] = _CODES.take(numbers * (pixels > 0), axis=0)
        cells[..., 3] = np.minimum(pixels, 255)
        return Sight(_looks().palette.take(paint, axis=0), cells, shown)

    def variants(
        self,
        codes: NDArray[np.uint8],
        pose: ArrayLike,
        carried: ArrayLike,
        cell: tuple[int, int],
        instead: NDArray[np.uint8],
    ) -> Variants:
        """What the pictures of a grid would be with other things in one of its cells.

        Args:
            codes: As for `look`, and unchecked, as all of these.
            pose: As for `look`.
            carried: As for `look`.
            cell: y and x.
            instead: Codes of what might be there, uint8 (K, 3).
        """
        x, y, heading = (int(number) for number in np.asarray(pose))
        held = int(_number(np.asarray(carried)))
        numbers = _number(codes)
        paints = np.empty((len(instead), SIDE, SIDE), np.int16)
        drawn: dict[tuple[int, int], tuple[int, int, NDArray[np.bool_]]] = {}
        for number, (thing, colour, state) in enumerate(instead.tolist()):
            if (thing, state) in drawn:  # another colour is another hue where the cell is shown, and nothing else
                first, hue, where = drawn[thing, state]
                paints[number] = paints[first] + np.int16(_SHADES * (colour - hue)) * where
            else:
                numbers[cell] = _NUMBERS[thing, colour, state]
                paints[number], shown = self._paint(numbers, (x, y, heading), held)
                drawn[thing, state] = number, colour, shown == cell[0] * self._shape[1] + cell[1]
        where = (paints != paints[0]).any(0)
        return Variants(where, _looks().palette.take(paints[:, where], axis=0))

    def _paint(
        self, numbers: NDArray[np.int64], pose: tuple[int, int, int], carried: int
    ) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
        """Paint of each pixel, and the cell that it shows."""
        height, width = self._shape
        x, y, heading = pose
        grid = np.full((height + 2, width + 2), _GREY_WALL)
        grid[1:-1, 1:-1] = numbers
        paint, shown = self._draw(grid.ravel(), (y + 1) * self._stride + x + 1, heading)
        _draw_carried(paint, shown, carried)
        return paint, shown

    def _steps(self, cells: NDArray[np.int64], heading: int) -> NDArray[np.int64]:
        """What to add to the agent's place in the ringed grid, for cells (forward, right) of it."""
        x, y = _FORWARD[heading]
        steps: NDArray[np.int64] = cells[..., 0] * (y * self._stride + x) + cells[..., 1] * (x * self._stride - y)
        return steps

    def _draw(self, grid: NDArray[np.int64], here: int, heading: int) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
        """Paint of each pixel, and the cell that it shows, seen from a place in the ringed grid."""
        rays = self._rays
        looks = _looks()
        path = here + self._paths[heading]
        along = grid.take(path, mode="clip")  # behind the ring, where no ray gets, all is one
        kind = looks.kind.take(along)
        stop = (kind[:, 1:] == _SOLID).argmax(1) + 1
        face_dark = rays.face_dark[heading % 2]

        # By column and row: first ceiling and ground, then walls.
        ground = here + self._grounds[heading]
        number = grid.take(ground, mode="clip")
        paint = rays.ceiling.copy()
        paint[:, _HORIZON:] += looks.grounds.take(number * _PER_GROUND + rays.ground_texels)
        shown = self._nothing.copy()
        shown[:, _HORIZON:] = np.where(looks.is_ground.take(grid), self._cells, -1).take(ground, mode="clip")
        column = rays.columns
        texels = rays.face_texels[column, stop]
        wall = texels > 0
        number = along[column, stop, None] * _PER_FACE
        np.copyto(paint, looks.faces.take(number + texels) + face_dark[column, stop, None], where=wall)
        np.copyto(shown, self._cells.take(path[column, stop, None]), where=wall)

        # Then what can be seen through and past, the farthest first.
        seen = ((kind == _FRAME) | (kind == _STANDING) & rays.stands) & (rays.steps < stop[:, None])
        if seen.any():
            self._draw_layers(paint, shown, seen, along, path, face_dark)
        return paint.T, shown.T

    def _draw_layers(
        self,
        paint: NDArray[np.int16],
        shown: NDArray[np.int32],
        seen: NDArray[np.bool_],
        along: NDArray[np.int64],
        path: NDArray[np.int64],
        face_dark: NDArray[np.int16],
    ) -> None:
        """Draw what is seen through, where rays meet some."""
        rays = self._rays
        looks = _looks()
        column, step = (index[::-1] for index in seen.nonzero())
        frames = looks.kind[along[column, step]] == _FRAME
        far = frames
        if frames.any():  # one sees a frame on the far face of its cell, then on the near one
            twice = np.arange(len(frames)).repeat(1 + frames)
            column, step, frames = column[twice], step[twice], frames[twice]
            far = np.append(twice[1:] == twice[:-1], False)
        texels = rays.standing_texels[column, step]
        dark = rays.standing_dark[column, step]
        if frames.any():
            crossing = column[frames], (step + far)[frames]
            texels[frames] = rays.face_texels[crossing]
            dark[frames] = face_dark[crossing]
        paints = looks.faces.take(along[column, step, None] * _PER_FACE + texels)
        layer, row = paints.nonzero()
        painted = column[layer], row  # of one pixel in several layers, the last one stays
        paint[painted] = paints[layer, row] + dark[layer]
        shown[painted] = self._cells[path[column, step]][layer]


class RaycastMiniGrid(gym.Wrapper[NDArray[np.uint8], Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Any MiniGrid environment, seen in first person as 64x64 RGB frames.

    Layouts, actions, rewards and ends are those of the environment; see `Raycaster` for what is seen. MiniGrid's walls
    are all grey. Here they have colours, so that places can be told apart: every block of 3x3 cells draws one of
    MiniGrid's six at the start of an episode, all six before any comes again, and its walls keep it. The draw depends
    on the state of the environment's random generator, and leaves that as it is. So the same seed gives the same
    colours, and the colours do not tell what is where.

    `info` tells what is in the picture:

    - `info["pose"]`, int32 (3,): x, y and heading in quarter turns clockwise from east. The eye is `EYE_BEHIND` cells
      behind.
    - `info["cells"]`, uint8 (H, W, 4): the cells in sight, see `Sight`; walls with their colours.
    - `info["carried"]`, uint8 (3,): the code of what the agent carries, that of an empty cell (1, 0, 0) for nothing.

    `metadata["camera"]` has the field of view and where the eye is, as `lssvwm_models.data.spec.Camera`.

    Args:
        env: A MiniGrid environment. What it observes by itself is ignored.

    Raises:
        ValueError: If `env` is not one.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, MiniGridEnv):
            raise ValueError(f"RaycastMiniGrid got {env}, expected a MiniGrid environment.")
        self.observation_space = gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.metadata = env.metadata | {"camera": {"fov": FIELD_OF_VIEW, "ahead": -EYE_BEHIND}}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode; see `gymnasium.Env.reset`."""
        _, info = checked_reset(self.env, self.env.reset(seed=seed, options=options))
        world: Any = self.unwrapped
        self._raycaster = _raycaster(world.grid.height, world.grid.width)
        self._colours = _wall_colours(world)
        return self._look(info)

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Act once; see `gymnasium.Env.step`."""
        _, reward, terminated, truncated, info = checked_step(self.env, self.env.step(action))
        frame, info = self._look(info)
        return frame, reward, terminated, truncated, info

    @property
    def codes(self) -> NDArray[np.uint8]:
        """Object, colour and state of all cells as they are now, in sight or not: uint8 (H, W, 3), by y and x."""
        return _CODES.take(self._numbers(), axis=0)

    def _numbers(self) -> NDArray[np.int64]:
        world: Any = self.unwrapped
        things = [_EMPTY if thing is None else _NUMBERS[thing.encode()] for thing in world.grid.grid]
        numbers = np.array(things).reshape(self._colours.shape)
        return np.where(numbers == _GREY_WALL, self._colours, numbers)

    def _look(self, info: dict[str, Any]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        world: Any = self.unwrapped
        numbers = self._numbers()
        carried = _EMPTY if world.carrying is None else _NUMBERS[world.carrying.encode()]
        pose = int(world.agent_pos[0]), int(world.agent_pos[1]), int(world.agent_dir)
        sight = self._raycaster.look_at_numbers(numbers, pose, carried)
        facts = {"pose": np.array(pose, np.int32), "cells": sight.cells, "carried": _CODES[carried].copy()}
        return sight.frame, info | facts


@cache
def _raycaster(height: int, width: int) -> Raycaster:
    return Raycaster(height, width)


def _wall_colours(world: Any) -> NDArray[np.int64]:
    """Numbers of coloured walls for all cells of a world that was just reset, (H, W)."""
    height, width = world.grid.height, world.grid.width
    state = hashlib.sha256(str(world.np_random.bit_generator.state).encode()).digest()
    blocks = -(-height // WALL_BLOCK), -(-width // WALL_BLOCK)
    rounds = np.tile(np.arange(len(COLOR_TO_IDX)), (-(-blocks[0] * blocks[1] // len(COLOR_TO_IDX)), 1))
    drawn = np.random.default_rng(list(state)).permuted(rounds, axis=1).ravel()[: blocks[0] * blocks[1]]
    colours = drawn.reshape(blocks).repeat(WALL_BLOCK, 0).repeat(WALL_BLOCK, 1)[:height, :width]
    walls = [_NUMBERS[OBJECT_TO_IDX["wall"], colour, 0] for colour in range(len(COLOR_TO_IDX))]
    return np.array(walls)[colours]


class _Rays(NamedTuple):
    """What the 64 columns' rays meet, whatever is there; steps count cells along a ray, 0 is the agent's.

    Attributes:
        columns: Numbers of the columns, (64,).
        steps: Numbers of the steps, (K,).
        cells: Cells (forward, right) from the agent, (64, K, 2).
        face_texels: Texel in each row of the face by which the ray enters a cell, (64, K, 64); 0 for none.
        face_dark: Shades by which that face is darker, where the heading is east or west, and where it is
            north or south, 2 x (64, K).
        standing_texels: As `face_texels`, of a picture that stands in the middle of the cell, across the view.
        stands: Whether the ray meets that picture, (64, K).
        standing_dark: Of that picture, (64, K).
        ground_cells: Cells (forward, right) in the lower half of the rows, (64, 32, 2).
        ground_texels: There, (64, 32).
        ceiling: Paint of the ceiling in the upper half of the rows, and shades by which the ground is darker in the
            lower one, (64, 64).
    """

    columns: NDArray[np.int64]
    steps: NDArray[np.int64]
    cells: NDArray[np.int64]
    face_texels: NDArray[np.int16]
    face_dark: tuple[NDArray[np.int16], NDArray[np.int16]]
    standing_texels: NDArray[np.int16]
    stands: NDArray[np.bool_]
    standing_dark: NDArray[np.int16]
    ground_cells: NDArray[np.int64]
    ground_texels: NDArray[np.int64]
    ceiling: NDArray[np.int16]


@cache
def _rays(reach: int) -> _Rays:
    """Rays that go `reach` cells, at least, forward or aside."""
    slope = _SLOPES[:, None]
    count = np.arange(reach) + 0.5
    # The depths at which rays cross a line between cells, ahead or aside.
    crossings = np.concatenate([np.broadcast_to(count + EYE_BEHIND, (SIDE, reach)), count / np.abs(slope)], axis=1)
    order = crossings.argsort(axis=1, kind="stable")
    start = np.zeros((SIDE, 1))
    depth = np.concatenate([start, np.take_along_axis(crossings, order, 1)], axis=1)
    ahead = np.concatenate([start > 0, order < reach], axis=1)
    steps = np.arange(2 * reach + 1)
    forward = ahead.cumsum(1)
    right = (steps - forward) * np.sign(slope).astype(np.int64)

    # Faces are seen from outside, their left side at 0.
    deep = depth - EYE_BEHIND - forward
    face_at = np.where(ahead, slope * depth - right, np.where(slope > 0, -deep, deep)) + 0.5
    east_west, north_south = (_dark(depth, np.where(ahead == along_x, 1, _SIDE_LIGHT)) for along_x in (True, False))
    face_texels = _upright_texels(depth, face_at)
    face_texels[:, 0] = 0  # the eye is past the near face of its own cell
    middle = forward + EYE_BEHIND
    standing_at = slope * middle - right + 0.5
    in_cell = (standing_at >= 0) & (standing_at < 1)

    low = EYE_HEIGHT / _SLOPES[_HORIZON:]
    ground = np.stack(np.broadcast_arrays(low - EYE_BEHIND, slope * low), -1) + 0.5
    ground_cells = np.floor(ground).astype(np.int64)
    ground_forward, ground_right = np.moveaxis((_TEXELS * (ground - ground_cells)).astype(np.int64), -1, 0)
    ceiling = np.tile(_dark(EYE_HEIGHT / np.abs(_SLOPES)), (SIDE, 1))
    ceiling[:, :_HORIZON] += _paint("ceiling", 1)
    return _Rays(
        np.arange(SIDE),
        steps,
        np.stack([forward, right], -1),
        face_texels,
        (east_west, north_south),
        _upright_texels(middle, standing_at),
        in_cell,
        _dark(middle),
        ground_cells,
        _TEXELS * ground_forward + ground_right,
        ceiling,
    )


def _upright_texels(depth: NDArray[Any], at: NDArray[Any]) -> NDArray[np.int16]:
    """The texel in each row, last, of what stands at a depth, is one cell high, and is met so far from its left."""
    down = _SLOPES * depth[..., None]
    inside = (np.abs(down) < EYE_HEIGHT) | (np.abs(_SLOPES) < 2 / SIDE)  # the farthest wall is still two pixels high
    row = (_TEXELS * (down + 1 - EYE_HEIGHT)).clip(0, _TEXELS - 1).astype(np.int64)
    column = (_TEXELS * at).clip(0, _TEXELS - 1).astype(np.int64)[..., None]
    return np.where(inside, 1 + _TEXELS * row + column, 0).astype(np.int16)


def _dark(depth: NDArray[Any], light: ArrayLike = 1) -> NDArray[np.int16]:
    """How many shades darker it is in the depth."""
    shades = _OCTAVE * (np.log2(1 + _FADE * depth) - np.log2(light))
    return shades.clip(0, 2 * _SHADES // 3).round().astype(np.int16)


def _draw_carried(paint: NDArray[np.int16], shown: NDArray[np.int32], number: int) -> None:
    """Draw what is carried into the bottom of a frame."""
    looks = _looks()
    if looks.kind[number] != _STANDING:
        return
    at = (np.arange(_CARRIED) * _TEXELS + _TEXELS // 2) // _CARRIED
    thing = looks.faces[number, 1 + _TEXELS * at[:, None] + at]
    left = (SIDE - _CARRIED) // 2
    part = slice(SIDE - _CARRIED, SIDE), slice(left, left + _CARRIED)
    np.copyto(paint[part], thing, where=thing > 0)
    np.copyto(shown[part], -1, where=thing > 0)


class _Looks(NamedTuple):
    """What the codes look like, by their number. All that is seen of a code changes with its colour.

    Attributes:
        palette: Colour of each paint, uint8 (N, 3).
        faces: Paint of each texel, (numbers, 1 + 32 * 32); 0 where one sees through.
        grounds: The same of the cell's ground, (numbers, 32 * 32).
        kind: Air, solid, standing in the middle of its cell, or a door frame.
        is_ground: Whether the ground shows what is in the cell.
    """

    palette: NDArray[np.uint8]
    faces: NDArray[np.int16]
    grounds: NDArray[np.int16]
    kind: NDArray[np.uint8]
    is_ground: NDArray[np.bool_]


@cache
def _looks() -> _Looks:
    """Draw all textures."""
    shades = 2.0 ** (-np.arange(_SHADES)[:, None] / _OCTAVE)
    hues = [shades * COLORS[hue] if hue in COLORS else shades * _HUES[hue] for hue in _HUE_NAMES]
    palette = np.concatenate([np.zeros((1, 3)), *hues]).round().astype(np.uint8)
    faces = np.zeros((len(_CODES), _PER_FACE), np.int16)
    grounds = np.zeros((len(_CODES), _PER_GROUND), np.int16)
    kind = np.full(len(_CODES), _AIR, np.uint8)
    upright = _upright_lights()
    things = {index: name for name, index in OBJECT_TO_IDX.items()}
    colours = {index: name for name, index in COLOR_TO_IDX.items()}
    for number, (thing, colour, state) in enumerate(_CODES.tolist()):
        name = things[thing] + ("", " closed", " locked")[state] * (things[thing] == "door")
        if name in upright:
            kind[number] = _KINDS[name]
            faces[number, 1:] = _paint(colours[colour], upright[name].ravel())
        grounds[number] = _ground(name, colours[colour]).ravel()
    return _Looks(palette, faces, grounds, kind, (kind == _AIR) | (kind == _FRAME))


_HUES: Final = {
    "ceiling": np.array((64, 72, 92)),
    "ground": np.array((136, 124, 106)),
    "lava": np.array((255, 128, 0)),
    "waves": np.array((140, 36, 0)),
}
_HUE_NAMES: Final = [*COLOR_TO_IDX, *_HUES]
_KINDS: Final = {
    "wall": _SOLID,
    "door closed": _SOLID,
    "door locked": _SOLID,
    "door": _FRAME,
    "key": _STANDING,
    "ball": _STANDING,
    "box": _STANDING,
}


def _paint(hue: str, light: ArrayLike) -> NDArray[np.int16]:
    """The paint of a hue in some light, at most 1; 0 for none where there is none."""
    light = np.asarray(light, np.float64)
    shade = (-_OCTAVE * np.log2(light.clip(0.15, 1))).round()
    return np.where(light > 0, 1 + _SHADES * _HUE_NAMES.index(hue) + shade, 0).astype(np.int16)


def _upright_lights() -> dict[str, NDArray[np.float64]]:
    """How bright the object's colour is in each texel of what stands upright, 0 where one sees through."""
    y, x = (np.indices((_TEXELS, _TEXELS)) + 0.5) / _TEXELS

    def rect(left: float, right: float, top: float, bottom: float) -> NDArray[np.bool_]:
        return (x > left) & (x < right) & (y > top) & (y < bottom)

    def disc(at_x: float, at_y: float, radius: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (x - at_x) ** 2 + (y - at_y) ** 2 < radius**2
        return inside

    course = np.floor(4 * y)
    along = 2 * x + 0.5 * (course % 2)
    mortar = (4 * y - course < 0.14) | (along - np.floor(along) < 0.07)
    wall = np.where(mortar, 0.5, 0.85)

    frame = ~rect(0.12, 0.88, 0.1, 1)
    panels = rect(0.24, 0.76, 0.2, 0.48) | rect(0.24, 0.76, 0.6, 0.92)
    closed = np.select([frame, ~rect(0.16, 0.84, 0.14, 1), disc(0.79, 0.54, 0.05), panels], [1, 0.25, 1, 0.45], 0.7)
    slot = disc(0.5, 0.48, 0.1) | rect(0.44, 0.56, 0.5, 0.72)
    bars = (y > 0.14) & (np.floor(8 * y) % 2 == 0)
    locked = np.select([frame, ~rect(0.16, 0.84, 0.14, 1), slot, bars], [1, 0.25, 1, 0.22], 0.4)

    ring = disc(0.5, 0.36, 0.2) & ~disc(0.5, 0.36, 0.08)
    key = _outlined(ring | rect(0.43, 0.57, 0.5, 0.97) | rect(0.5, 0.74, 0.66, 0.75) | rect(0.5, 0.74, 0.84, 0.93))
    ball = disc(0.5, 0.69, 0.31) * (0.45 + 0.55 * (1 - ((x - 0.4) ** 2 + (y - 0.56) ** 2) / 0.27).clip(0, 1))
    planks = ~rect(0.2, 0.8, 0.32, 0.92) | rect(0.12, 0.88, 0.58, 0.66)
    box = rect(0.12, 0.88, 0.24, 1) * np.where(planks, 1, 0.4)
    return {
        "wall": wall,
        "door closed": closed,
        "door locked": locked,
        "door": frame * 1.0,
        "key": key,
        "ball": ball,
        "box": box,
    }


def _outlined(shape: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A shape, and a dark line of one texel around it."""
    padded = np.pad(shape, 1)
    line = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return np.where(shape, 1, 0.25 * line)


def _ground(name: str, colour: str) -> NDArray[np.int16]:
    """The paint of a cell's ground, the same from all four sides."""
    at = np.abs(np.indices((_TEXELS, _TEXELS)) + 0.5 - _TEXELS / 2) / (_TEXELS / 2)
    out = at.max(0)  # 0 in the middle of the cell, 1 at its edge
    line = np.where(out > 0.92, 0.7, 1)
    if name == "goal":
        return _paint(colour, np.where((out > 0.4) & (out < 0.7), 0.55, 1) * line)
    if name == "lava":
        return np.where(np.cos(9 * at).sum(0) > 0.5, _paint("waves", line), _paint("lava", line))
    if name == "floor":
        return _paint(colour, 0.6 * line)
    if name == "door":  # the threshold of an open one
        return _paint(colour, np.where(out > 0.6, 0.35, 0.5))
    return _paint("ground", line)
