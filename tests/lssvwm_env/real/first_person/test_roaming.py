"""The policy that roams goes places and comes back, in any maze that says where it is."""

import math

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_env.datasets.acting import default_policy
from lssvwm_env.datasets.recording import record_episode
from lssvwm_env.evaluation.revisits import revisits
from lssvwm_env.real import PixelEnv, RoamPolicy

LAYOUT = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 1, 0, 1],
        [1, 0, 1, 0, 1, 0, 1],
        [1, 0, 1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 1],
    ],
    np.uint8,
)


class Maze(gym.Env):
    """A point that turns by 20 degrees and walks by a quarter of a cell, unless into a wall."""

    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gym.spaces.Discrete(4)
    ACTIONS = "left", "forward", "noop", "right"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pose = np.array([1, 1, self.np_random.uniform(-3, 3)], np.float32)
        return self.seen()

    def step(self, action):
        x, y, angle = self.pose.astype(float)
        angle += {0: -1, 3: 1}.get(int(action), 0) * math.radians(20)
        if action == 1:
            ahead = x + math.cos(angle) / 4, y + math.sin(angle) / 4
            if not LAYOUT[round(ahead[1]), round(ahead[0])]:
                x, y = ahead
        self.pose = np.array([x, y, (angle + math.pi) % (2 * math.pi) - math.pi], np.float32)
        obs, info = self.seen()
        return obs, 0.0, False, False, info

    def seen(self):
        return np.zeros((8, 8, 3), np.uint8), {"pose": self.pose, "layout": LAYOUT}


class Curved(Maze):
    """It walks while it turns, if asked to."""

    action_space = gym.spaces.Discrete(6)
    ACTIONS = "left", "forward", "noop", "right", "forward_left", "forward_right"

    def step(self, action):
        if action < 4:
            return super().step(action)
        super().step(0 if action == 4 else 3)
        return super().step(1)


class Fruitful(Maze):
    """It rewards who comes near to the corner of a cell, and puts the target elsewhere then."""

    corners = (1.3, 3.3), (4.7, 0.7)

    def reset(self, *, seed=None, options=None):
        self.touched = 0
        return super().reset(seed=seed)

    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        touched = math.dist(self.pose[:2], info["target"]) < 0.25
        self.touched += touched
        return obs, float(touched), terminated, truncated, self.seen()[1]

    def seen(self):
        obs, info = super().seen()
        return obs, info | {"target": np.array(self.corners[self.touched % 2])}


class Nameless(Maze):
    ACTIONS = "left", "right", "up", "down"


class Lost(Maze):
    def seen(self):
        return np.zeros((8, 8, 3), np.uint8), {"pose": self.pose}


def walk(env, seed=0, length=800):
    return record_episode(PixelEnv(env), RoamPolicy(), seed=seed, rng=np.random.default_rng(seed), length=length)


@pytest.mark.parametrize("env", [Maze(), Curved()])
def test_it_goes_everywhere_and_comes_back(env):
    episode = walk(env)
    cells = {(round(x), round(y)) for x, y, _ in episode.pose.tolist()}
    free = {(x, y) for y, x in np.argwhere(LAYOUT == 0).tolist()}
    assert cells == free
    assert len(set(episode.act.tolist())) == env.action_space.n
    assert revisits(episode.pose[None], 200).revisited.mean() > 0.25
    assert np.bincount(episode.act)[2] < 30  # it seldom stands about


def test_it_touches_targets_at_times():
    episode = walk(Fruitful())
    assert episode.rew.sum() > 4
    cells = {(round(x), round(y)) for x, y, _ in episode.pose.tolist()}
    assert len(cells) == (LAYOUT == 0).sum()  # and goes everywhere all the same


def test_it_does_not_linger_where_a_target_was_touched():
    lingering = []
    for seed in range(3):
        episode = walk(Fruitful(), seed)
        touched_last = (np.cumsum(episode.rew).astype(int) - 1) % 2
        places = np.array(Fruitful.corners)[touched_last]
        lingering.append((np.hypot(*(episode.pose[:, :2] - places).T) < 0.7).mean())
    assert np.mean(lingering) < 0.15


def test_it_draws_from_nothing_but_its_stream():
    one, same, other = walk(Maze(), 1), walk(Maze(), 1), walk(Maze(), 2)
    assert np.array_equal(one.act, same.act) and not np.array_equal(one.act, other.act)


def test_mazes_are_roamed():
    assert default_policy(PixelEnv(Maze())) == "roam"
    assert default_policy(PixelEnv(Nameless())) == default_policy(PixelEnv(Lost())) == "sticky"


def test_worlds_that_do_not_say_what_it_needs_are_refused():
    with pytest.raises(ValueError, match="whose attribute ACTIONS names forward, left, right among its actions"):
        walk(Nameless())
    with pytest.raises(ValueError, match=r"RoamPolicy got no info\['layout'\]"):
        walk(Lost())
