"""`check` finds what is wrong, says where, and is content with what is not."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lssvwm_env.cli import main
from lssvwm_env.datasets.check import (
    MOST_LEARNED,
    START_FRAMES,
    CheckConfig,
    check,
    check_dataset,
    check_pair,
)
from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.train import TrainConfig
from lssvwm_models.data import DatasetError, DatasetOrigin, Episode, EpisodeDataset, read_spec, write_dataset
from lssvwm_models.data.spec import write_spec
from lssvwm_models.model.heads import RewardHead
from lssvwm_models.utils.two_hot import symexp

Arrays = dict[str, np.ndarray]


def rooms(out: Path, split: str = "train", **changes: Any) -> Path:
    config = CollectConfig("MiniGrid-ObjectRooms-v0", out, 60, split, workers=1, episode_length=20, shard_frames=40)
    collect(CollectConfig(**(vars(config) | changes)))
    return out


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rooms(tmp_path_factory.mktemp("data") / "sound")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage: shards of 40 and 20 frames, episodes of 20."""
    return Path(shutil.copytree(sound, tmp_path / "damaged"))


def damage(folder: Path, change: Callable[[Arrays], object], shard: str = "shard-00000.npz") -> None:
    with np.load(folder / shard) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez_compressed(folder / shard, **arrays)


def describe(folder: Path, **changes: object) -> None:
    spec = folder / "dataset.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | changes))


def put(key: str, index: int, value: object) -> Callable[[Arrays], object]:
    return lambda arrays: arrays[key].__setitem__(index, value)


def test_a_sound_dataset_is_shown(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_dataset(sound) == []
    assert main(["check", "--dataset", str(sound)]) == 0
    printed = capsys.readouterr()
    words = " ".join(printed.out.split())
    for fact in (
        "MiniGrid-ObjectRooms-v0",
        "wander policy (wander is a script that knows the map), train split",
        "60 of [64, 64, 3]",
        "action 2",
        "%",
        "###",
    ):
        assert fact in words
    assert "3: 0 terminated, 3 truncated" in printed.out and not printed.err


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put("act", 20, 2), "begins with an action, but none led there: 1 time(s), first in shard-00000.npz, frame 20"),
        (put("rew", 0, 0.5), "begins with a reward, but nothing led there: 1 time(s)"),
        (put("rew", 7, np.nan), "a reward is not a finite number: 1 time(s), first in shard-00000.npz, frame 7"),
        (put("act", 3, 7), "an action is not in Discrete(7): 1 time(s), first in shard-00000.npz, frame 3"),
        (put("terminated", 4, True), "an episode goes on after its end: 1 time(s)"),
        (lambda a: a.update(act=a["act"].astype(np.int32)), "act is int32 (40,), expected int64 (40)"),
        (lambda a: a.update(obs=a["obs"][..., :1]), "obs is uint8 (40, 64, 64, 1)"),
        (lambda a: a.update(obs=a["obs"][:, :32, :32]), "frames are (32, 32, 3), but dataset.json says (64, 64, 3)"),
        (lambda a: a.pop("rew"), "lacks the arrays ['rew']"),
        (put("is_first", 20, False), "is_first must mark frame 0 and one frame per episode_seed"),
        (
            lambda a: a.update(act=np.zeros((40, 2), np.float32)),
            "actions are float32 of shape (2,), but the action space is Discrete(7)",
        ),
    ],
)
def test_what_is_wrong_is_said(folder: Path, change: Callable[[Arrays], object], problem: str) -> None:
    damage(folder, change)
    (found,) = check_dataset(folder)
    assert problem in found


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"frames": 61}, "it has 60 frames, but dataset.json says at least 61"),
        ({"episode_length": 19}, "an episode has 20 frames, but dataset.json says at most 19"),
        ({"shards": ["shard-00000.npz"]}, "it has 40 frames, but dataset.json says at least 60"),
        ({"shard_frames": 10}, "has 40 frames, but by shard_frames and episode_length less than 30"),
        ({"shards": []}, "it has 0 frames"),
    ],
)
def test_descriptions_that_the_shards_contradict_are_named(
    folder: Path, changes: dict[str, object], problem: str
) -> None:
    describe(folder, **changes)
    assert problem in check_dataset(folder)[0]


def test_shards_that_do_not_go_together_are_named(folder: Path) -> None:
    damage(folder, lambda arrays: arrays.pop("tiles"))
    assert "tiles is ArrayHeader(" in check_dataset(folder)[0]


