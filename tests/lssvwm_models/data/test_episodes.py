"""Shards: what is written comes back, and what is not a dataset is refused with advice."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lssvwm_models.data import DatasetError, DatasetSpec, Episode, EpisodeDataset, write_shard, write_spec
from lssvwm_models.utils.files import write_atomic

SPEC = DatasetSpec(
    env_id="Fake-v0",
    env_kwargs={},
    observation_space={"type": "Box", "low": 0, "high": 255, "shape": [4, 4, 3], "dtype": "uint8"},
    action_space={"type": "Discrete", "n": 5},
    preprocessing="none",
    policy="uniform",
    seed=0,
    split="train",
    episode_length=10,
    frames=12,
    shard_frames=7,
    command="collect --again",
    complete=True,
    shards=["shard-00000.npz", "shard-00001.npz"],
)


def episode(length: int, seed: int = 0, **changes: object) -> Episode:
    rng = np.random.default_rng(seed)
    act = rng.integers(1, 5, length)
    act[:1] = 0
    rew = np.arange(length, dtype=np.float32)
    truncated = np.zeros(length, np.bool_)
    truncated[-1:] = True
    arrays = {
        "obs": rng.integers(0, 256, (length, 4, 4, 3), dtype=np.uint8),
        "act": act,
        "rew": rew,
        "terminated": np.zeros(length, np.bool_),
        "truncated": truncated,
        "pose": rng.integers(0, 4, (length, 3), dtype=np.int32),
        "seed": seed,
    }
    return Episode(**(arrays | changes))


EPISODES = [episode(3, seed=1), episode(4, seed=2), episode(5, seed=3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shard(tmp_path / "shard-00000.npz", EPISODES[:2])
    write_shard(tmp_path / "shard-00001.npz", EPISODES[2:])
    write_spec(tmp_path, SPEC)
    return tmp_path


def test_arrays_come_back_end_to_end(folder: Path) -> None:
    dataset = EpisodeDataset(folder)
    assert len(dataset) == 12
    assert dataset.spec == SPEC
    assert dataset.episode_starts.tolist() == [0, 3, 7]
    assert dataset.episode_seed.tolist() == [1, 2, 3]
    assert dataset.tiles is None
    for key in ("obs", "act", "rew", "terminated", "truncated", "is_first", "pose"):
        expected = np.concatenate([episode.arrays()[key] for episode in EPISODES])
        np.testing.assert_array_equal(getattr(dataset, key), expected)
        assert getattr(dataset, key).dtype == expected.dtype


def test_continuous_actions_come_back(tmp_path: Path) -> None:
    act = np.zeros((3, 2), np.float32)
    act[1:] = 0.5
    write_shard(tmp_path / "shard-00000.npz", [episode(3, act=act)])
    space = {"type": "Box", "low": -1.0, "high": [0.5, "inf"], "shape": [2], "dtype": "float32"}
    write_spec(tmp_path, replace(SPEC, action_space=space, shards=SPEC.shards[:1]))
    np.testing.assert_array_equal(EpisodeDataset(tmp_path).act, act)


def test_the_null_action_need_not_be_in_the_space(tmp_path: Path) -> None:
    space = {"type": "Box", "low": 1.0, "high": 2.0, "shape": [1], "dtype": "float32"}
    write_spec(tmp_path, replace(SPEC, action_space=space, shards=SPEC.shards[:1]))
    for between, fits in ((1.5, True), (0.0, False)):
        act = np.array([[0], [between], [2]], np.float32)
        write_shard(tmp_path / "shard-00000.npz", [episode(3, act=act), episode(3, act=act)])
        if fits:
            np.testing.assert_array_equal(EpisodeDataset(tmp_path).act, np.concatenate([act, act]))
    with pytest.raises(DatasetError, match=r"an action is not in Box\(1,\): \[0.\] in frame 1 of the shard"):
        _ = EpisodeDataset(tmp_path).act


def test_hash_follows_content_not_sharding(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    def hash_of(episodes: list[Episode]) -> str:
        one_shard = tmp_path_factory.mktemp("other")
        write_shard(one_shard / "shard-00000.npz", episodes)
        write_spec(one_shard, replace(SPEC, shards=SPEC.shards[:1]))
        return EpisodeDataset(one_shard).hash()

    assert hash_of(EPISODES) == EpisodeDataset(folder).hash()
    brighter = replace(EPISODES[2], obs=EPISODES[2].obs ^ 1)
    assert hash_of([*EPISODES[:2], brighter]) != EpisodeDataset(folder).hash()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act": np.array([2, 0, 0])}, "nothing led there"),
        ({"rew": np.array([1, 0, 0], np.float32)}, "nothing led there"),
        ({"rew": np.zeros(3)}, r"Episode.rew is float64 \(3,\), expected float32 \(3\)"),
        ({"rew": np.zeros(4, np.float32)}, r"Episode.rew is float32 \(4,\)"),
        ({"obs": np.zeros((3, 4, 4), np.uint8)}, r"expected uint8 \(3, any, any, 3\)"),
        ({"pose": np.zeros((3, 2), np.int32)}, r"expected int32 \(3, 3\)"),
        ({"terminated": np.array([False, True, False])}, "ends before its last frame"),
        ({"rew": np.array([0, 0, np.nan], np.float32)}, "Episode.rew: a reward is not a finite number: nan in frame 2"),
        ({"rew": np.array([0, -np.inf, 0], np.float32)}, "Episode.rew: a reward is not a finite .*: -inf in frame 1"),
        ({"rew": np.array([0, 3e38, 0], np.float32)}, r"a reward is beyond 1,000,000,000: .* in frame 1"),
        ({"act": np.array([0, 1, -1])}, "Episode.act: an action is not in any space: -1 in frame 2"),
        ({"act": np.array([[0], [np.nan], [0]], np.float32)}, r"an action is not a finite number: \[nan\] in frame 1"),
        ({"act": np.array([[0], [0], [-2e9]], np.float32)}, "Episode.act: an action is beyond .* in frame 2"),
        ({"rew": [0.0, 0.0, 0.0]}, r"Episode.rew is \[0.0, 0.0, 0.0\], expected a numpy array"),
        ({"obs": None}, "Episode.obs is None, expected frames"),
    ],
)
def test_wrong_episodes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        episode(3, **changes)


@pytest.mark.parametrize("seed", [-2, 2**63, True, 1.0, "1", None])
def test_seeds_that_are_none_are_refused(seed: object) -> None:
    with pytest.raises(ValueError, match=f"Episode.seed={seed!r} must be an integer from 0, or -1"):
        replace(EPISODES[0], seed=seed)


def test_large_numbers_that_may_be_meant_are_taken() -> None:
    assert episode(3, rew=np.array([0, -1e9, 1e9], np.float32)).rew[2] == 1e9


def test_empty_episode_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        episode(0)


def test_episodes_of_a_shard_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"agree in pose; got int32 frames of shape .* and nothing"):
        write_shard(tmp_path / "shard.npz", [episode(3), episode(3, pose=None)])
    with pytest.raises(ValueError, match="no episodes"):
        write_shard(tmp_path / "shard.npz", [])


def test_missing_folder_incomplete_and_missing_shard_say_what_to_do(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset\.json is missing"):
        EpisodeDataset(folder / "elsewhere")
    write_spec(folder, replace(SPEC, complete=False))
    with pytest.raises(DatasetError, match=r"is incomplete: finish it.*says that it was made by 'collect --again'"):
        EpisodeDataset(folder)
    write_spec(folder, SPEC)
    (folder / "shard-00001.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"shard-00001.npz is missing.*by 'collect --again'"):
        EpisodeDataset(folder)


def test_half_a_shard_is_never_read(folder: Path) -> None:
    whole = (folder / "shard-00001.npz").read_bytes()
    (folder / "shard-00001.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"shard-00001.npz is not a readable .npz"):
        EpisodeDataset(folder)


def test_flipped_bits_are_noticed_on_reading(folder: Path) -> None:
    path = folder / "shard-00001.npz"
    with zipfile.ZipFile(path) as archive:
        inside_frames = archive.getinfo("act.npy").header_offset - 30  # "act" follows "obs"
    whole = bytearray(path.read_bytes())
    whole[inside_frames] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(DatasetError, match=r"shard-00001.npz.*'obs.npy'.*by 'collect --again'"):
        _ = EpisodeDataset(folder).obs


def test_leftovers_of_a_crash_are_ignored(folder: Path) -> None:
    (folder / "shard-00002.npz.x7.tmp").write_bytes(b"half a sh")
    assert len(EpisodeDataset(folder)) == 12


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("rew", np.zeros(5), r"rew is float64 \(5,\), expected float32"),
        ("rew", np.zeros(4, np.float32), r"rew is float32 \(4,\), expected float32 \(5\)"),
        ("extra", np.zeros(5), r"unknown arrays \['extra'\]"),
        ("act", None, r"lacks the arrays \['act'\]"),
        ("pose", None, r"shard-00001.npz: pose is None"),
        (
            "obs",
            np.zeros((5, 8, 8, 3), np.uint8),
            r"shard-00001.npz: frames are \(8, 8, 3\), but dataset.json says \(4, 4, 3\)",
        ),
        ("act", np.array([{}] * 5, dtype=object), r"act is object"),
        ("obs", np.zeros((), np.uint8), r"obs is uint8 \(\)"),
        ("episode_seed", np.zeros((), np.int64), r"episode_seed is int64 \(\)"),
        ("episode_seed", np.zeros(6, np.int64), "6 episodes of 5 frames"),
        ("episode_seed", np.zeros(0, np.int64), "0 episodes of 5 frames"),
        ("act", np.zeros((5, 2), np.float32), r"actions are float32 of shape \(2,\), .* action space is Discrete\(5\)"),
        ("tiles", np.zeros((5, 5, 1, 3), np.uint8), r"tiles are \(5, 1\) cells, but a frame has \(4, 4\) pixels"),
    ],
)
def test_foreign_arrays_are_refused(folder: Path, key: str, array: np.ndarray | None, message: str) -> None:
    path = folder / "shard-00001.npz"
    arrays = dict(np.load(path)) | {key: array}
    np.savez_compressed(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(DatasetError, match=message) as error:
        EpisodeDataset(folder)
    assert "collect --again" in str(error.value)


def test_a_shard_with_more_than_the_description_says_is_not_unpacked(folder: Path) -> None:
    path = folder / "shard-00001.npz"
    for frames in (16, 17):  # 7 frames asked for and an episode of 10 can come to 16
        arrays = {key: np.resize(array, (frames, *array.shape[1:])) for key, array in np.load(path).items()}
        np.savez_compressed(path, **arrays | {"episode_seed": np.zeros(1, np.int64)})
        if frames == 16:
            assert len(EpisodeDataset(folder)) == 7 + 16
    with pytest.raises(DatasetError, match="has 17 frames, but by shard_frames and episode_length less than 17"):
        EpisodeDataset(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rew", np.nan, "shard-00001.npz: a reward is not a finite number: nan in frame 3 of the shard"),
        ("rew", np.inf, "a reward is not a finite number: inf in frame 3"),
        ("rew", -3e38, "a reward is beyond 1,000,000,000"),
        ("act", 5, r"shard-00001.npz: an action is not in Discrete\(5\): 5 in frame 3"),
        ("act", -1, r"an action is not in Discrete\(5\): -1"),
    ],
)
def test_impossible_numbers_of_old_files_are_named_where_they_are_read(
    folder: Path, key: str, value: float, message: str
) -> None:
    path = folder / "shard-00001.npz"
    arrays = dict(np.load(path))
    arrays[key][3] = value
    np.savez_compressed(path, **arrays)
    dataset = EpisodeDataset(folder)
    with pytest.raises(DatasetError, match=message):
        getattr(dataset, key)


def test_seeds_that_no_episode_has_are_refused(folder: Path) -> None:
    path = folder / "shard-00001.npz"
    arrays = dict(np.load(path))
    np.savez_compressed(path, **arrays | {"episode_seed": np.full_like(arrays["episode_seed"], -5)})
    with pytest.raises(DatasetError, match="shard-00001.npz: episode_seed has -5; expected -1 where none is known"):
        _ = EpisodeDataset(folder).episode_seed


def test_shard_that_begins_inside_an_episode_is_refused(folder: Path) -> None:
    path = folder / "shard-00001.npz"
    np.savez_compressed(path, **dict(np.load(path)) | {"is_first": np.zeros(5, np.bool_)})
    with pytest.raises(DatasetError, match=r"shard-00001.npz: is_first must mark frame 0"):
        _ = EpisodeDataset(folder).episode_starts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", r"\(format, version\) None"),
        (json.dumps({"format": "lssvwm-episodes", "version": 99}), "'lssvwm-episodes', 99"),
        (json.dumps({"format": "lssvwm-episodes", "version": 1, "env_id": "x"}), "dataset.json lacks action_space"),
    ],
)
def test_foreign_descriptions_are_refused(folder: Path, content: str, message: str) -> None:
    (folder / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        EpisodeDataset(folder)


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"new, but")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
