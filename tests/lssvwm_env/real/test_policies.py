"""WanderPolicy comes back, handles things, and ends episodes both ways."""

from itertools import groupby, pairwise

import gymnasium as gym
import numpy as np
import pytest
from minigrid.core.actions import Actions
from minigrid.core.constants import OBJECT_TO_IDX

from lssvwm_env.datasets.recording import record_episode
from lssvwm_env.real import StickyPolicy, UniformPolicy, WanderPolicy, make_real
from lssvwm_env.real.policies import policy_words
from lssvwm_models.data import Episode

WEST = 2  # the cue of MiniGrid-Memory lies there


def wander(env_id: str, episodes: int, length: int = 400, **kwargs) -> list[Episode]:
    env = make_real(env_id, **kwargs)
    policy = WanderPolicy()
    rng = np.random.default_rng(0)
    return [record_episode(env, policy, seed=seed, rng=rng, length=length) for seed in range(episodes)]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("wander", "wander policy (wander is a script that knows the map)"),
        ("wander, then an agent", "wander, then an agent policy (wander is a script that knows the map)"),
        ("uniform", "uniform policy"),
        ("sticky+roam", "sticky+roam policy (roam is a script that knows the map)"),
        ("an agent that may wander", "an agent that may wander policy"),
    ],
)
def test_reports_say_who_knows_the_map(policy: str, words: str) -> None:
    assert policy_words(policy) == words


def test_memory_ends_both_ways_after_visits_to_the_first_room() -> None:
    episodes = wander("MiniGrid-MemoryS9-v0", 100)
    won = np.array([episode.rew[-1] > 0 for episode in episodes])
    assert all(episode.terminated[-1] for episode in episodes)
    assert 0.35 < won.mean() < 0.65
    lengths = np.array([len(episode) for episode in episodes])
    assert np.mean((lengths >= 20) & (lengths <= 110)) > 0.6
    visits = [(episode.pose[:, 0] <= 3).any() for episode in episodes]
    assert np.mean(visits) > 0.65


def test_some_memory_episodes_end_before_the_cue_was_seen_and_some_spins_are_long() -> None:
    episodes = wander("MiniGrid-MemoryS9-v0", 100)
    blind = [episode for episode in episodes if not (episode.pose[:, 2] == WEST).any()]
    won = np.mean([episode.rew[-1] > 0 for episode in blind])
    assert 5 < len(blind) < 40 and 0.2 < won < 0.8
    spins = [max((len(list(group)) for turn, group in groupby(episode.act) if turn < 2)) for episode in episodes]
    assert 5 < np.sum(np.array(spins) > 6) < 80


def test_it_runs_into_the_cue() -> None:
    episodes = wander("MiniGrid-MemoryS9-v0", 40)
    bumps = 0
    for episode in episodes:
        still = (episode.pose[1:] == episode.pose[:-1]).all(1) & (episode.act[1:] == Actions.forward)
        thing_ahead = np.isin(episode.tiles[:-1, 5, 3, 0], [OBJECT_TO_IDX["key"], OBJECT_TO_IDX["ball"]])
        bumps += int((still & thing_ahead).sum())
    assert bumps > 40


def test_it_runs_blindly_into_walls() -> None:
    episodes = wander("MiniGrid-MemoryS9-v0", 40)
    bumps = 0
    for episode in episodes:
        still = (episode.pose[1:] == episode.pose[:-1]).all(1) & (episode.act[1:] == Actions.forward)
        bumps += int((still & (episode.tiles[:-1, 5, 3, 0] == OBJECT_TO_IDX["wall"])).sum())
    assert bumps > 50


def test_it_stands_there_with_its_hands_going() -> None:
    episodes = wander("MiniGrid-MemoryS9-v0", 40)
    idle = [len(list(group)) for episode in episodes for of_hands, group in groupby(episode.act > 2) if of_hands]
    assert np.sum(np.array(idle) > 4) > 10


