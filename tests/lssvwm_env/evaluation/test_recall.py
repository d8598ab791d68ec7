"""The paper's two protocols, asked of a model that finds what it saw by its pose, and of a real one."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from lssvwm_env.evaluation.recall import Recall, RecallConfig, check_camera, measure_recall, recall, strip_png, way_back
from lssvwm_models.data import DatasetOrigin, Episode, EpisodeDataset, write_dataset
from lssvwm_models.data.openings import openings
from lssvwm_models.data.spec import Camera
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.prediction import Prediction
from tests.lssvwm_env.evaluation.seeing import untrained

SIZE = 16
LENGTH = 9


def brightness(frame: int) -> int:
    """Of the frames before the last two, which are seen from where frames 5 and 4 were."""
    return 10 * frame if frame < 7 else 10 * (12 - frame)


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """Three walks straight on, a cell per step, that turn around after frame 6 without looking back; and a short one.

    The action beside frame t is t; all frames of episode e are brighter by e.
    """
    episodes = []
    for seed, length in enumerate([LENGTH, LENGTH, 4, LENGTH]):
        frame = np.arange(length)
        no = np.zeros(length, bool)
        grey = np.array([brightness(t) + seed for t in frame], np.uint8)
        obs = np.broadcast_to(grey[:, None, None, None], (length, SIZE, SIZE, 3)).copy()
        along = np.where(frame < 7, frame, 12 - frame)
        pose = np.stack([3 + 0 * frame, along - 2, np.full(length, np.pi / 2)], -1).astype(np.float32)
        episodes.append(Episode(obs, frame, np.zeros(length, np.float32), no, no, seed, pose=pose))
    origin = DatasetOrigin("Walk-v0", {"type": "Discrete", "n": LENGTH}, split="test", camera=Camera(80.0, 0.1))
    return write_dataset(tmp_path_factory.mktemp("walks"), episodes, origin)


class Memory(NamedTuple):
    """What `Finder` remembers: every frame with its pose; and where it is."""

    frames: list[torch.Tensor]
    poses: list[torch.Tensor]
    pose: torch.Tensor


class Finder:
    """Shows what it saw from the nearest pose. Where none is given, it takes one half cell ahead per step."""

    device = torch.device("cpu")
    odometry = True
    config = SimpleNamespace(view=FirstPersonView(80.0, None, 0.1), in_plane=True)

    def __init__(self) -> None:
        self.actions: list[Any] = []
        self.batches: list[int] = []

    def initial_state(self, batch_size: int) -> Memory:
        self.batches.append(batch_size)
        return Memory([], [], torch.zeros(batch_size, 3))

    def observe(
        self, state: Memory, obs: torch.Tensor, act: torch.Tensor, is_first: torch.Tensor, pose: torch.Tensor | None
    ) -> tuple[Memory, None]:
        T = obs.shape[1]
        if pose is None:
            pose = torch.zeros(len(obs), T, 3)
            pose[..., 0] = 0.5 * torch.arange(T)
        return Memory(list(obs.unbind(1)), list(pose.unbind(1)), pose[:, -1]), None

    def imagine(
        self, state: Memory, act: torch.Tensor, rng: torch.Tensor, steps: int, pose: torch.Tensor | None, donate: bool
    ) -> tuple[Prediction, Memory]:
        self.actions.append(act.tolist())
        here = state.pose + torch.tensor([0.5, 0, 0]) if pose is None else pose
        nearest = torch.stack([(p - here).norm(dim=-1) for p in state.poses]).argmin(0)
        obs = torch.stack(state.frames)[nearest, torch.arange(len(here))]
        nothing = torch.zeros(len(here))
        return Prediction(obs, obs, nothing, nothing, obs, lambda obs: obs), state._replace(pose=here)


def in_db(difference: int) -> float:
    return float(20 * np.log10(255 / difference))


def test_the_way_back_is_the_way_there_reversed(walks: EpisodeDataset) -> None:
    real = openings(walks, 3, 5, longer_than=4)
    walk = way_back(real, 3)
    assert walk.act.tolist() == [[0, 1, 2, 3, 4, 4, 3, 2]] * 3
    frames = [0, 1, 2, 3, 4, 3, 2, 1]
    np.testing.assert_array_equal(walk.obs, real.obs[:, frames])
    assert real.pose is not None
    np.testing.assert_array_equal(walk.pose, real.pose[:, frames])
    assert walk.valid.shape == (3, 8) and len(walk) == 3


def test_retrieval_by_hand(walks: EpisodeDataset) -> None:
    model: Any = Finder()
    report = measure_recall(model, walks, "retrieval", 6, 5).report
    assert model.actions == [[5] * 3, [4] * 3, [3] * 3, [2] * 3, [1] * 3]
    assert report["sequences"] == 3 and sorted(report["episode_seeds"]) == [0, 1, 3]
    assert report["given_dream"]["psnr"] == {"value": 60, "low": 60, "high": 60, "n": 15}
    assert report["given_dream_per_step"]["ssim"] == [1] * 5
    still = [in_db(10 * k) for k in range(1, 6)]
    assert report["copy_dream_per_step"]["psnr"] == pytest.approx(still)
    assert report["copy_dream"]["psnr_age_2_8"]["value"] == pytest.approx(np.mean(still[:4]))
    assert report["copy_dream"]["psnr_age_9_32"] == pytest.approx(
        {"value": still[4], "low": still[4], "high": still[4], "n": 3}
    )
    assert report["mean_dream_per_step"]["psnr"] == pytest.approx([in_db(d) for d in (15, 5, 5, 15, 25)])
    assert "dream" not in report and "nearest_dream" not in report and "psnr_new" not in report["given_dream"]
    assert report["notes"] == ["a copy of the frame from the nearest pose is exact here, so it is left out"]
    json.dumps(report, allow_nan=False)


def test_reasoning_by_hand(walks: EpisodeDataset) -> None:
    model: Any = Finder()
    report = measure_recall(model, walks, "reasoning", 6, 3).report
    assert model.actions == [[t] * 3 for t in (6, 7, 8)] * 2
    # Frame 6 is new, and frames 7 and 8 are seen from where 5 and 4 were.
    assert report["given_dream_per_step"]["psnr"] == pytest.approx([in_db(10), 60, 60])
    assert report["nearest_dream_per_step"] == report["given_dream_per_step"]
    assert report["given_dream"]["psnr_new"]["n"] == 3 and report["given_dream"]["psnr_revisited"]["value"] == 60
    assert report["given_dream"]["psnr_age_2_8"]["n"] == 6
    # It thinks that it is at 3, 3.5 and 4, where it was after 6, 7 and 8 half steps; it is at 6, 5 and 4.
    assert report["dream_per_step"]["cells_off"] == pytest.approx([3, 1.5, 0], abs=1e-6)
    assert report["dream_per_step"]["degrees_off"] == pytest.approx([0, 0, 0], abs=1e-4)
    # Its own map ends at 2.5, where it saw frame 5.
    assert report["dream_per_step"]["psnr"] == pytest.approx([in_db(10), 60, in_db(10)])
    assert report["copy_dream_per_step"]["psnr"] == pytest.approx([in_db(10), 60, in_db(10)])
    assert "cells_off" not in report["given_dream"] and report["notes"] == []


def test_only_episodes_that_are_long_enough_are_asked(walks: EpisodeDataset) -> None:
    model: Any = Finder()
    assert measure_recall(model, walks, "reasoning", 3, 6).report["given_dream"]["psnr"]["n"] == 3 * 6
    assert measure_recall(model, walks, "reasoning", 2, 2).report["given_dream"]["psnr"]["n"] == 4 * 2
    assert measure_recall(model, walks, "retrieval", 4, 3).report["given_dream"]["psnr"]["n"] == 4 * 3


def test_many_sequences_are_asked_in_parts(walks: EpisodeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Any = Finder()
    parts: Any = Finder()
    one = measure_recall(whole, walks, "reasoning", 6, 3, seed=4)
    monkeypatch.setattr("lssvwm_env.evaluation.recall.BATCH", 2)
    other = measure_recall(parts, walks, "reasoning", 6, 3, seed=4)
    assert whole.batches == [3, 3] and parts.batches == [2, 2, 1, 1]
    assert one.report["episode_seeds"] == other.report["episode_seeds"]
    for name in ("given_dream", "dream", "copy_dream", "nearest_dream", "mean_dream"):
        for key in ("psnr", "ssim", "psnr_revisited", "ssim_new"):
            assert one.report[name][key] == pytest.approx(other.report[name][key])
    np.testing.assert_array_equal(one.truth[:2], other.truth)


@pytest.mark.parametrize(
    ("protocol", "context", "message"),
    [
        ("retrieval", 10, "context=10 needs episodes of 10 frames, but the longest of .* has 9: .*--episode-length 10"),
        ("reasoning", 7, "context=7 and horizon=3 need episodes of 10 frames, but the longest of .* has 9"),
    ],
)
def test_contexts_longer_than_the_episodes_are_refused(
    walks: EpisodeDataset, protocol: Any, context: int, message: str
) -> None:
    model: Any = Finder()
    with pytest.raises(ValueError, match=message):
        measure_recall(model, walks, protocol, context, 3)


def test_what_is_asked_by_default_is_the_papers(tmp_path: Path) -> None:
    assert RecallConfig("x", tmp_path, tmp_path, "retrieval").frames() == (400, 399)
    assert RecallConfig("x", tmp_path, tmp_path, "reasoning").frames() == (576, 224)
    assert RecallConfig("x", tmp_path, tmp_path, "retrieval", context=9, horizon=3).frames() == (9, 3)
    with pytest.raises(ValueError, match="horizon=9, but the way back of context=9 frames has 8"):
        RecallConfig("x", tmp_path, tmp_path, "retrieval", context=9, horizon=9)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (None, "toy has no view, so it takes no poses; expected a simulator that sees in first person"),
        (EgoView(8, 6, 3, ((0, 0, 0),)), "toy has a view from above; expected a simulator that sees in first person"),
        (FirstPersonView(90.0, None, 0.1), r"fov=80.0, ahead=0.1, but toy sees with fov=90.0, ahead=0.1"),
        (FirstPersonView(80.0, None), r"fov=80.0, ahead=0.1, but toy sees with fov=80.0, ahead=0.0"),
        (FirstPersonView(80.0, None, 0.1, 2.0), r"of which 1.0 make a cell, but toy knows cells of 2.0"),
        (FirstPersonView(80.0, ((0, 0, 0),), 0.1), "kind plane, but the model knows those of the kind grid"),
    ],
)
def test_models_that_see_otherwise_are_refused(walks: EpisodeDataset, view: Any, message: str) -> None:
    motions = getattr(view, "motions", ())
    model: Any = SimpleNamespace(config=SimpleNamespace(view=view, in_plane=motions is None))
    with pytest.raises(ValueError, match=message):
        check_camera(model, walks, "toy")


@pytest.mark.parametrize("missing", ["camera", "poses"])
def test_episodes_without_poses_or_a_camera_are_refused(walks: EpisodeDataset, tmp_path: Path, missing: str) -> None:
    episodes = list(walks.episodes())
    if missing == "poses":
        episodes = [Episode(e.obs, e.act, e.rew, e.terminated, e.truncated, e.seed) for e in episodes]
    camera = None if missing == "camera" else Camera(80.0, 0.1)
    origin = DatasetOrigin("Walk-v0", walks.spec.action_space, camera=camera)
    dataset = write_dataset(tmp_path / "other", episodes, origin)
    model: Any = Finder()
    with pytest.raises(ValueError, match=f"has no {missing}; expected first person with poses and a camera"):
        check_camera(model, dataset, "toy")


def test_the_strip_shows_the_truth_above_the_dreams() -> None:
    truth = np.arange(30, dtype=np.uint8)[None, :, None, None, None] + np.zeros((2, 1, 8, 8, 3), np.uint8)
    given = truth + 100
    picture = np.asarray(Image.open(io.BytesIO(strip_png(Recall({}, truth, {"given_dream": given})))))
    assert picture.shape == (16 + 2 * (2 * 10 + 4), 12 * 10, 3)
    assert picture[16 + 4, 4::10, 0].tolist() == [0, 2, 5, 7, 10, 13, 15, 18, 21, 23, 26, 29]
    assert (picture[16 + 10 + 4, 4::10, 0] == picture[16 + 4, 4::10, 0] + 100).all()
    assert (picture[16 + 24 + 4] == picture[16 + 4]).all()


@pytest.mark.parametrize("protocol", ["retrieval", "reasoning"])
def test_everything_is_written(protocol: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    dataset = untrained(tmp_path, denoising_steps=2)
    asked = RecallConfig(
        str(tmp_path / "simulator"), dataset.folder, tmp_path / "out", protocol, 2, context=4, horizon=3
    )
    report = recall(asked)
    assert sorted(p.name for p in asked.out.iterdir()) == ["recall.json", "recall.png", "strip.png"]
    assert json.loads((asked.out / "recall.json").read_text()) == json.loads(json.dumps(report))
    assert report["denoising_steps"] == 2 and report["protocol"] == protocol and report["weights_sha256"]
    assert ("dream" in report) == (protocol == "reasoning")
    rows = 3 if protocol == "reasoning" else 2
    assert iio.imread(asked.out / "strip.png").shape == (16 + 2 * (rows * 66 + 4), 3 * 66, 3)
    assert iio.imread(asked.out / "recall.png").ndim == 3
    printed = capsys.readouterr().out
    assert re.search(rf"{protocol}:\s+2\s+test\s+episodes", printed) and "wander" in printed
