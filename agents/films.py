"""Episodes as films: what came, beside what the agent had expected."""

from __future__ import annotations

import io

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from agents.mpc import EpisodeRecord


def film_gif(records: list[EpisodeRecord]) -> bytes:
    """Animate episodes one after the other: what came at the left, what the agent had expected at the right."""
    pictures: list[NDArray[np.uint8]] = []
    for record in records:
        gap = np.full((len(record.foreseen), record.frames.shape[1], 2, 3), 255, np.uint8)
        film = np.concatenate([record.frames[1:], gap, record.foreseen], axis=2)
        pictures += [*film, *film[-1:].repeat(4, 0)]  # hold the end
    buffer = io.BytesIO()
    iio.imwrite(buffer, np.stack(pictures).repeat(4, 1).repeat(4, 2), extension=".gif", duration=250, loop=0)
    return buffer.getvalue()
