"""Training sequences cut from episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_models.data.batch import Batch
from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.memory.geometry import advance, ego_motion


def to_frames(obs: NDArray[np.uint8]) -> Tensor:
    """uint8 frames (..., H, W, C) to float (..., C, H, W) in [-1, 1]."""
    return torch.from_numpy(obs).movedim(-1, -3).float() / 127.5 - 1


def to_pixels(obs: Tensor) -> Tensor:
    """Float frames (..., C, H, W) in [-1, 1] to uint8 (..., H, W, C)."""
    pixels = obs.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous()


def to_uint8(obs: Tensor) -> NDArray[np.uint8]:
    """The same as an array on the CPU."""
    return to_pixels(obs).cpu().numpy()


def segments(
    dataset: EpisodeDataset, starts: NDArray[np.int64], length: int, order: NDArray[np.int64] | None = None
) -> Batch:
    """Sequences of `length` frames from the given frame numbers (B,).

    A sequence may run over the end of an episode into the next. Its first frame always counts as the beginning of an
    episode: the memory is empty there, as it is when a dream is given its context. Poses are relative to it.

    Args:
        order: (B, T), in which order the frames are shown, each beside the one before; None: as recorded.
    """
    order = np.tile(np.arange(length), (len(starts), 1)) if order is None else order
    index = starts[:, None] + order  # (B, T)
    backwards = np.diff(order, prepend=order[:, :1] - 1, axis=1) < 0
    # Where time runs backwards, it is the frame before that is the first of an episode, or was led to by the action.
    led_to = np.where(backwards, np.roll(index, 1, 1), index)
    is_first = dataset.is_first[led_to]
    is_first[:, 0] = True
    pose = (
        None if dataset.pose is None else relative_pose(recorded_pose(dataset.pose[index]), torch.from_numpy(is_first))
    )
    return Batch(
        obs=to_frames(dataset.obs[index]),
        act=torch.from_numpy(dataset.act[led_to]),
        rew=torch.from_numpy(dataset.rew[index]),
        terminated=torch.from_numpy(dataset.terminated[index]),
        is_first=torch.from_numpy(is_first),
        pose=pose,
        backwards=torch.from_numpy(backwards) if backwards.any() else None,
    )


def random_segments(
    dataset: EpisodeDataset,
    frames: range,
    batch_size: int,
    length: int,
    rng: np.random.Generator,
    event_share: float = 0.0,
    retraced: float = 0.0,
) -> Batch:
    """Sequences drawn from a range of frame numbers.

    Args:
        event_share: Share of the sequences that have an event, a reward or a termination, in their last quarter, and so
            most of what led to it before; the others are drawn uniformly. Without events, all are.
        retraced: Share of the sequences in which time runs backwards, in half of them from the middle on. Those that
            are to have an event are left as they are.

    Raises:
        ValueError: If the range is shorter than one sequence.
    """
    if len(frames) < length:
        raise ValueError(
            f"sequences of {length} frames were asked of {len(frames)} frames of {dataset.folder}; collect more"
        )
    last = frames.stop - length
    starts = rng.integers(frames.start, last + 1, batch_size)
    events = dataset.events[slice(*np.searchsorted(dataset.events, (frames.start, frames.stop)))]
    count = round(event_share * batch_size) if len(events) else 0
    if count:
        to_end = rng.integers(0, max(1, length // 4), count)
        starts[:count] = (rng.choice(events, count) - length + 1 + to_end).clip(frames.start, last)
    order = None
    if retraced:
        order = np.tile(np.arange(length), (batch_size, 1))
        dice = rng.random(batch_size)
        order[dice < retraced] = np.arange(length)[::-1]
        order[dice < retraced / 2] = length // 2 - np.abs(np.arange(length) - length // 2)
        order[:count] = np.arange(length)
    return segments(dataset, starts, length, order)


def recorded_pose(pose: NDArray[Any]) -> Tensor:
    """Recorded poses as what is computed with: long on a grid, float in the plane."""
    return torch.from_numpy(pose).to(torch.long if np.issubdtype(pose.dtype, np.integer) else torch.float32)


def relative_pose(pose: Tensor, is_first: Tensor) -> Tensor:
    """Recorded poses (B, T, 3) as dead reckoning gives them: from (0, 0, 0) at the first frame of every episode."""
    motion = ego_motion(pose[:, :-1], pose[:, 1:])
    poses = [torch.zeros_like(pose[:, 0])]
    for t in range(1, pose.shape[1]):
        following = advance(poses[-1], motion[:, t - 1])
        poses.append(torch.where(is_first[:, t, None], torch.zeros_like(following), following))
    return torch.stack(poses, 1)


def motions(dataset: EpisodeDataset) -> tuple[tuple[int, int, int], ...]:
    """Every ego motion (forward, right, turn) that an action caused in the dataset, the commonest first."""
    if dataset.pose is None or dataset.pose_kind != "grid":
        raise ValueError(f"{dataset.folder} has no poses on a grid; collect it with poses, or train with view=None")
    pose = torch.from_numpy(dataset.pose).long()
    within = torch.from_numpy(~dataset.is_first[1:])
    found, count = ego_motion(pose[:-1], pose[1:])[within].unique(dim=0, return_counts=True)
    return tuple(tuple(m) for m in found[count.argsort(descending=True)].tolist())


def extent(dataset: EpisodeDataset) -> float:
    """How far apart two poses of an episode are at most, along either axis and in the unit of the poses."""
    if dataset.pose is None:
        raise ValueError(f"{dataset.folder} has no poses; collect it with poses")
    places = dataset.pose[:, :2]
    starts = dataset.episode_starts
    reach = np.maximum.reduceat(places, starts) - np.minimum.reduceat(places, starts)
    return float(reach.max())
