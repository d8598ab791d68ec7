"""Datasets from a folder of videos, with the actions of each beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from lssvwm_env.real.pixels import Framing
from lssvwm_env.utils.command import command
from lssvwm_env.utils.json_types import space_to_json
from lssvwm_models.data import NO_SEED, DatasetOrigin, Episode, EpisodeDataset, write_dataset
from lssvwm_models.data.splits import Split

SUFFIXES: Final = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif")


@dataclass(frozen=True)
class ImportVideosConfig:
    """What to import, and how.

    Attributes:
        folder: Folder of videos, an episode each. Beside NAME.mp4 (or .mkv, .webm, .mov, .avi, .gif) of T frames lies
            NAME.npy with the action that led to each frame: int64 (T,), or float32 (T, A). The first is ignored, as
            nothing led to the first frame; T - 1 actions are understood to lack it. In the same way, and only if there
            are any: NAME.rewards.npy, float32, and NAME.terminated.npy, bool.
        out: Dataset folder to make.
        env_id: What the videos are of; where it is the id of an environment, `lssvwm compare` can collect more.
        size: Pixels along each side of a frame; by default those of the videos if they are square and a multiple of
            8, else 64.
        split: What to call it.
    """

    folder: Path
    out: Path
    env_id: str = "videos"
    size: int | None = None
    split: Split = "train"


def import_videos(config: ImportVideosConfig) -> EpisodeDataset:
    """Make a dataset folder of videos and their actions.

    Integers become a Discrete space up to the largest, vectors a Box from the smallest to the largest number of each
    kind. Most videos are compressed with losses, and the dataset is of what is left.

    Raises:
        FileNotFoundError: If there are no videos, or one has no actions.
        ValueError: If files do not fit one another, or the folder to make is not empty.
    """
    videos = sorted(path for path in config.folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not videos:
        raise FileNotFoundError(f"{config.folder} holds no videos; expected files ending in {', '.join(SUFFIXES)}")
    actions = {path: _actions(path) for path in videos}
    framing = Framing(next(iter(_frames(videos[0]))).shape, config.size)
    dataset = write_dataset(
        config.out,
        (_episode(path, act, config.size) for path, act in actions.items()),
        DatasetOrigin(
            env_id=config.env_id,
            action_space=space_to_json(_space(list(actions.values()))),
            env_kwargs={"frame_size": config.size} if config.size else {},
            preprocessing=", ".join(filter(None, ("read from videos", framing.words))),
            split=config.split,
            command=command("import-videos", config),
        ),
    )
    print(f"{len(dataset):,} frames in {len(videos):,} episodes are in {config.out}.")
    return dataset


def _episode(path: Path, act: NDArray[Any], size: int | None) -> Episode:
    frames = np.stack([Framing(picture.shape, size).frame(picture) for picture in _frames(path)])
    terminated = _along(path, "terminated", np.zeros(len(frames), np.bool_))
    last = np.arange(len(frames)) == len(frames) - 1
    try:
        return Episode(
            obs=frames,
            act=_fitted(path.with_suffix(".npy"), act, len(frames)),
            rew=_along(path, "rewards", np.zeros(len(frames), np.float32)),
            terminated=terminated,
            truncated=last & ~terminated,
            seed=NO_SEED,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a video, one by one."""
    try:
        yield from iio.imiter(path) if path.suffix.lower() == ".gif" else iio.imiter(path, plugin="pyav")
    except ImportError as error:
        raise ValueError(f'{path} needs a decoder ({error}); get it with: pip install "lssvwm-env[data]"') from error


def _actions(video: Path) -> NDArray[Any]:
    path = video.with_suffix(".npy")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the actions of {video.name}, int64 (T,) or float32 (T, A)")
    act = np.load(path, allow_pickle=False)
    if np.issubdtype(act.dtype, np.integer) and act.ndim == 1:
        return act.astype(np.int64)
    if np.issubdtype(act.dtype, np.floating) and act.ndim == 2:
        return act.astype(np.float32)
    raise ValueError(f"{path} is {act.dtype} {act.shape}, expected int64 (T,) or float32 (T, A)")


def _along(video: Path, name: str, nothing: NDArray[Any]) -> NDArray[Any]:
    """What a file beside the video says of each frame; `nothing` where there is none."""
    path = video.with_suffix(f".{name}.npy")
    if not path.is_file():
        return nothing
    return _fitted(path, np.load(path, allow_pickle=False).astype(nothing.dtype), len(nothing))


def _fitted(path: Path, values: NDArray[Any], frames: int) -> NDArray[Any]:
    """One value for each of T frames, of T or T - 1 that are given; that of the first frame means nothing and is 0."""
    if len(values) not in (frames, frames - 1):
        raise ValueError(f"{path} has {len(values)} entries for {frames} frames; expected as many, or one less")
    return np.concatenate([np.zeros((1, *values.shape[1:]), values.dtype), values[len(values) - frames + 1 :]])


def _space(actions: list[NDArray[Any]]) -> gym.spaces.Discrete | gym.spaces.Box:
    """The smallest space that all actions are in."""
    if len({(act.dtype, act.shape[1:]) for act in actions}) > 1:
        kinds = sorted({f"{act.dtype} {('T', *act.shape[1:])}" for act in actions})
        raise ValueError(f"videos have different kinds of actions: {' and '.join(kinds)}; expected one kind")
    together = np.concatenate(actions)
    if not len(together) or not np.isfinite(together).all() or (together.ndim == 1 and together.min() < 0):
        raise ValueError("actions must be integers from 0, or finite numbers; write 0 for the ignored first")
    if together.ndim == 1:
        return gym.spaces.Discrete(int(together.max()) + 1)
    return gym.spaces.Box(together.min(0), together.max(0), dtype=np.float32)
