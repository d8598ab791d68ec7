"""`lssvwm eval recall`: do dreams come back to what was seen? The two protocols of the paper, by name.

*Retrieval*: after the context, the exact way back to its first frame. The truth is the context reversed, and all of it
was seen: frame k of the way back 2k frames ago. The poses are given, for a body that has momentum cannot walk backwards
by itself. *Reasoning*: after the context, on along the recorded actions, moved by the recorded poses or by those that
the model reckons. What was seen before, and how long ago, is told by the poses (see `revisits`).
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from lssvwm_env.evaluation.compare import check_world, data_notes, summary
from lssvwm_env.evaluation.fidelity import check_poses, copies_of, picture_tallies, pose_errors, settings_as_used
from lssvwm_env.evaluation.revisits import AGES, Revisits, revisits
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.provenance import provenance
from lssvwm_env.utils.strangers import Screen, printable
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.data.openings import Openings, episode_lengths, openings
from lssvwm_models.evaluation.dreams import dream
from lssvwm_models.evaluation.tally import Tally, estimates
from lssvwm_models.evaluation.video_encoder import NAME
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.figures import png, tidy
from lssvwm_models.utils.files import write_bytes

Protocol = Literal["retrieval", "reasoning"]

CONTEXT: Final = {"retrieval": 400, "reasoning": 576}  # frames, as in the paper
REASONING: Final = 224  # frames
BATCH: Final = 16  # sequences side by side: frames of hundreds would not fit into memory

_SHOWN: Final = 4  # sequences in the picture
_COLUMNS: Final = 12  # frames of each
_GAP: Final = 2  # pixels
_WORDS: Final = 16  # pixels, for the words above
_PER_STEP: Final = ("psnr", "ssim", "perceptual", "cells_off", "degrees_off")
_CURVES: Final = {  # label, and colour and line
    "given_dream": ("dream, poses given", "C2-"),
    "dream": ("dream, poses reckoned", "C0-"),
    "nearest_dream": ("nearest pose copied", "C1:"),
    "copy_dream": ("last frame copied", "C7:"),
    "mean_dream": ("mean frame", "C8--"),
}


@dataclass(frozen=True)
class RecallConfig:
    """Whose memory to ask, for what, and on which episodes.

    Attributes:
        simulator: Folder of a simulator that sees in first person, or the id or name of a registered one.
        dataset: Folder of recorded test episodes, with poses, of the same camera.
        out: Folder to write into; it is made if need be.
        protocol: "retrieval", the way back, or "reasoning", the way on.
        sequences: Episodes to judge, or all that are long enough if there are fewer.
        context: Real frames before each dream. None: as in the paper, 400 for retrieval and 576 for reasoning.
        horizon: Frames in each dream. None: as in the paper, the whole way back, or 224 frames on.
        denoising_steps: Network passes per frame; None takes the simulator's own number.
        seed: Decides which episodes are judged, and the dreams' noise.
    """

    simulator: str
    dataset: Path
    out: Path
    protocol: Protocol
    sequences: int = 32
    context: int | None = None
    horizon: int | None = None
    denoising_steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, sequences=1, context=2, horizon=1, denoising_steps=1)
        context, horizon = self.frames()
        if self.protocol == "retrieval" and horizon >= context:
            raise ValueError(f"horizon={horizon}, but the way back of context={context} frames has {context - 1}")

    def frames(self) -> tuple[int, int]:
        """Context and horizon."""
        context = CONTEXT[self.protocol] if self.context is None else self.context
        whole = context - 1 if self.protocol == "retrieval" else REASONING
        return context, whole if self.horizon is None else self.horizon


@dataclass(frozen=True)
class Recall:
    """What was asked and answered: the numbers, and of some sequences the true frames and those of the dreams, by name,
    uint8 (B, H, H, W, C)."""

    report: dict[str, Any]
    truth: NDArray[np.uint8]
    dreamt: dict[str, NDArray[np.uint8]]


def recall(config: RecallConfig) -> dict[str, Any]:
    """Ask a simulator's memory by one of the protocols, write the results and print a table.

    Returns:
        The content of `recall.json`: that of `measure_recall`, the config, the hashes of weights and data, the
        versions, the hardware and the wall time. Each file is written whole or not at all, and the report last.

    Raises:
        SimulatorError: If there is no such simulator.
        FileNotFoundError: If `config.dataset` holds no dataset.
        ValueError: If the simulator does not see in first person; if the episodes are too short, or of another world,
            camera or kind of poses.
    """
    began = time.perf_counter()
    simulator = Simulator.load(config.simulator)
    dataset = EpisodeDataset(config.dataset)
    check_world(dataset, simulator.config, config.simulator)
    check_camera(simulator.model, dataset, config.simulator)
    context, horizon = config.frames()
    console = Screen()
    with console.status("dreaming"):
        result = measure_recall(
            simulator.model,
            dataset,
            config.protocol,
            context,
            horizon,
            sequences=config.sequences,
            steps=config.denoising_steps or simulator.config.denoising_steps,
            seed=config.seed,
        )
    data_hash = dataset.hash()
    report = {
        **provenance(config, simulator.model.device),
        "weights_sha256": simulator.weights_sha256,
        "trained_length": simulator.config.trained_length,
        "env_kwargs": dataset.spec.env_kwargs,
        "data_hash": data_hash,
        **result.report,
        "seconds": round(time.perf_counter() - began, 1),
    }
    report["notes"] = [*report["notes"], *data_notes(dataset.spec, data_hash, simulator.config)]
    config.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, allow_nan=False) + "\n"  # in one line: curves of hundreds of frames are no reading
    pictures = {"recall.png": recall_png(report, Path(config.simulator).name), "strip.png": strip_png(result)}
    for name, data in (pictures | {"recall.json": text.encode()}).items():
        write_bytes(config.out / name, data)
    console.print(summary(report, f"{config.simulator}, {config.protocol}"))
    for note in report["notes"]:
        console.print(f"Note: {note}.")
    console.print(f"Look at {config.out / 'recall.png'} and strip.png; all numbers are in recall.json.")
    return report


def check_camera(model: WorldModel, dataset: EpisodeDataset, name: str) -> None:
    """Refuse a model, called by some name, that cannot be moved by the poses of these episodes."""
    view = model.config.view
    camera = dataset.spec.camera
    if not isinstance(view, FirstPersonView):
        sees = "no view, so it takes no poses" if view is None else "a view from above"
        raise ValueError(
            f"{name} has {sees}; expected a simulator that sees in first person: train one on episodes with poses and "
            "a camera. `lssvwm eval memory` asks what others remember."
        )
    if camera is None or dataset.pose is None:
        missing = "camera" if camera is None else "poses"
        raise ValueError(f"dataset {dataset.folder} has no {missing}; expected first person with poses and a camera.")
    if (camera.fov, camera.ahead) != (view.fov, view.ahead):
        raise ValueError(
            f"dataset {dataset.folder} was recorded by a camera with fov={camera.fov}, ahead={camera.ahead}, but "
            f"{name} sees with fov={view.fov}, ahead={view.ahead}: pass episodes of that camera."
        )
    if camera.cell != view.cell:
        raise ValueError(
            f"dataset {dataset.folder} has poses of which {camera.cell} make a cell, but {name} knows cells of "
            f"{view.cell}: pass episodes in that unit."
        )
    check_poses(model, dataset)


def measure_recall(
    model: WorldModel,
    dataset: EpisodeDataset,
    protocol: Protocol,
    context: int,
    horizon: int,
    *,
    sequences: int = 32,
    steps: int = 1,
    seed: int = 0,
) -> Recall:
    """Judge dreams by one of the protocols.

    Args:
        model: A world model in first person, in eval mode.
        dataset: Episodes with poses that it was not trained on.
        protocol: "retrieval" or "reasoning".
        context: Real frames before each dream.
        horizon: Frames to dream; for retrieval less than `context`.
        sequences: Episodes to judge, or all that are long enough if there are fewer.
        steps: Denoising steps per frame.
        seed: Decides which episodes, and the model's noise.

    Returns:
        With a report ready for JSON: the settings as used; `given_dream`, moved by the recorded poses; for reasoning
        also `dream`, moved by the poses that the model reckons, with the names of `pose_errors`; the controls
        `copy_dream` (the last frame of the context), `mean_dream` (their mean) and for reasoning `nearest_dream` (the
        one from the nearest pose): each with an estimate `{"value", "low", "high", "n"}` per name of
        `picture_tallies`, whose intervals are over episodes; `..._per_step`, the values at each frame; and `notes`.

    Raises:
        ValueError: If no episode is long enough.
    """
    way_on = protocol == "reasoning"
    length = context + horizon if way_on else context
    longest = int(episode_lengths(dataset).max())
    if longest < length:
        asked = f"context={context} and horizon={horizon} need" if way_on else f"context={context} needs"
        raise ValueError(
            f"{asked} episodes of {length} frames, but the longest of {dataset.folder} has {longest}: ask for fewer, "
            f"or collect with --episode-length {length}."
        )
    real = openings(dataset, sequences, length, longer_than=length - 1, seed=seed)
    keys = fold(torch.arange(len(real), device=model.device), seed)
    parts = []
    for start in range(0, len(real), BATCH):
        some = slice(start, start + BATCH)
        parts.append(_ask(model, _rows(real, some), protocol, context, horizon, keys[some], steps))
    joined = {
        name: {key: _end_to_end([part.tallies[name][key] for part in parts]) for key in tallies}
        for name, tallies in parts[0].tallies.items()
    }
    per_step = {
        f"{name}_per_step": {key: tally.per_frame() for key, tally in tallies.items() if key in _PER_STEP}
        for name, tallies in joined.items()
    }
    report = {
        "protocol": protocol,
        **settings_as_used(dataset, real, context, horizon, steps, seed),
        "perceptual_features": NAME,
        **{name: estimates(tallies) for name, tallies in joined.items()},
        **per_step,
        "notes": [] if way_on else ["a copy of the frame from the nearest pose is exact here, so it is left out"],
    }
    return Recall(report, parts[0].truth, parts[0].dreamt)


def way_back(real: Openings, horizon: int) -> Openings:
    """Sequences of N frames, and after them the first `horizon` frames of the way back: N - 2, N - 3, and so on.

    The action beside a frame of the way back is the one that led from it to the frame before it here: so it is in
    training (`Batch.backwards`). Rewards and terminations say nothing there.
    """
    context = real.obs.shape[1]
    back = np.arange(context - 2, context - 2 - horizon, -1)
    shown = np.concatenate([np.arange(context), back])
    led_to = np.concatenate([np.arange(context), back + 1])
    there_and_back = {key: value[:, shown] for key, value in _arrays(real).items() if key not in ("act", "seeds")}
    return replace(real, act=real.act[:, led_to], **there_and_back)


def _rows(real: Openings, some: slice) -> Openings:
    """Some of the sequences."""
    return replace(real, **{key: value[some] for key, value in _arrays(real).items()})


def _pose(real: Openings) -> NDArray[Any]:
    """The poses, which are there."""
    assert real.pose is not None
    return real.pose


def _arrays(real: Openings) -> dict[str, Any]:
    """What was recorded."""
    return {key: value for key, value in vars(real).items() if value is not None}


class _Part(NamedTuple):
    """What became of some sequences: tallies of dreams and controls, and the frames of the first of them."""

    tallies: dict[str, dict[str, Tally]]
    truth: NDArray[np.uint8]
    dreamt: dict[str, NDArray[np.uint8]]


def _ask(
    model: WorldModel, real: Openings, protocol: Protocol, context: int, horizon: int, keys: Tensor, steps: int
) -> _Part:
    """Let some sequences be dreamt on, and judge them."""
    view = model.config.view
    assert isinstance(view, FirstPersonView)
    if protocol == "retrieval":
        frames = copies_of(real, context, horizon)
        real = way_back(real, horizon)
        seen = _turned_back(len(real), context, horizon)
    else:
        seen = revisits(_pose(real), context, view.cell)
        frames = copies_of(real, context, horizon, seen)
    course = model, real.obs, real.act, context, horizon, keys, steps
    dreams = {"given_dream": dream(*course, _pose(real))}
    if protocol == "reasoning":
        dreams["dream"] = dream(*course)
    truth = real.obs[:, context:]
    valid = real.valid[:, context:]
    dreamt = {name: imagined.obs for name, imagined in dreams.items()}
    tallies = {name: picture_tallies(obs, truth, seen, valid) for name, obs in (dreamt | frames).items()}
    if protocol == "reasoning":
        tallies["dream"] |= pose_errors(dreams["dream"], _pose(real), valid, view.cell)
    else:  # all of it was seen
        tallies = {
            name: {key: tally for key, tally in found.items() if not key.endswith(("_revisited", "_new"))}
            for name, found in tallies.items()
        }
    return _Part(tallies, truth[:_SHOWN], {name: obs[:_SHOWN] for name, obs in dreamt.items()})


def _turned_back(sequences: int, context: int, horizon: int) -> Revisits:
    """Where frames of the way back were seen, and how long ago: two frames more with each of them."""
    frame = np.broadcast_to(np.arange(1, horizon + 1), (sequences, horizon))
    return Revisits(context - 1 - frame, 2 * frame)


def _end_to_end(parts: list[Tally]) -> Tally:
    """One tally of all sequences."""
    return Tally(np.concatenate([part.amount for part in parts]), np.concatenate([part.count for part in parts]))


def recall_png(report: dict[str, Any], name: str) -> bytes:
    """Plot PSNR by how long ago it was seen, and by frame.

    Args:
        report: The report of `measure_recall`.
        name: What the simulator is called in the title.
    """
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    title = (
        f"{name}, {report['protocol']}: {report['horizon']} frames after {report['context']}; {report['sequences']} "
        f"{report['split']} episodes of {report['env_id']} (seed {report['seed']}), {report['denoising_steps']} "
        "denoising step(s) per frame"
    )
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    way_on = report["protocol"] == "reasoning"
    by_age, by_frame = figure.subplots(1, 2)
    names = {f"psnr_age_{span}": _span(span) for span in AGES} | {"psnr_new": "never"}
    spans = {key: span for key, span in names.items() if report["given_dream"].get(key, {"n": 0})["n"]}
    for name, (label, style) in _CURVES.items():
        if name in report:
            _plot_spans(by_age, [report[name][key] for key in spans], style)
            values = report[f"{name}_per_step"]["psnr"]
            frame = np.arange(1, len(values) + 1)
            by_frame.plot(frame if way_on else 2 * frame, values, style, label=label)
    by_age.set_xticks(np.arange(len(spans)), list(spans.values()))
    by_age.set(xlabel="frames since it was seen", ylabel="PSNR (dB)")
    by_frame.set(xlabel="dreamt frame (open loop)" if way_on else "frames since it was seen", ylabel="PSNR (dB)")
    by_frame.legend(frameon=False, fontsize=8)
    for axis in (by_age, by_frame):
        tidy(axis)
    return png(figure, 120)


def _plot_spans(axis: Axes, found: list[dict[str, Any]], style: str) -> None:
    """Points with their intervals."""
    value, low, high = (np.array([estimate[key] for estimate in found]) for key in ("value", "low", "high"))
    axis.errorbar(np.arange(len(found)), value, (value - low, high - value), fmt=style, marker="o", capsize=3)


def _span(age: str) -> str:
    low, high = age.split("_")
    return low if low == high else f"{low}+" if high == "up" else f"{low}-{high}"


def strip_png(result: Recall) -> bytes:
    """A picture of some sequences: the true frames in a row, and below them what was dreamt, evenly picked."""
    horizon = result.truth.shape[1]
    picked = np.unique(np.linspace(0, horizon - 1, _COLUMNS).astype(int))
    kinds = {"real": result.truth, **{_CURVES[name][0]: obs for name, obs in result.dreamt.items()}}
    rows = np.stack([obs[:, picked] for obs in kinds.values()], 1)  # (B, kinds, frames, H, W, C)
    edged = np.pad(rows, ((0, 0), (0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0))).swapaxes(2, 3)
    sequences, kind, height, frames, width, channels = edged.shape
    strips = edged.reshape(sequences, kind * height, frames * width, channels)
    sheet = np.pad(strips, ((0, 0), (0, 2 * _GAP), (0, 0), (0, 0))).reshape(-1, frames * width, channels)
    picture = Image.fromarray(np.pad(sheet, ((_WORDS, 0), (0, 0), (0, 0))))
    words = f"from above: {'; '.join(kinds)}. Frames {', '.join(str(frame + 1) for frame in picked)}"
    ImageDraw.Draw(picture).text((_GAP, 2), words, fill="white")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
