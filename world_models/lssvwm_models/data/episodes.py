"""Episodes as compressed shards: one folder, one `dataset.json`, no pickle.

The convention, everywhere in this project: `act[t]` is the action that LED TO frame `t`, and `rew[t]`,
`terminated[t]` and `truncated[t]` come with frame `t`. The first frame of an episode (`is_first`) has the
null action 0 and reward 0, so a model must look at `is_first` to know that no action was taken.

A shard is an `.npz` with whole episodes laid end to end (`N` frames, `E` episodes):

| key                                   | dtype            | shape                                    |
|---------------------------------------|------------------|------------------------------------------|
| `obs`                                 | uint8            | (N, H, W, 3)                             |
| `act`                                 | int64 or float32 | (N,) or (N, A)                           |
| `rew`                                 | float32          | (N,)                                     |
| `terminated`, `truncated`, `is_first` | bool             | (N,)                                     |
| `pose` (optional)                     | int32            | (N, 3): x, y, heading in quarter turns   |
|                                       | or float32       | (N, 3): x, y, angle in radians           |
| `tiles` (optional)                    | uint8            | (N, rows, cols, 3): cell codes            |
| `episode_seed`                        | int64            | (E,): -1 where unknown                   |

Poses are of the eye: y points down, and headings and angles turn clockwise from east, as on a map with north above.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lssvwm_models.data.spaces import action_bounds, frame_shape, in_words
from lssvwm_models.data.spec import SPEC_FILE, DatasetError, DatasetSpec, PoseKind, read_spec
from lssvwm_models.data.values import first_fault
from lssvwm_models.utils.checks import of_type, shown
from lssvwm_models.utils.files import write_atomic
from lssvwm_models.utils.npz_files import ArrayHeader, npz_array, npz_headers


class _Layout(NamedTuple):
    """What one array of a shard looks like: dtype, and the sizes after the first axis (0: any size)."""

    dtype: type[np.generic]
    tail: tuple[int, ...] = ()


_REQUIRED: dict[str, tuple[_Layout, ...]] = {
    "obs": (_Layout(np.uint8, (0, 0, 3)),),
    "act": (_Layout(np.int64), _Layout(np.float32, (0,))),
    "rew": (_Layout(np.float32),),
    "terminated": (_Layout(np.bool_),),
    "truncated": (_Layout(np.bool_),),
    "is_first": (_Layout(np.bool_),),
}
_OPTIONAL: dict[str, tuple[_Layout, ...]] = {
    "pose": (_Layout(np.int32, (3,)), _Layout(np.float32, (3,))),
    "tiles": (_Layout(np.uint8, (0, 0, 3)),),
}
_FRAME_ARRAYS = _REQUIRED | _OPTIONAL
_SEEDS = (_Layout(np.int64),)
NO_SEED: Final = -1
"""The seed of an episode whose environment was reset with an unknown one."""


@dataclass(frozen=True)
class Episode:
    """One episode of T frames, in the convention of this module; `is_first` follows from being one.

    Raises:
        ValueError: If an array has another dtype, shape or length than the table above says, if the first
            frame carries an action or a reward, if the episode ends before its last frame, or if an action or a reward
            is not finite, or beyond `lssvwm_models.data.values.MOST`, or a pose is none.
    """

    obs: NDArray[np.uint8]
    act: NDArray[np.int64] | NDArray[np.float32]
    rew: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    seed: int
    pose: NDArray[np.int32] | NDArray[np.float32] | None = None
    tiles: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if not of_type(int, self.seed) or not NO_SEED <= self.seed < 2**63:
            raise ValueError(
                f"Episode.seed={shown(self.seed)} must be an integer from 0, or {NO_SEED} if it is unknown."
            )
        if not isinstance(self.obs, np.ndarray) or not self.obs.ndim:
            raise ValueError(f"Episode.obs is {shown(self.obs)}, expected frames uint8 (T, H, W, 3).")
        for key, array in self.arrays().items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"Episode.{key} is {shown(array)}, expected a numpy array.")
            if problem := _mismatch(array.dtype, array.shape, _FRAME_ARRAYS[key], len(self.obs)):
                raise ValueError(f"Episode.{key} {problem}.")
        if len(self) == 0:
            raise ValueError("Episode is empty: it needs at least its first frame.")
        self._check_values()

    def _check_values(self) -> None:
        if self.act[0].any() or self.rew[0] != 0:
            raise ValueError(
                f"Episode starts with action {self.act[0]} and reward {self.rew[0]}, but nothing led there: "
                "shift them, so that act[t] and rew[t] come with the frame they led to."
            )
        if (self.terminated | self.truncated)[:-1].any():
            raise ValueError("Episode ends before its last frame: split it where terminated or truncated is set.")
        arrays = self.arrays()
        for key, array in arrays.items():
            if fault := first_fault(key, array, arrays["is_first"]):
                raise ValueError(f"Episode.{key}: {fault}.")

    def __len__(self) -> int:
        """Number of frames, the first one included."""
        return len(self.obs)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The per-frame arrays under their names in a shard, `is_first` included."""
        is_first = np.zeros(len(self.obs), np.bool_)
        is_first[:1] = True
        arrays = {key: getattr(self, key) for key in _FRAME_ARRAYS if key != "is_first"}
        return {key: array for key, array in arrays.items() if array is not None} | {"is_first": is_first}


