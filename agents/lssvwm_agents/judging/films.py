"""Episodes as films: what came, beside what the agent had expected."""

from __future__ import annotations

import io
from typing import Final

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from lssvwm_agents.planning.mpc import EpisodeRecord

_LONGEST: Final = 100  # steps of an episode that are shown: who watches longer sees more of the same


def film_gif(records: list[EpisodeRecord]) -> bytes:
    """Animate episodes one after the other: what came at the left, what the agent had expected at the right.

    Of long episodes that is the beginning.
    """
    pictures: list[NDArray[np.uint8]] = []
    for record in records:
        real = record.frames[1 : _LONGEST + 1]
        predicted = record.predicted_frames[:_LONGEST]
        gap = np.full((len(real), real.shape[1], 2, 3), 255, np.uint8)
        film = np.concatenate([real, gap, predicted], axis=2)
        pictures += [*film, *film[-1:].repeat(4, 0)]  # hold the end
    buffer = io.BytesIO()
    iio.imwrite(buffer, np.stack(pictures).repeat(4, 1).repeat(4, 2), extension=".gif", duration=250, loop=0)
    return buffer.getvalue()
