"""ViZDoom's mazes follow their seed, say where the eye is as grid poses do, and look as a level camera sees them."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lssvwm_env.real import RoamPolicy, make_real
from lssvwm_env.real.first_person import vizdoom_maze
from lssvwm_env.real.first_person.vizdoom_maze import VizDoomMazeEnv, maze

NOOP, FORWARD, LEFT, RIGHT = range(4)
WALK = [FORWARD] * 5 + [RIGHT, FORWARD, LEFT, LEFT, FORWARD]


@pytest.fixture(scope="module")
def env() -> Iterator[VizDoomMazeEnv]:
    env = VizDoomMazeEnv(size=5)
    yield env
    env.close()
    env.close()


def walk(env, seed, actions=WALK):
    steps = [env.reset(seed=seed), *map(env.step, actions)]
    return np.stack([step[0] for step in steps]), [step[-1] for step in steps]


def test_a_seed_fixes_all_of_it(env):
    frames, infos = walk(env, 3)
    again, infos_again = walk(env, 3)
    other, infos_other = walk(env, 4)
    assert np.array_equal(frames, again)
    assert not np.array_equal(frames[0], other[0])
    for one, same, another in zip(infos, infos_again, infos_other, strict=True):
        assert all(np.array_equal(one[key], same[key]) for key in one)
        assert not np.array_equal(one["layout"], another["layout"])


@pytest.mark.parametrize("size", [5, 9, 31])
def test_mazes_are_in_one_piece_and_have_loops(size):
    layout = maze(size, np.random.default_rng(0))
    assert layout.shape == (size + 2, size + 2)
    assert layout[[0, -1]].all() and layout[:, [0, -1]].all()
    free = layout == 0
    assert free[1::2, 1::2].all()
    assert not free[2:-1:2, 2:-1:2].any()
    reached = np.zeros_like(free)
    reached[1, 1] = True
    for _ in range(size**2):
        around = np.pad(reached, 1)
        reached = free & (around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:] | reached)
    assert np.array_equal(reached, free)
    cells = ((size + 1) // 2) ** 2
    tree = 2 * cells - 1
    assert free.sum() >= tree
    assert free.sum() > tree or size == 5  # which has few walls to leave out


def test_poses_have_the_axes_of_grid_poses(env):
    for seed in range(4):
        _, infos = walk(env, seed, [RIGHT] * 3 + [LEFT] + [FORWARD] * 12)
        poses = np.stack([info["pose"] for info in infos])
        layout = infos[0]["layout"]
        begun = poses[0]
        assert np.array_equal(begun[:2], np.rint(begun[:2]))
        assert np.degrees(begun[2]) % 90 == pytest.approx(0, abs=1e-3)
        turned = np.degrees(np.unwrap(poses[:5, 2]) - begun[2])
        assert turned == pytest.approx([0, 12, 24, 36, 24], abs=0.1)
        assert poses[:5, :2] == pytest.approx(np.tile(begun[:2], (5, 1)))
        went = poses[8, :2] - poses[4, :2]
        ahead = np.array([math.cos(poses[4, 2]), math.sin(poses[4, 2])])
        assert went @ ahead > 0.02
        x, y = np.rint(poses[:, :2]).astype(int).T
        assert not layout[y, x].any()
        assert (np.abs(poses[:, 2]) <= math.pi + 1e-6).all()
        armor_x, armor_y = infos[0]["armor"].astype(int)
        assert layout[armor_y, armor_x] == 0
    kinds = {name: (value.dtype, value.shape) for name, value in infos[0].items()}
    assert kinds == {"pose": (np.float32, (3,)), "layout": (np.uint8, (7, 7)), "armor": (np.float32, (2,))}


def unlike(before, after, stretched=1.0, wide=1.0, aside=0.0):
    """How unlike a frame is to what the one before should look like after a turn by 12 degrees to the right.

    If a frame is so much higher and wider than 90 degrees, and its middle so much to the right of where it looks.
    """
    slopes = (2 * np.arange(64) + 1) / 64 - 1
    angles = np.arctan(wide * (slopes - aside))
    columns = np.tan(angles + math.radians(12)) / wide + aside
    rows = slopes[:, None] * stretched * np.cos(angles) / np.cos(angles + math.radians(12))
    inside = (np.abs(columns) < 0.98) & (np.abs(rows) < 0.98)
    x, y = (np.rint((part + 1) * 32 - 0.5).clip(0, 63).astype(int) for part in (columns, rows))
    return np.abs(before[y, x[None]] - after).mean(-1)[inside].mean()


def test_frames_turn_as_those_of_a_level_camera_of_90_degrees_do(env):
    """A view from the same place is the same picture, bent; only with this field of view, on both axes, does it fit."""
    env.reset(seed=0)
    turned = [env.step(RIGHT)[0].astype(float) for _ in range(24)]

    def fits(**wrong):
        return np.mean([unlike(before, after, **wrong) for before, after in pairwise(turned)])

    right = fits()
    assert right < 12
    for stretched in (0.85, 1.15):
        assert fits(stretched=stretched) > right
    for wide in (0.85, 1.15):
        assert fits(wide=wide) > right
    for aside in (-0.1, 0.1):
        assert fits(aside=aside) > right


def test_the_eye_does_not_go_up_and_down(env):
    vizdoom = pytest.importorskip("vizdoom")
    env.reset(seed=2)
    heights = set()
    for _ in range(12):
        env.step(FORWARD)
        heights.add(env._game.get_game_variable(vizdoom.GameVariable.CAMERA_POSITION_Z))
    assert len(heights) == 1


def test_a_map_has_a_line_for_every_face_of_a_wall_and_the_textures_of_blocks():
    layout = maze(9, np.random.default_rng(0))
    textures = vizdoom_maze._textures(layout, np.random.default_rng(0))
    assert textures.shape[0] >= len(layout)
    assert (textures[:3, :3] == textures[0, 0]).all() and len(set(textures.ravel().tolist())) > 4
    text = vizdoom_maze._map(layout, textures, np.array([1, 2]), 270, np.array([3, 1]))
    free = layout == 0
    faces = sum((free & np.roll(layout == 1, shift, axis)).sum() for shift in (-1, 1) for axis in (0, 1))
    assert text.count("linedef {") == text.count("sidedef {") == faces
    assert "type = 1; x = 240.0; y = -144.0; angle = 270;" in text
    assert "type = 2019; x = 144.0; y = -336.0;" in text
    for texture in set(textures[:11, :11][free].tolist()):
        seen_from = free & (textures[:11, :11] == texture)
        walls = sum((seen_from & np.roll(layout == 1, shift, axis)).sum() for shift in (-1, 1) for axis in (0, 1))
        assert text.count(f'"{texture}"') == walls


def test_the_armor_ends_an_episode(env):
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(NOOP)
    assert (reward, terminated, truncated) == (0.0, False, False)
    env._armor = info["pose"][:2] + 0.4
    assert not env.step(NOOP)[2]
    env._armor = info["pose"][:2] + 0.3
    _, reward, terminated, truncated, _ = env.step(NOOP)
    assert (reward, terminated, truncated) == (1.0, True, False)
    limits = {size: gym.spec(f"VizDoomMaze/{size}x{size}-v0").max_episode_steps for size in (9, 13)}
    assert limits == {9: 1000, 13: 3000}


def test_renders_the_latest_frame(env):
    env.reset(seed=0)
    assert env.render() is None
    shown = VizDoomMazeEnv(size=5, render_mode="rgb_array")
    assert shown.render() is None
    shown.reset(seed=0)
    frame, *_ = shown.step(RIGHT)
    assert np.array_equal(shown.render(), frame)
    shown.close()


def test_is_an_environment_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    made = make_real("VizDoomMaze/9x9-v0")
    with pytest.raises(gym.error.ResetNeeded):
        made.unwrapped.step(FORWARD)
    check_env(made.unwrapped, skip_render_check=True)
    with pytest.raises(ValueError, match="forward_right"):
        made.unwrapped.step(6)
    folder = Path(made.unwrapped._folder.name)
    made.close()
    assert not folder.exists()
    assert os.listdir(tmp_path) == []


def test_the_roaming_policy_gets_about():
    env = make_real("VizDoomMaze/9x9-v0")
    env.reset(seed=1)
    env.unwrapped._armor = np.full(2, -9, np.float32)  # nowhere
    policy = RoamPolicy()
    policy.reset(env, np.random.default_rng(0))
    cells = set()
    for _ in range(250):
        _, _, _, _, info = env.step(policy.act(env))
        cells.add(tuple(np.rint(info["pose"][:2]).astype(int).tolist()))
    env.close()
    assert len(cells) > 12


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with pytest.raises(ValueError, match=r'VizDoomMaze/9x9-v0 .*: pip install "lssvwm-env\[vizdoom\]"'):
        make_real("VizDoomMaze/9x9-v0")


@pytest.mark.parametrize("size", [3, 8, 33])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"size {size}, expected an odd number from 5 to 31"):
        VizDoomMazeEnv(size=size)
