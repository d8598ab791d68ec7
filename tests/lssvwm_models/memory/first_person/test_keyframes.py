"""Which frames are kept, and which are shown: it follows from the poses alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_models.memory.first_person.keyframes import OLD, STEP, Keyframes, after, coded, far, pictures, recent, show

M, K = 2, 3  # patches, latents


def follow(eyes, is_first, chunks, count=6, hidden=None):
    """What is shown to frames that come in chunks, and the keyframes after the last: eyes (B, T, 3)."""
    B, T = is_first.shape
    torch.manual_seed(0)
    latents = torch.randn(B, T, M, K)
    keyframes = Keyframes.none(B, count, M, K, torch.device("cpu"))
    last, last_eye, age = torch.zeros(B, M, K), torch.zeros(B, 3), torch.zeros(B).long()
    seen = []
    start = 0
    for length in chunks:
        part = slice(start, start + length)
        past = []
        for t in range(start, start + length):
            age = torch.where(is_first[:, t], 0, age)
            past.append(age)
            age = age + 1
        hide = None if hidden is None else hidden[:, part]
        shown = show(keyframes, last_eye, eyes[:, part], torch.stack(past, 1), is_first[:, part], hide)
        frames = recent(last, latents[:, part])
        there = shown.there
        seen_then = pictures(keyframes, frames, shown) * there[..., None, None]
        seen.append((seen_then, there, shown.eyes * there.unsqueeze(-1), shown.age * there))
        keyframes = after(keyframes, frames, shown)
        last, last_eye = latents[:, start + length - 1], eyes[:, start + length - 1]
        start += length
    return tuple(torch.cat(parts, 1) for parts in zip(*seen, strict=True)), keyframes


def straight(T, step=1.0):
    """The eyes of one world that walks east, (1, T, 3)."""
    return torch.stack([step * torch.arange(T), torch.zeros(T), torch.zeros(T)], -1).unsqueeze(0)


def begin(T, worlds=1):
    """`is_first` of frames that are all of one episode."""
    first = torch.zeros(worlds, T, dtype=torch.bool)
    first[:, 0] = True
    return first


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_any_chunking_shows_and_keeps_the_same(seed, chunks):
    generator = torch.Generator().manual_seed(seed)
    T = sum(chunks)
    eyes = torch.cumsum(0.3 * torch.randn(2, T, 3, generator=generator), 1)
    is_first = torch.rand(2, T, generator=generator) < 0.05
    hidden = torch.randint(0, 9, (2, T), generator=generator)
    whole, kept = follow(eyes, is_first, [T], hidden=hidden)
    parts, kept_by_parts = follow(eyes, is_first, chunks, hidden=hidden)
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(kept.numbers, kept_by_parts.numbers)
    filled = kept.numbers >= 0
    for one, other in zip(kept.tensors().values(), kept_by_parts.tensors().values(), strict=True):
        assert torch.equal(one[filled], other[filled])


def test_shown_are_the_last_frame_the_nearest_and_the_nearest_old_ones():
    T = 60
    eyes = straight(T)
    eyes[0, -1] = torch.tensor([20.2, 0.0, 0.0])  # back to where frame 20 was
    (_, there, from_where, age), _ = follow(eyes, begin(T), [T], count=100)
    assert there[0, -1].all()
    assert age[0, -1].tolist() == [1, 59 - 20, 59 - 21, 59 - 19]
    assert from_where[0, -1, :, 0].tolist() == [58, 20, 21, 19]
    assert age[0, 40].tolist() == [1, 2, 33, 34]  # not the last again, and then none younger than OLD
    assert there[0, OLD].tolist() == [True, True, False, False]
    assert there[0, 0].tolist() == [False] * 4 and there[0, 1].tolist() == [True, False, False, False]


def test_what_is_hidden_is_not_shown():
    T = 50
    hidden = torch.zeros(1, T).long()
    hidden[0, 45] = 10
    hidden[0, 46] = 40
    (_, there, _, age), _ = follow(straight(T), begin(T), [T], count=100, hidden=hidden)
    assert there[0, 45].tolist() == [False, True, True, True] and age[0, 45, 1:].tolist() == [11, 33, 34]
    assert age[0, 46, 1:].tolist() == [41, 42, 43]
    assert there[0, 44].all() and there[0, 47].all()


def test_what_shows_the_same_is_kept_once_and_the_newer_counts_only_from_the_same_spot():
    eyes = torch.tensor([[[0, 0, 0], [0.05, 0, 0], [1, 0, 0], [0.001, 0, 0], [0.001, 0, 0.15], [0.001, 0, math.pi]]])
    _, kept = follow(eyes, begin(6), [6])
    assert kept.numbers[0].tolist() == [3, 2, 4, 5, -1, -1]
    torch.testing.assert_close(kept.eyes[0, :4], eyes[0, [3, 2, 4, 5]])


def test_the_oldest_gives_way_and_an_episode_begins_with_none():
    eyes = straight(12)
    _, kept = follow(eyes, begin(12), [12])
    assert sorted(kept.numbers[0].tolist()) == [6, 7, 8, 9, 10, 11]
    first = begin(12)
    first[0, 9] = True
    (_, there, _, age), kept = follow(eyes, first, [12])
    assert sorted(kept.numbers[0].tolist()) == [-1, -1, -1, 0, 1, 2]
    assert not there[0, 9].any() and age[0, 11].tolist() == [1, 2, 0, 0]


def test_far_is_measured_round_the_circle():
    eye = torch.tensor([1.0, 2.0, 3.1])
    assert far(eye, eye) == 0
    assert far(eye, torch.tensor([1.5, 2.0, 3.1])).item() == pytest.approx(1)
    turned = torch.tensor([1.0, 2.0, 3.1 - 2 * math.pi + math.radians(30)])
    assert far(eye, turned).item() == pytest.approx(1, abs=1e-5)


def test_frames_are_kept_to_half_a_step_and_never_out_of_range():
    latents = torch.tensor([[0.0, 1.0, -2.38], [10.0, 1000.0, -1000.0]])
    kept = coded(latents)
    assert kept.dtype == torch.int8
    back = kept.float() * STEP
    assert (back[0] - latents[0]).abs().max() <= STEP / 2
    assert back[1].tolist() == pytest.approx([10, 127 / 12, -127 / 12])
