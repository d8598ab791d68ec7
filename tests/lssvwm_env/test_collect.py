"""Collection: the convention of action and reward, and datasets that depend on their config alone."""

import shlex
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import tyro

import lssvwm_env.collect as module
from lssvwm_env.collect import CollectConfig, collect, run_episode, space_to_json
from lssvwm_env.command import command
from lssvwm_env.real import make_real
from world_models.data import DatasetError, EpisodeDataset

ARRAYS = ("obs", "act", "rew", "terminated", "truncated", "is_first", "pose", "tiles", "episode_seed")


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
    return run_episode(ShowsLastAction(), Script(*actions), seed=5, rng=rng, length=length)


def config(out: Path, **changes) -> CollectConfig:
    small = CollectConfig("MiniGrid-MemoryS9-v0", out, frames=700, shard_frames=250, workers=1, episode_length=60)
    return replace(small, **changes)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return collect(config(tmp_path_factory.mktemp("whole")))


def assert_same(one: EpisodeDataset, other: EpisodeDataset) -> None:
    for key in ARRAYS:
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key))


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


def test_poses_and_tiles_belong_to_their_frames(dataset: EpisodeDataset) -> None:
    env = make_real("MiniGrid-MemoryS9-v0")
    start, end = dataset.episode_starts[1:3]
    obs, info = env.reset(seed=int(dataset.episode_seed[1]))
    for t in range(start, end):
        if t > start:
            obs, reward, terminated, _, info = env.step(int(dataset.act[t]))
            assert (np.float32(reward), terminated) == (dataset.rew[t], dataset.terminated[t])
        np.testing.assert_array_equal(obs, dataset.obs[t])
        np.testing.assert_array_equal(info["pose"], dataset.pose[t])
        np.testing.assert_array_equal(info["tiles"], dataset.tiles[t])


def test_every_episode_ends_once_and_within_the_limit(dataset: EpisodeDataset) -> None:
    assert len(dataset) >= 700
    ends = np.flatnonzero(dataset.terminated | dataset.truncated)
    np.testing.assert_array_equal(ends, np.append(dataset.episode_starts[1:], len(dataset)) - 1)
    assert np.diff(dataset.episode_starts).max() <= 60


def test_splits_have_disjoint_seeds(dataset: EpisodeDataset, tmp_path: Path) -> None:
    test = collect(config(tmp_path, split="test"))
    assert dataset.episode_seed.max() < 2**30 <= test.episode_seed.min()
    assert test.spec.split == "test"


def test_no_shard_repeats_another(dataset: EpisodeDataset) -> None:
    assert len(dataset.spec.shards) == 3
    assert len(set(dataset.episode_seed)) == len(dataset.episode_seed)


def test_base_seed_changes_the_data(dataset: EpisodeDataset, tmp_path: Path) -> None:
    assert collect(config(tmp_path, seed=1)).hash() != dataset.hash()


def test_workers_do_not_change_the_data(dataset: EpisodeDataset, tmp_path: Path) -> None:
    assert_same(collect(config(tmp_path, workers=2)), dataset)


def test_killed_collection_resumes_to_the_same_data(
    dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module._collect_shard

    def killed(config: CollectConfig, shard: int, frames: int) -> None:
        if shard == 1:
            raise KeyboardInterrupt
        whole(config, shard, frames)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_collect_shard", killed)
        collect(config(tmp_path))
    with pytest.raises(DatasetError, match=r"incomplete.*\n  lssvwm collect --env-id MiniGrid-Mem"):
        EpisodeDataset(tmp_path)

    made = []
    monkeypatch.setattr(module, "_collect_shard", lambda *work: (made.append(work[1]), whole(*work)))
    assert_same(collect(config(tmp_path)), dataset)
    assert made == [1, 2]


def test_lost_and_half_written_shards_are_made_again(dataset: EpisodeDataset, tmp_path: Path) -> None:
    collect(config(tmp_path))
    (tmp_path / "shard-00000.npz").unlink()
    half = (tmp_path / "shard-00002.npz").read_bytes()[:3000]
    (tmp_path / "shard-00002.npz").write_bytes(half)
    (tmp_path / "shard-00000.npz.abc.tmp").write_bytes(half)
    assert_same(collect(config(tmp_path)), dataset)


def test_another_config_is_refused_with_the_difference(tmp_path: Path) -> None:
    collect(config(tmp_path, frames=100))
    with pytest.raises(DatasetError, match="seed: 0 there, 7 asked for") as error:
        collect(config(tmp_path, frames=100, seed=7))
    assert "lssvwm collect --env-id" in str(error.value)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"shards but no dataset\.json"):
        collect(config(tmp_path, frames=100))


def test_command_reads_back_as_the_config(tmp_path: Path) -> None:
    asked = config(tmp_path / "a folder", split="test", env_kwargs={"size": 11, "random_length": True})
    words = shlex.split(command("collect", asked))
    assert words[:2] == ["lssvwm", "collect"]
    assert tyro.cli(CollectConfig, args=words[2:]) == asked


def test_env_kwargs_reach_the_environment(tmp_path: Path) -> None:
    rooms = config(tmp_path, env_id="MiniGrid-ObjectRooms-v0", frames=60, env_kwargs={"size": 9})
    dataset = collect(rooms)
    assert dataset.spec.env_kwargs == {"size": 9}
    assert dataset.pose[:, :2].max() <= 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames=0 must be at least 1"),
        ({"split": "val"}, "split='val' must be one of train, test"),
    ],
)
def test_impossible_configs_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_spaces_as_json() -> None:
    assert space_to_json(gym.spaces.Discrete(7)) == {"type": "Discrete", "n": 7}
    box = space_to_json(gym.spaces.Box(-1, np.array([1, 2], np.float32)))
    assert box == {"type": "Box", "low": -1.0, "high": [1.0, 2.0], "shape": [2], "dtype": "float32"}
    for space in (gym.spaces.Discrete(7, start=1), gym.spaces.MultiBinary(3)):
        with pytest.raises(ValueError, match="cannot be recorded"):
            space_to_json(space)
