"""Memory Maze is the published one, follows its seed, and says where its agent is as grid poses do."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_env.real import make_real
from lssvwm_env.real.first_person import memory_maze
from lssvwm_env.real.first_person.memory_maze import MemoryMazeEnv

NOOP, FORWARD, LEFT, RIGHT = range(4)
SEED, WAY = 8, [RIGHT] * 5 + [FORWARD] * 4  # to the target that is asked for first


@pytest.fixture(scope="module")
def env() -> Iterator[MemoryMazeEnv]:
    pytest.importorskip("labmaze", reason="the extra memory-maze is not installed")
    env = MemoryMazeEnv()
    yield env
    env.close()
    env.close()


def walk(env, seed, actions):
    steps = [env.reset(seed=seed), *map(env.step, actions)]
    frames, infos = [step[0] for step in steps], [step[-1] for step in steps]
    return frames, [step[1] for step in steps[1:]], infos


def test_is_the_published_world(env):
    walk(env, SEED + 1, WAY)  # what was before leaves no trace
    frames, rewards, infos = walk(env, SEED, WAY)
    seed = int(gym.utils.seeding.np_random(SEED)[0].integers(2**31))
    published = memory_maze._tasks().memory_maze_9x9(seed=seed)  # its targets look at every contact
    steps = [published.reset(), *map(published.step, WAY)]
    published.close()
    assert all(np.array_equal(frame, step.observation["image"]) for frame, step in zip(frames, steps, strict=True))
    assert rewards == [step.reward for step in steps[1:]] == [0] * 8 + [1]
    asked = [info["target_color"].tolist() for info in infos]
    assert asked[0] == asked[-2] != asked[-1]
    assert asked == [np.rint(255 * step.observation["target_color"]).tolist() for step in steps]


def test_poses_layout_and_targets_have_the_axes_of_grid_poses(env):
    _, _, infos = walk(env, SEED, WAY)
    poses = [info["pose"] for info in infos]
    for before, after, action in zip(poses, poses[1:], WAY, strict=False):
        (x, y), turned = after[:2] - before[:2], math.remainder(after[2] - before[2], math.tau)
        if action == RIGHT:
            assert 0.1 < turned < 0.4
            assert math.hypot(x, y) < 0.01
        elif math.hypot(x, y) > 0.1:  # no longer turning
            assert math.atan2(y, x) == pytest.approx(after[2], abs=0.05)
    for info in infos:
        asked = info["target_colors"].tolist().index(info["target_color"].tolist())
        assert np.array_equal(info["target"], info["targets"][asked])
    last = infos[-2]  # the reward follows
    wanted = last["target_colors"].tolist().index(last["target_color"].tolist())
    assert math.dist(poses[-1][:2], last["targets"][wanted]) < 0.4 < math.dist(poses[0][:2], last["targets"][wanted])
    drawn = np.array(env._world.task.root_entity.maze.entity_layer)  # as text, from the top down
    assert np.array_equal(last["layout"], ~np.isin(drawn, [" ", "P", "G"]))
    x, y = np.rint(last["targets"].T).astype(int)
    assert set(drawn[y, x]) == {"G"}
    assert drawn[round(poses[0][1]), round(poses[0][0])] == "P"
    kinds = {name: (value.dtype, value.shape) for name, value in last.items()}
    assert kinds == {
        "pose": (np.float32, (3,)),
        "layout": (np.uint8, (11, 11)),
        "targets": (np.float32, (3, 2)),
        "target": (np.float32, (2,)),
        "target_colors": (np.uint8, (3, 3)),
        "target_color": (np.uint8, (3,)),
    }


def test_looks_the_same_in_another_process(env):
    program = (
        "from lssvwm_env.real.first_person.memory_maze import MemoryMazeEnv; import hashlib\n"
        f"env = MemoryMazeEnv(); frames = [env.reset(seed={SEED})[0], *(env.step(action)[0] for action in {WAY})]\n"
        "print(hashlib.sha256(b''.join(frames)).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    frames, _, _ = walk(env, SEED, WAY)
    assert there.stdout.split() == [hashlib.sha256(b"".join(frames)).hexdigest()]
    assert there.stderr == ""  # no warning at every reset


def test_nothing_but_the_registered_limit_ends_an_episode(env):
    env.reset(seed=SEED)
    env._world.physics.data.time = 1e4
    for _ in range(2):
        _, _, terminated, truncated, info = env.step(NOOP)
        assert (terminated, truncated) == (False, False)
    assert np.array_equal(info["pose"], env.step(NOOP)[-1]["pose"])
    limits = {size: gym.spec(f"MemoryMaze/{size}x{size}-v0").max_episode_steps for size in (9, 11, 13, 15)}
    assert limits == {9: 1000, 11: 2000, 13: 3000, 15: 4000}


def test_is_an_environment_like_others(env):
    with pytest.raises(ValueError, match="forward_right"):
        env.step(6)
    made = make_real("MemoryMaze/11x11-v0")
    with pytest.raises(gym.error.ResetNeeded):
        made.unwrapped.step(FORWARD)
    frame, info = made.reset(seed=0)
    assert made.preprocessing == "none"
    assert (frame.shape, made.action_space) == ((64, 64, 3), gym.spaces.Discrete(6))
    assert info["layout"].shape == (13, 13)
    made.close()
    assert "memory_maze" not in sys.modules and "gym" not in sys.modules  # but for whoever imports them
    assert "MemoryMaze-9x9-v0" not in gym.registry


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_maze, "_tasks", memory_maze._tasks.__wrapped__)
    monkeypatch.setitem(sys.modules, "memory_maze", None)
    with pytest.raises(ValueError, match=r'MemoryMaze/9x9-v0 .*: pip install "lssvwm-env\[memory-maze\]"'):
        make_real("MemoryMaze/9x9-v0")


def test_says_what_draws(monkeypatch: pytest.MonkeyPatch):
    def fails(**_):
        raise RuntimeError("no display")

    monkeypatch.setitem(os.environ, "MUJOCO_GL", "egl")
    with pytest.raises(
        gym.error.DependencyNotInstalled, match=r"MUJOCO_GL=egl \(no display\).*mujoco below 4.*libegl1"
    ):
        memory_maze._world(
            SimpleNamespace(memory_maze_9x9=fails, labmaze_textures=SimpleNamespace(WallTextures=dict)), 9
        )


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"size 10, expected one of \[9, 11, 13, 15\]"):
        MemoryMazeEnv(size=10)
