"""Datasets from a folder of videos, with the actions of each beside it."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lssvwm_env.datasets.playback import pictures, repeats
from lssvwm_env.real.pixels import Framing
from lssvwm_env.utils.command import command
from lssvwm_env.utils.json_types import space_to_json
from lssvwm_models.data import NO_SEED, DatasetOrigin, Episode, EpisodeDataset, write_dataset
from lssvwm_models.data.spaces import MOST_ACTIONS
from lssvwm_models.data.splits import Split
from lssvwm_models.utils.checks import check_fields

SUFFIXES: Final = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif")
FirstEntry = Literal["ignored", "absent"]


@dataclass(frozen=True)
class ImportVideosConfig:
    """What to import, and how.

    Attributes:
        folder: Folder of videos, an episode each. Beside NAME.mp4 (or .mkv, .webm, .mov, .avi, .gif) of T frames, as it
            is shown, lies NAME.npy with the action that led to each frame: int64, or float32 (..., A). In the same way,
            and only if there are any: NAME.rewards.npy, numbers, and NAME.terminated.npy, bool.
        out: Dataset folder to make.
        env_id: What the videos are of; where it is the id of an environment, `lssvwm compare` can collect more.
        size: Pixels along each side of a frame; by default those of the videos if they are square and a multiple of
            8, else 64.
        split: What to call it.
        first_entry: What the files beside a video say of its first frame, to which nothing led: something to be
            "ignored", in T entries, or nothing: it is "absent", from T - 1 entries. By default the number of entries
            tells, the same for all videos; then the first of T entries must be 0.
    """

    folder: Path
    out: Path
    env_id: str = "videos"
    size: int | None = None
    split: Split = "train"
    first_entry: FirstEntry | None = None

    def __post_init__(self) -> None:
        check_fields(self, size=1)


def import_videos(config: ImportVideosConfig) -> EpisodeDataset:
    """Make a dataset folder of videos and their actions.

    Frames are what a player shows: turned as the file asks for, and as long as its times say, where alike ones are
    stored as one. Integers become a Discrete space up to the largest, vectors a Box from the smallest to the largest
    number of each kind. Most videos are compressed with losses, and the dataset is of what is left.

    Raises:
        FileNotFoundError: If there are no videos, or one has no actions.
        ValueError: If files do not fit one another, or the folder to make is not empty.
    """
    videos = sorted(path for path in config.folder.glob("[!.]*") if path.suffix.lower() in SUFFIXES)
    if not videos:
        raise FileNotFoundError(f"{config.folder} holds no videos; expected files ending in {', '.join(SUFFIXES)}")
    _check_each_has_its_own(videos)
    actions = {path: _actions(path) for path in videos}
    first = next(pictures(videos[0]), None)
    if first is None:
        raise ValueError(f"{videos[0]} holds no pictures")
    words = _framing(videos[0], first.pixels, config.size).words
    entries = _Entries(config.first_entry)
    skipped = 1 if config.first_entry == "ignored" else 0
    dataset = write_dataset(
        config.out,
        (_episode(path, act, config.size, entries) for path, act in actions.items()),
        DatasetOrigin(
            env_id=config.env_id,
            action_space=space_to_json(_space({path: act[skipped:] for path, act in actions.items()})),
            env_kwargs={"frame_size": config.size} if config.size else {},
            preprocessing=", ".join(filter(None, ("read from videos", words))),
            split=config.split,
            command=command("import-videos", config),
        ),
    )
    print(f"{len(dataset):,} frames in {len(videos):,} episodes are in {config.out}.")
    return dataset


def _check_each_has_its_own(videos: Iterable[Path]) -> None:
    """Refuse two videos that would take the same file for what belongs to them."""
    takers = defaultdict[Path, list[str]](list)
    for video in videos:
        for suffix in (".npy", ".rewards.npy", ".terminated.npy"):
            takers[video.with_suffix(suffix)].append(video.name)
    for path, names in takers.items():
        if len(names) > 1:
            raise ValueError(f"{path} would belong to {' and to '.join(names)}: give them names of their own")


class _Entries:
    """The files beside videos, and what their first entry is: the same in all files of a kind.

    Args:
        stated: What the user says that it is; None: it is what the number of entries says.
    """

    def __init__(self, stated: FirstEntry | None) -> None:
        self._stated = stated
        self._found: dict[str, tuple[FirstEntry, Path]] = {}

    def fitted(self, path: Path, kind: str, values: NDArray[Any], frames: int) -> NDArray[Any]:
        """One value for each of T frames; that of the first frame means nothing and is 0.

        Raises:
            ValueError: If there are not as many, or it is not clear of which frames they are.
        """
        lengths: dict[int, FirstEntry] = {frames: "ignored", frames - 1: "absent"}
        found = lengths.get(len(values))
        if found is None or self._stated not in (None, found):
            expected = {None: "as many, or one less", "ignored": "as many", "absent": "one less"}[self._stated]
            raise ValueError(f"{path} has {len(values)} entries for {frames} frames; expected {expected}")
        if self._stated is None:
            self._check_told(path, kind, values, found)
        return np.concatenate([np.zeros((1, *values.shape[1:]), values.dtype), values[len(values) - frames + 1 :]])

    def _check_told(self, path: Path, kind: str, values: NDArray[Any], found: FirstEntry) -> None:
        if found == "ignored" and values[0].any():
            raise ValueError(
                f"{path} begins with {values[0]}, but nothing led to the first frame. If that entry is to be ignored, "
                "say --first-entry ignored; if entries are of what came after each frame, leave the last one out"
            )
        before, other = self._found.setdefault(kind, (found, path))
        if before != found:
            with_one, without = (path, other) if found == "ignored" else (other, path)
            raise ValueError(
                f"{with_one} has an entry for each frame of its video, but {without} one less: one of the videos may "
                "have lost or gained a frame. Make them alike, or import them into two datasets"
            )


def _episode(path: Path, act: NDArray[Any], size: int | None, entries: _Entries) -> Episode:
    frames = _frames(path, size)
    rewards = _beside(path, "rewards", "biuf")
    ends = _beside(path, "terminated", "b")
    rew = np.zeros(len(frames), np.float32)
    terminated = np.zeros(len(frames), np.bool_)
    if rewards is not None:
        with np.errstate(over="ignore"):  # which is refused, by its frame
            rew = entries.fitted(path.with_suffix(".rewards.npy"), "rewards", rewards.astype(np.float32), len(frames))
    if ends is not None:
        terminated = entries.fitted(path.with_suffix(".terminated.npy"), "terminated", ends, len(frames))
    last = np.arange(len(frames)) == len(frames) - 1
    act = entries.fitted(path.with_suffix(".npy"), "actions", act, len(frames))
    try:
        return Episode(frames, act, rew, terminated, truncated=last & ~terminated, seed=NO_SEED)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _frames(path: Path, size: int | None) -> NDArray[np.uint8]:
    """What is shown, frame by frame."""
    frames: list[NDArray[np.uint8]] = []
    times: list[int] = []
    last = 0
    for pixels, time, last in pictures(path):  # noqa: B007 (the last one is what is left)
        frames.append(_framing(path, pixels, size).frame(pixels))
        times.append(time)
    if not frames:
        raise ValueError(f"{path} holds no pictures")
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"{path} has pictures of different sizes; say --size, and all are made alike")
    try:
        counts = repeats([*(after - before for before, after in pairwise(times)), last])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return np.repeat(np.stack(frames), counts, axis=0)


def _framing(path: Path, pixels: NDArray[np.uint8], size: int | None) -> Framing:
    try:
        return Framing(pixels.shape, size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _actions(video: Path) -> NDArray[Any]:
    path = video.with_suffix(".npy")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the actions of {video.name}, int64 (T,) or float32 (T, A)")
    act = _read(path)
    if np.issubdtype(act.dtype, np.integer) and act.ndim == 1:
        return act.astype(np.int64)
    if np.issubdtype(act.dtype, np.floating) and act.ndim == 2:
        with np.errstate(over="ignore"):  # which `_space` refuses
            return act.astype(np.float32)
    raise ValueError(f"{path} is {act.dtype} {act.shape}, expected int64 (T,) or float32 (T, A)")


def _beside(video: Path, kind: str, dtypes: str) -> NDArray[Any] | None:
    """What a file beside the video says of its frames; None where there is none."""
    path = video.with_suffix(f".{kind}.npy")
    if not path.is_file():
        return None
    values = _read(path)
    if values.ndim != 1 or values.dtype.kind not in dtypes:
        raise ValueError(
            f"{path} is {values.dtype} {values.shape}, expected {'bool' if dtypes == 'b' else 'numbers'} (T,)"
        )
    return values


def _read(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files by Python 2, and of what looks like one
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except (ValueError, TokenError, MemoryError) as error:  # the header is a piece of Python
        raise ValueError(f"{path} cannot be read as an array: {error}") from error


def _space(actions: dict[Path, NDArray[Any]]) -> gym.spaces.Discrete | gym.spaces.Box:
    """The smallest space that all actions are in, which lie beside these videos."""
    kinds = {f"{act.dtype} {('T', *act.shape[1:])}": path.with_suffix(".npy") for path, act in actions.items()}
    if len(kinds) > 1:
        found = " and ".join(f"{kind} in {path}" for kind, path in sorted(kinds.items()))
        raise ValueError(f"videos have different kinds of actions: {found}; expected one kind")
    for path, act in actions.items():
        wrong = ~np.isfinite(act) | ((act.ndim == 1) & ((act < 0) | (act >= MOST_ACTIONS)))
        if wrong.any():
            raise ValueError(
                f"{path.with_suffix('.npy')} has the values {act[wrong][:8].tolist()}; expected integers from 0, less "
                f"than {MOST_ACTIONS:,}, or finite numbers; write 0 for the ignored first"
            )
    together = np.concatenate(list(actions.values()))
    if not len(together):
        raise ValueError(f"{next(iter(kinds.values()))} has no actions; expected one for each frame but the first")
    if together.ndim == 1:
        return gym.spaces.Discrete(int(together.max()) + 1)
    return gym.spaces.Box(together.min(0), together.max(0), dtype=np.float32)
