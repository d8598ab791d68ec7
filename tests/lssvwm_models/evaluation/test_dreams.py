"""Predictions stand beside the frames they are predictions of, and counting counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lssvwm_models.data import DatasetSpec, Episode, EpisodeDataset, write_shard, write_spec
from lssvwm_models.data.openings import openings, pieces
from lssvwm_models.evaluation.dreams import dream, next_frames
from lssvwm_models.evaluation.video_metrics import psnr
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.prediction import Prediction
from lssvwm_models.model.world_model import WorldModel


class Counter:
    """A perfect model of a world whose brightness grows by act[t], in grey levels, at frame t."""

    device = torch.device("cpu")
    odometry = None

    def initial_state(self, batch_size: int) -> torch.Tensor:
        return torch.full((batch_size,), torch.nan)

    def observe(
        self, state: torch.Tensor, obs: torch.Tensor, act: torch.Tensor, is_first: torch.Tensor, pose: None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        grey = (obs[:, :, 0, 0, 0] + 1) * 127.5
        for t in range(obs.shape[1]):
            torch.testing.assert_close(torch.where(is_first[:, t], grey[:, t], state + act[:, t]), grey[:, t])
            state = grey[:, t]
        return state, obs

    def imagine(
        self,
        state: torch.Tensor,
        act: torch.Tensor,
        rng: torch.Tensor,
        steps: int,
        pose: None = None,
        donate: bool = False,
    ) -> tuple[Prediction, torch.Tensor]:
        state = state + act
        obs = (state / 127.5 - 1)[:, None, None, None].expand(-1, 3, 4, 4)
        return Prediction(obs, obs, act.float(), (act == 3).float(), obs, lambda obs: obs), state


def counting(sequences: int = 3, frames: int = 12) -> tuple[np.ndarray, np.ndarray]:
    act = np.random.default_rng(0).integers(1, 9, (sequences, frames))
    grey = (20 + act.cumsum(1)).astype(np.uint8)
    return np.broadcast_to(grey[..., None, None, None], (*grey.shape, 4, 4, 3)).copy(), act


@pytest.mark.parametrize("mode", ["next", "dream"])
def test_actions_rewards_and_frames_line_up(mode: str) -> None:
    obs, act = counting()
    model: Any = Counter()
    keys = torch.arange(3)
    if mode == "next":
        made, first = next_frames(model, obs, act, keys), 1
    else:
        made, first = dream(model, np.where(np.arange(12)[:, None, None, None] < 5, obs, 0), act, 5, 7, keys), 5
    np.testing.assert_array_equal(made.obs, obs[:, first:])
    np.testing.assert_array_equal(made.rew, act[:, first:])
    np.testing.assert_array_equal(made.term_prob, act[:, first:] == 3)


def test_a_dream_begins_with_the_next_frame_of_its_context() -> None:
    view = EgoView(8, 6, 3, ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
    torch.manual_seed(0)
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=view)).eval()
    rng = np.random.default_rng(0)
    obs, act = rng.integers(0, 256, (2, 6, 64, 64, 3), dtype=np.uint8), rng.integers(0, 7, (2, 6))
    keys = torch.tensor([5, 6])
    one_ahead, dreamt = next_frames(model, obs, act, keys), dream(model, obs, act, 4, 2, keys)
    assert one_ahead.obs.shape == (2, 5, 64, 64, 3) and dreamt.obs.shape == (2, 2, 64, 64, 3)
    np.testing.assert_allclose(one_ahead.obs[:, 3].astype(int), dreamt.obs[:, 0], atol=1)
    np.testing.assert_allclose(one_ahead.rew[:, 3], dreamt.rew[:, 0], atol=1e-4)


def test_a_dream_may_move_by_recorded_poses() -> None:
    view = EgoView(8, 6, 3, ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
    torch.manual_seed(0)
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=view)).eval()
    for weight in model.parameters():  # those that training begins at zero say nothing of where the eye is
        weight.data += 0.1 * torch.randn_like(weight)
    rng = np.random.default_rng(0)
    obs, act = rng.integers(0, 256, (2, 6, 64, 64, 3), dtype=np.uint8), rng.integers(0, 7, (2, 6))
    turning = np.array([[5, 5, t % 4] for t in range(6)])[None].repeat(2, 0)

    def dreamt(motion: int, pose: np.ndarray | None) -> np.ndarray:
        assert model.odometry is not None
        last = model.odometry.classify[-1]
        assert isinstance(last, torch.nn.Linear)
        last.weight.data.zero_()
        last.bias.data = torch.eye(4)[motion]
        return dream(model, obs, act, 3, 3, torch.tensor([5, 6]), pose=pose).obs

    np.testing.assert_array_equal(dreamt(0, turning), dreamt(2, None))  # what reckons that it turns, turns
    np.testing.assert_array_equal(dreamt(1, turning), dreamt(2, None))
    assert not np.array_equal(dreamt(1, None), dreamt(2, None))
    late = np.where(np.arange(6)[:, None] < 2, turning[:, :1], turning - [0, 0, 1])  # turns from the third frame on
    assert not np.array_equal(dreamt(2, late), dreamt(2, turning))  # what the context was seen from counts, too


def test_a_dream_tells_where_it_thought_it_was() -> None:
    view = EgoView(8, 6, 3, ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=view)).eval().requires_grad_(False)
    assert model.odometry is not None
    for weight in model.odometry.parameters():
        weight.zero_()
    model.odometry.classify[-1].bias[1] = 1.0  # it always steps ahead
    obs, act, keys = np.zeros((2, 6, 64, 64, 3), np.uint8), np.zeros((2, 6), np.int64), torch.tensor([5, 6])
    reckoned = dream(model, obs, act, 3, 3, keys).pose
    assert reckoned is not None
    np.testing.assert_array_equal(reckoned, [[(3, 0, 0), (4, 0, 0), (5, 0, 0)]] * 2)
    recorded = np.array([(5, 5, 1), (5, 6, 1), (5, 6, 2), (4, 6, 2), (4, 6, 1), (4, 7, 1)])[None].repeat(2, 0)
    given = dream(model, obs, act, 3, 3, keys, pose=recorded).pose
    assert given is not None
    np.testing.assert_array_equal(given, [[(1, 1, 1), (1, 1, 0), (2, 1, 0)]] * 2)
    assert next_frames(model, obs, act, keys).pose is None
    blind = WorldModel(preset("debug", ActionSpec("discrete", 7))).eval()
    assert dream(blind, obs, act, 3, 3, keys).pose is None


def test_a_model_without_a_view_is_given_no_pose() -> None:
    model = WorldModel(preset("debug", ActionSpec("discrete", 7))).eval()
    state, act = model.initial_state(1), torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match="no view"):
        model.imagine(state, act, torch.tensor([0]), pose=torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="no view"):
        frames, first = torch.zeros(1, 1, 3, 64, 64), torch.ones(1, 1, dtype=torch.bool)
        model.observe(state, frames, act.unsqueeze(1), first, torch.zeros(1, 1, 3, dtype=torch.long))


def test_too_short_sequences_are_refused() -> None:
    obs, act = counting(frames=4)
    model: Any = Counter()
    with pytest.raises(ValueError, match="at least 2 frames"):
        next_frames(model, obs[:, :1], act[:, :1], torch.arange(3))
    with pytest.raises(ValueError, match="context_len=3 and horizon=2 need 5 actions"):
        dream(model, obs, act, 3, 2, torch.arange(3))


def test_openings_are_padded_with_the_last_frame(tmp_path: Path) -> None:
    lengths = [3, 9, 5]
    dataset = numbered_episodes(tmp_path, lengths)
    taken = openings(dataset, 10, 6, longer_than=3, seed=1)
    assert sorted(taken.seeds) == [1, 2]  # the first episode is too short
    for row, seed in enumerate(taken.seeds):
        shown = [100 * seed + min(t, lengths[seed] - 1) for t in range(6)]
        np.testing.assert_array_equal(taken.rew[row], shown - 100 * seed)
        assert taken.valid[row].tolist() == [t < lengths[seed] for t in range(6)]
    with pytest.raises(ValueError, match="no episode of more than 9 frames"):
        openings(dataset, 1, 12, longer_than=9)


def test_openings_since_a_frame_are_of_what_is_left_there(tmp_path: Path) -> None:
    dataset = numbered_episodes(tmp_path, [3, 9, 5])
    for since, starts, lengths in ((0, [0, 3, 12], [3, 9, 5]), (3, [3, 12], [9, 5]), (5, [5, 12], [7, 5])):
        found = pieces(dataset, since)
        assert (found[0].tolist(), found[1].tolist()) == (starts, lengths)
    taken = openings(dataset, 9, 6, since=5)
    assert {(seed, rew[0]) for seed, rew in zip(taken.seeds, taken.rew, strict=True)} == {(1, 2), (2, 0)}


def numbered_episodes(folder: Path, lengths: list[int]) -> EpisodeDataset:
    """Episodes whose reward is the number of the frame."""
    episodes = []
    for seed, n in enumerate(lengths):
        no = np.zeros(n, bool)
        count = np.arange(n, dtype=np.float32)
        frames = np.zeros((n, 4, 4, 3), np.uint8)
        episodes.append(Episode(frames, np.zeros(n, np.int64), count, no, no, seed))
    write_shard(folder / "shard-00000.npz", episodes)
    spec = DatasetSpec(
        env_id="Numbers-v0",
        env_kwargs={},
        observation_space={"type": "Box", "low": 0, "high": 255, "shape": [4, 4, 3], "dtype": "uint8"},
        action_space={"type": "Discrete", "n": 1},
        preprocessing="none",
        policy="none",
        seed=0,
        split="test",
        episode_length=max(lengths),
        frames=sum(lengths),
        shard_frames=sum(lengths),
        command="none",
        complete=True,
        shards=["shard-00000.npz"],
    )
    write_spec(folder, spec)
    return EpisodeDataset(folder)


def test_psnr_of_some_pixels_is_that_of_a_frame_of_them() -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    where = np.zeros((3, 8, 8), np.bool_)
    where[0, 2:6, 1:], where[1] = True, True
    expected = [psnr(a[0, 2:6, 1:], b[0, 2:6, 1:]), psnr(a[1], b[1]), 60]
    np.testing.assert_allclose(psnr(a, b, where), expected)


def test_psnr_by_hand() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    other = np.stack([black[0], np.full((4, 4, 3), 255, np.uint8)])
    np.testing.assert_allclose(psnr(black, other), [60, 0], atol=1e-9)
    one_off = black.copy()
    one_off[:, 0, 0, 0] = 10
    np.testing.assert_allclose(psnr(black, one_off), 10 * np.log10(255**2 * 48 / 100))
    with pytest.raises(ValueError, match="uint8 frames of one shape"):
        psnr(black, other[:1])
