"""First-person pictures of grids follow geometry, and say exactly which cells they show."""

import zlib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from minigrid.core.actions import Actions
from minigrid.core.constants import COLOR_TO_IDX, COLORS, OBJECT_TO_IDX

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.real import PixelEnv, Raycaster, RaycastMiniGrid, WanderPolicy, make_real
from lssvwm_env.real.first_person import EYE_BEHIND, SIDE, WALL_BLOCK

EAST, SOUTH, WEST, NORTH = range(4)
OPEN, CLOSED, LOCKED = range(3)
NOTHING = (1, 0, 0)


def code(name: str, colour: str = "red", state: int = 0) -> tuple[int, int, int]:
    return OBJECT_TO_IDX[name], COLOR_TO_IDX[colour], state


LETTERS = {
    "#": code("wall", "grey"),
    "B": code("wall", "blue"),
    ".": NOTHING,
    "k": code("key", "yellow"),
    "o": code("ball", "green"),
    "x": code("box", "purple"),
    "d": code("door", "yellow", CLOSED),
    "l": code("door", "green", LOCKED),
    "/": code("door", "red", OPEN),
    "g": code("goal", "green"),
    "~": code("lava", "red"),
    "f": code("floor", "blue"),
}


def grid(*rows: str) -> np.ndarray:
    return np.array([[LETTERS[letter] for letter in row] for row in rows], np.uint8)


def look(codes: np.ndarray, pose: tuple[int, int, int], carried: tuple[int, int, int] | None = None):
    return Raycaster(*codes.shape[:2]).look(codes, pose, carried)


def put(codes: np.ndarray, x: int, y: int, thing: tuple[int, int, int]) -> np.ndarray:
    changed = codes.copy()
    changed[y, x] = thing
    return changed


EVERYTHING = grid(
    "#BB##B#",
    "B.k.o.#",
    "#f..../",
    "#.g.x.B",
    "d.~..k#",
    "##lBB##",
)


def test_a_grid_looks_as_it_always_did() -> None:
    frames = [look(EVERYTHING, (3, 2, heading), code("ball", "red")).frame for heading in range(4)]
    assert [zlib.crc32(frame.tobytes()) for frame in frames] == GOLDEN


GOLDEN = [1379789440, 552661067, 3943678452, 3555225287]


def test_a_wall_one_cell_ahead_fills_the_middle_half_and_shows_what_is_at_its_sides() -> None:
    codes = put(grid(*["......."] * 7), 4, 3, code("wall", "red"))
    frame, cells, shown = look(codes, (3, 3, EAST))
    wall = shown == 3 * 7 + 4
    slope = np.abs((2 * np.arange(SIDE) + 1) / SIDE - 1)
    near = slope * (0.5 + EYE_BEHIND) < 0.5  # half a cell to each side, and half a wall up and down
    assert near.sum() == 36
    np.testing.assert_array_equal(wall, near[:, None] & near)
    assert (frame[wall][:, 0] > 80).all() and not frame[wall][:, 1:].any()
    assert cells[3, 4].tolist() == [*code("wall", "red"), 255]
    assert cells[2, 4, 3] > 0 and cells[4, 4, 3] > 0


def test_the_picture_turns_with_the_agent() -> None:
    codes = grid("#####", "#.ok#", "#..~#", "#.B.#", "#####")
    for quarter in range(4):
        turned = np.rot90(codes, -quarter)  # clockwise
        sight = look(turned, (2, 2, quarter))
        np.testing.assert_array_equal(np.rot90(sight.cells, quarter), look(codes, (2, 2, EAST)).cells)
        if quarter == 2:  # north and south are darker than east and west
            np.testing.assert_array_equal(sight.frame, look(codes, (2, 2, EAST)).frame)


