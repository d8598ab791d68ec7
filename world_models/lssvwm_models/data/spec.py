"""What a dataset is and where it comes from: the file `dataset.json`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from lssvwm_models.data.spaces import action_bounds, frame_shape
from lssvwm_models.data.splits import Split
from lssvwm_models.utils.checks import AHEAD, CELL, FOV, check_fields, shown
from lssvwm_models.utils.json_files import from_json, parse_json, read_json, to_json, write_json

PoseKind = Literal["grid", "plane"]

SPEC_FILE = "dataset.json"
FORMAT = "lssvwm-episodes"
VERSION = 1
MOST_SEED: Final = 2**64 - 1
_SHARD: Final = re.compile(r"shard-[0-9]{5,}\.npz")


class DatasetError(ValueError):
    """A dataset folder that is incomplete, damaged or of another kind than asked for."""


@dataclass(frozen=True)
class Camera:
    """A level camera that sees in first person, and moves with the pose.

    Attributes:
        fov: Horizontal field of view, in degrees.
        ahead: How far it is ahead of the pose, in the unit of x and y; behind, if it is negative.
        cell: What counts as a cell, in that unit: about as wide as a corridor, or as the things that stand about.
    """

    fov: float
    ahead: float = 0.0
    cell: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, fov=FOV, ahead=AHEAD, cell=CELL)


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
        shards: File names of the shards, in order, as `shard_name` makes them.
        pose: Where the recorded poses are: on a "grid", in whole cells and quarter turns, or anywhere in the "plane".
            None: there are none, or the shards alone tell, as those of older datasets and of incomplete ones do.
        camera: Of frames in first person. None: they are not, or nobody knows.

    Raises:
        ValueError: If a field is of another type, or is no such thing.
    """

    env_id: str
    env_kwargs: dict[str, Any]
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    preprocessing: str
    policy: str
    seed: int
    split: Split
    episode_length: int
    frames: int
    shard_frames: int
    command: str
    complete: bool
    shards: list[str]
    pose: PoseKind | None = None
    camera: Camera | None = None

    def __post_init__(self) -> None:
        check_fields(self, seed=(0, MOST_SEED), frames=1, shard_frames=1, episode_length=1)
        _check_origin(self)
        frame_shape(self.observation_space)
        if wrong := [name for name in self.shards if not _SHARD.fullmatch(name)]:
            raise ValueError(f"shards={shown(wrong)} must be names of files like {shard_name(0)}")
        if len(set(self.shards)) < len(self.shards):
            raise ValueError(f"shards={shown(self.shards)} must be different files")

    def made_by(self) -> str:
        """The command, as what it is: words of whoever wrote the file, to be read before they are believed."""
        return f"{SPEC_FILE} says that it was made by {self.command!r}"


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
        camera: As in `DatasetSpec`.
    """

    env_id: str
    action_space: dict[str, Any]
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    preprocessing: str = "none"
    policy: str = "unknown"
    seed: int = 0
    split: Split = "train"
    command: str = ""
    camera: Camera | None = None

    def __post_init__(self) -> None:
        check_fields(self, seed=(0, MOST_SEED))
        _check_origin(self)


def _check_origin(about: DatasetSpec | DatasetOrigin) -> None:
    """Refuse what both have and types alone do not say."""
    if not about.env_id:
        raise ValueError(f"env_id={about.env_id!r} must be a name")
    try:
        same = parse_json(to_json(about.env_kwargs), "env_kwargs") == about.env_kwargs
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(f"env_kwargs={shown(about.env_kwargs)} must be plain numbers, texts, lists and dictionaries")
    action_bounds(about.action_space)


def shard_name(number: int) -> str:
    """The file name of the shard with this number."""
    return f"shard-{number:05d}.npz"


def write_spec(folder: str | Path, spec: DatasetSpec) -> None:
    """Write `dataset.json` into an existing folder, whole or not at all."""
    write_json(Path(folder) / SPEC_FILE, {"format": FORMAT, "version": VERSION, **asdict(spec)})


def read_spec(folder: str | Path) -> DatasetSpec:
    """Read `dataset.json`.

    Raises:
        FileNotFoundError: If the folder has none.
        DatasetError: If it is not a dataset description of this version; it names the field that is wrong.
    """
    path = Path(folder) / SPEC_FILE
    if not path.is_file():
        raise FileNotFoundError(f"No dataset at {folder}: {SPEC_FILE} is missing. Check the path, or collect one.")
    try:
        content = read_json(path)
    except ValueError as error:
        raise DatasetError(f"{error}: restore it, or collect the dataset again.") from error
    kind = (content.pop("format", None), content.pop("version", None)) if isinstance(content, dict) else None
    if kind != (FORMAT, VERSION) or isinstance(kind[1], bool):
        raise DatasetError(
            f"{path} has (format, version) {shown(kind)}, expected {(FORMAT, VERSION)}: collect the dataset again, "
            "or read it with the release that wrote it."
        )
    try:
        spec: DatasetSpec = from_json(DatasetSpec, content, SPEC_FILE)
    except ValueError as error:
        raise DatasetError(f"{folder}: {error}; restore it, or collect the dataset again.") from error
    return spec
