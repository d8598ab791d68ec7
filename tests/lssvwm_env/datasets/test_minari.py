"""To Minari and back nothing is lost, and Minari's own datasets come in."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
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
from lssvwm_models.data import EpisodeDataset, write_spec

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
        with pytest.raises(ValueError, match=r"dict-v0 has observations Dict.* say --observation eye"):
            import_minari(ImportMinariConfig("dict-v0", tmp_path / "other", observation=wrong))


def test_pictures_in_a_dict_of_dicts_are_named_too(tmp_path: Path) -> None:
    spaces = gym.spaces.Dict({"sensors": gym.spaces.Dict({"rgb": SPACE}), "speed": gym.spaces.Box(0, 1, (2,))})
    spaces.seed(0)
    seen = [spaces.sample() for _ in range(3)]
    rgb = np.stack([each["sensors"]["rgb"] for each in seen])
    buffer = EpisodeBuffer(
        observations={"sensors": {"rgb": rgb}, "speed": np.stack([each["speed"] for each in seen])},
        actions=[0, 1], rewards=[0.0] * 2, terminations=[False] * 2, truncations=[False, True],
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "deep-v0", [buffer], action_space=gym.spaces.Discrete(2), observation_space=spaces, env="CartPole-v1"
    )
    data = import_minari(ImportMinariConfig("deep-v0", tmp_path / "data", observation="sensors/rgb"))
    assert data.obs.shape == (3, 64, 64, 3)
    assert data.spec.env_id == "CartPole-v1"  # which `make_real` then sees in the same way
    assert data.spec.env_kwargs["observation_key"] == "sensors/rgb"


def test_codes_of_cells_are_no_pictures_and_it_is_said_what_to_do(tmp_path: Path) -> None:
    """MiniGrid's own observations."""
    codes = gym.spaces.Dict({"image": gym.spaces.Box(0, 255, (7, 7, 3), np.uint8), "direction": gym.spaces.Discrete(4)})
    codes.seed(0)
    seen = [codes.sample() for _ in range(3)]
    buffer = EpisodeBuffer(
        observations={key: np.stack([each[key] for each in seen]) for key in codes},
        actions=[0, 1], rewards=[0.0] * 2, terminations=[False] * 2, truncations=[False, True],
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "codes-v0", [buffer], action_space=gym.spaces.Discrete(2), observation_space=codes, jpeg_encoding=False
    )
    for name in (None, "image"):
        with pytest.raises(ValueError, match=r"codes-v0 .*expected pictures.*recorded anew, by lssvwm collect"):
            import_minari(ImportMinariConfig("codes-v0", tmp_path / "data", observation=name))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rewards": [0.0, np.nan]}, "episode 0: Episode.rew: a reward is not a finite number: nan in frame 2"),
        ({"rewards": [1e300, 0.0]}, "episode 0: Episode.rew: a reward is not a finite number: inf in frame 1"),
        (
            {"actions": np.array([[0], [np.nan]], np.float32)},
            "episode 0: Episode.act: an action is not a finite number",
        ),
        ({"actions": np.array([[0], [3]], np.float32)}, r"an action is not in Box\(1,\): \[3.\] in frame 2"),
        ({"terminations": [True, False]}, "episode 0: Episode ends before its last frame"),
        ({"seed": -5}, "episode 0: Episode.seed=-5"),
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    steps = {
        "observations": np.zeros((3, *SPACE.shape), np.uint8),
        "actions": np.array([[0], [1]], np.float32),
        "rewards": [0.0, 0.0],
        "terminations": [False, False],
        "truncations": [False, True],
    }
    minari.create_dataset_from_buffers(
        "wrong-v0", [EpisodeBuffer(**steps | values)], action_space=gym.spaces.Box(0, 1, (1,)), observation_space=SPACE
    )
    with pytest.raises(ValueError, match=message):
        import_minari(ImportMinariConfig("wrong-v0", tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_what_strangers_say_of_a_dataset_is_checked(recorded: EpisodeDataset, tmp_path: Path) -> None:
    export_minari(ExportMinariConfig(recorded.folder, "rooms-v0"))
    storage = minari.load_dataset("rooms-v0").storage
    for told, message in (
        ("x", "rooms-v0 says in its metadata that lssvwm_env is 'x', expected a dictionary"),
        ({"env_kwargs": "x"}, "rooms-v0 env_kwargs='x'"),
        ({"split": "mine"}, "rooms-v0 split='mine'"),
        ({"seed": -1}, "rooms-v0 seed=-1"),
        ({"env_id": 3}, "rooms-v0 env_id=3"),
    ):
        storage.update_metadata({"lssvwm_env": told})
        with pytest.raises(ValueError, match=message):
            import_minari(ImportMinariConfig("rooms-v0", tmp_path / "data", size=64))


def test_a_damaged_dataset_is_named(recorded: EpisodeDataset, storehouse: Path, tmp_path: Path) -> None:
    export_minari(ExportMinariConfig(recorded.folder, "rooms-v0"))
    (storehouse / "rooms-v0" / "data" / "metadata.json").write_text("{")
    with pytest.raises(ValueError, match="Minari cannot open rooms-v0: "):
        import_minari(ImportMinariConfig("rooms-v0", tmp_path / "data"))


def test_no_module_of_a_strangers_dataset_is_imported(
    recorded: EpisodeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(recorded.folder, tmp_path / "theirs"))
    write_spec(folder, replace(recorded.spec, env_id="no_such_module:World", env_kwargs={}))
    export_minari(ExportMinariConfig(folder, "one-v0"))
    assert "If you trust it, say so: --env-id 'no_such_module:World'" in capsys.readouterr().out
    export_minari(ExportMinariConfig(folder, "two-v0", env_id="no_such_module:World"))
    assert "No module named 'no_such_module'" in capsys.readouterr().out
    with pytest.raises(ValueError, match="env_id='other', but the file is of 'no_such_module:World'"):
        export_minari(ExportMinariConfig(folder, "three-v0", env_id="other"))


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
