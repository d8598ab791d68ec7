"""ObjectRooms: every layout is open to the agent, and nothing ends the episode."""

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigrid.core.world_object import Wall

from lssvwm_env.real import ObjectRoomsEnv
from lssvwm_env.real.object_rooms import neighbours


def cells(env: ObjectRoomsEnv):
    return [(x, y) for x in range(env.width) for y in range(env.height)]


def flood(env: ObjectRoomsEnv, start: tuple[int, int]) -> set[tuple[int, int]]:
    reached = {start}
    frontier = [start]
    while frontier:
        for cell in neighbours(frontier.pop()):
            if cell not in reached and env.grid.get(*cell) is None:
                reached.add(cell)
                frontier.append(cell)
    return reached


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    layout=st.sampled_from([(13, 12, 2), (13, 33, 2), (9, 12, 2), (13, 27, 3), (5, 3, 1), (19, 40, 3)]),
)
def test_layouts(seed: int, layout: tuple[int, int, int]) -> None:
    size, num_objects, rooms = layout
    env = ObjectRoomsEnv(size, num_objects, rooms)
    env.reset(seed=seed)
    free = {cell for cell in cells(env) if env.grid.get(*cell) is None}
    things = [env.grid.get(*cell) for cell in cells(env)]
    objects = [thing for thing in things if thing is not None and not isinstance(thing, Wall)]

    assert len(objects) == num_objects
    assert {thing.type for thing in objects} <= {"key", "ball", "box"}
    assert tuple(env.agent_pos) in free
    assert flood(env, tuple(env.agent_pos)) == free

    pitch = (size - 1) // rooms
    doorways = {cell for cell in free if cell[0] % pitch == 0 or cell[1] % pitch == 0}
    walls = [("x", line, room) for line in range(1, rooms) for room in range(rooms)]
    across_x = {(x // pitch, y // pitch) for x, y in doorways if x % pitch == 0}
    across_y = {(y // pitch, x // pitch) for x, y in doorways if y % pitch == 0}
    assert len(doorways) == 2 * len(walls)
    assert across_x == across_y == {(line, room) for _, line, room in walls}
    for doorway in doorways:
        beside = [env.grid.get(*cell) for cell in neighbours(doorway)]
        assert sum(thing is None for thing in beside) == 2
        assert sum(isinstance(thing, Wall) for thing in beside) == 2


def test_layout_follows_the_seed() -> None:
    env = ObjectRoomsEnv()
    layouts = []
    for seed in (1, 1, 2):
        env.reset(seed=seed)
        layouts.append(env.hash())
    assert layouts[0] == layouts[1] != layouts[2]


def test_never_ends_unless_told() -> None:
    endless = gym.make("MiniGrid-ObjectRooms-v0")
    endless.reset(seed=0)
    endless.action_space.seed(0)
    for _ in range(500):
        _, reward, terminated, truncated, _ = endless.step(endless.action_space.sample())
        assert (reward, terminated, truncated) == (0, False, False)
    short = gym.make("MiniGrid-ObjectRooms-v0", max_steps=2)
    short.reset(seed=0)
    assert [short.step(0)[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"size": 12}, "size=12 cannot be cut into rooms=2"),
        ({"size": 7}, "at least 3x3"),
        ({"rooms": 0}, "rooms=0"),
        ({"num_objects": 34}, r"num_objects=34 must lie in 0\.\.33"),
        ({"num_objects": -1}, "num_objects=-1"),
    ],
)
def test_impossible_sizes_are_refused(kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectRoomsEnv(**kwargs)
