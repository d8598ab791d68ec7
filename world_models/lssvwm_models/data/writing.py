"""A dataset folder from episodes that are already there: imported, or made in a program."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final
from uuid import uuid4

from lssvwm_models.data.episodes import Episode, EpisodeDataset, pose_kind, shard_header, write_shard
from lssvwm_models.data.spaces import Bounds, action_bounds, in_words
from lssvwm_models.data.spec import DatasetError, DatasetOrigin, DatasetSpec, shard_name, write_spec
from lssvwm_models.data.values import first_fault
from lssvwm_models.utils.checks import shown

SHARD_FRAMES: Final = 8192
SHARED: Final = ("env_id", "env_kwargs", "observation_space", "action_space", "preprocessing", "split", "camera")


def write_dataset(folder: str | Path, episodes: Iterable[Episode], origin: DatasetOrigin) -> EpisodeDataset:
    """Write a dataset folder, whole or not at all.

    Args:
        folder: The folder to make; it may be there if it is empty.
        episodes: Taken one by one, and in memory a shard at a time.
        origin: Where they come from.

    Raises:
        DatasetError: If the folder is not empty.
        ValueError: If there are no episodes, they do not go together, or have actions that are not in their space.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"{folder} is there already and will not be overwritten: delete it, or choose another name.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    new.mkdir()
    try:
        shards: list[str] = []
        lengths: list[int] = []
        for part in _parts(_alike(episodes, action_bounds(origin.action_space))):
            shards.append(shard_name(len(shards)))
            lengths += map(len, part)
            shape = part[0].obs.shape[1:]
            write_shard(new / shards[-1], part)
        if not shards:
            raise ValueError(f"there are no episodes for {folder}; a dataset has at least one")
        spec = DatasetSpec(
            observation_space={"type": "Box", "low": 0, "high": 255, "shape": list(shape), "dtype": "uint8"},
            episode_length=max(lengths),
            frames=sum(lengths),
            shard_frames=SHARD_FRAMES,
            complete=True,
            shards=shards,
            pose=pose_kind(shard_header(new / shards[0])),
            **vars(origin),
        )
        write_spec(new, spec)
        if folder.exists():
            folder.rmdir()
        os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return EpisodeDataset(folder)


def join_datasets(folder: str | Path, parts: Sequence[EpisodeDataset], command: str = "") -> EpisodeDataset:
    """Make one dataset folder of the episodes of several, in their order; or make it again, whatever had cut it off.

    The shards are hard links to those of the parts, and copies only where the file system has no such links.

    Args:
        folder: The folder to make, or one that this function made.
        parts: Of the same environment, seen in the same way.
        command: As in `DatasetSpec`.

    Raises:
        DatasetError: If the parts do not go together.
        ValueError: If there are none.
    """
    if not parts:
        raise ValueError(f"there are no datasets for {folder}; give at least one")
    specs = [part.spec for part in parts]
    for part, name in product(parts, SHARED):
        first = getattr(specs[0], name)
        other = getattr(part.spec, name)
        if other != first:
            raise DatasetError(f"{part.folder} has {name} {other!r}, but {parts[0].folder} has {first!r}: join others")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sources = [part.folder / shard for part in parts for shard in part.spec.shards]
    shards = [shard_name(i) for i in range(len(sources))]
    for source, shard in zip(sources, shards, strict=True):
        (folder / shard).unlink(missing_ok=True)
        try:
            os.link(source, folder / shard)
        except OSError:
            shutil.copyfile(source, folder / shard)
    spec = replace(
        specs[0],
        policy=", then ".join(dict.fromkeys(spec.policy for spec in specs)),
        episode_length=max(spec.episode_length for spec in specs),
        frames=sum(spec.frames for spec in specs),
        shard_frames=max(spec.shard_frames for spec in specs),
        command=command,
        shards=shards,
    )
    write_spec(folder, spec)
    return EpisodeDataset(folder)


def _parts(episodes: Iterable[Episode]) -> Iterator[list[Episode]]:
    """Episodes in groups of at least `SHARD_FRAMES` frames; the last may have fewer."""
    part: list[Episode] = []
    for episode in episodes:
        part.append(episode)
        if sum(map(len, part)) >= SHARD_FRAMES:
            yield part
            part = []
    if part:
        yield part


def _alike(episodes: Iterable[Episode], bounds: Bounds) -> Iterator[Episode]:
    """The same episodes; raises where one does not go with the first, or with the space of actions."""
    first: dict[str, str] = {}
    for i, episode in enumerate(episodes):
        if not isinstance(episode, Episode):
            raise ValueError(f"episode number {i + 1} is {shown(episode)}; expected an Episode")
        arrays = episode.arrays()
        layout = {key: f"{array.dtype} {array.shape[1:]}" for key, array in arrays.items()}
        first = first or layout
        for key in sorted(layout.keys() | first.keys()):
            if layout.get(key) != first.get(key):
                raise ValueError(
                    f"episodes of one dataset must agree in {key}: in the first it is {first.get(key)}, in number "
                    f"{i + 1} {layout.get(key)}"
                )
        if episode.act.shape[1:] != bounds[0].shape:
            raise ValueError(f"actions are {layout['act']} each, but the action space is {in_words(bounds)}")
        if fault := first_fault("act", episode.act, arrays["is_first"], bounds):
            raise ValueError(f"episode number {i + 1}: {fault}")
        yield episode
