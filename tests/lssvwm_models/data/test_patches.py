"""Different patches are counted once each, wherever they are."""

import numpy as np
import pytest

from lssvwm_models.data import patches
from lssvwm_models.data.patches import distinct_patches


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(patches, "AT_ONCE", 500)  # bytes: a frame or two


def made_of(kinds, index):
    """Frames (N, 2p, 3p, C) of patches (n, p, p, C), which of them is in index (N, 2, 3)."""
    _, p, _, c = kinds.shape
    return kinds[index].swapaxes(2, 3).reshape(len(index), 2 * p, 3 * p, c)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_is_found_once(few, channels):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 256, (7, 4, 4, channels), np.uint8)
    kinds[1] = kinds[0]
    kinds[1, 3, 3, -1] ^= 1  # all but equal
    frames = made_of(kinds, rng.integers(0, 7, (40, 2, 3)))
    found = distinct_patches(frames, 4, 7)
    assert sorted(x.tobytes() for x in found) == sorted(x.tobytes() for x in kinds)
    np.testing.assert_array_equal(distinct_patches(frames[::-1], 4, 7), found)  # in whatever order they come


def test_more_than_were_asked_for_are_too_many(few):
    kinds = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    frames = made_of(kinds, np.arange(6).reshape(1, 2, 3))
    assert len(distinct_patches(frames, 1, 6)) == 6
    assert distinct_patches(frames, 1, 5) is None