def test_object_rooms_are_walked_and_objects_carried_about() -> None:
    (episode,) = wander("MiniGrid-ObjectRooms-v0", 1, length=1500)
    rooms = {(x > 6, y > 6) for x, y, _ in episode.pose}
    assert len(rooms) == 4
    carrying = episode.tiles[:, 6, 3, 0] >= 5
    changes = np.diff(carrying.astype(int))
    assert (changes == 1).sum() > 5
    assert (changes == -1).sum() > 5
    assert np.bincount(episode.act, minlength=7).min() > 10


def test_doors_are_opened_and_the_goal_reached() -> None:
    episodes = wander("MiniGrid-DoorKey-6x6-v0", 20)
    assert np.mean([episode.rew[-1] > 0 for episode in episodes]) > 0.8


def test_lava_is_shunned_at_first_and_then_sought_at_times() -> None:
    episodes = wander("MiniGrid-LavaCrossingS9N1-v0", 40)
    won = np.mean([episode.rew[-1] > 0 for episode in episodes])
    assert 0.25 < won < 0.75
    assert np.mean([len(episode) > 12 for episode in episodes]) > 0.6


def test_moving_things_are_dodged_at_first_and_then_run_into_at_times() -> None:
    episodes = wander("MiniGrid-Dynamic-Obstacles-6x6-v0", 100)
    assert all(episode.act.max() < 3 for episode in episodes)
    paid = np.array([episode.rew[-1] for episode in episodes])
    assert np.mean(paid > 0) > 0.1 and np.mean(paid == -1) > 0.3
    assert np.median([len(episode) for episode in episodes]) > 12  # at random: 5


def test_same_generator_same_actions() -> None:
    one, two = (wander("MiniGrid-ObjectRooms-v0", 2, length=100) for _ in range(2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.act, second.act)


def test_noise_is_the_share_of_random_actions() -> None:
    env = make_real("MiniGrid-ObjectRooms-v0")
    policy = WanderPolicy(noise=1.0)
    episode = record_episode(env, policy, seed=0, rng=np.random.default_rng(0), length=700)
    share = np.bincount(episode.act[1:], minlength=7) / 699
    np.testing.assert_allclose(share, 1 / 7, atol=0.06)


def test_wander_refuses_other_worlds() -> None:
    with pytest.raises(ValueError, match="use UniformPolicy"):
        WanderPolicy().reset(gym.make("CartPole-v1"), np.random.default_rng(0))


def test_uniform_policy_draws_from_discrete_and_box_and_refuses_others() -> None:
    policy = UniformPolicy()
    env = gym.make("CartPole-v1")
    policy.reset(env, np.random.default_rng(0))
    assert {policy.act(env) for _ in range(30)} == {0, 1}
    continuous = gym.make("Pendulum-v1")
    actions = np.stack([policy.act(continuous) for _ in range(50)])
    assert actions.dtype == np.float32 and actions.shape == (50, 1)
    assert -2 <= actions.min() < -1 and 1 < actions.max() <= 2
    env.action_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    with pytest.raises(ValueError, match="bounded Box"):
        policy.act(env)


def test_sticky_policy_goes_on_with_what_it_does_more_in_some_episodes_than_in_others() -> None:
    env = gym.make("Pendulum-v1")
    rng = np.random.default_rng(0)
    policy = StickyPolicy()
    repeated = []
    for _ in range(200):
        policy.reset(env, rng)
        actions = [float(policy.act(env)[0]) for _ in range(60)]
        repeated.append(np.mean([one == other for one, other in pairwise(actions)]))
    assert np.mean(repeated) == pytest.approx(0.95 / 2, abs=0.05)
    assert min(repeated) < 0.1 and max(repeated) > 0.85
    policy.reset(env, rng)
    assert float(policy.act(env)[0]) != actions[-1]  # an episode begins with an action of its own


def test_sticky_policy_takes_every_action() -> None:
    env = gym.make("CartPole-v1")
    policy = StickyPolicy()
    policy.reset(env, np.random.default_rng(0))
    assert {policy.act(env) for _ in range(200)} == {0, 1}
