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
        (np.array([1.0, 2.0, 0.0], np.float32), "float32 (3,) [1.0, 2.0, 0.0]"),
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
