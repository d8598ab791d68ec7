"""How good are the frames that a world model makes? Predictions beside recordings, and counts with intervals.

Nothing here knows an environment. What is particular to one, such as tiles, is counted on top of this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from world_models.data.episodes import EpisodeDataset
from world_models.data.segments import relative_pose, to_frames, to_uint8
from world_models.prediction import Prediction
from world_models.world_model import WorldModel

PSNR_LIMIT: Final = 60.0  # dB; what identical frames count as, so that means stay finite
_RESAMPLES: Final = 1000


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
        pose: int32 (B, T, 3), or None where none was recorded.
        tiles: uint8 (B, T, rows, columns, 3), or None where none were recorded.
    """

    obs: NDArray[np.uint8]
    act: NDArray[Any]
    rew: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    seeds: NDArray[np.int64]
    pose: NDArray[np.int32] | None
    tiles: NDArray[np.uint8] | None

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.obs)


def episode_lengths(dataset: EpisodeDataset) -> NDArray[np.int64]:
    """Frames of every episode, (E,)."""
    return np.diff(dataset.episode_starts, append=len(dataset))


def openings(
    dataset: EpisodeDataset, count: int, length: int, *, longer_than: int = 1, since: int = 0, seed: int = 0
) -> Openings:
    """Draw episodes and take the first frames of each.

    Args:
        dataset: Recorded episodes.
        count: B, or all that are long enough if there are fewer.
        length: T.
        longer_than: Only episodes of more frames than this are drawn.
        since: Only episodes that begin at this frame of the dataset or later are drawn.
        seed: Decides which.

    Raises:
        ValueError: If no episode is long enough.
    """
    lengths = episode_lengths(dataset)
    (eligible,) = np.nonzero((lengths > longer_than) & (dataset.episode_starts >= since))
    if not len(eligible):
        raise ValueError(
            f"{dataset.folder} has no episode of more than {longer_than} frames (the longest has {lengths.max()}): "
            "ask for a shorter context, or collect longer episodes."
        )
    drawn = np.random.default_rng(seed).permutation(eligible)[:count]
    valid = np.arange(length) < lengths[drawn, None]
    index = dataset.episode_starts[drawn, None] + np.minimum(np.arange(length), lengths[drawn, None] - 1)
    return Openings(
        obs=dataset.obs[index],
        act=dataset.act[index],
        rew=dataset.rew[index],
        terminated=dataset.terminated[index],
        valid=valid,
        seeds=dataset.episode_seed[drawn],
        pose=None if dataset.pose is None else dataset.pose[index],
        tiles=None if dataset.tiles is None else dataset.tiles[index],
    )


@dataclass(frozen=True)
class Dream:
    """Frames that a world model made: `obs` uint8 (B, T, H, W, C), `rew` and `term_prob` float32 (B, T)."""

    obs: NDArray[np.uint8]
    rew: NDArray[np.float32]
    term_prob: NDArray[np.float32]


@torch.no_grad()
def next_frames(model: WorldModel, obs: NDArray[np.uint8], act: NDArray[Any], keys: Tensor, steps: int = 1) -> Dream:
    """Imagine every frame from the memory of the real frames before it.

    Args:
        model: The world model.
        obs: Real frames, uint8 (B, T, H, W, C); each sequence begins with the first frame of an episode.
        act: Actions that led to them, (B, T) or (B, T, A).
        keys: Noise keys, long (B,).
        steps: Denoising steps per frame.

    Returns:
        T - 1 frames, the first of which is to be compared with `obs[:, 1]`.

    Raises:
        ValueError: If there is no second frame to imagine.
    """
    if obs.shape[1] < 2:
        raise ValueError(f"obs has shape {obs.shape}: the time axis (the second) must hold at least 2 frames.")
    actions = torch.from_numpy(act).to(model.device)
    state = model.initial_state(len(obs))
    predictions = []
    for t in range(1, obs.shape[1]):
        before = slice(t - 1, t)
        is_first = torch.full((len(obs), 1), t == 1, device=model.device)
        state, _ = model.observe(state, to_frames(obs[:, before]).to(model.device), actions[:, before], is_first)
        prediction, _ = model.imagine(state, actions[:, t], keys, steps)
        predictions.append(_on_cpu(prediction))
    return _stack(predictions)


@torch.no_grad()
def dream(
    model: WorldModel,
    obs: NDArray[np.uint8],
    act: NDArray[Any],
    context_len: int,
    horizon: int,
    keys: Tensor,
    steps: int = 1,
    pose: NDArray[Any] | None = None,
) -> Dream:
    """Show the model some real frames, then let it dream on along the recorded actions, open loop.

    Args:
        model: The world model.
        obs: Real frames, uint8 (B, T, H, W, C); those from `context_len` on are not looked at.
        act: Actions that led to them, (B, T) or (B, T, A).
        context_len: Real frames that the model observes, the first frame of the episode among them.
        horizon: Frames to dream.
        keys: Noise keys, long (B,).
        steps: Denoising steps per frame.
        pose: Recorded poses (B, T, 3), if places are to be told by them, as the paper's are (section 5.1), rather than
            by what the model reckons; unused by models without a view.

    Returns:
        `horizon` frames, the first of which is to be compared with `obs[:, context_len]`.

    Raises:
        ValueError: If `context_len` or `horizon` is below 1, or there are fewer actions than needed.
    """
    if context_len < 1 or horizon < 1 or context_len + horizon > act.shape[1]:
        raise ValueError(
            f"context_len={context_len} and horizon={horizon} need {context_len + horizon} actions per sequence, each "
            f"being at least 1; act has shape {act.shape}. Pass longer sequences, or ask for fewer frames."
        )
    actions = torch.from_numpy(act).to(model.device)
    is_first = torch.zeros(len(obs), context_len, dtype=torch.bool, device=model.device)
    is_first[:, 0] = True
    context = to_frames(obs[:, :context_len]).to(model.device)
    known = None
    if pose is not None and model.odometry is not None:
        begun = torch.arange(context_len + horizon).expand(len(obs), -1) == 0
        known = relative_pose(torch.from_numpy(pose[:, : context_len + horizon]).long(), begun).to(model.device)
    seen = None if known is None else known[:, :context_len]
    state, _ = model.observe(model.initial_state(len(obs)), context, actions[:, :context_len], is_first, seen)
    predictions = []
    for t in range(context_len, context_len + horizon):
        here = None if known is None else known[:, t]
        prediction, state = model.imagine(state, actions[:, t], keys, steps, here)
        predictions.append(_on_cpu(prediction))
    return _stack(predictions)


