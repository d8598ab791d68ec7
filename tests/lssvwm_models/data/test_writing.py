"""Episodes from anywhere become a dataset folder, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lssvwm_models.data import (
    DatasetError,
    DatasetOrigin,
    Episode,
    EpisodeDataset,
    join_datasets,
    write_dataset,
    writing,
)

DISCRETE = {"type": "Discrete", "n": 5}
MINE = DatasetOrigin("Mine", DISCRETE)


def episode(length: int, seed: int, side: int = 8) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        obs=rng.integers(0, 256, (length, side, side, 3), np.uint8),
        act=np.append(0, rng.integers(0, 5, length - 1)),
        rew=np.append(0, rng.random(length - 1)).astype(np.float32),
        terminated=np.arange(length) == length - 1,
        truncated=np.zeros(length, np.bool_),
        seed=seed,
    )


EPISODES = [episode(3, 1), episode(4, 2), episode(5, 3), episode(2, 4)]


def test_what_is_written_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SHARD_FRAMES", 6)
    dataset = write_dataset(tmp_path / "new" / "data", iter(EPISODES), MINE)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data"]
    assert len(dataset.spec.shards) == 2 and dataset.spec.complete
    assert (dataset.spec.frames, dataset.spec.episode_length) == (14, 5)
    assert dataset.spec.observation_space["shape"] == [8, 8, 3]
    for found, wanted in zip(dataset.episodes(), EPISODES, strict=True):
        assert found.seed == wanted.seed
        for key, array in wanted.arrays().items():
            np.testing.assert_array_equal(found.arrays()[key], array)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def breaks() -> Iterator[Episode]:
        yield EPISODES[0]
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        write_dataset(tmp_path / "data", breaks(), MINE)
    assert not list(tmp_path.iterdir())


def test_episodes_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must agree in obs: in the first it is uint8 \(8, 8, 3\), in number 2 uint8"):
        write_dataset(tmp_path / "data", [EPISODES[0], episode(3, 1, 16)], MINE)
    with pytest.raises(ValueError, match="there are no episodes for"):
        write_dataset(tmp_path / "data", [], MINE)


def test_actions_that_are_not_in_the_space_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"episode number 1: an action is not in Discrete\(2\): \d in frame"):
        write_dataset(tmp_path / "data", EPISODES, DatasetOrigin("Mine", {"type": "Discrete", "n": 2}))
    box = {"type": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "float32"}
    with pytest.raises(ValueError, match=r"actions are int64 \(\) each, but the action space is Box\(2,\)"):
        write_dataset(tmp_path / "data", EPISODES, DatasetOrigin("Mine", box))
    with pytest.raises(ValueError, match="episode number 2 is 'no episode'; expected an Episode"):
        write_dataset(tmp_path / "data", [EPISODES[0], "no episode"], MINE)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()  # empty, so it may be taken
    before = write_dataset(out, EPISODES, MINE).hash()
    with pytest.raises(DatasetError, match="is there already"):
        write_dataset(out, EPISODES[:1], MINE)
    assert EpisodeDataset(out).hash() == before


def parts(folder: Path) -> list[EpisodeDataset]:
    """Two datasets of the same episodes as one."""
    return [
        write_dataset(folder / name, some, DatasetOrigin("Mine", DISCRETE, policy=name))
        for name, some in (("first", EPISODES[:1]), ("second", EPISODES[1:]))
    ]


def test_datasets_are_joined_without_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SHARD_FRAMES", 6)
    whole = write_dataset(tmp_path / "whole", EPISODES, MINE)
    made = parts(tmp_path)
    joined = join_datasets(tmp_path / "joined", made, "make it")
    assert joined.hash() == whole.hash() and joined.spec.complete and joined.spec.command == "make it"
    assert (joined.spec.frames, joined.spec.episode_length, joined.spec.policy) == (14, 5, "first, then second")
    assert (tmp_path / "joined" / "shard-00000.npz").samefile(made[0].folder / "shard-00000.npz")
    longer = join_datasets(tmp_path / "longer", [joined, made[0]])
    assert len(longer) == 17 and longer.spec.policy == "first, then second, then first"


def test_a_join_that_was_cut_off_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = parts(tmp_path)
    wanted = join_datasets(tmp_path / "wanted", made).hash()
    (tmp_path / "joined").mkdir()
    (tmp_path / "joined" / "shard-00001.npz").write_bytes(b"half")

    def no_links(*paths: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(writing.os, "link", no_links)
    assert join_datasets(tmp_path / "joined", made).hash() == wanted
    assert join_datasets(tmp_path / "joined", made).hash() == wanted


def test_datasets_that_do_not_go_together_are_not_joined(tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", EPISODES, DatasetOrigin("Yours", DISCRETE))
    with pytest.raises(DatasetError, match="other has env_id 'Yours', but .*first has 'Mine': join others"):
        join_datasets(tmp_path / "joined", [*parts(tmp_path), other])
    with pytest.raises(ValueError, match="there are no datasets for .*joined; give at least one"):
        join_datasets(tmp_path / "joined", [])
    assert not (tmp_path / "joined").exists()