def _mismatch(dtype: np.dtype[Any], shape: tuple[int, ...], layouts: tuple[_Layout, ...], length: int) -> str | None:
    """Say how an array differs from every layout allowed for it, or None if it fits one of them."""
    for layout in layouts:
        same_tail = len(shape) == 1 + len(layout.tail) and all(
            want in (0, have) for want, have in zip(layout.tail, shape[1:], strict=True)
        )
        if dtype == layout.dtype and same_tail and shape[0] == length:
            return None
    wanted = " or ".join(
        f"{np.dtype(layout.dtype)} ({', '.join([str(length), *(str(n or 'any') for n in layout.tail)])})"
        for layout in layouts
    )
    return f"is {dtype} {shape}, expected {wanted}"


def write_shard(path: str | Path, episodes: Sequence[Episode]) -> None:
    """Write whole episodes into one shard file, whole or not at all.

    Raises:
        ValueError: If there are no episodes, or they differ in optional arrays, dtypes or frame sizes.
    """
    if not episodes:
        raise ValueError("write_shard got no episodes; a shard holds at least one.")
    parts = [episode.arrays() for episode in episodes]
    for part in parts:
        for key in parts[0].keys() | part.keys():
            first = _signature(parts[0].get(key))
            other = _signature(part.get(key))
            if first != other:
                raise ValueError(f"Episodes of one shard must agree in {key}; got {first} and {other}.")
    arrays: dict[str, Any] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    arrays["episode_seed"] = np.array([episode.seed for episode in episodes], np.int64)
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def _signature(array: NDArray[Any] | None) -> str:
    return "nothing" if array is None else f"{array.dtype} frames of shape {array.shape[1:]}"


