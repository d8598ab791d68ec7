"""MiniGrid as video: pixel frames that decode back to exact tiles.

The agent looks at 7x7 cells. It stands at view row 6, column 3, and faces up. The cell at (row r, column c)
lies `f = 6 - r` cells forward and `s = c - 3` cells to the right of it, so in the world it is
`position + f * forward + s * right`. Here forward is (1, 0), (0, 1), (-1, 0), (0, -1) for the headings 0 to
3, which are quarter turns clockwise from east with y pointing down, and right is (-forward_y, forward_x).

A frame is 64x64: the 7x7 tiles of 8x8 pixels, and a black margin at the right and the bottom, so that tile
borders fall on multiples of 8.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, Final

import gymnasium as gym
import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import ArrayLike, NDArray

from lssvwm_env.real.contract import checked_reset, checked_step

VIEW: Final = 7  # cells along each side of the view
TILE: Final = 8  # pixels along each side of a tile
FRAME: Final = 64  # pixels along each side of a frame
AGENT_CELL: Final = (VIEW - 1, VIEW // 2)  # row, column

_FACING_UP: Final = 3
_FORWARD: Final = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
_PLAIN_CODES: Final = [OBJECT_TO_IDX[name] for name in ("unseen", "empty", "wall", "floor")]


def world_cells(pose: ArrayLike) -> NDArray[np.int64]:
    """Find the cell of the world under each cell of the view.

    Args:
        pose: x, y and heading of the agent, (..., 3).

    Returns:
        x and y for every view row and column, (..., 7, 7, 2). They may lie outside the grid.
    """
    pose = np.asarray(pose, np.int64)
    ahead = _FORWARD[pose[..., 2]][..., None, None, :]
    right = np.stack([-ahead[..., 1], ahead[..., 0]], axis=-1)
    row, column = np.indices((VIEW, VIEW))[..., None]
    position = pose[..., None, None, :2]
    cells: NDArray[np.int64] = position + (AGENT_CELL[0] - row) * ahead + (column - AGENT_CELL[1]) * right
    return cells


class TilePalette:
    """Every picture that the MiniGrid renderer can make of one cell in view, numbered.

    Codes (object, colour, state) that look alike share an id, as a goal and a green wall do. Id 0 is
    `UNSEEN`. The cell the agent stands on shows the agent, over what it carries, and has ids of its own.

    Building one renders all tiles; use `tile_palette()`, which does it once.

    Attributes:
        UNSEEN: The id of a cell that the agent cannot see.
        images: The tiles, uint8 (ids, 8, 8, 3).
    """

    UNSEEN: Final = 0

    def __init__(self) -> None:
        codes: list[tuple[tuple[int, int, int], WorldObj | None]] = [((OBJECT_TO_IDX["empty"], 0, 0), None)]
        for code in product(range(OBJECT_TO_IDX["wall"], OBJECT_TO_IDX["lava"] + 1), range(6), range(3)):
            obj = WorldObj.decode(*code)
            if obj is not None and obj.encode() == code:  # e.g. no green lava, no locked ball
                codes.append((code, obj))

        # -1 marks codes that cannot occur.
        self._cell_ids = np.full((len(OBJECT_TO_IDX), 6, 3), -1, np.int64)
        self._agent_ids = self._cell_ids.copy()
        numbers: dict[bytes, int] = {}
        pictures: list[NDArray[np.uint8]] = []

        def number(picture: NDArray[np.uint8]) -> int:
            if picture.tobytes() not in numbers:
                numbers[picture.tobytes()] = len(pictures)
                pictures.append(picture)
            return numbers[picture.tobytes()]

        self._cell_ids[0, 0, 0] = number(_render(None, visible=False))
        for code, obj in codes:
            self._cell_ids[code] = number(_render(obj))
        self._first_agent_id = len(pictures)
        for code, obj in codes:
            if obj is None or obj.can_pickup():
                self._agent_ids[code] = number(_render(obj, agent=True))

        self.images: NDArray[np.uint8] = np.stack(pictures)
        self._is_object = np.zeros(len(pictures), np.bool_)
        for code, _ in codes:
            if code[0] not in _PLAIN_CODES:
                self._is_object[self._cell_ids[code]] = True

    def __len__(self) -> int:
        """Number of ids."""
        return len(self.images)

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Number the cells of exact views.

        Args:
            tiles: (object, colour, state) codes as in `info["tiles"]`, (..., 7, 7, 3).

        Returns:
            Tile ids, (..., 7, 7).

        Raises:
            ValueError: If the shape is another one, or a code has no picture.
        """
        if tiles.shape[-3:] != (VIEW, VIEW, 3):
            raise ValueError(f"tiles has shape {tiles.shape}, expected (..., {VIEW}, {VIEW}, 3).")
        agent = (..., *AGENT_CELL)
        try:
            ids: NDArray[np.int64] = self._cell_ids[tuple(np.moveaxis(tiles, -1, 0))]
            ids[agent] = self._agent_ids[tuple(np.moveaxis(tiles[(*agent, slice(None))], -1, 0))]
        except IndexError as error:
            raise ValueError(
                f"tiles has codes beyond MiniGrid's 11 objects, 6 colours and 3 states: {error}."
            ) from error
        if (ids < 0).any():
            unknown = np.unique(tiles[ids < 0], axis=0).tolist()
            raise ValueError(f"tiles has the (object, colour, state) codes {unknown}, which cannot be there.")
        return ids

    def decode(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the nearest tile for every cell of frames; on frames of the renderer this is exact.

        Args:
            frames: uint8 (..., 64, 64, 3), real or dreamt.

        Returns:
            Tile ids (..., 7, 7), the agent's cell matched among agent tiles and the others among the rest;
            and the L2 distances to these tiles in grey levels (0 to 255 per channel), float32 (..., 7, 7).

        Raises:
            ValueError: If `frames` has another shape or dtype.
        """
        if frames.dtype != np.uint8 or frames.shape[-3:] != (FRAME, FRAME, 3):
            raise ValueError(f"frames is {frames.dtype} {frames.shape}, expected uint8 (..., {FRAME}, {FRAME}, 3).")
        cells = _cut(frames.reshape(-1, FRAME, FRAME, 3))
        ids = np.empty(cells.shape[:3], np.int64)
        squared = np.empty(cells.shape[:3], np.float32)
        for start in range(0, len(cells), 256):  # bounds the float copies to some tens of MB
            part = slice(start, start + 256)
            ids[part], squared[part] = self._nearest(cells[part], 0, self._first_agent_id)
            agent = (part, *AGENT_CELL)
            ids[agent], squared[agent] = self._nearest(cells[agent], self._first_agent_id, len(self))
        shape = (*frames.shape[:-3], VIEW, VIEW)
        return ids.reshape(shape), np.sqrt(squared).reshape(shape)

    def is_object(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell keys, balls, boxes, doors, goals and lava from all else (walls, the agent, cells not seen)."""
        return self._is_object[ids]

    def draw(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw codes (..., 7, 7, 3) as frames (..., 64, 64, 3), pixel for pixel as MiniGrid does."""
        pictures = self.images[self.encode(tiles)]
        frames = np.zeros((*tiles.shape[:-3], FRAME, FRAME, 3), np.uint8)
        side = VIEW * TILE
        frames[..., :side, :side, :] = pictures.swapaxes(-4, -3).reshape(*tiles.shape[:-3], side, side, 3)
        return frames

    def _nearest(
        self, cells: NDArray[np.uint8], first: int, last: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest of the tiles first..last-1 for cells (..., 192): ids and squared distances."""
        # |a - b|^2 as |a|^2 - 2ab + |b|^2. All sums are whole numbers below 2^24, so float32 is exact where
        # it matters: a perfect match has distance 0.
        pixels = cells.astype(np.float32)
        tiles = self.images[first:last].reshape(last - first, -1).astype(np.float32)
        scores = (tiles * tiles).sum(-1) - 2 * (pixels @ tiles.T)
        nearest = scores.argmin(-1)
        best = np.take_along_axis(scores, nearest[..., None], -1)[..., 0]
        return nearest + first, np.maximum((pixels * pixels).sum(-1) + best, 0)


@cache
def tile_palette() -> TilePalette:
    """Return the one palette of this process."""
    return TilePalette()


def _render(obj: WorldObj | None, *, visible: bool = True, agent: bool = False) -> NDArray[np.uint8]:
    heading = _FACING_UP if agent else None
    # The renderer returns floats and truncates them when it assembles a frame.
    return Grid.render_tile(obj, heading, highlight=visible, tile_size=TILE).astype(np.uint8)


def _cut(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 64, 64, 3) frames to (N, 7, 7, 192) cells."""
    side = VIEW * TILE
    cells = frames[:, :side, :side].reshape(-1, VIEW, TILE, VIEW, TILE, 3).swapaxes(2, 3)
    return cells.reshape(-1, VIEW, VIEW, TILE * TILE * 3)


class PixelMiniGrid(gym.Wrapper[NDArray[np.uint8], int, Any, int], gym.utils.RecordConstructorArgs):
    """Any MiniGrid environment, seen as 64x64 RGB frames of the agent's view.

    `info` tells what is in the picture: `info["pose"]`, int32 (3,), is x, y and heading in quarter turns
    clockwise; `info["tiles"]`, uint8 (7, 7, 3), is (object, colour, state) for each view row and column.

    Args:
        env: A MiniGrid environment with its usual dictionary observations and 7x7 view.

    Attributes:
        preprocessing: What the frames are, in words.
        frame: The last one.

    Raises:
        ValueError: If `env` is not one.
    """

    frame: NDArray[np.uint8]
    preprocessing: Final = "partial view, 7x7 tiles of 8 px, black margin at the right and the bottom"

    def __init__(self, env: gym.Env[Any, int]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)  # lets gym.make(env.spec) build another one
        gym.Wrapper.__init__(self, env)
        image = env.observation_space["image"] if isinstance(env.observation_space, gym.spaces.Dict) else None
        if not isinstance(env.unwrapped, MiniGridEnv) or image is None or image.shape != (VIEW, VIEW, 3):
            raise ValueError(
                f"PixelMiniGrid got {env} with observations {env.observation_space}, expected "
                f"a MiniGrid environment's: pass it unwrapped, with agent_view_size={VIEW}."
            )
        self.observation_space = gym.spaces.Box(0, 255, (FRAME, FRAME, 3), np.uint8)
        self._palette = tile_palette()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode; see `gymnasium.Env.reset`."""
        view, info = checked_reset(self.env, self.env.reset(seed=seed, options=options))
        return self._frame(view, info)

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Act once; see `gymnasium.Env.step`."""
        view, reward, terminated, truncated, info = checked_step(self.env, self.env.step(action))
        frame, info = self._frame(view, info)
        return frame, reward, terminated, truncated, info

    def _frame(self, view: Any, info: dict[str, Any]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        world: Any = self.unwrapped
        tiles = view["image"].swapaxes(0, 1).copy()  # MiniGrid indexes [column, row]
        pose = np.array([*world.agent_pos, world.agent_dir], np.int32)
        # The view was computed for `view` already: drawing from it is 20 times as fast as `get_frame`.
        self.frame = self._palette.draw(tiles)
        return self.frame, info | {"pose": pose, "tiles": tiles}
