"""`lssvwm eval memory`: the memory suite as a command, which writes `memory.json` and `memory.png`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.table import Table

from lssvwm_env.evaluation.memory.recordings import Recordings, SuiteSettings, record_suite, worlds_of
from lssvwm_env.evaluation.memory.suite import run_suite
from lssvwm_env.evaluation.revisits import AGES
from lssvwm_env.real import trusted_id
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.provenance import provenance
from lssvwm_env.utils.strangers import Screen
from lssvwm_models.evaluation.video_encoder import load_i3d
from lssvwm_models.execution.devices import as_device
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.figures import png, tidy
from lssvwm_models.utils.files import write_bytes

_SMOOTH: Final = 8  # dreamt frames that a point of the curves is the mean of


@dataclass(frozen=True)
class EvalMemoryConfig:
    """Whose memory to examine, and how thoroughly.

    Attributes:
        simulator: Folder of a simulator, or the id or name of a registered one.
        out: Folder to write into; it is made if need be.
        sequences: Episodes per task, world and seed.
        seeds: Of the test episodes and of the dreams' noise; those of all seeds are judged together.
        walks: Actions out of each out-and-back walk.
        context: Real frames before a wander is dreamt on.
        horizon: Frames of it to dream.
        continuation: Frames to dream after only `opening` real ones, ascending.
        opening: Real frames before a `continuation`.
        gaps: Frames since the cue of a Memory world was seen.
        questions: Episodes per seed that linear probes are fitted on; 0 asks none.
        following: Also ask for every next frame of a wander after the real ones before it, which doubles the time.
        denoising_steps: Network passes per frame; None takes the simulator's own number.
        pose_given: Move dreams by the recorded poses: what is wrong then is not the fault of dead reckoning.
        batch: Episodes side by side.
        bf16: Compute matrix products in bfloat16.
        device: Where to compute: "cpu", "cuda", ..., or "auto", which is CUDA where there is some.
        small: Fewer and shorter episodes: a tenth of the time, and wider intervals.
        recordings: A file to keep the real episodes in, or to take them from if it is there already.
        i3d: A TorchScript file of I3D, clips (B, 3, T, 224, 224) in [-1, 1] to (B, 400), for the usual Frechet video
            distance beside the one of the project's own encoder.
        env_id: The id of the real environment, once more, if it names a module: its code runs, so only what is typed
            here is imported.
    """

    simulator: str
    out: Path
    sequences: int = SuiteSettings.sequences
    seeds: tuple[int, ...] = SuiteSettings.seeds
    walks: tuple[int, ...] = SuiteSettings.walks
    context: int = SuiteSettings.context
    horizon: int = SuiteSettings.horizon
    continuation: tuple[int, ...] = SuiteSettings.continuation
    opening: int = SuiteSettings.opening
    gaps: tuple[int, ...] = SuiteSettings.gaps
    questions: int = SuiteSettings.questions
    following: bool = SuiteSettings.following
    denoising_steps: int | None = None
    pose_given: bool = SuiteSettings.pose_given
    batch: int = SuiteSettings.batch
    bf16: bool = SuiteSettings.bf16
    device: str = "cpu"
    small: bool = False
    recordings: Path | None = None
    i3d: Path | None = None
    env_id: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, denoising_steps=1)
        as_device(self.device)
        self.settings(steps=1 if self.denoising_steps is None else self.denoising_steps)  # which refuses what cannot be

    def settings(self, steps: int) -> SuiteSettings:
        """The suite's settings, but for its worlds."""
        shared = {field.name for field in fields(SuiteSettings)}
        settings = SuiteSettings(**{k: v for k, v in vars(self).items() if k in shared}, steps=steps)
        return settings.small() if self.small else settings