def test_poses_that_are_not_of_the_kind_that_the_dataset_says_are_named(folder: Path) -> None:
    damage(folder, lambda arrays: arrays.update(pose=arrays["pose"].astype(np.float32)))
    assert "shard-00000.npz: poses are of the kind plane, but dataset.json says grid" in check_dataset(folder)[0]
    damage(folder, lambda arrays: arrays.pop("pose"))
    assert "shard-00000.npz: poses are of the kind None, but dataset.json says grid" in check_dataset(folder)[0]


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (4, "grid", "a heading is not 0 to 3 quarter turns"),
        (-1, "grid", "a heading is not 0 to 3 quarter turns"),
        (np.nan, "plane", "a pose is not a finite number"),
        (6.3, "plane", "an angle is more than a full turn: is it in degrees?"),
        (-90, "plane", "an angle is more than a full turn: is it in degrees?"),
    ],
)
def test_poses_that_are_none_are_named(folder: Path, value: float, kind: str, words: str) -> None:
    for name in EpisodeDataset(folder).spec.shards:
        with np.load(folder / name) as shard:
            arrays = dict(shard)
        if kind == "plane":
            arrays["pose"] = arrays["pose"].astype(np.float32)
        arrays["pose"][5, 2] = value
        np.savez_compressed(folder / name, **arrays)
    write_spec(folder, replace(read_spec(folder), pose=kind))
    assert check_dataset(folder)[0].startswith(words) and "frame 5" in check_dataset(folder)[0]
    with pytest.raises(DatasetError, match=words[:20]):
        _ = EpisodeDataset(folder).pose


def test_seeds_that_are_none_are_named(folder: Path) -> None:
    damage(folder, put("episode_seed", 1, -7))
    assert check_dataset(folder) == [
        "an episode seed is below -1, which is where none is known: 1 time(s), first in shard-00000.npz, frame 20"
    ]


def test_an_action_that_is_no_number_is_named_once(small: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "damaged"))
    damage(folder, put("act", 5, np.nan))
    assert check_dataset(folder) == ["an action is not a finite number: 1 time(s), first in shard-00000.npz, frame 5"]


def test_rewards_that_are_larger_than_any_that_is_learned_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = RewardHead(4)
    assert int(symexp(head.bins[-1])) == MOST_LEARNED
    main(["check", "--dataset", str(folder)])
    assert "their size" not in capsys.readouterr().out
    damage(folder, put("rew", 7, -148))
    assert main(["check", "--dataset", str(folder)]) == 0
    assert "up to 148, of which a model learns 147" in " ".join(capsys.readouterr().out.split())


SMALL = {"type": "Box", "low": -1.0, "high": 1.0, "shape": [2], "dtype": "float32"}
VALUES = (None, True, -1, 0, 1e308, 10**40, "", "x", [], {}, {"a": [None]}, ["x"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    first = np.arange(20) == 0
    act = np.where(first[:, None], 0, rng.uniform(-1, 1, (20, 2))).astype(np.float32)
    no = np.zeros(20, np.bool_)
    obs = rng.integers(0, 256, (20, 8, 8, 3), np.uint8)
    episode = Episode(obs, act, np.zeros(20, np.float32), no, no, seed=3)
    return write_dataset(tmp_path_factory.mktemp("data") / "small", [episode], DatasetOrigin("Any-v0", SMALL)).folder


def test_whatever_a_description_says_the_check_ends_with_a_report(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "changed"))
    content = json.loads((folder / "dataset.json").read_text())
    fields = [(field,) for field in content] + [
        (field, part) for field in content if "space" in field for part in SMALL
    ]
    refused = 0
    for place in fields:
        for value in VALUES:
            changed = json.loads(json.dumps(content))
            part = changed[place[0]] if len(place) > 1 else changed
            part[place[-1]] = value
            (folder / "dataset.json").write_text(json.dumps(changed))
            try:
                check(CheckConfig(folder))
            except DatasetError:
                refused += 1
    assert refused > 0.75 * len(fields) * len(VALUES)  # what is not, is another name, number or text that may be meant
    capsys.readouterr()


def test_whatever_a_shard_holds_the_check_ends_with_a_report(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "changed"))
    with np.load(folder / "shard-00000.npz") as archive:
        arrays = dict(archive)
    strange = [np.zeros(0), np.float32(0), np.zeros((3, 3)), np.array(["x"] * 20), np.full(20, np.nan, np.float32)]
    strange += [np.zeros(20, np.complex64), np.array([None] * 20), np.zeros((20, 2, 2, 2), np.float32)]
    cases = {(key, number): value for key in arrays for number, value in enumerate(strange)}
    for (key, _), value in cases.items():
        np.savez_compressed(folder / "shard-00000.npz", **arrays | {key: value})
        with pytest.raises(DatasetError, match=r"shard-00000.npz"):
            check(CheckConfig(folder))
    whole = (small / "shard-00000.npz").read_bytes()
    for position in random.Random(0).sample(range(8 * len(whole)), 60):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        (folder / "shard-00000.npz").write_bytes(flipped)
        try:
            check(CheckConfig(folder))
        except DatasetError:
            continue
        assert EpisodeDataset(folder).hash() == EpisodeDataset(small).hash()
    capsys.readouterr()


