"""To Minari and back nothing is lost, and Minari's own datasets come in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from lssvwm_env.datasets.check import check_dataset
from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.datasets.minari import ExportMinariConfig, ImportMinariConfig, export_minari, import_minari
from lssvwm_env.real import PixelMiniGrid
from lssvwm_models.data import EpisodeDataset

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
SPACE = gym.spaces.Box(0, 255, (40, 48, 3), np.uint8)


@pytest.fixture(autouse=True)
def storehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Minari keeps datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    out = tmp_path_factory.mktemp("data") / "rooms"
    return collect(
        CollectConfig(
            "MiniGrid-MemoryS9-v0", out, 100, "test", workers=1, episode_length=30, env_kwargs={"random_length": True}
        )
    )


def foreign(dataset_id: str, action_space: gym.Space, observation_space: gym.Space = SPACE, **kwargs: Any) -> Any:
    """A Minari dataset as others make them: two episodes, of 3 and 5 steps."""
    observation_space.seed(0)
    action_space.seed(0)
    buffers = [
        EpisodeBuffer(
            observations=kwargs.pop("observations", None) or [observation_space.sample() for _ in range(steps + 1)],
            actions=[action_space.sample() for _ in range(steps)],
            rewards=[float(step) for step in range(steps)],
            terminations=[False] * steps,
            truncations=[False] * (steps - 1) + [True],
            infos={"pose": ["anything"] * (steps + 1)},
        )
        for steps in (3, 5)
    ]
    return minari.create_dataset_from_buffers(
        dataset_id, buffers, action_space=action_space, observation_space=observation_space, **kwargs
    )


def test_there_and_back_nothing_is_lost(recorded: EpisodeDataset, tmp_path: Path) -> None:
    export_minari(ExportMinariConfig(recorded.folder, "rooms/wander-v0"))
    back = import_minari(ImportMinariConfig("rooms/wander-v0", tmp_path / "back"))
    assert back.hash() == recorded.hash()  # of all arrays, the seeds, poses and tiles among them
    for name in ("env_id", "env_kwargs", "observation_space", "action_space", "preprocessing", "policy", "split"):
        assert getattr(back.spec, name) == getattr(recorded.spec, name)
    assert back.spec.command.startswith("lssvwm import-minari --dataset-id rooms/wander-v0")
    assert not check_dataset(back.folder)


def test_minari_sees_steps_from_one_frame_to_the_next(recorded: EpisodeDataset) -> None:
    export_minari(ExportMinariConfig(recorded.folder, "rooms/wander-v0"))
    made = minari.load_dataset("rooms/wander-v0")
    assert list(minari.list_local_datasets()) == ["rooms/wander-v0"]
    assert made.total_steps == len(recorded) - len(recorded.episode_starts)
    first = made[0]
    episode = next(recorded.episodes())
    np.testing.assert_array_equal(first.observations, episode.obs)
    np.testing.assert_array_equal(first.actions, episode.act[1:])
    np.testing.assert_array_equal(first.rewards, episode.rew[1:])
    assert first.terminations[-1] or first.truncations[-1]
    assert [fact["seed"] for fact in made.storage.get_episode_metadata([0])] == [episode.seed]
    env = made.recover_environment()  # with the frames of the dataset
    assert isinstance(env, PixelMiniGrid)
    np.testing.assert_array_equal(env.reset(seed=episode.seed)[0], first.observations[0])


def test_a_box_of_actions_goes_there_and_back(tmp_path: Path) -> None:
    foreign("box-v0", gym.spaces.Box(-1, np.array([1, 2], np.float32)), jpeg_encoding=False)
    one = import_minari(ImportMinariConfig("box-v0", tmp_path / "one"))
    export_minari(ExportMinariConfig(one.folder, "again-v1"))
    two = import_minari(ImportMinariConfig("again-v1", tmp_path / "two"))
    assert one.act.shape == (10, 2) and one.hash() == two.hash() and one.spec.action_space == two.spec.action_space


def test_datasets_of_others_come_in(tmp_path: Path) -> None:
    source = foreign("others/some-v3", gym.spaces.MultiDiscrete([2, 3]), algorithm_name="PPO")
    data = import_minari(ImportMinariConfig("others/some-v3", tmp_path / "data", split="test"))
    assert data.obs.shape == (10, 64, 64, 3) and data.episode_starts.tolist() == [0, 4]
    assert data.act.tolist() == [0, *(a * 3 + b for a, b in source[0].actions), 0] + [
        a * 3 + b for a, b in source[1].actions
    ]
    assert data.rew.tolist() == [0, 0, 1, 2, 0, 0, 1, 2, 3, 4]
    assert np.flatnonzero(data.truncated).tolist() == [3, 9] and not data.terminated.any()
    assert data.episode_seed.tolist() == [-1, -1] and data.pose is None
    assert (data.spec.env_id, data.spec.policy, data.spec.split) == ("others/some-v3", "PPO", "test")
    assert data.spec.preprocessing == "stored as JPEG, 40x48 resized to 64x64 by box averaging"


def test_pictures_in_a_dict_are_named(tmp_path: Path) -> None:
    spaces = gym.spaces.Dict({"eye": SPACE, "speed": gym.spaces.Box(0, 1, (2,))})
    spaces.seed(0)
    seen = [spaces.sample() for _ in range(4)]
    buffer = EpisodeBuffer(
        observations={key: np.stack([each[key] for each in seen]) for key in ("eye", "speed")},
        actions=[0, 1, 0], rewards=[0.0] * 3, terminations=[False] * 3, truncations=[False, False, True],
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "dict-v0", [buffer], action_space=gym.spaces.Discrete(2), observation_space=spaces, jpeg_encoding=False
    )
    data = import_minari(ImportMinariConfig("dict-v0", tmp_path / "data", observation="eye", size=48))
    assert data.obs.shape == (4, 48, 48, 3) and data.spec.env_kwargs == {"frame_size": 48}
    for wrong in (None, "speed", "ear"):
        with pytest.raises(ValueError, match=f"dict-v0 has no pictures in observation={wrong} of Dict"):
            import_minari(ImportMinariConfig("dict-v0", tmp_path / "other", observation=wrong))


def test_what_is_not_there_or_cannot_be_named_is_said(recorded: EpisodeDataset, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Minari has no dataset no/such-v0.*\n  minari download no/such-v0"):
        import_minari(ImportMinariConfig("no/such-v0", tmp_path / "data"))
    with pytest.raises(ValueError, match="'rooms' is none of Minari's: say NAME-v0"):
        export_minari(ExportMinariConfig(recorded.folder, "rooms"))
    export_minari(ExportMinariConfig(recorded.folder, "rooms-v0"))
    with pytest.raises(ValueError, match="rooms-v0 is there already"):
        export_minari(ExportMinariConfig(recorded.folder, "rooms-v0"))


def test_a_failed_export_leaves_nothing(
    recorded: EpisodeDataset, storehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lssvwm_env.datasets.minari._buffers", Mock(side_effect=RuntimeError("lost")))
    with pytest.raises(RuntimeError, match="lost"):
        export_minari(ExportMinariConfig(recorded.folder, "lost-v0"))
    assert not list(storehouse.iterdir())


@pytest.mark.parametrize("missing", ["minari", "h5py"])
def test_how_to_install_minari_is_said(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r'pip install "lssvwm-env\[data\]"'):
        import_minari(ImportMinariConfig("any-v0", tmp_path / "data"))