def test_neighbouring_faces_of_a_wall_differ_in_light() -> None:
    codes = put(grid(*["......."] * 7), 5, 1, code("wall", "red"))
    frame, _, shown = look(codes, (3, 3, EAST))
    row = SIDE // 2 - 2
    reds = frame[row, shown[row] == 7 + 5][:, 0].astype(int)
    assert len(reds) > 5
    assert np.abs(np.diff(reds)).max() > 30  # where they meet


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_rays_stop_where_tiny_steps_along_them_do(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    walls = np.array(data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)))
    walls = walls.reshape(height, width)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    heading = data.draw(st.integers(0, 3))
    walls[y, x] = False
    codes = np.where(walls[..., None], LETTERS["B"], NOTHING).astype(np.uint8)
    shown = look(codes, (x, y, heading)).shown[SIDE // 2 - 1]

    ahead = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)][heading])
    right = np.array([-ahead[1], ahead[0]])
    depth = np.arange(0, 12, 0.002)[:, None, None]
    slope = ((2 * np.arange(SIDE) + 1) / SIDE - 1)[:, None]
    way = np.array([x, y]) + 0.5 + (depth - EYE_BEHIND) * ahead + depth * slope * right
    cell = np.floor(way).astype(int)
    outside = ((cell < 0) | (cell >= (width, height))).any(-1)
    stops = outside | walls[cell[..., 1].clip(0, height - 1), cell[..., 0].clip(0, width - 1)]
    first = stops.argmax(0)
    hit = cell[first, np.arange(SIDE)]
    expected = np.where(outside[first, np.arange(SIDE)], -1, hit[:, 1] * width + hit[:, 0])
    assert (shown != expected).sum() <= 1  # a corner can lie between two steps