def _on_cpu(prediction: Prediction) -> tuple[NDArray[Any], ...]:
    # Frames are kept as bytes, a quarter of their size as floats.
    rew, term_prob = (x.float().cpu().numpy() for x in (prediction.rew, prediction.term_prob))
    return to_uint8(prediction.obs), rew, term_prob


def _stack(predictions: list[tuple[NDArray[Any], ...]]) -> Dream:
    return Dream(*(np.stack(parts, axis=1) for parts in zip(*predictions, strict=True)))


@dataclass(frozen=True)
class Tally:
    """A share or a mean: the sum of `amount` over the sum of `count`, both (B, T), one entry per sequence and frame."""

    amount: NDArray[np.float64]
    count: NDArray[np.float64]

    @staticmethod
    def of(values: NDArray[Any], where: NDArray[np.bool_]) -> Tally:
        """Average values over where they count; both (B, T) or (B, T, ...), as cells of a frame."""
        inner = tuple(range(2, where.ndim))
        return Tally((values * where).sum(inner, dtype=np.float64), where.sum(inner, dtype=np.float64))

    def only(self, frames: NDArray[np.bool_]) -> Tally:
        """Count some frames only, (B, T)."""
        return Tally(self.amount * frames, self.count * frames)

    def estimate(self) -> dict[str, float | int | None]:
        """Summarise over everything.

        Returns:
            `value`; `low` and `high`, its 95 % interval by bootstrap over sequences, as frames of one sequence are
            not independent; and `n`, the sum of `count`. Where nothing was counted, n is 0 and the others are None.
        """
        amount, count = self.amount.sum(1), self.count.sum(1)
        if not count.sum():
            return {"value": None, "low": None, "high": None, "n": 0}
        picks = np.random.default_rng(0).integers(len(count), size=(_RESAMPLES, len(count)))
        amounts, counts = amount[picks].sum(1), count[picks].sum(1)
        low, high = np.percentile(amounts[counts > 0] / counts[counts > 0], [2.5, 97.5])
        value = amount.sum() / count.sum()
        return {"value": float(value), "low": float(low), "high": float(high), "n": int(count.sum())}

    def per_frame(self) -> list[float | None]:
        """The value at each of the T frames, over all sequences; None where nothing was counted."""
        pairs = zip(self.amount.sum(0), self.count.sum(0), strict=True)
        return [float(amount / count) if count else None for amount, count in pairs]


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8], where: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of uint8 frames (..., H, W, C) in dB, (...); identical frames count as 60 dB.

    With `where`, bool (..., H, W), only over the pixels that it names; frames with none of them count as identical.

    Raises:
        ValueError: If the two are not uint8 of one shape.
    """
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"psnr got {a.dtype} {a.shape} and {b.dtype} {b.shape}, expected uint8 frames of one shape.")
    difference = np.subtract(a, b, dtype=np.float32)
    pixels: Any = a.shape[-3] * a.shape[-2]
    if where is not None:
        difference *= where[..., None]
        pixels = where.sum((-2, -1)).clip(min=1)
    error = np.einsum("...hwc,...hwc->...", difference, difference, dtype=np.float64) / (pixels * a.shape[-1])
    floor = 255**2 / 10 ** (PSNR_LIMIT / 10)
    decibel: NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(error, floor))
    return decibel


def precision_recall_f1(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], where: NDArray[np.bool_] | None = None
) -> dict[str, Tally]:
    """Judge the detection of an event.

    Args:
        predicted: Where the model says that it happened, bool (B, T).
        truth: Where it did, bool (B, T).
        where: Which frames count, bool (B, T); all by default.

    Returns:
        `precision`, counted over the events predicted; `recall`, over those that happened; and `f1`, over both. The
        F1 of an event that neither happened nor was predicted is undefined: its count is 0, so its value is None.
    """
    if where is not None:
        predicted, truth = predicted & where, truth & where
    hits = (predicted & truth).astype(np.float64)
    said, happened = predicted.astype(np.float64), truth.astype(np.float64)
    return {"precision": Tally(hits, said), "recall": Tally(hits, happened), "f1": Tally(2 * hits, said + happened)}


def estimates(tallies: dict[str, Tally], view: Callable[[Tally], Tally] = lambda tally: tally) -> dict[str, Any]:
    """Summarise tallies by name, each seen through `view`."""
    return {name: view(tally).estimate() for name, tally in tallies.items()}
