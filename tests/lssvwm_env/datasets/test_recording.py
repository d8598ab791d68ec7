"""Recording: the convention of action and reward, and what cannot be recorded."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_env.datasets.recording import record, record_episode, with_common_facts


class ShowsLastAction(gym.Env):
    """Each frame is filled with the action that led to it, which is its reward too; 9 terminates."""

    observation_space = gym.spaces.Box(0, 255, (4, 4, 3), np.uint8)
    action_space = gym.spaces.Discrete(10)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((4, 4, 3), np.uint8), {}

    def step(self, action):
        return np.full((4, 4, 3), action, np.uint8), float(action), action == 9, False, {}


class Script:
    """Plays a list of actions."""

    def __init__(self, *actions: int) -> None:
        self.actions = list(actions)

    def reset(self, env, rng) -> None:
        pass

    def act(self, env) -> int:
        return self.actions.pop(0)


def play(*actions: int, length: int = 100):
    rng = np.random.default_rng(0)
    return record_episode(ShowsLastAction(), Script(*actions), seed=5, rng=rng, length=length)


def test_actions_and_rewards_stand_with_the_frame_they_led_to() -> None:
    episode = play(3, 1, 4, 9)
    assert episode.act.tolist() == [0, 3, 1, 4, 9]
    np.testing.assert_array_equal(episode.obs[:, 0, 0, 0], episode.act)
    np.testing.assert_array_equal(episode.rew, episode.act)
    assert episode.terminated.tolist() == [False] * 4 + [True]
    assert not episode.truncated.any()
    assert episode.seed == 5


def test_truncation_at_the_length_limit_and_not_beside_termination() -> None:
    assert play(1, 2, 3, 4, length=3).truncated.tolist() == [False, False, True]
    both = play(1, 9, length=3)
    assert both.terminated[-1] and not both.truncated[-1]


class Says(ShowsLastAction):
    """Gives any reward and any info that an action asks for."""

    def __init__(self, rewards: dict[int, Any] | None = None, infos: dict[int, dict[str, Any]] | None = None) -> None:
        self.rewards = rewards or {}
        self.infos = infos or {}

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], self.infos.get(0, {})

    def step(self, action):
        obs, reward, *ends, info = super().step(action)
        return obs, self.rewards.get(action, reward), *ends, self.infos.get(action, info)


def recorded(env: gym.Env, *actions: int, seed: int = 5):
    return record(env, Script(*actions), seed, np.random.default_rng(0), length=100)


@pytest.mark.parametrize(
    "reward", [np.nan, np.inf, -np.inf, 3e38, 1e300, 10**400, None, "3", [1.0, 2.0], 1j, np.array([])]
)
def test_rewards_that_are_no_numbers_to_learn_from_are_refused_with_environment_seed_and_frame(reward: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^Says gave the reward .*finite number.* \(in frame 2 of the episode of seed 5\)$"
    ):
        recorded(Says({3: reward}), 1, 3, 9)


@pytest.mark.parametrize("reward", [2, True, np.float32(1), np.array(-3), np.array([0.5]), 1e9])
def test_rewards_of_other_types_are_numbers_all_the_same(reward: Any) -> None:
    assert recorded(Says({3: reward}), 1, 3, 9).episode.rew[2] == np.float32(np.asarray(reward).item())


def test_an_action_that_is_no_number_is_refused_where_it_is_recorded() -> None:
    env = ShowsLastAction()
    env.action_space = gym.spaces.Box(-1, 1, (1,))
    env.step = lambda action: (np.zeros((4, 4, 3), np.uint8), 0.0, True, False, {})
    with pytest.raises(ValueError, match="finite number: .*nan.* in frame 1"):
        recorded(env, np.array([np.nan]))


POSE = np.array([1, 2, 3])


def test_facts_are_recorded_that_every_frame_comes_with() -> None:
    reused = POSE.copy()

    class Reuses(ShowsLastAction):
        def step(self, action):
            reused[0] += 1
            return *super().step(action)[:4], {"pose": reused}

    env = Reuses()
    env.reset = lambda **_: (np.zeros((4, 4, 3), np.uint8), {"pose": reused})
    episode = record_episode(env, Script(1, 2, 9), seed=0, rng=np.random.default_rng(0), length=9)
    assert episode.pose.tolist() == [[1, 2, 3], [2, 2, 3], [3, 2, 3], [4, 2, 3]] and episode.pose.dtype == np.int32


def test_facts_of_some_frames_are_left_out_and_said() -> None:
    facts, refused = recorded(Says(infos={0: {"pose": POSE}, 1: {"pose": POSE}}), 1, 9)[1:]
    assert facts == {} and refused["pose"].startswith("info['pose'] is missing with frame 2, expected integers (3,)")
    facts, refused = recorded(Says(infos={9: {"pose": POSE}}), 1, 9)[1:]
    assert facts == {} and refused["pose"].startswith("info['pose'] is missing with frame 0")
    assert recorded(Says(), 1, 9)[1:] == ({}, {})


def test_episodes_of_one_file_have_the_facts_that_all_have() -> None:
    some = recorded(Says(infos={0: {"pose": POSE}, 9: {"pose": POSE}}), 9)
    bad = recorded(Says(infos={0: {"pose": POSE}, 9: {"pose": POSE * 50}}), 9)
    plane = recorded(Says(infos={0: {"pose": POSE}, 9: {"pose": POSE * 0.5}}), 9)
    none = recorded(Says(), 9)
    episodes, refused = with_common_facts([some, some])
    assert [one.pose.tolist() for one in episodes] == [[[1, 2, 3], [1, 2, 3]]] * 2 and refused == {}
    episodes, refused = with_common_facts([some, none])
    assert [one.pose for one in episodes] == [None, None] and refused == {"pose": "info of some episodes has no pose"}
    episodes, refused = with_common_facts([some, bad])
    assert [one.pose for one in episodes] == [None, None] and "int64 (3,) [50, 100, 150]" in refused["pose"]
    episodes, refused = with_common_facts([some, plane])
    assert [one.pose for one in episodes] == [None, None]
    assert refused == {"pose": "it is float32 in some episodes, and in others int32"}
    episodes, refused = with_common_facts([plane, plane])
    assert [one.pose.dtype for one in episodes] == [np.float32] * 2 and refused == {}
