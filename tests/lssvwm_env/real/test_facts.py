"""Facts: what has the documented form is taken, and of all else what came is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lssvwm_env.real import make_real
from lssvwm_env.real.facts import facts_of, read_facts


def read(*infos: dict[str, Any]):
    return read_facts([facts_of(info) for info in infos])


TILES = np.zeros((7, 7, 3), np.uint8)


def test_those_of_minigrid_have_the_form() -> None:
    env = make_real("MiniGrid-DoorKey-6x6-v0")
    infos = [env.reset(seed=seed)[1] for seed in range(4)]
    arrays, refused = read(*infos)
    assert refused == {} and arrays["pose"].dtype == np.int32 and arrays["tiles"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["pose"], [info["pose"] for info in infos])
    np.testing.assert_array_equal(arrays["tiles"], [info["tiles"] for info in infos])


@pytest.mark.parametrize("pose", [[1, 2, 3], (0, -5, 0), np.array([9, 9, 1], np.uint8)])
def test_any_integers_can_be_a_pose(pose: Any) -> None:
    arrays, refused = read({"pose": pose}, {"pose": pose})
    assert arrays["pose"].tolist() == [list(pose)] * 2 and arrays["pose"].dtype == np.int32 and refused == {}


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        (np.linspace(0, 1, 7), "float64 (7,)"),
        ([True, False, True], "bool (3,) [True, False, True]"),
        ([1, 2, 4], "int64 (3,) [1, 2, 4]"),
        ([1, 2, -1], "int64 (3,) [1, 2, -1]"),
        ([2**31, 0, 0], "int64 (3,) [2147483648, 0, 0]"),
        ([2**70, 0, 0], "object (3,)"),
        ([1, 2], "int64 (2,) [1, 2]"),
        (3, "int64 () 3"),
        ([[1, 2, 3]], "int64 (1, 3) [[1, 2, 3]]"),
        (None, "object () None"),
        ("north", "<U5 () north"),
        ([[1], [2, 3]], "object () None"),
        ({"x": 1}, "object ()"),
    ],
)
def test_poses_of_another_meaning_are_left_out_and_named(pose: Any, words: str) -> None:
    arrays, refused = read({"pose": [0, 0, 0]}, {"pose": pose})
    assert arrays == {} and f"info['pose'] is {words}" in refused["pose"] and "with frame 1" in refused["pose"]


@pytest.mark.parametrize(
    "pose", [[0.5, -2.25, 3.0], np.array([1, 2, -6.28], np.float32), np.array([1e9, 0, 6.28]), (np.float16(1), 2, 0)]
)
def test_floats_are_poses_in_the_plane(pose: Any) -> None:
    arrays, refused = read({"pose": [0, 0, 9]}, {"pose": pose}, {"lssvwm/other": 1, "pose": np.float64([0, 0, 0])})
    assert refused["pose"].startswith("info['pose'] is int64 (3,) [0, 0, 9] with frame 0, expected floats (3,): x, y, ")
    arrays, refused = read({"pose": [0, 0, 3]}, {"pose": pose})  # integers can be floats
    np.testing.assert_array_equal(arrays["pose"], np.array([[0, 0, 3], pose], np.float32))
    assert arrays["pose"].dtype == np.float32 and refused == {}


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        (
            [0.0, 0.0, 90.0],
            "float64 (3,) [0.0, 0.0, 90.0] with frame 1, expected floats (3,): x, y, and the angle in rad",
        ),
        ([0.0, np.nan, 0.0], "float64 (3,) [0.0, nan, 0.0]"),
        ([np.inf, 0.0, 0.0], "float64 (3,) [inf, 0.0, 0.0]"),
        ([1.0, 2.0, 0.0, 3.0], "float64 (4,) with frame 1, expected floats (3,)"),
        ([-1.1e9, 0.0, 0.0], "float64 (3,) [-1100000000.0, 0.0, 0.0]"),
        (None, "object () None with frame 1, expected floats (3,)"),
    ],
)
def test_what_is_no_pose_in_the_plane_is_said(pose: Any, words: str) -> None:
    arrays, refused = read({"pose": [0.5, 0.5, 0.5]}, {"pose": pose})
    assert arrays == {} and f"info['pose'] is {words}" in refused["pose"]


def test_where_nothing_tells_what_was_meant_both_kinds_of_poses_are_named() -> None:
    _, refused = read({"pose": "north"})
    assert "expected integers (3,): x, y, and the heading in quarter turns, 0 to 3 or floats (3,)" in refused["pose"]


@pytest.mark.parametrize(
    "tiles",
    [
        np.zeros((7, 7, 3), np.int64),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((7, 7), np.uint8),
        np.full((7, 7, 3), 200, np.uint8),
        np.eye(7, dtype=np.uint8)[..., None] * np.array([0, 6, 0], np.uint8),
        "tiles",
    ],
)
def test_tiles_of_another_meaning_are_left_out(tiles: Any) -> None:
    arrays, refused = read({"pose": [0, 0, 0], "tiles": tiles})
    assert list(arrays) == ["pose"] and list(refused) == ["tiles"]


def test_names_that_say_what_is_meant_go_before_others() -> None:
    arm = np.linspace(0, 1, 7)
    arrays, refused = read({"pose": arm, "lssvwm/pose": [1, 2, 3]}, {"pose": [0, 0, 0], "lssvwm/pose": [4, 5, 0]})
    assert arrays["pose"].tolist() == [[1, 2, 3], [4, 5, 0]] and refused == {}
    arrays, refused = read({"pose": [0, 0, 0]}, {"pose": [0, 0, 0], "lssvwm/pose": [4, 5, 0]})
    assert arrays == {} and refused["pose"].startswith("info['lssvwm/pose'] is missing with frame 0")
    arrays, refused = read({"tiles": TILES, "lssvwm/tiles": TILES.astype(float)})
    assert arrays == {} and refused["tiles"].startswith("info['lssvwm/tiles'] is float64 (7, 7, 3) with frame 0")


def test_what_is_not_there_is_not_said() -> None:
    assert read({}, {"other": 1}) == ({}, {})