HOSTILE = "<script>x</script>[red]R[/red][link=http://e]L[/link] \x1b[2J\x07\u202e\nlast"


@pytest.mark.parametrize("field", ["env_id", "env_kwargs", "preprocessing", "policy", "command"])
def test_what_strangers_wrote_is_shown_and_does_nothing(
    folder: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    describe(folder, **{field: {HOSTILE: HOSTILE} if field == "env_kwargs" else HOSTILE})
    assert main(["check", "--dataset", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    if field != "command":  # of which a sound dataset says nothing
        assert "[red]R[/red][link=http://e]L[/link]" in "".join(shown.split())
    describe(folder, complete=False)
    assert main(["check", "--dataset", str(folder)]) == 1
    assert capsys.readouterr().err.replace("\n", "").isprintable()


def test_what_is_wrong_in_several_shards_is_said_once(folder: Path) -> None:
    for shard in ("shard-00000.npz", "shard-00001.npz"):
        damage(folder, put("rew", 5, np.inf), shard)
    assert check_dataset(folder) == ["a reward is not a finite number: 2 time(s), first in shard-00000.npz, frame 5"]


def test_files_that_are_lost_or_damaged_are_named(folder: Path) -> None:
    (folder / "shard-00001.npz").unlink()
    whole = (folder / "shard-00000.npz").read_bytes()
    for size in (len(whole) // 2, 0):
        (folder / "shard-00000.npz").write_bytes(whole[:size])
        damaged, lost = check_dataset(folder)[:2]
        assert "shard-00000.npz is not a readable .npz" in damaged and "was made by 'lssvwm collect" in damaged
        assert "shard-00001.npz is missing" in lost
    content = bytearray(whole)
    content[len(whole) // 2] ^= 0xFF  # the headers are fine
    (folder / "shard-00000.npz").write_bytes(content)
    assert "shard-00000.npz is not a readable .npz (" in check_dataset(folder)[0]


def test_descriptions_that_are_wrong_are_named(folder: Path) -> None:
    describe(folder, complete=False)
    assert (
        "it is incomplete: finish it, or collect it anew; dataset.json says that it was made by 'lssvwm "
        in (check_dataset(folder)[0])
    )
    describe(folder, action_space={"type": "Text"})
    assert "action_space={'type': 'Text'} must be type Discrete" in check_dataset(folder)[0]
    (folder / "dataset.json").write_text("{")
    assert "is not JSON" in check_dataset(folder)[0]
    (folder / "dataset.json").unlink()
    assert "dataset.json is missing" in check_dataset(folder)[0]


def test_frames_that_teach_nothing_are_named(folder: Path) -> None:
    for shard in ("shard-00000.npz", "shard-00001.npz"):
        damage(folder, lambda arrays: arrays["obs"].fill(9), shard)
    assert check_dataset(folder) == ["all frames look alike"]


def test_frames_that_cannot_be_cut_into_tokens_are_named(folder: Path) -> None:
    for shard in ("shard-00000.npz", "shard-00001.npz"):
        damage(folder, lambda arrays: arrays.update(obs=arrays["obs"][:, :60, :60]), shard)
    describe(folder, observation_space={"type": "Box", "low": 0, "high": 255, "shape": [60, 60, 3], "dtype": "uint8"})
    assert check_dataset(folder) == ["its frames are (60, 60, 3); expected squares with a side that is a multiple of 8"]


def test_episodes_that_are_too_short_to_train_on_are_named(tmp_path: Path) -> None:
    (problem,) = check_dataset(rooms(tmp_path, episode_length=16))
    assert TrainConfig.start_frames == START_FRAMES == 16
    assert "longest episode has 16 frames, but `lssvwm train` begins dreams from 16 of a longer one" in problem


def test_seeds_in_both_of_two_datasets_are_named(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = rooms(tmp_path / "test", "test")
    assert check_pair(sound, test) == []
    assert main(["check", "--dataset", str(sound), "--test", str(test)]) == 0
    damage(test, put("episode_seed", 0, json_seed(sound)))
    assert main(["check", "--dataset", str(sound), "--test", str(test)]) == 1
    printed = capsys.readouterr().err
    assert "1 problem(s)\n" in printed and f"1 episode seed(s) are in both {sound} and {test}" in printed
    describe(test, env_id="Other-v0")
    assert any("env_id is MiniGrid-ObjectRooms-v0 in" in problem for problem in check_pair(sound, test))


def json_seed(folder: Path) -> int:
    with np.load(folder / "shard-00000.npz") as archive:
        return int(archive["episode_seed"][1])
