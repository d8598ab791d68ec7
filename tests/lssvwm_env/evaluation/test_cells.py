"""What dreams show in each cell: read without error from real frames, and told apart by when it was seen."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

from lssvwm_env.datasets.recording import record_episode
from lssvwm_env.evaluation.cells import Grids, cell_report, decode, is_raycast, replay, sights
from lssvwm_env.evaluation.revisits import AGES, NEVER
from lssvwm_env.real import Raycaster, WanderPolicy, make_real
from lssvwm_models.data.openings import Openings

WORLD = "FirstPerson/MiniGrid-ObjectRooms-v0"
FRAMES = 24
EAST, SOUTH, WEST, NORTH = range(4)


def code(name: str, colour: str = "red") -> tuple[int, int, int]:
    return OBJECT_TO_IDX[name], COLOR_TO_IDX[colour], 0


EMPTY = (1, 0, 0)
THINGS = np.array(
    [EMPTY, code("wall"), code("wall", "blue"), code("ball"), code("ball", "green"), code("box")], np.uint8
)


def make() -> gym.Env:
    return make_real(WORLD, size=9, num_objects=5)


@cache
def recorded() -> Openings:
    """Two episodes; the second one is 6 frames shorter."""
    episodes = [
        record_episode(make(), WanderPolicy(), seed=seed, rng=np.random.default_rng(seed), length=length)
        for seed, length in ((3, FRAMES), (5, FRAMES - 6))
    ]
    index = [np.minimum(np.arange(FRAMES), len(episode) - 1) for episode in episodes]

    def side_by_side(name: str) -> np.ndarray:
        return np.stack([getattr(episode, name)[i] for episode, i in zip(episodes, index, strict=True)])

    valid = np.array([np.arange(FRAMES) < len(episode) for episode in episodes])
    seeds = np.array([episode.seed for episode in episodes])
    arrays = {name: side_by_side(name) for name in ("obs", "act", "rew", "terminated", "pose")}
    return Openings(**arrays, valid=valid, seeds=seeds, tiles=None)


@cache
def replayed() -> Grids:
    return replay(make(), recorded())


def drawn(*steps: tuple[tuple[int, int, int], dict[tuple[int, int], tuple[int, int, int]]]) -> tuple[Grids, np.ndarray]:
    """One world of 7x7 cells, its grids and its frames: a pose for each frame, and things in it by (x, y)."""
    codes = np.full((1, len(steps), 7, 7, 3), EMPTY, np.uint8)
    codes[:, :, [0, -1]] = code("wall", "blue")
    codes[:, :, :, [0, -1]] = code("wall", "blue")
    for t, (_, there) in enumerate(steps):
        for (x, y), thing in there.items():
            codes[0, t, y, x] = thing
    looks = [Raycaster(7, 7).look(codes[0, t], pose) for t, (pose, _) in enumerate(steps)]
    grids = Grids(
        codes,
        np.stack([look.cells[..., 3] for look in looks])[None],
        np.array([[pose for pose, _ in steps]], np.int32),
        np.full((1, len(steps), 3), EMPTY, np.uint8),
        np.ones((1, len(steps)), np.bool_),
    )
    return grids, np.stack([look.frame for look in looks])[None]


def test_the_same_actions_show_the_same_frames_and_what_all_cells_hold() -> None:
    grids = replayed()
    real = recorded()
    raycaster = Raycaster(9, 9)
    for b, t in np.argwhere(real.valid):
        sight = raycaster.look(grids.codes[b, t], grids.pose[b, t], grids.carried[b, t])
        np.testing.assert_array_equal(sight.frame, real.obs[b, t])
        np.testing.assert_array_equal(sight.cells[..., 3], grids.pixels[b, t])
    np.testing.assert_array_equal(grids.pose, real.pose)
    assert (grids.carried[..., 0] != EMPTY[0]).any()
    assert grids.valid is real.valid


def test_what_is_no_recording_of_the_environment_is_refused() -> None:
    real = recorded()
    obs = real.obs.copy()
    obs[1, 4, 0, 0] += 1
    with pytest.raises(ValueError, match="frame 4 of the episode of seed 5 is not what .* from their first frame on"):
        replay(make(), replace(real, obs=obs))
    with pytest.raises(ValueError, match="frame 0 of the episode of seed 4"):
        replay(make(), replace(real, seeds=np.array([4, 5])))
    above = make_real("MiniGrid-ObjectRooms-v0")
    assert is_raycast(make())
    assert not is_raycast(above)
    with pytest.raises(ValueError, match="not MiniGrid in first person"):
        replay(above, real)
    after = np.zeros_like(real.valid)
    after[:, :1] = True
    assert replay(make(), replace(real, valid=after)).pixels[0, 1:].tolist() == [replayed().pixels[0, 0].tolist()] * (
        FRAMES - 1
    )


@pytest.mark.parametrize("noise", [0, 25])
def test_real_frames_are_read_without_an_error(noise: float) -> None:
    real = recorded()
    frames = real.obs[:, 8:14] + np.random.default_rng(0).normal(0, noise, real.obs[:, 8:14].shape)
    tallies = cell_report(replayed(), frames.clip(0, 255).round().astype(np.uint8), 8)
    for name in ("walls", "wall_or_not", "objects", "empty"):
        estimate = tallies[name].estimate()
        assert estimate["value"] == 1
        assert estimate["n"] > 5


def test_cells_show_what_was_put_into_them() -> None:
    pose = (1, 3, EAST)
    grids, _ = drawn((pose, {(3, 3): code("ball")}))
    for thing in THINGS:
        _, frames = drawn((pose, {(3, 3): tuple(thing.tolist())}))
        read, counted = decode(grids, frames, THINGS)
        assert read[0, 0, 3, 3].tolist() == thing.tolist()
        assert counted[0, 0, 3, 3]


def test_what_cells_can_show_is_what_some_cell_holds_or_nothing() -> None:
    grids, _ = drawn(((1, 3, EAST), {}), ((1, 3, EAST), {(5, 5): code("box", "green")}))
    assert grids.things().tolist() == [list(EMPTY), list(code("wall", "blue")), list(code("box", "green"))]
    grids.codes[:] = code("ball")
    assert grids.things().tolist() == [list(EMPTY), list(code("ball"))]


def test_cells_count_that_are_clear_and_told_from_all_else() -> None:
    late = slice(FRAMES - 9, None)
    names = ("codes", "pixels", "pose", "carried", "valid")
    grids = Grids(*(getattr(replayed(), name)[:, late] for name in names))
    counted = decode(grids, recorded().obs[:, late], replayed().things())[1]
    clear = grids.clear()
    assert not (counted & ~clear).any()
    assert (int(clear.sum()), int(counted.sum())) == (118, 114)
    assert not counted[1, 3:].any()  # past the end


def test_only_cells_that_are_shown_clearly_count() -> None:
    grids, frames = drawn(((1, 3, EAST), {(3, 3): code("ball"), (4, 3): code("wall"), (2, 1): code("box")}))
    clear = grids.clear()[0, 0]
    assert clear[3].tolist() == [False, False, True, True, True, False, False]  # the agent's own is not one of them
    assert grids.pixels[0, 0, 1, 3] >= 12
    assert clear[1, 3]
    assert grids.pixels[0, 0, 1, 2] == 0  # to the side
    counted = decode(grids, frames, THINGS)[1][0, 0]
    assert not (counted & ~clear).any()

    for heading in range(4):  # of the ground beside, one sees a corner, but nothing that might stand there
        at = (2, 3) if heading != EAST else (3, 3)
        grids, _ = drawn(((*at, heading), {}))
        forward, right = [((1, 0), (0, 1)), ((0, 1), (-1, 0)), ((-1, 0), (0, -1)), ((0, -1), (1, 0))][heading]
        diagonal = [(at[1] + forward[1] + k * right[1], at[0] + forward[0] + k * right[0]) for k in (0, 1, 2)]
        inside = [cell for cell in diagonal if min(cell) > 0 and max(cell) < 6]
        assert [bool(grids.clear()[0, 0][cell]) for cell in inside] == [True, True, False][: len(inside)]


def test_a_cell_is_seen_if_the_context_shows_it_as_it_is_now() -> None:
    east, west = (1, 3, EAST), (1, 3, WEST)
    ball = {(4, 3): code("ball")}
    box = {(4, 3): code("box")}
    grids, _ = drawn((east, ball), (west, ball), (west, ball), (east, ball), (east, ball), (east, box), (east, box))
    age, new = sights(grids, 3)
    assert age[0, :, 3, 4].tolist() == [NEVER, 1, 2, 3, 1, NEVER, NEVER]
    assert new[0, :, 3, 4].tolist() == [True, False, False, False, False, False, False]  # a box was put there since
    age, new = sights(grids, 6)
    assert age[0, :, 3, 4].tolist() == [NEVER, 1, 2, 3, 1, NEVER, 1]
    # What was never in sight before is new: it is in sight now, and no older for being dreamt.
    grids, _ = drawn((west, ball), (east, ball), (east, ball))
    age, new = sights(grids, 1)
    assert age[0, :, 3, 4].tolist() == [NEVER] * 3
    assert new[0, :, 3, 4].all()
    # A glimpse is neither.
    grids.pixels[0, 0, 3, 4] = 3
    age, new = sights(grids, 1)
    assert age[0, :, 3, 4].tolist() == [NEVER] * 3
    assert new[0, :, 3, 4].tolist() == [True, False, False]


def test_right_cells_are_counted_by_kind_and_age() -> None:
    east, west = (1, 3, EAST), (1, 3, WEST)
    there = {(4, 3): code("ball"), (5, 1): code("wall")}
    grids, frames = drawn((east, there), *[(west, there)] * 9, (east, there), (east, there))
    tallies = cell_report(grids, frames[:, 10:], 10)
    value = {name: tally.estimate()["value"] for name, tally in tallies.items()}
    assert {value[name] for name in ("walls_seen", "wall_or_not_seen", "objects_seen", "empty_seen")} == {1}
    assert {name: tally.count.tolist() for name, tally in tallies.items() if name.startswith("objects")} == {
        "objects": [[1, 1]],
        "objects_seen": [[1, 1]],
        "objects_new": [[0, 0]],
        **{f"objects_age_{span}": [[0, 0]] for span in AGES},
        "objects_age_1_1": [[0, 1]],
        "objects_age_9_32": [[1, 0]],
    }
    assert tallies["walls_age_9_32"].count[0, 0] == tallies["walls_seen"].count[0, 0] > 5


@pytest.mark.parametrize(
    ("put", "lost"),
    [
        ({}, {}),
        ({(4, 3): code("ball", "green")}, {"objects": 1}),
        ({(4, 3): code("box")}, {"objects": 1}),
        ({(4, 3): EMPTY}, {"objects": 1}),
        ({(5, 1): code("wall", "blue")}, {"walls": 1}),
        ({(5, 1): EMPTY}, {"walls": 1, "wall_or_not": 1}),
        ({(4, 4): code("box")}, {"empty": 1}),
        ({(4, 3): code("wall")}, {"objects": 1, "walls": 1, "wall_or_not": 2}),  # it hides the wall behind
        ({(4, 3): code("box"), (6, 3): code("wall")}, {"objects": 1, "walls": 1}),  # one before the other
        ({(3, 3): code("wall")}, {"objects": 1, "walls": 3, "wall_or_not": 7, "empty": 3}),
    ],
)
def test_what_is_dreamt_wrong_is_counted_where_it_belongs(put: dict, lost: dict[str, int]) -> None:
    elsewhere = {(1, 1): code("ball", "green"), (1, 2): code("box"), (1, 4): code("key")}  # behind the agent
    there = {(4, 3): code("ball"), (5, 1): code("wall")} | elsewhere
    grids, _ = drawn(*[((2, 3, EAST), there)] * 2)
    _, dreamt = drawn(((2, 3, EAST), there | put))
    tallies = cell_report(grids, dreamt, 1)
    for name in ("walls", "wall_or_not", "objects", "empty"):
        tally = tallies[f"{name}_seen"]
        assert (tally.count - tally.amount).tolist() == [[lost.get(name, 0)]], name


def test_frames_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames are \(2, 9, 64, 64, 3\), expected"):
        cell_report(replayed(), recorded().obs[:, :9], FRAMES - 8)
