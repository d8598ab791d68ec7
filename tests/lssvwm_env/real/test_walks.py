"""Scripted walks come back to where they began, and look again exactly when they say."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from minigrid.core.actions import Actions

from lssvwm_env.evaluation.fidelity import last_seen
from lssvwm_env.evaluation.memory.recordings import World, record_walk
from lssvwm_env.real import world_cells
from lssvwm_env.real.walks import LookAgain, OutAndBack
from lssvwm_models.data.splits import SPLITS

ROOMS = World("rooms", "MiniGrid-ObjectRooms-v0", {"size": 9, "num_objects": 5})
MEMORY = World("memory", "MiniGrid-MemoryS9-v0")
SEED = SPLITS["test"].start


@pytest.mark.parametrize("world", [ROOMS, MEMORY])
@pytest.mark.parametrize("n", [1, 2, 31])
def test_the_way_back_is_the_way_out_reversed(world: World, n: int) -> None:
    walk = OutAndBack(n)
    for seed in range(SEED, SEED + 3):
        played = record_walk(world.make(), walk, 0, seed, np.random.default_rng(seed))
        frames = played.frames[0]
        pose = played.pose[0]
        actions = played.act[0]
        assert len(frames) == walk.context + walk.horizon
        np.testing.assert_array_equal(pose[-1], pose[0])
        np.testing.assert_array_equal(frames[-1], frames[0])
        assert set(actions[1:]) <= {Actions.left, Actions.right, Actions.forward}  # nothing is touched
        turning = walk.context - 1
        out = pose[4 : turning + 1]
        back = pose[turning + 2 : turning + 3 + n]
        np.testing.assert_array_equal(back[:, :2], out[::-1, :2])
        np.testing.assert_array_equal(back[:, 2], (out[::-1, 2] + 2) % 4)


def test_the_way_out_wanders_far() -> None:
    played = record_walk(ROOMS.make(), OutAndBack(60), 0, SEED, np.random.default_rng(0))
    cells = {tuple(cell) for cell in played.pose[0, :65, :2]}
    assert len(cells) > 12


@pytest.mark.parametrize("gap", [7, 8, 9, 32])
def test_the_cue_was_last_seen_gap_frames_ago(gap: int) -> None:
    walk = LookAgain(gap)
    cue = (1, 4 - 1)
    for seed in range(SEED, SEED + 4):
        played = record_walk(MEMORY.make(), walk, 0, seed, np.random.default_rng(seed))[
            :, -walk.context - walk.horizon :
        ]
        at_cue = (world_cells(played.pose) == cue).all(-1)
        in_sight = (at_cue & played.visible).any((0, 2, 3))
        assert in_sight[0] and in_sight[walk.context :].all()
        assert not in_sight[walk.context - gap + 1 : walk.context].any()
        age = last_seen(played.pose, played.visible, until=walk.context)
        assert age[0, walk.context][at_cue[0, walk.context]] == gap
        assert played.tiles[at_cue & played.visible][-1, 0] in (5, 6)  # a key or a ball


def test_walks_refuse_what_cannot_be() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        OutAndBack(0)
    with pytest.raises(ValueError, match="gap=6 must be at least 8"):
        LookAgain(6)
    rooms = ROOMS.make()
    rooms.reset(seed=0)
    with pytest.raises(ValueError, match="expected a Memory environment"):
        LookAgain(8).plan(rooms.unwrapped, rng)  # type: ignore[arg-type]
    short = gym.make("MiniGrid-MemoryS7-v0")
    short.reset(seed=0)
    with pytest.raises(ValueError, match="too short for gap=8"):
        LookAgain(8).plan(short.unwrapped, rng)
