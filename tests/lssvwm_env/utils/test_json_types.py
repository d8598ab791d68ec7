"""Spaces are themselves again after JSON, and what is none is refused before it takes memory."""

import json

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_env.utils.json_types import space_from_json, space_to_json
from lssvwm_models.utils.json_files import parse_json, to_json

BOX = {"type": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "float32"}


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(7),
        gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
        gym.spaces.Box(np.float32([-1, 0.1]), np.float32([1, 2])),
        gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
        gym.spaces.Box(np.float32([-np.inf, 0.1]), np.float32([1, 2])),
        gym.spaces.Box(-5, 5, (1,), np.int64),
    ],
)
def test_spaces_are_the_same_after_strict_json(space):
    assert space_from_json(parse_json(to_json(space_to_json(space)), "x"), "x") == space


def test_infinite_bounds_of_older_files_are_read():
    old = json.dumps(BOX | {"low": [float("-inf"), 0], "high": float("inf")})
    assert space_from_json(parse_json(old, "x"), "x") == gym.spaces.Box(np.float32([-np.inf, 0]), np.inf)


def test_spaces_keep_bounds_per_dimension():
    space = space_from_json(BOX | {"low": [-1, 0], "high": 2}, "x")
    assert space.low.tolist() == [-1, 0] and space.high.tolist() == [2, 2] and space.dtype == np.float32


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"type": "Discrete", "n": True},
        {"type": "Discrete", "n": 0},
        {"type": "Discrete", "n": 2.0},
        {"type": "Discrete", "n": 10**30},
        {"type": "Discrete", "n": 2, "start": 1},
        BOX | {"low": [-1, 0], "shape": [3]},
        BOX | {"low": 2},
        BOX | {"low": True},
        BOX | {"low": None},
        BOX | {"low": "nan"},
        BOX | {"low": "0"},
        BOX | {"low": {}},
        BOX | {"low": [[[]]]},
        BOX | {"low": [0, [1]]},
        BOX | {"low": 10**400},
        BOX | {"dtype": "uint8", "low": 0.7},
        BOX | {"dtype": "uint8", "low": -1},
        BOX | {"dtype": "uint8", "high": "inf"},
        BOX | {"dtype": "object"},
        BOX | {"dtype": "f4,f4"},
        BOX | {"dtype": None},
        BOX | {"shape": [10**9]},
        BOX | {"shape": [-1]},
        BOX | {"shape": [True]},
        BOX | {"shape": 2},
        BOX | {"extra": 1},
    ],
    ids=str,
)
def test_what_is_no_space_is_refused_by_name(description):
    with pytest.raises(ValueError, match="^action_space is "):
        space_from_json(description, "action_space")