RECOLOURED = {NOTHING: LETTERS["f"], LETTERS["g"]: NOTHING, LETTERS["~"]: NOTHING}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cells_in_sight_are_those_whose_pixels_change_when_what_is_there_has_another_colour(
    data: st.DataObject,
) -> None:
    height, width = 5, 6
    things = st.sampled_from([*LETTERS.values(), *[NOTHING] * 12])
    drawn = data.draw(st.lists(things, min_size=height * width, max_size=height * width))
    codes = np.array(drawn, np.uint8).reshape(height, width, 3)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    pose = x, y, data.draw(st.integers(0, 3))
    codes[y, x] = data.draw(st.sampled_from([NOTHING, LETTERS["/"], LETTERS["f"], LETTERS["g"]]))
    carried = data.draw(st.sampled_from([None, LETTERS["k"], LETTERS["x"]]))
    sight = look(codes, pose, carried)
    for cell in range(height * width):
        thing = tuple(codes[cell // width, cell % width].tolist())
        other = RECOLOURED.get(thing, (thing[0], (thing[1] + 1) % len(COLORS), thing[2]))
        changed = look(put(codes, cell % width, cell // width, other), pose, carried)
        np.testing.assert_array_equal((changed.frame != sight.frame).any(-1), sight.shown == cell)
        pixels = (sight.shown == cell).sum()
        expected = [*thing, min(pixels, 255)] if pixels else [0, 0, 0, 0]
        assert sight.cells[cell // width, cell % width].tolist() == expected


def test_nothing_is_seen_behind_a_wall_or_a_closed_door() -> None:
    codes = grid("#####", "#.#.#", "#.#.#", "#.d.#", "#####")
    hidden = put(put(put(codes, 3, 1, LETTERS["o"]), 3, 2, LETTERS["x"]), 3, 3, LETTERS["~"])
    for y in (1, 2, 3):
        for heading in range(4):
            np.testing.assert_array_equal(look(codes, (1, y, heading)).frame, look(hidden, (1, y, heading)).frame)
            assert not look(hidden, (1, y, heading)).cells[:, 3].any()


def test_one_sees_through_an_open_door_and_past_things() -> None:
    row = "#.//k.o#"
    codes = grid("########", row, "########")
    _, cells, _ = look(codes, (1, 1, EAST))
    for x in (2, 3, 4, 6, 7):
        assert cells[1, x].tolist()[:3] == list(LETTERS[row[x]])


def test_one_who_stands_in_an_open_door_sees_its_frame_at_the_edge_and_sees_through() -> None:
    codes = grid("B#####B", "B../..B", "B#####B")
    for heading in range(4):
        _, cells, shown = look(codes, (3, 1, heading))
        assert cells[1, 3].tolist()[:3] == list(LETTERS["/"])
        ahead = {EAST: 7 + 6, SOUTH: 14 + 3, WEST: 7, NORTH: 3}[heading]
        assert (shown[SIDE // 2, 28:36] == ahead).all()


def test_all_things_look_different_near_and_some_cells_away() -> None:
    colours = sorted(COLOR_TO_IDX)
    things = [NOTHING, code("goal", "green"), code("lava")]
    things += [code(name, colour) for name in ("wall", "floor", "key", "ball", "box") for colour in colours]
    things += [code("door", colour, state) for colour in colours for state in (OPEN, CLOSED, LOCKED)]
    for distance in (1, 4):
        empty = grid("########", "########", "........", "########", "########")
        frames = [look(put(empty, 1 + distance, 2, thing), (1, 2, EAST)).frame for thing in things]
        assert len({frame.tobytes() for frame in frames}) == len(things)


def test_wrong_grids_and_poses_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 8, 3\), expected \(8, 3, 3\)"):
        Raycaster(8, 3).look(grid(*["........"] * 3), (1, 1, 0))
    for pose in ((3, 0, 0), (0, 8, 0), (-1, 0, 0), (0, 0, 4)):
        with pytest.raises(ValueError, match=r"expected x, y in 3x8 cells and a heading 0 to 3"):
            Raycaster(8, 3).look(grid(*["..."] * 8), pose)
    with pytest.raises(ValueError, match=r"beyond MiniGrid's \(11, 6, 3\) objects, colours and states"):
        Raycaster(1, 1).look(np.array([[[1, 0, 3]]], np.uint8), (0, 0, 0))
    with pytest.raises(ValueError, match="codes or carried go beyond"):
        Raycaster(1, 1).look(grid("."), (0, 0, 0), (11, 0, 0))


# The environment


def first_person(world: str = "MiniGrid-ObjectRooms-v0", **kwargs: int) -> RaycastMiniGrid:
    env = gym.make(f"FirstPerson/{world}", **kwargs)
    assert isinstance(env, RaycastMiniGrid)
    return env


def walk(env: gym.Env, seed: int, steps: int = 60):
    """Yield frames and infos along a wanderer's walk."""
    rng = np.random.default_rng(seed)
    policy = WanderPolicy()
    yield env.reset(seed=seed)
    policy.reset(env, rng)
    for _ in range(steps):
        frame, _, terminated, truncated, info = env.step(policy.act(env))
        yield frame, info
        if terminated or truncated:
            yield env.reset()
            policy.reset(env, rng)


@pytest.mark.parametrize(
    "world",
    ["ObjectRooms", "MemoryS9", "MemoryS13", "DoorKey-6x6", "LavaCrossingS9N1", "Dynamic-Obstacles-6x6", "FourRooms"],
)
def test_registered_worlds_show_what_is_there(world: str) -> None:
    env = make_real(f"FirstPerson/MiniGrid-{world}-v0")
    assert isinstance(env, PixelEnv)
    for frame, info in walk(env, seed=3):
        inner = env.unwrapped
        assert frame.shape == (SIDE, SIDE, 3) and frame.dtype == np.uint8
        assert info["pose"].dtype == np.int32
        assert info["pose"].tolist() == [*inner.agent_pos, inner.agent_dir]
        there = inner.grid.encode().swapaxes(0, 1)
        seen = info["cells"][..., 3] > 0
        assert seen.any() and not info["cells"][~seen].any()
        wall = there[..., 0] == OBJECT_TO_IDX["wall"]
        np.testing.assert_array_equal(info["cells"][seen & ~wall][:, :3], there[seen & ~wall])
        np.testing.assert_array_equal(info["cells"][seen & wall][:, ::2] * [1, 0], there[seen & wall][:, ::2])


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_is_a_proper_gymnasium_environment() -> None:
    check_env(first_person(), skip_render_check=True)


def test_the_same_seed_gives_the_same_frames_and_infos_also_when_made_again_from_the_spec() -> None:
    env = first_person("MiniGrid-Dynamic-Obstacles-6x6-v0")
    again = gym.make(env.spec)
    for (frame, info), (other, other_info) in zip(walk(env, 5), walk(again, 5), strict=True):
        np.testing.assert_array_equal(frame, other)
        for name in ("pose", "cells", "carried"):
            np.testing.assert_array_equal(info[name], other_info[name])


def test_layouts_and_chance_are_those_of_minigrid() -> None:
    env = first_person("MiniGrid-Dynamic-Obstacles-6x6-v0")
    plain = gym.make("MiniGrid-Dynamic-Obstacles-6x6-v0")
    for _ in zip(walk(env, 7), walk(plain, 7), strict=True):
        np.testing.assert_array_equal(env.unwrapped.grid.encode(), plain.unwrapped.grid.encode())


def test_turning_four_times_gives_the_same_frame() -> None:
    env = first_person()
    frame, _ = env.reset(seed=1)
    turned = [env.step(Actions.right)[0] for _ in range(4)]
    np.testing.assert_array_equal(frame, turned[-1])
    assert len({picture.tobytes() for picture in turned}) == 4


def test_walls_have_colours_by_block_that_stay_for_an_episode() -> None:
    env = first_person()
    episodes = []
    for seed in (0, 1):
        colours: dict[tuple[int, int], set[int]] = {}
        for _, info in walk(env, seed, 150):
            for y, x in np.argwhere(info["cells"][..., 0] == OBJECT_TO_IDX["wall"]):
                colours.setdefault((y // WALL_BLOCK, x // WALL_BLOCK), set()).add(int(info["cells"][y, x, 1]))
        assert len(colours) > 12
        assert all(len(block) == 1 for block in colours.values())
        assert {colour for block in colours.values() for colour in block} == set(range(6))
        episodes.append(colours)
    assert episodes[0] != episodes[1]


def test_what_is_carried_is_shown_below_and_is_in_no_cell() -> None:
    env = RaycastMiniGrid(gym.make("MiniGrid-Empty-5x5-v0"))
    before, info = env.reset(seed=0)
    assert info["carried"].tolist() == list(NOTHING)
    env.unwrapped.grid.set(2, 1, ball := env.unwrapped.grid.get(0, 0).decode(*LETTERS["o"]))
    _, _, _, _, info = env.step(Actions.done)
    assert info["cells"][1, 2, :3].tolist() == list(ball.encode())
    after, _, _, _, info = env.step(Actions.pickup)
    assert info["carried"].tolist() == list(ball.encode())
    assert info["cells"][1, 2, 0] == OBJECT_TO_IDX["empty"]
    assert not (info["cells"][..., 0] == OBJECT_TO_IDX["ball"]).any()
    rows, columns = (before != after).any(-1).nonzero()
    assert rows.min() >= 50 and columns.min() >= 25 and columns.max() <= 38


def test_pictures_kept_by_the_caller_stay_as_they_are() -> None:
    env = first_person()
    frame, info = env.reset(seed=0)
    kept = [frame.copy(), info["cells"].copy(), info["carried"].copy()]
    for _ in range(3):
        env.step(Actions.right)
    for was, now in zip(kept, [frame, info["cells"], info["carried"]], strict=True):
        np.testing.assert_array_equal(was, now)
        assert now.flags.writeable and now.flags.c_contiguous


def test_collects_with_poses(tmp_path: Path) -> None:
    config = CollectConfig("FirstPerson/MiniGrid-ObjectRooms-v0", tmp_path / "data", 60, policy="wander", workers=1)
    data = collect(config)
    assert data.pose is not None and len(data.pose) >= 60


def test_metadata_says_where_the_eye_is_and_how_much_it_sees() -> None:
    env = make_real("FirstPerson/MiniGrid-ObjectRooms-v0")
    assert env.metadata["camera"] == {"fov": 90, "ahead": -EYE_BEHIND}
    assert "camera" not in gym.make("MiniGrid-ObjectRooms-v0").metadata


def test_other_worlds_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a MiniGrid environment"):
        RaycastMiniGrid(gym.make("CartPole-v1"))


@pytest.mark.parametrize("cell", [(3, 4), (2, 6), (0, 1), (3, 2), (1, 4)])
def test_variants_are_what_the_grids_with_other_things_look_like(cell: tuple[int, int]) -> None:
    instead = np.unique([*EVERYTHING.reshape(-1, 3), code("ball", "grey"), code("door", "blue")], axis=0)
    held = code("key", "red")
    for heading in range(4):
        where, pixels = Raycaster(6, 7).variants(EVERYTHING, (3, 2, heading), held, cell, instead)
        frames = np.stack(
            [look(put(EVERYTHING, cell[1], cell[0], one), (3, 2, heading), held).frame for one in instead]
        )
        np.testing.assert_array_equal(pixels, frames[:, where])
        assert (frames[:, ~where] == frames[0, ~where]).all()
        assert not where.any() or (pixels != pixels[0]).any((0, 2)).all()


def test_an_environment_tells_what_all_cells_hold() -> None:
    env = gym.make("FirstPerson/MiniGrid-DoorKey-6x6-v0")
    frame, info = env.reset(seed=3)
    codes = env.get_wrapper_attr("codes")
    np.testing.assert_array_equal(frame, look(codes, info["pose"], info["carried"]).frame)
    hidden = info["cells"][..., 3] == 0
    assert hidden.any()
    np.testing.assert_array_equal(codes[~hidden], info["cells"][~hidden][:, :3])
    kinds = codes[..., 0].ravel().tolist()
    assert [kinds.count(OBJECT_TO_IDX[name]) for name in ("key", "door", "goal", "unseen")] == [1, 1, 1, 0]
