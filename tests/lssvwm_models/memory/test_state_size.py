from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_models.memory.state_size import first_channels, needed_channels, random_channels


def memory(seed, batch=2, tubes=3, H=2, P=5, N=4):
    """Tubes of very different strength, whose channels fade."""
    g = torch.Generator().manual_seed(seed)
    strength = torch.randn(batch, tubes, 1, 1, 1, generator=g).exp() * 0.3 ** torch.arange(P).view(P, 1)
    return torch.randn(batch, tubes, H, P, N, generator=g) * strength


def test_random_channels_are_log_uniform_in_their_share_of_the_sequences():
    drawn = random_channels(20_000, 2, 7, share=0.25, rng=torch.Generator().manual_seed(0))
    few = drawn[(drawn < 7).any(1)]
    assert abs(len(few) / 20_000 - 0.25) < 0.02 and drawn.min() == 1 and drawn.max() == 7
    count = Counter(few[:, 0].tolist())
    octaves = [count[1], count[2] + count[3], count[4] + count[5] + count[6] + count[7]]
    assert all(abs(n / len(few) - 1 / 3) < 0.03 for n in octaves)
    assert (few[:, 0] != few[:, 1]).any()  # each layer has its own


def test_no_share_leaves_all_channels():
    assert (random_channels(100, 2, 7, share=0.0, rng=torch.Generator()) == 7).all()


def test_first_channels():
    assert first_channels(torch.tensor([[0, 2], [3, 9]]), 3).long().tolist() == [
        [[0, 0, 0], [1, 1, 0]],
        [[1, 1, 1], [1, 1, 1]],
    ]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), tolerance=st.floats(0, 1))
def test_the_least_number_of_channels_that_the_tolerance_allows(seed, tolerance):
    m = memory(seed)
    needed = needed_channels(m, tolerance)
    for world, count in zip(m, needed.tolist(), strict=True):
        allowed = tolerance * float(world.double().square().sum()) / 3
        for tube, n in zip(world, count, strict=True):
            assert float(tube[:, n:].double().square().sum()) <= allowed * (1 + 1e-9)
            assert n == 0 or float(tube[:, n - 1 :].double().square().sum()) >= allowed * (1 - 1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), tolerance=st.floats(0, 1))
def test_reads_are_wrong_by_no_more_than_the_tolerance_says(seed, tolerance):
    m = memory(seed)
    kept = m * first_channels(needed_channels(m, tolerance), 5)[:, :, None, :, None]
    key = torch.randn(4, generator=torch.Generator().manual_seed(seed))
    error, whole = ((m - kept) @ key).square().sum((1, 2, 3)), m.square().sum((1, 2, 3, 4))
    assert (error <= tolerance * whole * key.square().sum() * (1 + 1e-5)).all()


def test_a_tube_with_little_in_it_keeps_little():
    m = torch.ones(1, 2, 2, 8, 4)
    m[:, 0] *= 0.05
    assert needed_channels(m, 0.02).tolist() == [[0, 8]]
    m[:, 0] = 0
    assert needed_channels(m, 0.0).tolist() == [[0, 8]]
    m[0, 0, 1, 2, 3] = 1e-38  # however little it is
    assert needed_channels(m, 0.0).tolist() == [[3, 8]]


def test_a_broken_memory_is_kept():
    m = torch.full((1, 1, 2, 4, 4), torch.nan)
    assert needed_channels(m, 0.5).tolist() == [[4]]


@pytest.mark.parametrize("tolerance", [-0.1, 1.1, float("nan")])
def test_a_tolerance_is_a_share(tolerance):
    with pytest.raises(ValueError, match=f"tolerance={tolerance} must be from 0 to 1"):
        needed_channels(memory(0), tolerance)
