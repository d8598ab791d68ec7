"""The first frames of recorded episodes, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lssvwm_models.data.episodes import EpisodeDataset


@dataclass(frozen=True)
class Openings:
    """The first T frames of B episodes, side by side. Shorter episodes repeat their last frame, with `valid` false.

    Attributes:
        obs: uint8 (B, T, H, W, C).
        act: Actions that led to the frames, int64 (B, T) or float32 (B, T, A).
        rew: float32 (B, T).
        terminated: bool (B, T).
        valid: bool (B, T), false past the end of an episode.
        seeds: int64 (B,), the seeds of the episodes.
        pose: int32 or float32 (B, T, 3), or None where none was recorded.
        tiles: uint8 (B, T, rows, columns, 3), or None where none were recorded.
    """

    obs: NDArray[np.uint8]
    act: NDArray[Any]
    rew: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    seeds: NDArray[np.int64]
    pose: NDArray[np.int32] | NDArray[np.float32] | None
    tiles: NDArray[np.uint8] | None

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.obs)


def episode_lengths(dataset: EpisodeDataset) -> NDArray[np.int64]:
    """Frames of every episode, (E,)."""
    return np.diff(dataset.episode_starts, append=len(dataset))


def pieces(dataset: EpisodeDataset, since: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frames and lengths of the episodes from a frame on, and of what is left there of the one that it is in."""
    later = dataset.episode_starts[dataset.episode_starts > since]
    starts = np.concatenate([[since], later])
    return starts, np.diff(starts, append=len(dataset))


def openings(
    dataset: EpisodeDataset, count: int, length: int, *, longer_than: int = 1, since: int = 0, seed: int = 0
) -> Openings:
    """Draw episodes and take the first frames of each.

    Args:
        dataset: Recorded episodes.
        count: B, or all that are long enough if there are fewer.
        length: T.
        longer_than: Only episodes of more frames than this are drawn.
        since: Only episodes that begin at this frame of the dataset or later are drawn, and what is left there of the
            one that it is in.
        seed: Decides which.

    Raises:
        ValueError: If no episode is long enough.
    """
    starts, lengths = pieces(dataset, since)
    (eligible,) = np.nonzero(lengths > longer_than)
    if not len(eligible):
        raise ValueError(
            f"{dataset.folder} has no episode of more than {longer_than} frames (the longest has {lengths.max()}): "
            "ask for a shorter context, or collect longer episodes."
        )
    drawn = np.random.default_rng(seed).permutation(eligible)[:count]
    valid = np.arange(length) < lengths[drawn, None]
    index = starts[drawn, None] + np.minimum(np.arange(length), lengths[drawn, None] - 1)
    return Openings(
        obs=dataset.obs[index],
        act=dataset.act[index],
        rew=dataset.rew[index],
        terminated=dataset.terminated[index],
        valid=valid,
        seeds=dataset.episode_seed[np.searchsorted(dataset.episode_starts, starts[drawn], "right") - 1],
        pose=None if dataset.pose is None else dataset.pose[index],
        tiles=None if dataset.tiles is None else dataset.tiles[index],
    )
