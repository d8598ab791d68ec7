"""Mazes with the textured walls of Doom, drawn by ViZDoom (Kempka et al., 2016): find the armor.

Importing this module registers `VizDoomMaze/9x9-v0` and `VizDoomMaze/13x13-v0` with Gymnasium. The engine and its free
textures (Freedoom) come with the package `vizdoom`, of the extra of that name.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image

TIME_LIMITS: Final = {9: 1000, 13: 3000}  # cells along each side, without the outer walls: steps
FIELD_OF_VIEW: Final = 90.0
"""Degrees between the left and the right edge of a frame, and between the upper and the lower one."""

_SIDE: Final = 64
_CELL: Final = 96  # units of the map along each side of a cell
_TICKS: Final = 4  # of the engine per step, of 35 in a second
_TURN: Final = 3  # degrees per tick
_ASLEEP: Final = 10  # ticks at the start of an episode in which the engine takes no action
_NEAR: Final = 0.5  # cells from the armor, where it is found
_LOOPS: Final = 0.3  # share of the walls between two corridors that are left out
_CROPPED: Final = (48, 0, 208, 192)  # of 256 x 192 pixels, each 1.2 times as high as it is wide
_ENGINE_FOV: Final = 116  # degrees across all of it: what is cropped is 90 wide
_FLOOR, _CEILING = "FLOOR0_1", "CEIL1_1"
_WALLS: Final = (
    "BIGBRIK1",
    "BRICK10",
    "COMPBLUE",
    "GSTONE1",
    "ROCKRED1",
    "SP_HOT1",
    "STONE2",
    "TANROCK2",
    "TEKGREN2",
    "WOOD5",
)
_PLAYER, _ARMOR = 1, 2019  # kinds of things in Doom


class VizDoomMazeEnv(gym.Env[NDArray[np.uint8], np.int64]):
    """A marine walks through a maze and looks ahead. Every block of the maze has walls of one of ten textures.

    Where the armor is found, the reward is 1 and the episode ends. There is nobody else. A seed fixes the maze, its
    textures and where it begins. Moving has momentum; each step turns by 12 degrees at once, or not at all.

    `info` has, in the axes and sense of turning of a grid pose (x to the right, y down, angles clockwise from east):

    - `"pose"`, float32 (3,): x and y of the eye in cells, and the angle in radians, from -pi to pi. Whole numbers are
      the middles of cells: `layout[round(y), round(x)]` is where the marine is. Forward is (cos angle, sin angle).
    - `"layout"`, uint8 (H, W): 1 where a wall is, the outer ones among them.
    - `"armor"`, float32 (2,): x and y of the armor.

    Args:
        size: Cells along each side of the maze without its outer walls: odd, from 5 to 31.
        render_mode: None, or "rgb_array".

    Raises:
        ValueError: If there are no mazes of that size.
        gymnasium.error.DependencyNotInstalled: If the extra is missing.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35 / _TICKS, "camera": {"fov": FIELD_OF_VIEW}}  # noqa: RUF012  (so is Gymnasium's)
    ACTIONS: Final = ("noop", "forward", "left", "right", "forward_left", "forward_right")

    def __init__(self, size: int = 9, render_mode: str | None = None) -> None:
        if size % 2 == 0 or not 5 <= size <= 31:
            raise ValueError(f"there are no mazes of size {size!r}, expected an odd number from 5 to 31")
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, 255, (_SIDE, _SIDE, 3), np.uint8)
        self.action_space = gym.spaces.Discrete(len(self.ACTIONS))
        self._size = size
        self._vizdoom = _vizdoom()
        self._folder = TemporaryDirectory(prefix="vizdoom_maze_")
        self._game: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Enter another maze; see `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        self._layout = maze(self._size, self.np_random)
        free = np.argwhere(self._layout == 0)
        start, armor = self.np_random.permutation(free)[:2]
        self._armor = armor[::-1].astype(np.float32)
        angle = 90 * int(self.np_random.integers(4))
        path = Path(self._folder.name, "maze.wad")
        path.write_bytes(_wad(_map(self._layout, _textures(self._layout, self.np_random), start, angle, armor)))
        self._stop()
        self._game = self._started(path)
        return self._frame(), self._info()

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Act for four ticks of Doom; see `gymnasium.Env.step`."""
        if self._game is None:
            raise gym.error.ResetNeeded("call reset before the first step")
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}: {', '.join(self.ACTIONS)}")
        name = self.ACTIONS[int(action)]
        turn = _TURN * (name.endswith("right") - name.endswith("left"))
        self._game.make_action([name.startswith("forward"), turn], _TICKS)
        info = self._info()
        found = math.dist(info["pose"][:2], self._armor) < _NEAR
        return self._frame(), float(found), found, False, info

    def render(self) -> NDArray[np.uint8] | None:
        """The latest frame; None without a render mode."""
        return None if self.render_mode is None or self._game is None else self._frame()

    def close(self) -> None:
        """End the engine."""
        self._stop()
        self._folder.cleanup()

    def _stop(self) -> None:
        game, self._game = self._game, None
        if game is not None:
            game.close()

    def _started(self, path: Path) -> Any:
        """The engine in the maze of a file."""
        doom = self._vizdoom
        game = doom.DoomGame()
        game.set_doom_scenario_path(str(path))
        game.set_doom_config_path(os.devnull)  # which the engine writes when it ends, whenever that is
        game.set_doom_map("map01")
        game.set_screen_resolution(doom.ScreenResolution.RES_256X192)
        game.set_screen_format(doom.ScreenFormat.RGB24)
        game.set_window_visible(False)
        for hide in (game.set_render_hud, game.set_render_weapon, game.set_render_crosshair):
            hide(False)
        game.set_available_buttons([doom.Button.MOVE_FORWARD, doom.Button.TURN_LEFT_RIGHT_DELTA])
        variable = doom.GameVariable
        game.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y, variable.ANGLE])
        game.set_episode_timeout(0)
        game.add_game_args("+movebob 0")  # the eye does not go up and down as one walks
        with contextlib.chdir(path.parent):  # where the engine leaves a folder
            game.init()
        game.send_game_command(f"fov {_ENGINE_FOV}")
        game.make_action([False, 0], _ASLEEP)
        return game

    def _frame(self) -> NDArray[np.uint8]:
        screen = Image.fromarray(self._game.get_state().screen_buffer)
        return np.asarray(screen.resize((_SIDE, _SIDE), Image.Resampling.BOX, _CROPPED))

    def _info(self) -> dict[str, Any]:
        right, up, degrees = self._game.get_state().game_variables
        angle = math.remainder(-math.radians(degrees), math.tau)
        return {
            "pose": np.array([right / _CELL - 0.5, -up / _CELL - 0.5, angle], np.float32),
            "layout": self._layout.copy(),
            "armor": self._armor.copy(),
        }


def maze(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A maze (size + 2, size + 2) with corridors one cell wide, 1 where a wall is.

    Between the cells with odd coordinates there is a way, found by a random depth-first search; then some more walls
    are left out, so that there are loops.
    """
    layout = np.ones((size + 2, size + 2), np.uint8)
    way = [(1, 1)]
    layout[1, 1] = 0
    while way:
        y, x = way[-1]
        ahead = [
            (y + 2 * down, x + 2 * right)
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0))
            if 0 < y + 2 * down <= size and 0 < x + 2 * right <= size and layout[y + 2 * down, x + 2 * right]
        ]
        if not ahead:
            way.pop()
            continue
        there = ahead[rng.integers(len(ahead))]
        layout[there] = layout[(y + there[0]) // 2, (x + there[1]) // 2] = 0
        way.append(there)
    inner = layout[1:-1, 1:-1]
    between = np.indices(inner.shape).sum(0) % 2 == 1  # of two cells that are free
    inner[between & (rng.random(inner.shape) < _LOOPS)] = 0
    return layout


def _textures(layout: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.str_]:
    """The texture of each cell's walls: one for every block of 3 x 3 cells."""
    blocks = rng.choice(_WALLS, [-(-side // 3) for side in layout.shape])
    return blocks.repeat(3, 0).repeat(3, 1)


def _map(
    layout: NDArray[np.uint8],
    textures: NDArray[np.str_],
    start: NDArray[np.int64],
    angle: int,
    armor: NDArray[np.int64],
) -> str:
    """A map of Doom in UDMF (https://doomwiki.org/wiki/UDMF), which is text.

    It is one sector. Of a line, the sector is on the right; the map's y goes up.
    """
    vertices: dict[tuple[int, int], int] = {}
    sides: list[str] = []
    lines: list[str] = []
    for y, x in np.argwhere(layout == 0).tolist():
        corners = (x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)
        for edge, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
            if layout[y + down, x + right]:
                one, other = (vertices.setdefault(corners[n % 4], len(vertices)) for n in (edge, edge + 1))
                lines.append(f"linedef {{ v1 = {one}; v2 = {other}; sidefront = {len(sides)}; blocking = true; }}")
                sides.append(f'sidedef {{ sector = 0; texturemiddle = "{textures[y, x]}"; }}')
    always = " ".join(f"skill{n} = true;" for n in range(1, 6)) + " single = true;"
    things = [
        f"thing {{ type = {kind}; x = {(x + 0.5) * _CELL}; y = {-(y + 0.5) * _CELL}; angle = {angle}; {always} }}"
        for kind, (y, x) in ((_PLAYER, start), (_ARMOR, armor))
    ]
    sector = (
        f"sector {{ heightfloor = 0; heightceiling = {_CELL}; lightlevel = 208; "
        f'texturefloor = "{_FLOOR}"; textureceiling = "{_CEILING}"; }}'
    )
    points = [f"vertex {{ x = {x * _CELL}; y = {-y * _CELL}; }}" for x, y in vertices]
    return "\n".join(['namespace = "zdoom";', *points, *lines, *sides, sector, *things])


def _wad(text: str) -> bytes:
    """A file with one map, as Doom's engines load it (https://doomwiki.org/wiki/WAD)."""
    content = text.encode()
    begin = 12
    lumps = (begin, 0, b"MAP01"), (begin, len(content), b"TEXTMAP"), (begin + len(content), 0, b"ENDMAP")
    directory = b"".join(struct.pack("<ii8s", *lump) for lump in lumps)
    return struct.pack("<4sii", b"PWAD", len(lumps), begin + len(content)) + content + directory


def _vizdoom() -> ModuleType:
    try:
        import vizdoom
    except ImportError as error:
        raise gym.error.DependencyNotInstalled(
            f'ViZDoom is not installed ({error}); get it with: pip install "lssvwm-env[vizdoom]"'
        ) from error
    return vizdoom


for _size, _steps in TIME_LIMITS.items():
    gym.register(
        f"VizDoomMaze/{_size}x{_size}-v0",
        entry_point="lssvwm_env.real.first_person.vizdoom_maze:VizDoomMazeEnv",
        max_episode_steps=_steps,
        kwargs={"size": _size},
    )
