"""What reality promises, against what it pays."""

import copy

import numpy as np
import pytest

from lssvwm_env.real import make_real


@pytest.fixture
def made(program):
    return program("benchmarks/perfect_promises.py")


def test_where_nothing_is_left_to_chance_reality_keeps_every_promise(made):
    args = made.Args(episodes=2, copies=2, deterministic=True, num_envs=2)
    found = made.measure("LSSVWM/MiniGrid-MemoryS9-v0", args)
    assert found["simulator"] == "LSSVWM/MiniGrid-MemoryS9-v0" and found["moments"] > 4
    assert found["rank_correlation"] == pytest.approx(1, abs=1e-5)


def test_in_a_copy_chance_falls_otherwise_and_the_world_itself_is_left_alone(made):
    world = make_real("MiniGrid-Dynamic-Obstacles-6x6-v0")
    world.reset(seed=3)
    untouched = copy.deepcopy(world)
    turns = [np.stack([twin.step(0)[0] for _ in range(8)]) for twin in (made.copied(world, [0, i]) for i in (1, 1, 2))]
    np.testing.assert_array_equal(turns[0], turns[1])
    assert (turns[0] != turns[2]).any()
    np.testing.assert_array_equal(world.step(0)[0], untouched.step(0)[0])


def test_the_worlds_asked_for_by_default_are_those_with_a_policy(made):
    for world in made.Args().worlds:
        assert made.bundled_policy(world.removeprefix("LSSVWM/")).is_file()
