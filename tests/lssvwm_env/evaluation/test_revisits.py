"""Revisits: near enough in place and direction, however poses are told."""

from __future__ import annotations

import numpy as np
import pytest

from lssvwm_env.evaluation.revisits import NEVER, revisits

HALF = np.pi / 2


def test_a_way_out_and_back() -> None:
    out = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (2, 0, 1), (2, 0, 2)]
    back = [(1, 0, 2), (0, 0, 2), (0, 0, 3), (0, 0, 0), (1, 0, 0), (3, 0, 0)]
    grid = np.array([out + back], np.int32)
    found = revisits(grid, 5)
    assert found.age.tolist() == [[NEVER, NEVER, NEVER, 8, 8, NEVER]]
    assert found.revisited.tolist() == [[False, False, False, True, True, False]]
    assert found.nearest[0, 3:].tolist() == [0, 1, 2]
    plane = revisits((grid * (1, 1, HALF)).astype(np.float32), 5)
    np.testing.assert_array_equal(plane.age, found.age)
    np.testing.assert_array_equal(plane.nearest, found.nearest)


@pytest.mark.parametrize(
    ("pose", "revisited"),
    [
        ((0.5, 0, 0), True),
        ((0.3, 0.4, 0), True),
        ((0.36, 0.36, 0), False),
        ((0, 0, np.radians(20)), True),
        ((0, 0, np.radians(-20)), True),
        ((0, 0, np.radians(21)), False),
        ((0, 0, 2 * np.pi), True),
        ((0.5, 0, np.radians(359)), True),
    ],
)
def test_half_a_cell_and_20_degrees_are_near(pose: tuple[float, float, float], revisited: bool) -> None:
    found = revisits(np.array([[(9, 9, 0), (0, 0, 0), pose]]), 2)
    assert found.revisited.tolist() == [[revisited]] and found.age.tolist() == [[1 if revisited else NEVER]]


def test_the_nearest_counts_place_and_direction_and_the_latest_of_equals() -> None:
    context = [(0, 0, 0), (0.4, 0, 0), (0, 0, np.radians(15)), (0, 0, 0), (9, 9, 1)]
    assert revisits(np.array([[*context, (0, 0, 0)]]), 5).nearest.tolist() == [[3]]
    assert revisits(np.array([[*context, (0, 0, np.radians(9))]]), 5).nearest.tolist() == [[2]]
    assert revisits(np.array([[*context, (0.3, 0, 0)]]), 5).nearest.tolist() == [[1]]


def test_sequences_are_looked_at_apart() -> None:
    pose = np.array([[(0, 0, 0), (5, 0, 0), (0, 0, 0)], [(7, 0, 0), (0, 0, 0), (7, 0, 0)]], np.int32)
    assert revisits(pose, 2).age.tolist() == [[2], [2]] and revisits(pose, 2).nearest.tolist() == [[0], [0]]


def test_the_unit_of_poses_does_not_matter():
    cells = np.random.default_rng(0).uniform(-2, 2, (3, 40, 3))
    one, other = revisits(cells, 20), revisits(cells * (64, 64, 1), 20, cell=64.0)
    assert np.array_equal(one.age, other.age) and np.array_equal(one.nearest, other.nearest)
    assert one.revisited.any() and not one.revisited.all()