def eval_memory(config: EvalMemoryConfig) -> dict[str, Any]:
    """Examine a simulator's memory, write the results and print tables.

    Returns:
        The content of `memory.json`: what `run_suite` gives, the config, the weights' hash, the versions, the hardware
        and the wall time. Each file is written whole or not at all.

    Raises:
        SimulatorError: If there is no such simulator.
        ValueError: If it simulates no MiniGrid world, or a file does not fit.
    """
    began = time.perf_counter()
    simulator = Simulator.load(config.simulator)
    settings = replace(
        config.settings(config.denoising_steps or simulator.config.denoising_steps),
        worlds=worlds_of(trusted_id(simulator.config, config.env_id), dict(simulator.config.env_kwargs)),
    )
    device = as_device(config.device)
    i3d = load_i3d(config.i3d, device) if config.i3d else None
    console = Screen()
    with console.status("recording") as status:
        if config.recordings and config.recordings.exists():
            recordings = Recordings.load(config.recordings)
        else:
            recordings = record_suite(settings, status.update)
            if config.recordings:
                config.recordings.parent.mkdir(parents=True, exist_ok=True)
                recordings.save(config.recordings)
        result = run_suite(simulator.model.to(device), recordings, settings, i3d, status.update)
    report = {
        **provenance(config, simulator.model.device),
        "weights_sha256": simulator.weights_sha256,
        "trained_length": simulator.config.trained_length,
        **result,
        "seconds": round(time.perf_counter() - began, 1),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    report = json.loads(json.dumps(report, allow_nan=False), parse_float=lambda number: round(float(number), 6))
    text = json.dumps(report) + "\n"  # in one line: curves of thousands of frames are no reading
    picture = memory_png(report, Path(config.simulator).name)
    for name, data in {"memory.png": picture, "memory.json": text.encode()}.items():
        write_bytes(config.out / name, data)
    for table in tables(report):
        console.print(table)
    for note in report["notes"]:
        console.print(f"Note: {note}.")
    console.print(f"Look at {config.out / 'memory.png'}; all numbers are in memory.json.")
    return report


def tables(report: dict[str, Any]) -> list[Table]:
    """The numbers of a report for people: dreams by task, objects by age, answers of the probes."""
    columns = {"psnr": "PSNR", "psnr_seen": "if seen", "ssim": "SSIM", "tiles_seen": "tiles"}
    tasks = _table("dreams: dB, and % of what was seen before", *columns.values(), "objects", "(copied)")
    ages = _table("% of objects, by frames since they were seen", *map(_span, AGES), "never", "(guess)")
    looks = _table("% of cues after a gap", "right", "n", "(guess)")
    probes = _table("% of questions", "object?", "(guess)", "kind", "(guess)", "colour", "(guess)")
    for world, found in report["worlds"].items():
        for label, task in _dreams(found):
            dreamt = task["dream"]
            copied = task["copy"]
            numbers = [_cell(dreamt[name], name) for name in columns]
            tasks.add_row(f"{world} {label}", *numbers, _cell(dreamt["objects_seen"]), _cell(copied["objects_seen"]))
        names = [*(f"objects_age_{span}" for span in AGES), "objects_new", "objects_new_chance"]
        for label, estimates in _by_age(found):
            ages.add_row(f"{world} {label}", *(_cell(estimates[name]) for name in names))
        for gap, task in found.get("gaps", {}).items():
            first = task["first"]["objects"]
            looks.add_row(f"{world} {gap}", _cell(first), str(first["n"]), _cell(task["chance"]))
        if answers := found.get("questions"):
            questions = [answers[name] for name in ("object", "kind", "colour")]
            probes.add_row(world, *(_cell(q[key]) if q else "-" for q in questions for key in ("accuracy", "chance")))
    return [table for table in (tasks, ages, looks, probes) if table.row_count]


def memory_png(report: dict[str, Any], name: str) -> bytes:
    """Plot a report: objects by the age of their sight, PSNR on the way back, and cues by gap.

    Args:
        report: What `run_suite` gives.
        name: What the simulator is called in the title.
    """
    worlds = report["worlds"]
    panels = [
        plot
        for plot, task in {_plot_ages: "revisit", _plot_ways_back: "out_and_back", _plot_gaps: "gaps"}.items()
        if any(found.get(task) for found in worlds.values())
    ]
    figure = Figure(figsize=(6.5 * max(1, len(panels)), 4.5), layout="constrained")
    settings = report["settings"]
    figure.suptitle(
        f"{name}: {settings['sequences']} episodes per task, seeds {settings['seeds']}, {settings['steps']} denoising "
        "step(s) per frame; open-loop dreams",
        fontsize=10,
    )
    for axis, plot in zip(figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False):
        plot(axis, worlds)
        tidy(axis)
        axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # lines may go anywhere
    return png(figure, 120)


def _plot_ages(axis: Axes, worlds: dict[str, Any]) -> None:
    for colour, (world, found) in enumerate(worlds.items()):
        if task := found.get("revisit"):
            for key, style in {"dream": "o-", "copy": "x:"}.items():
                values = [task[key][f"objects_age_{span}"]["value"] for span in AGES]
                label = world if key == "dream" else "last frame copied" if colour == 0 else None
                axis.plot(np.arange(len(AGES)), np.array(values, float), f"C{colour}{style}", label=label)
            if (guessed := task["dream"]["objects_new_chance"]["value"]) is not None:
                label = "commonest object guessed" if colour == 0 else None
                axis.axhline(guessed, color=f"C{colour}", linestyle="--", alpha=0.5, label=label)
    axis.set(ylabel="share of objects that are right", ylim=(-0.02, 1.02), xlabel="frames since the place was seen")
    axis.set_xticks(np.arange(len(AGES)), [_span(span) for span in AGES])


def _plot_ways_back(axis: Axes, worlds: dict[str, Any]) -> None:
    for colour, (world, found) in enumerate(worlds.items()):
        walks = found.get("out_and_back", {})
        for number, (n, task) in enumerate(walks.items()):
            for key, style in {"per_frame": "-", "copy_per_frame": ":"}.items():
                if number < len(walks) - 1 and key == "copy_per_frame":
                    continue
                points = np.array(task[key]["psnr_seen"], float)
                points = points[: len(points) // _SMOOTH * _SMOOTH].reshape(-1, _SMOOTH)
                at = np.arange(len(points)) * _SMOOTH + _SMOOTH / 2
                means = [row[~np.isnan(row)].mean() if not np.isnan(row).all() else np.nan for row in points]
                label = f"{world}, {n} out" if key == "per_frame" else "last frame copied" if colour == 0 else None
                axis.plot(at, means, f"C{colour}{style}", alpha=(number + 1) / len(walks), label=label)
    axis.set(ylabel="PSNR over places seen before (dB)", xlabel="frames from the turning point")


def _plot_gaps(axis: Axes, worlds: dict[str, Any]) -> None:
    for colour, (world, found) in enumerate(worlds.items()):
        if gaps := found.get("gaps"):
            numbers = [int(gap) for gap in gaps]
            first = [task["first"]["objects"] for task in gaps.values()]
            values = np.array([estimate["value"] for estimate in first], float)
            low = np.array([estimate["low"] for estimate in first], float)
            high = np.array([estimate["high"] for estimate in first], float)
            axis.errorbar(numbers, values, (values - low, high - values), fmt=f"C{colour}o-", capsize=3, label=world)
            guessed = np.array([task["chance"]["value"] for task in gaps.values()], float)
            axis.plot(numbers, guessed, "C7--", label="commoner cue guessed")
            axis.set_xscale("log", base=2)
            axis.set_xticks(numbers, [str(gap) for gap in numbers])
    axis.set(ylabel="cues that are right at first sight", ylim=(-0.02, 1.02), xlabel="frames since the cue was seen")


def _dreams(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The dreamt tasks of a world, with labels."""
    for n, task in found.get("out_and_back", {}).items():
        yield f"out {n}", task
    if "revisit" in found:
        yield f"{found['revisit']['horizon']} after {found['revisit']['context']}", found["revisit"]
    for n, task in found.get("continuation", {}).items():
        yield f"{n} after {task['context']}", task


def _by_age(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Estimates by age in a world, with labels."""
    if "revisit" in found:
        yield "dream", found["revisit"]["dream"]
        if "following" in found["revisit"]:
            yield "next frame", found["revisit"]["following"]
    for n, task in list(found.get("out_and_back", {}).items())[-1:]:
        yield f"out {n}", task["dream"]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _span(age: str) -> str:
    low, high = age.split("_")
    return low if low == high else f"{low}+" if high == "up" else f"{low}-{high}"


def _cell(estimate: dict[str, Any], name: str = "") -> str:
    """PSNR in dB, SSIM as it is, all else in per cent."""
    value = estimate["value"]
    if value is None:
        return "-"
    return f"{value:.3f}" if name == "ssim" else f"{value:.1f}" if "psnr" in name else f"{100 * value:.1f}"
