"""Tiles are counted exactly, on real recordings, against slow and simple ways to count them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.evaluation.fidelity import (
    last_seen,
    legal_distance,
    measure,
    picture_tallies,
    pose_errors,
    tile_report,
)
from lssvwm_env.evaluation.revisits import NEVER, Revisits, revisits
from lssvwm_env.real import tile_palette, world_cells
from lssvwm_models.data import DatasetOrigin, EpisodeDataset, write_dataset
from lssvwm_models.data.openings import Openings, openings
from lssvwm_models.data.segments import to_frames
from lssvwm_models.evaluation.dreams import Dream
from lssvwm_models.evaluation.tally import Tally
from lssvwm_models.evaluation.video_metrics import perceptual, psnr, ssim
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.prediction import Prediction
from lssvwm_models.model.world_model import WorldModel


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    folder = tmp_path_factory.mktemp("rooms")
    config = CollectConfig("MiniGrid-ObjectRooms-v0", folder, 240, split="test", episode_length=60, workers=1)
    return collect(config)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return collect(CollectConfig("MiniGrid-MemoryS9-v0", tmp_path_factory.mktemp("memory"), 300, workers=1))


@pytest.fixture(scope="module")
def real(rooms: EpisodeDataset) -> Openings:
    return openings(rooms, 4, 50)


class Player:
    """A model that knows the recordings by heart, or repeats what it saw last. Its state is (frames seen, last)."""

    device = torch.device("cpu")
    odometry = None
    config = SimpleNamespace(view=None)

    def __init__(self, real: Openings, copies: bool = False) -> None:
        self.obs = to_frames(real.obs)
        self.rew = torch.from_numpy(real.rew)
        self.terminated = torch.from_numpy(real.terminated).float()
        self.copies = copies

    def initial_state(self, batch_size: int) -> tuple[int, Any]:
        return 0, None

    def observe(
        self, state: Any, obs: torch.Tensor, act: torch.Tensor, is_first: torch.Tensor, pose: None = None
    ) -> tuple[Any, None]:
        return (state[0] + obs.shape[1], obs[:, -1]), None

    def imagine(
        self, state: Any, act: torch.Tensor, rng: torch.Tensor, steps: int, pose: None = None, donate: bool = False
    ) -> tuple[Prediction, Any]:
        t, last = state
        obs = last if self.copies else self.obs[:, t]
        return Prediction(obs, obs, self.rew[:, t], self.terminated[:, t], obs, lambda obs: obs), (t + 1, obs)


def slow_last_seen(pose: np.ndarray, visible: np.ndarray, until: int) -> np.ndarray:
    age = np.full(visible.shape, -1)
    for b in range(len(pose)):
        seen: dict[tuple[int, int], int] = {}
        for t in range(pose.shape[1]):
            cells = [(r, c, tuple(world_cells(pose[b, t])[r, c].tolist())) for r in range(7) for c in range(7)]
            for r, c, cell in cells:
                age[b, t, r, c] = t - seen[cell] if cell in seen else -1
            seen |= {cell: t for r, c, cell in cells if visible[b, t, r, c] and t < until}
    return age


@pytest.mark.parametrize("until", [None, 20])
def test_last_seen_is_what_a_dictionary_says(real: Openings, until: int | None) -> None:
    assert real.tiles is not None and real.pose is not None
    visible = real.tiles[..., 0] != 0
    age = last_seen(real.pose, visible, until)
    np.testing.assert_array_equal(age, slow_last_seen(real.pose, visible, 50 if until is None else until))
    assert (age[:, 0] == -1).all() and (age == -1).mean() < 0.9 and age.max() > 8
    if until:
        later = age[:, until:]
        assert (
            later[later >= 0] > np.broadcast_to(np.arange(50 - until)[:, None, None], later.shape)[later >= 0]
        ).all()


def test_last_seen_refuses_misfits() -> None:
    with pytest.raises(ValueError, match=r"do not fit \(B, T, 3\)"):
        last_seen(np.zeros((2, 5, 3), int), np.zeros((2, 4, 7, 7), bool))


def test_tiles_are_counted_by_hand(real: Openings) -> None:
    assert real.tiles is not None and real.pose is not None
    palette = tile_palette()
    ids = palette.encode(real.tiles)
    age = last_seen(real.pose, real.tiles[..., 0] != 0)
    # Blank one real object that was seen recently, and put a ball where none is but the floor was seen.
    is_recent = (age >= 1) & (age <= 8)
    blanked = tuple(np.argwhere(palette.is_object(ids) & is_recent)[0])
    is_floor = (real.tiles == (1, 0, 0)).all(-1)
    is_floor[..., 6, 3] = False  # shows the agent
    invented = tuple(np.argwhere(is_floor & (age > 8))[0])
    codes = real.tiles.copy()
    codes[blanked] = (1, 0, 0)
    codes[invented] = (6, 0, 0)
    counts = tile_report(palette.draw(codes), real.tiles, age, real.valid)
    wrong = {name: tally.count.sum() - tally.amount.sum() for name, tally in counts.items()}
    objects = palette.is_object(ids)
    assert (wrong["tiles"], wrong["tiles_seen"], wrong["tiles_recent"]) == (2, 2, 1)
    assert (wrong["objects"], wrong["objects_seen"], wrong["objects_recent"]) == (1, 1, 1)
    assert (wrong["objects_precision"], wrong["objects_precision_recent"]) == (1, 0)
    assert counts["tiles"].count.sum() == ids.size
    assert counts["objects_recent"].count.sum() == (objects & is_recent).sum()
    assert counts["tiles_age_2_8"].count.sum() == ((age >= 2) & (age <= 8)).sum()
    assert wrong["tiles_age_1_1"] + wrong["tiles_age_2_8"] == 1  # the one that was blanked
    assert counts["objects_precision"].count.sum() == objects.sum()
    new = (age == -1) & (ids != palette.UNSEEN)
    assert counts["tiles_new"].count.sum() == new.sum()
    assert counts["tiles_new_chance"].amount.sum() == np.unique(ids[new], return_counts=True)[1].max()
    assert counts["objects_new"].count.sum() == (new & objects).sum()
    assert counts["objects_new_chance"].amount.sum() == np.unique(ids[new & objects], return_counts=True)[1].max()
    assert counts["tiles_age_33_128"].count.sum() == (age >= 33).sum() and not counts["tiles_age_513_up"].count.any()


def test_frames_past_the_end_do_not_count(real: Openings) -> None:
    assert real.tiles is not None
    valid = np.arange(50) < np.array([50, 10, 1, 0])[:, None]
    never = np.full((*valid.shape, 7, 7), -1)
    counts = tile_report(np.zeros_like(real.obs), real.tiles, never, valid)
    assert counts["tiles"].count.sum(1).tolist() == [50 * 49, 10 * 49, 49, 0]


def test_tiles_are_illegal_once_they_could_be_another() -> None:
    palette = tile_palette()
    assert legal_distance().min() > 30
    clean = palette.draw(np.broadcast_to(np.array([6, 0, 0], np.uint8), (1, 1, 7, 7, 3)))
    noise = np.random.default_rng(0).integers(0, 256, clean.shape, dtype=np.uint8)
    tiles = np.broadcast_to(np.array([1, 0, 0], np.uint8), (1, 1, 7, 7, 3))
    age = np.zeros((1, 1, 7, 7), int)
    valid = np.ones((1, 1), bool)
    assert tile_report(clean, tiles, age, valid)["tiles_illegal"].estimate()["value"] == 0
    assert tile_report(noise, tiles, age, valid)["tiles_illegal"].estimate()["value"] == 1


def test_a_model_that_knows_the_truth_is_perfect(memory: EpisodeDataset) -> None:
    settings: Any = {"sequences": 5, "context": 10, "horizon": 20, "seed": 3}
    real = openings(memory, 5, 30, longer_than=10, seed=3)
    model: Any = Player(real)
    result = measure(model, memory, **settings)
    assert result.context == 10  # the median episode is longer than three times that
    np.testing.assert_array_equal(result.real.obs, real.obs)
    for mode in ("next_frame", "dream", "dream_last_frame"):
        estimates = result.report[mode]
        for name, estimate in estimates.items():
            perfect = {"psnr": 60.0, "tiles_illegal": 0.0}.get(name, 1.0)
            assert name.endswith("_new_chance") or estimate["value"] in (perfect, None), (mode, name)
        assert estimates["psnr"]["n"] * 49 == estimates["tiles"]["n"] > 0
    assert result.report["next_frame"]["tiles_recent"]["n"] > 1000
    assert result.report["next_frame"]["termination_recall"]["n"] == real.terminated[real.valid].sum()
    assert result.report["dream_last_frame"]["psnr"]["n"] == 5
    assert set(result.report["dream_per_step"]["tiles"]) <= {1.0, None}
    assert len(result.report["dream_per_step"]["tiles"]) == 20


def test_a_model_that_copies_scores_as_the_control(rooms: EpisodeDataset) -> None:
    model: Any = Player(openings(rooms, 4, 32), copies=True)
    report = measure(model, rooms, sequences=4, context=16, horizon=16).report
    for mode in ("next_frame", "dream"):
        assert report[mode] == report[f"copy_{mode}"]
        assert 0.2 < report[mode]["tiles"]["value"] < 0.9
    assert len(report["notes"]) == 2 and "reward" in report["notes"][0]  # ObjectRooms has neither event
    json.dumps(report, allow_nan=False)


def test_a_real_model_is_judged(rooms: EpisodeDataset) -> None:
    torch.manual_seed(0)
    view = EgoView(8, 6, 3, ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=view)).eval()
    report = measure(model, rooms, sequences=2, context=32, horizon=4).report
    assert report["context"] == 20  # a third of the 60-frame episodes
    assert report["next_frame"]["psnr"]["n"] == 2 * 23 and report["dream"]["psnr"]["n"] == 2 * 4
    assert measure(model, rooms, sequences=2, context=32, horizon=4).report == report


def test_motions_are_counted_by_hand(rooms: EpisodeDataset) -> None:
    view = EgoView(8, 6, 3, ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=view)).eval()
    assert model.odometry is not None
    for weight in model.odometry.classify[-1].parameters():
        weight.data.zero_()
    model.odometry.classify[-1].bias.data[1] = 1.0  # it always steps forward
    report = measure(model, rooms, sequences=4, context=20, horizon=8).report
    real = openings(rooms, 4, 28, longer_than=20)
    assert real.pose is not None
    moved = (np.diff(real.pose[..., :2], axis=1) != 0).any(-1)
    assert report["next_frame"]["motions"] == Tally.of(moved, real.valid[:, 1:]).estimate()
    assert report["dream"]["motions"]["value"] == moved[:, 19:].mean()
    assert report["dream_per_step"]["way"] == pytest.approx(np.logical_and.accumulate(moved[:, 19:], 1).mean(0))
    into_things = (real.act[:, 1:] == 2) & ~moved
    unusual = report["next_frame"]["motions_unusual"]
    assert unusual["n"] == into_things.sum() and unusual["value"] in (0.0, None)


def test_without_tiles_only_frames_and_events_are_judged(rooms: EpisodeDataset, tmp_path: Path) -> None:
    dataset = EpisodeDataset(rooms.folder)
    dataset.tiles = None  # type: ignore[misc]
    model: Any = Player(openings(dataset, 2, 8))
    report = measure(model, dataset, sequences=2, context=4, horizon=4).report
    assert report["next_frame"]["psnr"]["value"] == 60
    assert not any("tiles" in name or "objects" in name for name in report["next_frame"])


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    folder = tmp_path_factory.mktemp("eye")
    return collect(CollectConfig("FirstPerson/MiniGrid-MemoryS9-v0", folder, 240, episode_length=60, workers=1))


@pytest.fixture(scope="module")
def plane(eye: EpisodeDataset, tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """The same, as if nobody knew that there is a grid."""
    episodes = [replace(e, pose=(e.pose * (1, 1, np.pi / 2)).astype(np.float32)) for e in eye.episodes()]
    origin = DatasetOrigin(eye.spec.env_id, eye.spec.action_space, camera=eye.spec.camera)
    return write_dataset(tmp_path_factory.mktemp("plane"), episodes, origin)


def seeing(dataset: EpisodeDataset) -> WorldModel:
    """A model in first person that is random but for its odometry, by which it always steps ahead."""
    motions = ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)) if dataset.pose_kind == "grid" else None
    assert dataset.spec.camera is not None
    view = FirstPersonView(dataset.spec.camera.fov, motions, dataset.spec.camera.ahead)
    torch.manual_seed(0)
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=view)).eval().requires_grad_(False)
    for weight in model.parameters():  # those that training begins at zero say nothing of where the eye is
        weight += 0.1 * torch.randn_like(weight)
    assert model.odometry is not None
    for weight in model.odometry.parameters():
        weight.zero_()
    if motions:
        model.odometry.classify[-1].bias[1] = 1.0
    return model


@pytest.mark.parametrize("kind", ["grid", "plane"])
def test_in_first_person_a_dream_is_also_moved_by_the_recorded_poses(
    kind: str, eye: EpisodeDataset, plane: EpisodeDataset
) -> None:
    dataset = eye if kind == "grid" else plane
    result = measure(seeing(dataset), dataset, sequences=2, context=12, horizon=4)
    report = result.report
    assert result.context == 12 and result.real.valid.all()
    assert result.real.pose is not None and result.dreamt.pose is not None
    for name in ("psnr", "ssim", "perceptual"):
        reckoned, given = report["dream"][name], report["given_dream"][name]
        assert reckoned["n"] == given["n"] == 8 and reckoned["value"] != given["value"]
        assert report["given_dream"][f"{name}_revisited"]["n"] + report["given_dream"][f"{name}_new"]["n"] == 8
    # Always ahead on a grid, and never moved in the plane.
    walked = np.stack([np.arange(12, 16) * (kind == "grid"), np.zeros(4), np.zeros(4)], -1)
    np.testing.assert_array_equal(result.dreamt.pose, np.broadcast_to(walked, (2, 4, 3)))
    x, y, heading = np.moveaxis(result.real.pose[:, [0, *range(12, 16)]].astype(np.float64), -1, 0)
    angle = heading * (np.pi / 2 if kind == "grid" else 1)
    ahead = (x - x[:, :1]) * np.cos(angle[:, :1]) + (y - y[:, :1]) * np.sin(angle[:, :1])
    aside = (y - y[:, :1]) * np.cos(angle[:, :1]) - (x - x[:, :1]) * np.sin(angle[:, :1])
    off = np.hypot(ahead[:, 1:] - walked[:, 0], aside[:, 1:])
    assert report["dream_per_step"]["cells_off"] == pytest.approx(off.mean(0), abs=1e-4)
    turned = np.degrees(np.arccos(np.cos(angle[:, 1:] - angle[:, :1]).clip(-1, 1)))
    assert report["dream"]["degrees_off"]["value"] == pytest.approx(turned.mean(), abs=0.1)
    assert "cells_off" not in report["given_dream"]
    assert len(report["given_dream_per_step"]["ssim"]) == 4 and report["perceptual_features"]
    assert ("motions" in report["dream"]) == (kind == "grid")
    assert not any("view" in note for note in report["notes"])
    json.dumps(report, allow_nan=False)


def test_poses_of_another_kind_are_refused(eye: EpisodeDataset, plane: EpisodeDataset) -> None:
    with pytest.raises(ValueError, match="of the kind plane, but the model knows those of the kind grid"):
        measure(seeing(eye), plane, sequences=1, context=4, horizon=2)
    with pytest.raises(ValueError, match="of the kind grid, but the model knows those of the kind plane"):
        measure(seeing(plane), eye, sequences=1, context=4, horizon=2)


def test_errors_of_poses_are_counted_since_the_first_frame() -> None:
    frames = np.zeros((1, 2, 1, 1, 3), np.uint8)
    nothing = np.zeros((1, 2), np.float32)
    valid = np.ones((1, 2), bool)
    # It looks south, goes two cells ahead, and turns left.
    recorded = np.array([[(5, 5, 1), (5, 6, 1), (5, 7, 1), (5, 7, 0)]], np.int32)
    dreamt = Dream(frames, nothing, nothing, np.array([[(2, 0, 0), (5, 4, 0)]]))
    errors = pose_errors(dreamt, recorded, valid)
    assert errors["cells_off"].per_frame() == [0, 5] and errors["degrees_off"].per_frame() == [0, 90]
    assert pose_errors(dreamt, recorded, valid, cell=2.5)["cells_off"].per_frame() == [0, 2]
    plane = (recorded * (1, 1, np.pi / 2)).astype(np.float32)
    dreamt = Dream(frames, nothing, nothing, np.array([[(2, 0, np.pi - 0.1), (5, 4, np.pi / 2)]], np.float32))
    errors = pose_errors(dreamt, plane, np.array([[True, False]]))
    assert errors["degrees_off"].per_frame() == [pytest.approx(180 - np.degrees(0.1)), None]
    assert errors["cells_off"].per_frame() == [pytest.approx(0, abs=1e-5), None]


def test_pictures_are_compared_apart_by_what_was_seen_before() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 2, 3, 16, 16, 3), np.uint8)
    valid = np.array([[True, True, False], [True, True, True]])
    seen = Revisits(np.zeros((2, 3), int), np.array([[3, NEVER, 4], [NEVER, 40, 8]]))
    found = picture_tallies(a, b, seen, valid)
    for name, quality in {"psnr": psnr(a, b), "ssim": ssim(a, b), "perceptual": perceptual(a, b)}.items():
        assert found[name].estimate()["value"] == pytest.approx(quality[valid].mean())
        again = quality[[0, 1, 1], [0, 1, 2]]
        assert found[f"{name}_revisited"].estimate()["value"] == pytest.approx(again.mean())
        assert found[f"{name}_new"].estimate()["value"] == pytest.approx(quality[[0, 1], [1, 0]].mean())
        assert found[f"{name}_age_2_8"].estimate()["value"] == pytest.approx(quality[[0, 1], [0, 2]].mean())
        assert found[f"{name}_age_33_128"].amount.sum() == pytest.approx(quality[1, 1])
    small = picture_tallies(a[..., :10, :, :], b[..., :10, :, :], seen, valid)
    assert "perceptual" in small and "ssim" not in small  # which wants windows of 11 pixels


def test_in_first_person_frames_count_by_whether_the_eye_was_there_before(
    rooms: EpisodeDataset, eye: EpisodeDataset
) -> None:
    recorded = openings(eye, 4, 40, longer_than=10)
    perfect = measure(Player(recorded), eye, sequences=4, context=10, horizon=30)
    copying = measure(Player(recorded, copies=True), eye, sequences=4, context=10, horizon=30)
    seen = revisits(perfect.real.pose, perfect.context)
    valid = perfect.real.valid[:, perfect.context :]
    for name, chosen in {"revisited": seen.revisited, "new": ~seen.revisited}.items():
        shown = perfect.report["dream"][f"psnr_{name}"]
        assert shown["n"] == (valid & chosen).sum() > 0 and shown["value"] == 60
        assert copying.report["dream"][f"psnr_{name}"] == copying.report["copy_dream"][f"psnr_{name}"]
    nearest = perfect.report["nearest_dream"]
    assert nearest["psnr_revisited"]["value"] == 60  # on a grid, the same pose shows the same, as nothing moves
    assert nearest["psnr_new"]["value"] < 25 and perfect.report["mean_dream"]["psnr"]["value"] < 25
    ages = [v["n"] for k, v in perfect.report["dream"].items() if k.startswith("psnr_age_")]
    assert sum(ages) == (valid & seen.revisited).sum()
    assert "the model has no view in first person" in perfect.report["notes"][-1]
    assert "given_dream" not in perfect.report
    assert "nearest_dream" not in measure(Player(openings(rooms, 4, 50)), rooms, context=30, horizon=20).report


def test_poses_in_the_plane_count_too(eye: EpisodeDataset, plane: EpisodeDataset) -> None:
    one, other = (measure(Player(openings(x, 2, 50)), x, sequences=2, context=30, horizon=20) for x in (eye, plane))
    assert one.report["nearest_dream"] == other.report["nearest_dream"]
