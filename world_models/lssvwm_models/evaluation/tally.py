"""Counts with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_RESAMPLES: Final = 1000
_TAIL: Final = 0.025  # of a 95 % interval, on either side


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

        Frames of one sequence are not independent, so intervals are over sequences: by bootstrap, or, where all
        outcomes are alike and every resample is, too, by the exact bounds of Clopper and Pearson (1934), with each
        sequence as one trial.

        Returns:
            `value`; `low` and `high`, its 95 % interval; and `n`, the sum of `count`. Where nothing was counted, n is 0
            and the others are None.
        """
        amount = self.amount.sum(1)
        count = self.count.sum(1)
        sequences = int(np.count_nonzero(count))
        if not sequences:
            return {"value": None, "low": None, "high": None, "n": 0}
        if (amount == count).all() or not amount.any():
            always = bool(amount.any())
            least = least_share(sequences)
            low = least if always else 0.0
            high = 1.0 if always else 1 - least
            return {"value": float(always), "low": low, "high": high, "n": int(count.sum())}
        picks = np.random.default_rng(0).integers(len(count), size=(_RESAMPLES, len(count)))
        amounts = amount[picks].sum(1)
        counts = count[picks].sum(1)
        low, high = np.percentile(amounts[counts > 0] / counts[counts > 0], [2.5, 97.5])
        value = amount.sum() / count.sum()
        return {"value": float(value), "low": float(low), "high": float(high), "n": int(count.sum())}

    def per_frame(self) -> list[float | None]:
        """The value at each of the T frames, over all sequences; None where nothing was counted."""
        pairs = zip(self.amount.sum(0), self.count.sum(0), strict=True)
        return [float(amount / count) if count else None for amount, count in pairs]


def least_share(trials: int) -> float:
    """The lower 95 % bound of a share that all of so many trials bear out (Clopper and Pearson 1934)."""
    return _TAIL ** (1 / trials)


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
        predicted = predicted & where
        truth = truth & where
    hits = (predicted & truth).astype(np.float64)
    positives = predicted.astype(np.float64)
    events = truth.astype(np.float64)
    f1 = Tally(2 * hits, positives + events)
    return {"precision": Tally(hits, positives), "recall": Tally(hits, events), "f1": f1}


def estimates(tallies: dict[str, Tally], view: Callable[[Tally], Tally] = lambda tally: tally) -> dict[str, Any]:
    """Summarise tallies by name, each seen through `view`."""
    return {name: view(tally).estimate() for name, tally in tallies.items()}
