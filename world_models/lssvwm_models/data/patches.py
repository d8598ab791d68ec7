"""What patches frames are made of."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

AT_ONCE: Final = 2**23  # bytes of frames


def distinct_patches(frames: NDArray[np.uint8], patch: int, most: int) -> NDArray[np.uint8] | None:
    """The different patches of frames (N, H, W, C), in the order of their sums: (n, patch, patch, C).

    None, if there are more than `most`.
    """
    channels = frames.shape[-1]
    size = patch * patch * channels
    factors = np.random.default_rng(0).integers(2**64, size=size, dtype=np.uint64)
    found: dict[int, NDArray[np.uint8]] = {}  # by sums modulo 2**64, which differ where patches do
    at_once = max(1, AT_ONCE // frames[0].size)
    for start in range(0, len(frames), at_once):
        some = frames[start : start + at_once]
        rows = some.reshape(len(some), some.shape[1] // patch, patch, -1, patch, channels).swapaxes(2, 3)
        patches = rows.reshape(-1, size)
        sums, first = np.unique(patches.astype(np.uint64) @ factors, return_index=True)
        found |= dict(zip(sums.tolist(), patches[first], strict=True))
        if len(found) > most:
            return None
    return np.stack([found[key] for key in sorted(found)]).reshape(-1, patch, patch, channels)
