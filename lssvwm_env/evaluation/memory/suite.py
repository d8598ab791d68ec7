"""The memory suite: what does a world model still know of what it saw, how long ago, and how far away?

| task           | context, real frames                          | dreamt along the recorded actions           |
|----------------|-----------------------------------------------|---------------------------------------------|
| `out_and_back` | spin round, n actions out                     | turn round, the exact way back              |
| `revisit`      | a long wander                                 | wander on; places by the age of their sight |
| `continuation` | the first frames of a wander                  | wander on, much longer than the context     |
| `gaps`         | see the cue, leave, look about for gap frames | look at the cue again (Memory worlds)       |
| `questions`    | a wander                                      | nothing: see `questions.py`                 |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_env.evaluation.fidelity import NEVER, chance, last_seen, tile_report
from lssvwm_env.evaluation.memory.questions import run_probes
from lssvwm_env.evaluation.memory.recordings import (
    ROOMS,
    Recording,
    Recordings,
    SuiteSettings,
    World,
    record_suite,
    worlds_of,
)
from lssvwm_env.real import tile_palette
from lssvwm_env.real.minigrid import FRAME, TILE, VIEW
from lssvwm_env.real.walks import LookAgain, OutAndBack
from lssvwm_models.data.segments import to_frames
from lssvwm_models.evaluation.dreams import dream, next_frames
from lssvwm_models.evaluation.tally import Tally
from lssvwm_models.evaluation.video_encoder import CLIP, Encoder, VideoEncoder
from lssvwm_models.evaluation.video_metrics import exactly, frechet_distance, psnr, ssim
from lssvwm_models.execution.noise import fold
from lssvwm_models.execution.precision import autocast
from lssvwm_models.model.world_model import WorldModel

__all__ = ["ROOMS", "Recording", "Recordings", "SuiteSettings", "World", "record_suite", "run_suite", "worlds_of"]


def run_suite(
    model: WorldModel,
    recordings: Recordings,
    settings: SuiteSettings,
    i3d: Encoder | None = None,
    on_task: Callable[[str], object] = lambda task: None,
) -> dict[str, Any]:
    """Score a model on what `record_suite(settings)` recorded.

    Args:
        model: In eval mode.
        recordings: Of these settings; what `SuiteSettings.recorded` leaves out may differ from model to model.
        settings: How to judge.
        i3d: As `load_i3d` gives it, for the usual Frechet video distance beside the project's own.
        on_task: Called with a line on each task when it begins.

    Returns:
        Ready for JSON: `settings`, `notes`, and `worlds` by name, with their tasks. `out_and_back`, `gaps` and
        `continuation` are by number, `revisit` and `questions` are one each. Dreamt tasks have `context` and `horizon`;
        `dream` and `copy` (the last real frame, on and on) with an estimate `{"value", "low", "high", "n"}` per name:
        those of `tile_report`, `psnr` and `psnr_seen` (over places seen before) in dB, and `ssim` (not of the copy);
        and `per_frame` and `copy_per_frame`, the values at each dreamt frame. With several seeds an estimate also has
        `seeds`, the value of each. `revisit` may have `following`, estimates of every next frame after the real ones
        before it. `gaps` have `first` and `first_copy`, of the frame in which the cue is in sight again, and `chance`,
        the share of the commoner cue. `continuation` has `frechet`, by encoder. `questions` are as
        `questions.run_probes` says, or None with a line in `notes`.

    Raises:
        ValueError: If the recordings were made with other settings.
    """
    recordings.check(settings)
    report: dict[str, Any] = {"settings": _json(asdict(settings)), "worlds": {}, "notes": []}
    for world in settings.worlds:
        tasks: dict[str, Any] = {}
        of_world = {task: recording for (name, task), recording in recordings.episodes.items() if name == world.name}
        for task, recording in of_world.items():
            on_task(f"{world.name}: judging {task}")
            group, _, number = task.partition("/")
            judge = _Judge(model, recording, settings)
            if group == "out_and_back":
                walk = OutAndBack(int(number))
                tasks.setdefault(group, {})[number] = judge.dreams(walk.context, walk.horizon).report()
            elif group == "gaps":
                gap = LookAgain(int(number))
                tasks.setdefault(group, {})[number] = judge.dreams(gap.context, gap.horizon).look_report()
            elif group == "wander":
                tasks["revisit"] = judge.dreams(settings.context, settings.horizon).report()
                if settings.following:
                    tasks["revisit"]["following"] = judge.following(settings.wander).estimates()
                if settings.continuation:
                    far = judge.dreams(settings.opening, settings.continuation[-1])
                    cut = {n: far.first(n) for n in settings.continuation}
                    tasks["continuation"] = {str(n): d.report() | d.frechet(i3d) for n, d in cut.items()}
        if settings.questions and "probes" in of_world:
            tasks["questions"] = run_probes(model, of_world["probes"], of_world["wander"], settings)
            if tasks["questions"] is None:
                report["notes"].append(f"{world.name}: no questions, as the model does not show its surroundings")
        report["worlds"][world.name] = {"env_id": world.env_id, "env_kwargs": world.env_kwargs, **tasks}
    report["notes"].append("the real episodes are of scripts that know the map")
    return report


def _json(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {name: _json(part) for name, part in value.items()}
    return [_json(part) for part in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class _Judge:
    model: WorldModel
    recording: Recording
    settings: SuiteSettings

    def dreams(self, context: int, horizon: int) -> _Imagined:
        """Dreams on from the first frames."""
        recording = self.recording[:, : context + horizon]

        def imagine(real: Recording, keys: Tensor) -> NDArray[np.uint8]:
            frames = real[:, :context].frames
            pose = real.pose if self.settings.pose_given else None
            return dream(self.model, frames, real.act, context, horizon, keys, self.settings.steps, pose).obs

        obs = self._batches(recording, imagine)
        return _Imagined(recording, obs, context, context, self.settings, self.model.device)

    def following(self, frames: int) -> _Imagined:
        """Every next frame, after the real ones before it."""
        recording = self.recording[:, :frames]

        def imagine(real: Recording, keys: Tensor) -> NDArray[np.uint8]:
            return next_frames(self.model, real.frames, real.act, keys, self.settings.steps).obs

        obs = self._batches(recording, imagine)
        return _Imagined(recording, obs, 1, None, self.settings, self.model.device)

    def _batches(
        self, recording: Recording, imagine: Callable[[Recording, Tensor], NDArray[np.uint8]]
    ) -> NDArray[np.uint8]:
        """Frames that are imagined for some episodes at a time, each on noise of its own."""
        settings = self.settings
        seeds = torch.tensor(self.settings.seeds)
        per_seed = len(recording) // len(seeds)
        keys = fold(torch.arange(per_seed).repeat(len(seeds)), seeds.repeat_interleave(per_seed)).to(self.model.device)
        rows = (slice(start, start + settings.batch) for start in range(0, len(recording), settings.batch))
        with autocast(self.model.device, settings.bf16):
            return np.concatenate([imagine(recording[some], keys[some]) for some in rows])


@dataclass(frozen=True)
class _Imagined:
    """Frames imagined from `context` on, beside what they should have been; real ones before `until` were observed."""

    recording: Recording
    obs: NDArray[np.uint8]
    context: int
    until: int | None
    settings: SuiteSettings
    device: torch.device

    @property
    def horizon(self) -> int:
        return self.obs.shape[1]

    def first(self, horizon: int) -> _Imagined:
        return replace(self, recording=self.recording[:, : self.context + horizon], obs=self.obs[:, :horizon])

    @cached_property
    def real(self) -> NDArray[np.uint8]:
        return self.recording[:, self.context :].frames

    @cached_property
    def copied(self) -> NDArray[np.uint8]:
        last = self.recording[:, self.context - 1 : self.context].frames
        return np.broadcast_to(last, self.obs.shape)

    @cached_property
    def age(self) -> NDArray[np.int64]:
        return last_seen(self.recording.pose, self.recording.visible, self.until)[:, self.context :]

    def tallies(self, obs: NDArray[np.uint8]) -> dict[str, Tally]:
        everywhere = np.ones(obs.shape[:2], np.bool_)
        seen: NDArray[np.bool_] = np.zeros((*obs.shape[:2], FRAME, FRAME), np.bool_)
        side = VIEW * TILE
        seen[..., :side, :side] = (self.age != NEVER).repeat(TILE, -2).repeat(TILE, -1)
        has_seen: NDArray[np.bool_] = np.any(self.age != NEVER, axis=(-2, -1))
        pairs = [(a, b, where) for a, b, where in zip(obs, self.real, seen, strict=True)]
        return {
            "psnr": Tally.of(np.stack([psnr(a, b) for a, b, _ in pairs]), everywhere),
            "psnr_seen": Tally.of(np.stack([psnr(*pair) for pair in pairs]), has_seen),
        } | tile_report(obs, self.recording.tiles[:, self.context :], self.age, everywhere)

    @cached_property
    def scores(self) -> dict[str, Tally]:
        similarity = ssim(self.obs, self.real, self.device)
        return self.tallies(self.obs) | {"ssim": Tally.of(similarity, np.ones(similarity.shape, np.bool_))}

    @cached_property
    def copy_scores(self) -> dict[str, Tally]:
        """The same of the last real frame, on and on."""
        return self.tallies(self.copied)

    def estimates(self) -> dict[str, Any]:
        return {name: self.estimate(tally) for name, tally in self.scores.items()}

    def report(self) -> dict[str, Any]:
        return {
            "context": self.context,
            "horizon": self.horizon,
            "dream": self.estimates(),
            "copy": {name: self.estimate(tally) for name, tally in self.copy_scores.items()},
            "per_frame": {name: tally.per_frame() for name, tally in self.scores.items()},
            "copy_per_frame": {
                name: self.copy_scores[name].per_frame() for name in ("psnr", "psnr_seen", "tiles_seen")
            },
        }

    def frechet(self, i3d: Encoder | None) -> dict[str, Any]:
        """Frechet distances by encoder: of dreamt and of copied clips to the real ones, and between the two halves of
        the real episodes, which tells how little a distance can mean with so few `clips`."""
        encoders: dict[str, Encoder] = {"i3d": i3d} if i3d else {}
        own = VideoEncoder().to(self.device)
        length = min(CLIP, self.horizon)
        half = len(self.real) // 2
        distances: dict[str, Any] = {}
        if half * (self.horizon // length) < 2:
            return {"frechet": None}
        for name, encoder in ({own.name: own} | encoders).items():
            real = _features(encoder, self.real, length, self.device)
            dreamt = _features(encoder, self.obs, length, self.device)
            copied = _features(encoder, self.copied, length, self.device)
            distances[name] = {
                "dream": frechet_distance(dreamt.flatten(0, 1), real.flatten(0, 1)),
                "copy": frechet_distance(copied.flatten(0, 1), real.flatten(0, 1)),
                "real": frechet_distance(real[:half].flatten(0, 1), real[half:].flatten(0, 1)),
                "clips": real.shape[0] * real.shape[1],
                "frames": length,
            }
        return {"frechet": distances}

    def look_report(self) -> dict[str, Any]:
        """The same, and of its first frame alone, in which the cue is in sight again."""
        first = np.zeros(self.obs.shape[:2], np.bool_)
        first[:, 0] = True
        truth = tile_palette().encode(self.recording.tiles[:, self.context :])
        cue = tile_palette().is_object(truth) & first[..., None, None]

        def look(tallies: dict[str, Tally]) -> dict[str, Any]:
            return {name: self.estimate(tallies[name].only(first)) for name in ("objects", "tiles", "psnr")}

        looks = {"first": look(self.scores), "first_copy": look(self.copy_scores)}
        return self.report() | looks | {"chance": self.estimate(chance(truth, cue))}

    def estimate(self, tally: Tally) -> dict[str, Any]:
        whole: dict[str, Any] = dict(tally.estimate())
        if (seeds := len(self.settings.seeds)) > 1:
            parts = zip(np.split(tally.amount, seeds), np.split(tally.count, seeds), strict=True)
            whole["seeds"] = [float(a.sum() / n.sum()) if n.any() else None for a, n in parts]
        return whole


@torch.no_grad()
def _features(encoder: Encoder, obs: NDArray[np.uint8], length: int, device: torch.device) -> Tensor:
    """Features (B, clips, D) of the frames (B, T, H, W, C), cut into clips of some length."""
    count = obs.shape[1] // length
    clips = (to_frames(np.array(row[: count * length])).unflatten(0, (count, length)) for row in obs)
    with exactly(device):
        return torch.stack([encoder(episode.to(device)).cpu() for episode in clips])
