"""The memory suite: an oracle scores full marks, a copyist scores as the control, episodes are of the test split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lssvwm_env.evaluation.memory import questions
from lssvwm_env.evaluation.memory.suite import (
    ROOMS,
    Recordings,
    SuiteSettings,
    World,
    record_suite,
    run_suite,
    worlds_of,
)
from lssvwm_models.data.segments import to_frames
from lssvwm_models.data.splits import SPLITS
from lssvwm_models.model.prediction import Prediction
from lssvwm_models.model.world_model import WorldModel

SMALL = World("rooms", "MiniGrid-ObjectRooms-v0", {"size": 9, "num_objects": 5})
MEMORY = World("memory", "MiniGrid-MemoryS9-v0", {}, ("out_and_back", "gaps"))
TINY = SuiteSettings(
    worlds=(SMALL, MEMORY),
    sequences=2,
    seeds=(0, 4),
    walks=(3, 12),
    context=16,
    horizon=6,
    continuation=(4, 16),
    opening=6,
    gaps=(8, 11),
    questions=0,
    probe_frames=24,
    batch=3,
)


@pytest.fixture(scope="module")
def recordings() -> Recordings:
    return record_suite(TINY)


class Oracle:
    """A model that finds what it observed among the recordings and knows what comes next; or repeats the last frame.

    Its state is (which recorded episodes, frames seen, last frame).
    """

    device = torch.device("cpu")
    odometry = None

    def __init__(self, recordings: Recordings, copies: bool = False) -> None:
        self.played = list(recordings.episodes.values())
        self.copies = copies

    def initial_state(self, batch_size: int) -> Any:
        return None

    def observe(
        self, state: Any, obs: torch.Tensor, act: torch.Tensor, is_first: torch.Tensor, pose: None = None
    ) -> tuple[Any, None]:
        assert is_first[:, 0].all() and not is_first[:, 1:].any()
        frames = [self._find(row, actions) for row, actions in zip(obs, act, strict=True)]
        return (frames, obs.shape[1], obs[:, -1]), None

    def _find(self, obs: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        for recording in self.played:
            for episode in range(len(recording)):
                known = recording.act[episode]
                if len(known) > len(act) and (known[: len(act)] == act.numpy()).all():
                    frames = to_frames(recording[[episode]].frames[0])
                    if torch.equal(frames[: len(obs)], obs):
                        return frames
        raise AssertionError("observed what was never recorded")

    def imagine(
        self, state: Any, act: torch.Tensor, rng: torch.Tensor, steps: int, pose: None = None, donate: bool = False
    ) -> tuple[Prediction, Any]:
        frames, t, last = state
        obs = last if self.copies else torch.stack([episode[t] for episode in frames])
        nothing = torch.zeros(len(obs))
        return Prediction(obs, obs, nothing, nothing, obs, lambda obs: obs), (frames, t + 1, obs)


def tasks(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All dreamt tasks, by a name."""
    found = {}
    for world, groups in report["worlds"].items():
        for group in ("out_and_back", "continuation", "gaps"):
            found |= {f"{world} {group} {n}": task for n, task in groups.get(group, {}).items()}
        found |= {f"{world} revisit": groups["revisit"]} if "revisit" in groups else {}
    return found


def test_an_oracle_is_perfect(recordings: Recordings) -> None:
    model: Any = Oracle(recordings)
    report = run_suite(model, recordings, TINY)
    json.dumps(report, allow_nan=False)
    assert report["notes"] == ["the real episodes are of scripts that know the map"]
    found = tasks(report)
    assert len(found) == 2 + 1 + 2 + 2 + 2
    for name, task in found.items():
        for metric, estimate in task["dream"].items():
            perfect = {"psnr": 60.0, "psnr_seen": 60.0, "tiles_illegal": 0.0}.get(metric, 1.0)
            assert metric.endswith("_chance") or estimate["value"] in (perfect, None), (name, metric)
        assert task["dream"]["psnr"]["n"] == 4 * task["horizon"] and len(task["per_frame"]["psnr"]) == task["horizon"]
        assert task["dream"]["psnr"]["seeds"] == [60.0, 60.0]
        assert task["copy"]["psnr"]["value"] < 40
    for gap in report["worlds"]["memory"]["gaps"].values():
        cue = gap["first"]["objects"]
        assert (cue["value"], cue["high"], cue["n"]) == (1, 1, 4) and cue["low"] < 1  # four of four prove little
        assert gap["first_copy"]["objects"]["value"] == 0 and gap["chance"]["value"] >= 0.5
    distance = report["worlds"]["rooms"]["continuation"]["16"]["frechet"]["random-conv3d-0"]
    assert distance["dream"] == pytest.approx(0, abs=1e-6) and distance["copy"] > 1e-3 and distance["clips"] == 4


