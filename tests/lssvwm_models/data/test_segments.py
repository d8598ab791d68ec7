"""Sequences cut from recorded episodes."""

import numpy as np
import pytest
import torch

from lssvwm_models.data.segments import extent, motions, random_segments, segments, to_frames, to_uint8
from lssvwm_models.data.values import pose_jump


def test_segments_follow_the_convention(dataset):
    batch = segments(dataset, np.array([3, 15]), 8)
    assert batch.obs.shape == (2, 8, 3, 16, 16) and batch.act.shape == (2, 8)
    assert batch.is_first[0].tolist() == [True] + [False] * 7
    assert batch.is_first[1].tolist() == [True] + [False] * 4 + [True, False, False]  # runs into the next episode
    x = batch.obs[0, :, 0, 0].argmax(-1)
    assert torch.equal((x[1:] - x[:-1]) % 16, batch.act[0, 1:])  # act[t] led to frame t
    assert torch.equal(batch.pose[0, :, 0], batch.act[0].cumsum(0) - batch.act[0, 0])  # from (0, 0, 0)
    assert batch.pose[1, 5].tolist() == [0, 0, 0]


def test_events_are_drawn_as_often_as_asked(dataset):
    rng = np.random.default_rng(0)
    for length in (5, 20):
        batch = random_segments(dataset, range(40, 200), 32, length, rng, event_share=0.5)
        event = batch.terminated | (batch.rew != 0)
        assert event[:16, -max(1, length // 4) :].any(1).all()  # in their last quarter
        assert not event[16:, -1].all()
    late = random_segments(dataset, range(40, 200), 64, 5, rng, event_share=1.0)
    assert late.obs.shape[0] == 64 and (late.terminated | (late.rew != 0))[:, -1:].any(1).all()


def test_without_events_sequences_are_drawn_uniformly(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "events", np.array([], np.int64))
    one, other = (random_segments(dataset, range(40, 200), 8, 5, np.random.default_rng(0), s) for s in (0.5, 0.0))
    assert torch.equal(one.obs, other.obs)


def test_frames_survive_the_round_trip():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(to_uint8(to_frames(frames)), frames)


def test_motions_are_read_off_the_poses(dataset):
    assert set(motions(dataset)) == {(0, 0, 0), (1, 0, 0)}


def test_an_extent_is_that_of_the_farthest_reaching_episode_along_one_axis(dataset, monkeypatch):
    pose = np.zeros_like(dataset.pose)
    one, other = dataset.episode_starts[1:3]
    pose[one, :2] = 100, -50  # where an episode lies does not count
    pose[one + 1 : other, :2] = 97, -43
    pose[other:, 0] = np.arange(len(pose) - other) % 6
    pose[:, 2] = 99
    monkeypatch.setattr(dataset, "pose", pose)
    assert extent(dataset) == 7


def test_sequences_come_back_and_run_backwards_as_often_as_asked(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "events", np.array([], np.int64))
    rng = np.random.default_rng(0)
    batch = random_segments(dataset, range(40, 60), 400, 8, rng, retraced=0.4)  # within one episode
    assert batch.backwards is not None
    kinds, counts = batch.backwards.unique(dim=0, return_counts=True)
    turns_back = [False] * 5 + [True] * 3
    runs_back = [False] + [True] * 7
    share = dict(zip(map(tuple, kinds.tolist()), (counts / 400).tolist(), strict=True))
    assert share[tuple(turns_back)] == pytest.approx(0.2, abs=0.05)
    assert share[tuple(runs_back)] == pytest.approx(0.2, abs=0.05)
    assert share[(False,) * 8] == pytest.approx(0.6, abs=0.05)
    for row, back in enumerate(batch.backwards.tolist()):
        x = batch.obs[row, :, 0, 0].argmax(-1)
        step = torch.where(batch.backwards[row], -batch.act[row], batch.act[row])
        assert torch.equal((x[1:] - x[:-1]) % 16, step[1:] % 16)  # act is what led from a frame to the one before it
        assert torch.equal(batch.pose[row, 1:, 0] - batch.pose[row, :-1, 0], step[1:])
        if back == turns_back:
            assert torch.equal(batch.obs[row, 5:], batch.obs[row, 1:4].flip(0))
    assert torch.equal(batch[2:5].backwards, batch.backwards[:, 2:5])


def test_what_runs_backwards_over_the_border_of_episodes_begins_anew_there(dataset):
    order = np.arange(8)[None, ::-1]
    batch = segments(dataset, np.array([16]), 8, order)  # frames 23 to 16; frame 20 begins an episode
    assert batch.is_first[0].tolist() == [True, False, False, False, True, False, False, False]
    assert batch.backwards[0].tolist() == [False] + [True] * 7


def test_sequences_that_are_to_end_in_an_event_are_left_as_they_were(dataset):
    batch = random_segments(dataset, range(40, 200), 8, 5, np.random.default_rng(0), event_share=0.5, retraced=1.0)
    assert not batch.backwards[:4].any() and batch.backwards[4:].any(1).all()


def test_poses_that_jump_get_a_sentence_and_new_episodes_do_not(dataset):
    first = dataset.is_first
    assert pose_jump(None, first) is None and pose_jump(100 * dataset.pose, first) is None  # on a grid
    rng = np.random.default_rng(0)
    plane = np.cumsum(rng.uniform(-0.3, 0.3, (len(dataset), 3)), 0).astype(np.float32)
    assert pose_jump(plane, first) is None
    plane[dataset.episode_starts[3] :, 0] += 50  # somewhere else, as another episode may begin
    assert pose_jump(plane, first) is None
    plane[107:, 1] -= 50
    said = pose_jump(plane, first)
    assert said.startswith("frame 107: the pose jumps from [") and "times as far as 90 % of the steps go" in said
    assert pose_jump(0 * plane, first) is None
