"""What a dataset is and where it comes from: the file `dataset.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lssvwm_models.utils.files import write_bytes

SPEC_FILE = "dataset.json"
FORMAT = "lssvwm-episodes"
VERSION = 1


class DatasetError(ValueError):
    """A dataset folder that is incomplete, damaged or of another kind than asked for."""


@dataclass(frozen=True)
class DatasetSpec:
    """Where a dataset comes from: the content of `dataset.json`.

    Attributes:
        env_id: Gymnasium id of the real environment.
        env_kwargs: Keyword arguments it was made with; with the same, `make_real` gives the same frames and actions.
        observation_space: e.g.
            `{"type": "Box", "low": 0, "high": 255, "shape": [64, 64, 3], "dtype": "uint8"}`.
        action_space: e.g. `{"type": "Discrete", "n": 7}`.
        preprocessing: What was done to the frames, in words.
        policy: Who acted.
        seed: Base seed of the collection.
        split: "train", "validation" or "test".
        episode_length: Most frames in one episode, the first included.
        frames: Frames asked for; whole episodes make it a little more.
        shard_frames: Frames asked for per shard.
        command: Shell command that makes, or goes on making, this dataset.
        complete: Whether every shard has been written.
        shards: File names of the shards, in order.
    """

    env_id: str
    env_kwargs: dict[str, Any]
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    preprocessing: str
    policy: str
    seed: int
    split: str
    episode_length: int
    frames: int
    shard_frames: int
    command: str
    complete: bool
    shards: list[str]


@dataclass(frozen=True)
class DatasetOrigin:
    """Where episodes come from that were recorded by other means than `lssvwm collect`.

    Attributes:
        env_id: What the episodes are of. Where it is the id of an environment, `lssvwm compare` can collect more.
        action_space: As in `DatasetSpec`, e.g. `{"type": "Discrete", "n": 7}`.
        env_kwargs: What `make_real` takes beside `env_id` to make this environment.
        preprocessing: What was done to the frames, in words.
        policy: Who acted.
        seed: Of the collection.
        split: As in `DatasetSpec`.
        command: What makes the dataset again.
    """

    env_id: str
    action_space: dict[str, Any]
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    preprocessing: str = "none"
    policy: str = "unknown"
    seed: int = 0
    split: str = "train"
    command: str = ""


def write_spec(folder: str | Path, spec: DatasetSpec) -> None:
    """Write `dataset.json` into an existing folder, whole or not at all."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **asdict(spec)}, indent=2) + "\n"
    write_bytes(Path(folder) / SPEC_FILE, text.encode())


def read_spec(folder: str | Path) -> DatasetSpec:
    """Read `dataset.json`.

    Raises:
        FileNotFoundError: If the folder has none.
        DatasetError: If it is not a dataset description of this version.
    """
    path = Path(folder) / SPEC_FILE
    if not path.is_file():
        raise FileNotFoundError(f"No dataset at {folder}: {SPEC_FILE} is missing. Check the path, or collect one.")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON ({error}): restore it, or collect the dataset again.") from error
    kind = (content.pop("format", None), content.pop("version", None)) if isinstance(content, dict) else None
    if kind != (FORMAT, VERSION):
        raise DatasetError(
            f"{path} has (format, version) {kind}, expected {(FORMAT, VERSION)}: collect the dataset again, "
            "or read it with the release that wrote it."
        )
    names = {field.name for field in fields(DatasetSpec)}
    if differing := names ^ content.keys():
        raise DatasetError(f"{path} lacks or adds the fields {sorted(differing)}: collect the dataset again.")
    return DatasetSpec(**content)