def test_a_copyist_scores_as_the_control(recordings: Recordings) -> None:
    model: Any = Oracle(recordings, copies=True)
    for name, task in tasks(run_suite(model, recordings, replace(TINY, steps=2))).items():
        assert {metric: task["dream"][metric] for metric in task["copy"]} == task["copy"], name


def test_the_context_is_all_that_counts_as_seen(recordings: Recordings) -> None:
    model: Any = Oracle(recordings)
    report = run_suite(model, recordings, TINY)
    last = report["worlds"]["rooms"]["out_and_back"]["12"]
    # The last frame shows what was last seen 16 to 32 frames ago, in the spin at the start at the latest.
    assert last["per_frame"]["tiles_age_1_1"][1:] == [None] * 15
    assert last["dream"]["tiles_age_9_32"]["n"] > 100


def test_episodes_are_of_the_test_split_and_of_their_seeds(recordings: Recordings) -> None:
    asking = replace(TINY, worlds=(SMALL,), questions=2)
    again = record_suite(asking)
    for (world, task), recording in (recordings.episodes | again.episodes).items():
        split = SPLITS["train" if task == "probes" else "test"]
        assert all(seed in split for seed in recording.seeds.tolist()), (world, task)
        assert len(set(recording.seeds.tolist())) == len(recording) == 4
    same = recordings.episodes["rooms", "wander"], again.episodes["rooms", "wander"]
    np.testing.assert_array_equal(same[0].tiles, same[1].tiles)
    only = record_suite(replace(TINY, worlds=(SMALL,), seeds=(4,)))
    np.testing.assert_array_equal(only.episodes["rooms", "wander"].tiles, same[0].tiles[2:])


def test_a_real_model_is_judged_alike_in_any_batches(recordings: Recordings, toy_world_model: WorldModel) -> None:
    settings = replace(TINY, worlds=(MEMORY,), walks=(3,), gaps=(8,))
    played = record_suite(settings)
    reports = [run_suite(toy_world_model, played, replace(settings, batch=batch)) for batch in (1, 3, 3)]
    assert reports[1] == reports[2]
    one, three = (report["worlds"]["memory"]["gaps"]["8"]["dream"]["psnr"] for report in reports[:2])
    assert one["value"] == pytest.approx(three["value"], abs=1e-3) and 0 < one["value"] < 60


def test_next_frames_are_asked_for_on_demand(toy_world_model: WorldModel) -> None:
    settings = replace(TINY, worlds=(SMALL,), walks=(), seeds=(0,), following=True, questions=2)
    report = run_suite(toy_world_model, record_suite(settings), settings)["worlds"]["rooms"]
    assert report["revisit"]["following"]["psnr"]["n"] == 2 * (settings.wander - 1)
    assert report["questions"]["object"]["accuracy"]["n"] > 0


def test_models_that_show_no_surroundings_are_asked_nothing(
    toy_world_model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(TINY, worlds=(SMALL,), walks=(), questions=1)
    monkeypatch.setattr(questions, "head_inputs", lambda model, batch, *settings: (batch.obs, None))
    report = run_suite(toy_world_model, record_suite(settings), settings)
    assert report["worlds"]["rooms"]["questions"] is None and "no questions" in report["notes"][0]


def test_recordings_are_kept(recordings: Recordings, tmp_path: Path) -> None:
    recordings.save(tmp_path / "r.npz")
    loaded = Recordings.load(tmp_path / "r.npz")
    loaded.check(TINY)
    assert list(loaded.episodes) == list(recordings.episodes)
    for key, recording in recordings.episodes.items():
        np.testing.assert_array_equal(loaded.episodes[key].tiles, recording.tiles)
    with pytest.raises(ValueError, match=r"made with walks=\[3, 12\], not \[50\]: record anew"):
        loaded.check(replace(TINY, walks=(50,)))
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(ValueError, match="holds no recordings of the memory suite"):
        Recordings.load(tmp_path / "text.npz")


def test_simulators_are_tested_in_worlds_of_their_kind() -> None:
    assert worlds_of("MiniGrid-ObjectRooms-v0", {}) == ROOMS
    other, *rooms = worlds_of("MiniGrid-ObjectRooms-v0", {"size": 11})
    assert other.env_kwargs == {"size": 11} and tuple(rooms) == ROOMS
    (memory,) = worlds_of("MiniGrid-MemoryS11-v0", {})
    assert memory.tasks == ("out_and_back", "gaps") and memory.name == "MemoryS11-v0"
    with pytest.raises(ValueError, match="CartPole"):
        worlds_of("CartPole-v1", {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequences": 0}, "sequences=0 must be at least 1"),
        ({"walks": (3, 0)}, r"walks=\(3, 0\) must be at least 1"),
        ({"gaps": (6,)}, r"gaps=\(6,\) must be at least 7"),
        ({"seeds": (1, 1)}, r"seeds=\(1, 1\) must be different"),
        ({"seeds": ()}, "seeds is empty"),
        ({"continuation": (64, 8)}, r"continuation=\(64, 8\) must be numbers of frames"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
