"""Frames are MiniGrid's own, decode back to exact tiles, and lie where `world_cells` says."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

from lssvwm_env.real import PixelMiniGrid, TilePalette, make_real, tile_palette, world_cells

PALETTE = tile_palette()
WORLDS = [
    ("MiniGrid-MemoryS9-v0", {}),
    ("MiniGrid-ObjectRooms-v0", {}),
    ("MiniGrid-DoorKey-6x6-v0", {}),
    ("MiniGrid-LavaCrossingS9N1-v0", {}),
    ("MiniGrid-BlockedUnlockPickup-v0", {}),
    ("MiniGrid-ObjectRooms-v0", {"size": 5, "rooms": 1, "num_objects": 3}),
]


def random_play(env_id: str, kwargs: dict, steps: int = 150):
    """Yield env, frame and info along a random walk that often handles what is before the agent."""
    env = make_real(env_id, **kwargs)
    rng = np.random.default_rng(0)
    frame, info = env.reset(seed=0)
    yield env, frame, info
    for seed in range(1, steps):
        action = rng.choice(7, p=[0.15, 0.15, 0.4, 0.1, 0.05, 0.1, 0.05])
        frame, _, terminated, truncated, info = env.step(int(action))
        yield env, frame, info
        if terminated or truncated:
            frame, info = env.reset(seed=seed)


@pytest.mark.parametrize(("env_id", "kwargs"), WORLDS)
def test_frames_are_minigrids_and_decode_exactly(env_id: str, kwargs: dict) -> None:
    frames = []
    tiles = []
    for env, frame, info in random_play(env_id, kwargs):
        np.testing.assert_array_equal(frame[:56, :56], env.unwrapped.get_frame(tile_size=8, agent_pov=True))
        assert not frame[56:].any() and not frame[:, 56:].any()
        frames.append(frame)
        tiles.append(info["tiles"])
    ids, distance = PALETTE.decode(np.stack(frames))
    np.testing.assert_array_equal(ids, PALETTE.encode(np.stack(tiles)))
    assert not distance.any()


@pytest.mark.parametrize(("env_id", "kwargs"), WORLDS)
def test_world_cells_lie_under_the_view(env_id: str, kwargs: dict) -> None:
    seen = set()
    for env, _, info in random_play(env_id, kwargs):
        seen.add(int(info["pose"][2]))
        world = env.unwrapped
        cells = world_cells(info["pose"])
        assert cells.shape == (7, 7, 2)
        np.testing.assert_array_equal(cells[6, 3], world.agent_pos)
        np.testing.assert_array_equal(cells[5, 3], world.front_pos)
        visible = info["tiles"][..., 0] != OBJECT_TO_IDX["unseen"]
        visible[6, 3] = False  # shows what the agent carries
        for row, column in np.argwhere(visible):
            x, y = cells[row, column]
            if 0 <= x < world.width and 0 <= y < world.height:  # MiniGrid shows walls outside
                thing = world.grid.get(x, y)
                code = thing.encode() if thing else (OBJECT_TO_IDX["empty"], 0, 0)
                assert tuple(info["tiles"][row, column]) == code
    assert seen == {0, 1, 2, 3}


def test_world_cells_takes_many_poses() -> None:
    poses = np.array([[[1, 2, 0], [3, 4, 1]], [[5, 6, 2], [7, 8, 3]]])
    cells = world_cells(poses)
    assert cells.shape == (2, 2, 7, 7, 2)
    np.testing.assert_array_equal(cells[1, 0], world_cells(poses[1, 0]))


def test_decode_finds_the_nearest_tile_of_noisy_frames() -> None:
    frames, tiles = zip(*((frame, info["tiles"]) for _, frame, info in random_play(*WORLDS[1], 40)), strict=True)
    noise = np.random.default_rng(0).normal(0, 8, (40, 64, 64, 3))
    noisy = (np.stack(frames) + noise).clip(0, 255).astype(np.uint8).reshape(8, 5, 64, 64, 3)
    ids, distance = PALETTE.decode(noisy)
    np.testing.assert_array_equal(ids.reshape(40, 7, 7), PALETTE.encode(np.stack(tiles)))
    row = 2
    column = 4
    tile = noisy[1, 3, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].astype(float)
    expected = np.linalg.norm(tile - PALETTE.images[ids[1, 3, row, column]])
    assert distance[1, 3, row, column] == pytest.approx(expected, rel=1e-4)


def test_agent_stays_the_agent_even_in_a_wrong_frame() -> None:
    black, _ = PALETTE.decode(np.zeros((64, 64, 3), np.uint8))
    agents = PALETTE.encode(np.stack([info["tiles"] for _, _, info in random_play(*WORLDS[1])]))[:, 6, 3]
    assert black[6, 3] >= agents.min()
    assert (np.delete(black.ravel(), 6 * 7 + 3) < agents.min()).all()


def test_ids_name_distinct_pictures_and_objects() -> None:
    assert len(np.unique(PALETTE.images.reshape(len(PALETTE), -1), axis=0)) == len(PALETTE)
    view = np.zeros((7, 7, 3), np.uint8)
    view[6, 3] = OBJECT_TO_IDX["key"], COLOR_TO_IDX["blue"], 0
    names = ["unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava"]
    colours = [0, 0, 5, 1, 2, 2, 2, 2, 1, 0]
    for column, (name, colour) in enumerate(zip(names, colours, strict=True)):
        view[column // 7, column % 7] = OBJECT_TO_IDX[name], colour, 0
    ids = PALETTE.encode(view)
    assert ids[0, 0] == TilePalette.UNSEEN
    expected = [False] * 4 + [True] * 6
    assert PALETTE.is_object(ids).ravel()[:10].tolist() == expected
    assert not PALETTE.is_object(ids)[6, 3]


def test_palette_refuses_what_cannot_be() -> None:
    view = np.zeros((7, 7, 3), np.uint8)
    with pytest.raises(ValueError, match=r"codes \[\[0, 0, 0\]\], which cannot be there"):
        PALETTE.encode(view)  # the agent's own cell is always seen
    view[0, 0] = 200
    with pytest.raises(ValueError, match="beyond MiniGrid's"):
        PALETTE.encode(view)
    with pytest.raises(ValueError, match=r"shape \(7, 3\)"):
        PALETTE.encode(view[0])
    with pytest.raises(ValueError, match=r"float64 \(64, 64, 3\), expected uint8"):
        PALETTE.decode(np.zeros((64, 64, 3)))


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_is_a_proper_gymnasium_environment() -> None:
    check_env(make_real("MiniGrid-MemoryS9-v0"), skip_render_check=True)


def test_pixel_minigrid_refuses_other_views() -> None:
    with pytest.raises(ValueError, match="agent_view_size=7"):
        PixelMiniGrid(gym.make("MiniGrid-MemoryS9-v0", agent_view_size=5))
    with pytest.raises(ValueError, match="PixelMiniGrid got"):
        PixelMiniGrid(gym.make("CartPole-v1"))