class EpisodeDataset:
    """A dataset folder, opened and checked; the arrays of all shards end to end.

    Opening reads only the headers of the shards. Each array is read into RAM the first time it is used, so
    looking at rewards does not load the frames; then its numbers are checked, too.

    Args:
        folder: The dataset's folder.

    Attributes:
        folder: The dataset's folder.
        spec: Its `dataset.json`.

    Raises:
        FileNotFoundError: If the folder holds no dataset, or a shard is missing.
        DatasetError: If the dataset is incomplete, or a shard does not have the documented arrays, in the shapes that
            `dataset.json` says; later, when an array is read, if it is damaged or has impossible numbers.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.spec = read_spec(folder)
        if not self.spec.complete:
            raise DatasetError(f"{self.folder} is incomplete: finish it, or collect it anew; {self.spec.made_by()}")
        if not self.spec.shards:
            raise DatasetError(f"{self.folder / SPEC_FILE} lists no shards: collect it anew; {self.spec.made_by()}")
        self._headers = [self._checked(name) for name in self.spec.shards]
        for name, header in zip(self.spec.shards, self._headers, strict=True):
            for key in (header.keys() | self._headers[0].keys()) - {"episode_seed"}:
                first = self._headers[0].get(key)
                other = header.get(key)
                if not (first and other and first[0] == other[0] and first[1][1:] == other[1][1:]):
                    raise self._damaged(name, f"{key} is {other}, but in {self.spec.shards[0]} it is {first}")

    def __len__(self) -> int:
        """Number of frames."""
        return sum(header["obs"][1][0] for header in self._headers)

    @cached_property
    def obs(self) -> NDArray[np.uint8]:
        """Frames, (N, H, W, 3)."""
        return self._load("obs")

    @cached_property
    def act(self) -> NDArray[np.int64] | NDArray[np.float32]:
        """Actions that led to the frames, (N,) or (N, A)."""
        return self._load("act")

    @cached_property
    def rew(self) -> NDArray[np.float32]:
        """Rewards that came with the frames, (N,)."""
        return self._load("rew")

    @cached_property
    def terminated(self) -> NDArray[np.bool_]:
        """Whether the environment ended the episode at this frame, (N,)."""
        return self._load("terminated")

    @cached_property
    def truncated(self) -> NDArray[np.bool_]:
        """Whether the episode was cut off at this frame, (N,)."""
        return self._load("truncated")

    @cached_property
    def is_first(self) -> NDArray[np.bool_]:
        """Whether an episode begins at this frame, (N,)."""
        return self._load("is_first")

    @cached_property
    def pose(self) -> NDArray[np.int32] | NDArray[np.float32] | None:
        """x, y and heading of the eye, (N, 3), where recorded: integers on a grid, or floats (see this module)."""
        return self._load("pose") if "pose" in self._headers[0] else None

    @cached_property
    def tiles(self) -> NDArray[np.uint8] | None:
        """Exact codes of the cells in view, (N, rows, cols, 3), where recorded."""
        return self._load("tiles") if "tiles" in self._headers[0] else None

    @cached_property
    def episode_seed(self) -> NDArray[np.int64]:
        """Seed that each episode's environment was reset with, (E,)."""
        parts = {name: self._array(name, "episode_seed") for name in self.spec.shards}
        for name, seeds in parts.items():
            if (seeds < NO_SEED).any():
                raise self._damaged(name, f"episode_seed has {seeds.min()}; expected {NO_SEED} where none is known")
        return np.concatenate(list(parts.values()))

    @cached_property
    def episode_starts(self) -> NDArray[np.int64]:
        """Frame index at which each episode begins, (E,)."""
        return np.flatnonzero(self.is_first)

    @cached_property
    def events(self) -> NDArray[np.int64]:
        """Frames that came with a reward or a termination, in order."""
        return np.flatnonzero(self.terminated | (self.rew != 0))

    def episodes(self) -> Iterator[Episode]:
        """The episodes one by one; their arrays are views of those of the dataset."""
        ends = np.append(self.episode_starts[1:], len(self))
        for start, end, seed in zip(self.episode_starts, ends, self.episode_seed, strict=True):
            arrays = {key: getattr(self, key)[start:end] for key in self._headers[0].keys() & _FRAME_ARRAYS.keys()}
            del arrays["is_first"]
            yield Episode(seed=int(seed), **arrays)

    @property
    def pose_kind(self) -> PoseKind | None:
        """Whether poses are on a grid, or anywhere in the plane; None where none are recorded."""
        return pose_kind(self._headers[0])

    def hash(self) -> str:
        """SHA-256 over names, dtypes, shapes and content of all arrays; the same however they are sharded."""
        digest = hashlib.sha256()
        for key in sorted(self._headers[0]):
            array = getattr(self, key)
            digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _load(self, key: str) -> NDArray[Any]:
        """Read one per-frame array of all shards into one block of memory."""
        dtype, shape = self._headers[0][key]
        whole = np.empty((len(self), *shape[1:]), dtype)
        start = 0
        for name, header in zip(self.spec.shards, self._headers, strict=True):
            part = self._array(name, key)
            if key == "is_first" and not (part[0] and part.sum() == header["episode_seed"].shape[0]):
                raise self._damaged(name, "is_first must mark frame 0 and one frame per episode_seed")
            stop = start + len(part)
            first = self.is_first[start:stop] if key == "act" else part  # of use for actions alone
            if fault := first_fault(key, part, first, action_bounds(self.spec.action_space)):
                raise self._damaged(name, f"{fault} of the shard")
            whole[start:stop] = part
            start = stop
        return whole

    def _array(self, name: str, key: str) -> NDArray[Any]:
        try:
            return npz_array(self.folder / name, key)
        except ValueError as error:
            raise self._damaged(name, f"{key} cannot be read ({error})") from error

    def _checked(self, name: str) -> dict[str, ArrayHeader]:
        try:
            return shard_header(self.folder / name, self.spec)
        except (FileNotFoundError, DatasetError) as error:
            raise type(error)(f"{error}. {self._advice()}") from error

    def _damaged(self, name: str, problem: str) -> DatasetError:
        return DatasetError(f"{self.folder / name}: {problem}. {self._advice()}")

    def _advice(self) -> str:
        return f"Delete it if it is there, and make it again, or collect the dataset anew; {self.spec.made_by()}"


def shard_header(path: str | Path, spec: DatasetSpec | None = None) -> dict[str, ArrayHeader]:
    """Look at the arrays of a shard without unpacking them.

    Args:
        path: The shard.
        spec: What the arrays must fit, too: then nothing takes more memory than `dataset.json` says.

    Returns:
        dtype and shape by key.

    Raises:
        FileNotFoundError: If there is no such file.
        DatasetError: If it is not a shard with the arrays that this module documents.
    """
    try:
        header = npz_headers(path)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    if missing := (_REQUIRED.keys() | {"episode_seed"}) - header.keys():
        raise DatasetError(f"{path} lacks the arrays {sorted(missing)}")
    if unknown := header.keys() - _FRAME_ARRAYS.keys() - {"episode_seed"}:
        raise DatasetError(f"{path} has the unknown arrays {shown(sorted(unknown))}")
    length = sum(header["obs"].shape[:1])
    for key, (dtype, shape) in header.items():
        layouts = _FRAME_ARRAYS.get(key, _SEEDS)
        if problem := _mismatch(dtype, shape, layouts, sum(shape[:1]) if key == "episode_seed" else length):
            raise DatasetError(f"{path}: {key} {problem}")
    if not 1 <= header["episode_seed"].shape[0] <= length:
        raise DatasetError(f"{path} has {header['episode_seed'].shape[0]} episodes of {length} frames in all")
    if spec is not None:
        _check_fits(path, header, spec)
    return header


def pose_kind(header: Mapping[str, ArrayHeader]) -> PoseKind | None:
    """Of what kind the poses of a shard are, as in `DatasetSpec`."""
    if "pose" not in header:
        return None
    return "grid" if header["pose"].dtype == np.int32 else "plane"


def _check_fits(path: str | Path, header: dict[str, ArrayHeader], spec: DatasetSpec) -> None:
    """Refuse a shard whose arrays are not what `dataset.json` says."""
    frame = frame_shape(spec.observation_space)
    bounds = action_bounds(spec.action_space)
    frames, *found = header["obs"].shape
    cells = header["tiles"].shape[1:3] if "tiles" in header else ()
    if tuple(found) != frame:
        raise DatasetError(f"{path}: frames are {tuple(found)}, but {SPEC_FILE} says {frame}")
    dtype, (_, *components) = header["act"]
    if tuple(components) != bounds[0].shape:
        raise DatasetError(
            f"{path}: actions are {dtype} of shape {tuple(components)}, but the action space is {in_words(bounds)}"
        )
    if frames >= (most := spec.shard_frames + spec.episode_length):
        raise DatasetError(f"{path} has {frames:,} frames, but by shard_frames and episode_length less than {most:,}")
    if spec.pose not in (None, pose_kind(header)):
        raise DatasetError(f"{path}: poses are of the kind {pose_kind(header)}, but {SPEC_FILE} says {spec.pose}")
    if max(cells, default=0) > max(frame):
        raise DatasetError(f"{path}: tiles are {cells} cells, but a frame has {frame[:2]} pixels")
