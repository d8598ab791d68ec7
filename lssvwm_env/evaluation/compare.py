"""A simulator beside the real environment: pictures to look at, and numbers to rely on.

`compare` writes `dream_vs_real.gif`, `fidelity.png` and `report.json`; `lssvwm_env.evaluation.fidelity` says what is
counted.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.box import SIMPLE
from rich.table import Table

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.evaluation.cells import is_raycast
from lssvwm_env.evaluation.fidelity import RECENT, Fidelity, measure
from lssvwm_env.real import make_recorded, trusted_id
from lssvwm_env.real.policies import policy_words
from lssvwm_env.simulator.simulator import CARD, Simulator, SimulatorConfig
from lssvwm_env.utils.command import command
from lssvwm_env.utils.provenance import provenance
from lssvwm_env.utils.strangers import Screen, markdown, printable
from lssvwm_models.data import DatasetSpec, EpisodeDataset
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.figures import png, tidy
from lssvwm_models.utils.files import write_bytes

GIF_SEQUENCES: Final = 4
GIF_CONTEXT: Final = 24  # most real frames before the dream
GIF_DREAM: Final = 76  # most dreamt frames
GIF_SCALE: Final = 3
_BORDER: Final = 3  # pixels
_STRIP: Final = 18  # pixels, for the words above
_GREY: Final = (128, 128, 128)
_ORANGE: Final = (255, 140, 0)
_BLACK: Final = (0, 0, 0)

_SPLIT_NOTES: Final = {
    "train": "judged on layouts of the training split: this measures fit, not fidelity",
    "validation": "judged on layouts of the validation split: choose by it, and publish numbers of the test split",
}

_CARD_HEADING: Final = "## Fidelity"

_LABELS: Final = {
    "tiles": "tiles",
    "tiles_recent": f"tiles seen in the last {RECENT} frames",
    "objects_recent": f"objects seen in the last {RECENT} frames",
    "tiles_seen": "tiles seen before",
    "objects_seen": "objects seen before",
    "objects_precision_seen": "imagined objects that are right",
    "tiles_new": "tiles never seen",
    "tiles_new_chance": "  (commonest tile guessed)",
    "tiles_illegal": "tiles that are no tile",
    "motions": "motions estimated right",
    "motions_unusual": "  (those that are rare)",
    "way": "poses right so far",
    "reward_f1": "reward (F1)",
    "termination_f1": "termination (F1)",
    "psnr": "PSNR, dB",
    "psnr_revisited": "  at poses of before",
    "psnr_new": "  at new poses",
    "ssim": "SSIM",
    "ssim_revisited": "  at poses of before",
    "ssim_new": "  at new poses",
    "perceptual": "perceptual distance",
    "perceptual_revisited": "  at poses of before",
    "perceptual_new": "  at new poses",
    "walls_seen": "walls seen before",
    "walls_age_33_128": "  33 to 128 frames ago",
    "walls_age_129_512": "  129 to 512 frames ago",
    "objects_age_33_128": "objects seen 33 to 128 frames ago",
    "objects_age_129_512": "  129 to 512 frames ago",
    "empty_seen": "empty cells seen before",
    "cells_off": "pose off by, cells",
    "degrees_off": "  by, degrees",
}
_DIGITS: Final = {"psnr": 1, "ssim": 3, "perceptual": 3, "cells_off": 2, "degrees_off": 1}  # of what is no share
_WITH_INTERVAL: Final = ("next_frame", "dream", "given_dream")


@dataclass(frozen=True)
class CompareConfig:
    """What to compare, and on what.

    Attributes:
        simulator: Folder of a simulator, or the id or name of a registered one.
        out: Folder to write into; it is made if need be.
        dataset: Folder of recorded test episodes. None: collect some in the simulator's own real environment, on
            seeds that it was not trained on, into `out`/episodes.
        sequences: Episodes to judge.
        context: Real frames before each dream, or a third of the median episode where that is less.
        horizon: Frames in each dream; those after the real episode's end do not count.
        denoising_steps: Network passes per frame; None takes the simulator's own number.
        seed: Decides which episodes are judged, the dreams' noise, and what is collected.
        card: Also write the numbers into the CARD.md of the simulator, which must be given as a folder.
        env_id: The id of the real environment, once more, if it names a module: its code runs, so only what is typed
            here is imported.
        policy: Who acts in the episodes that are collected, as for `lssvwm collect`.
    """

    simulator: str
    out: Path
    dataset: Path | None = None
    sequences: int = 32
    context: int = 64
    horizon: int = 64
    denoising_steps: int | None = None
    seed: int = 0
    card: bool = False
    env_id: str | None = None
    policy: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, sequences=1, context=1, horizon=1, denoising_steps=1)
        if self.card and not Path(self.simulator, CARD).is_file():
            raise ValueError(
                f"card=True needs a simulator folder with a {CARD}, but simulator={self.simulator!r} is none."
            )
        if self.policy is not None and self.dataset is not None:
            raise ValueError(
                f"policy={self.policy!r} acts where episodes are collected, but dataset={str(self.dataset)!r} has "
                "some; leave one of the two out"
            )


def compare(config: CompareConfig) -> dict[str, Any]:
    """Judge a simulator against recorded episodes, write the results and print a summary.

    Returns:
        The content of `report.json`: that of `measure`, the config, the data's hash, the versions, the
        hardware and the wall time. Each file is written whole or not at all, and the report last.

    Raises:
        SimulatorError: If there is no such simulator.
        FileNotFoundError: If `config.dataset` holds no dataset.
        ValueError: If it was recorded in another environment, or its episodes are too short.
    """
    began = time.perf_counter()
    simulator = Simulator.load(config.simulator)
    config.out.mkdir(parents=True, exist_ok=True)
    dataset = EpisodeDataset(config.dataset) if config.dataset else _collect_fresh(simulator.config, config)
    check_world(dataset, simulator.config, config.simulator)
    result = measure(
        simulator.model,
        dataset,
        sequences=config.sequences,
        context=config.context,
        horizon=config.horizon,
        steps=config.denoising_steps or simulator.config.denoising_steps,
        seed=config.seed,
        env=_raycast(dataset, config),
    )
    data_hash = dataset.hash()
    result.report["notes"] += data_notes(dataset.spec, data_hash, simulator.config)
    report = {
        **provenance(config, simulator.model.device),
        "env_kwargs": dataset.spec.env_kwargs,
        "data_hash": data_hash,
        "trained_length": simulator.config.trained_length,
        **result.report,
    }
    gif = dream_gif(result)
    curves = fidelity_png(report, Path(config.simulator).name)
    report["seconds"] = round(time.perf_counter() - began, 1)
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    for name, data in {"dream_vs_real.gif": gif, "fidelity.png": curves, "report.json": text.encode()}.items():
        write_bytes(config.out / name, data)
    if config.card:
        path = Path(config.simulator) / CARD
        trained = path.read_text().split(_CARD_HEADING)[0].rstrip()
        write_bytes(path, f"{trained}\n\n{_CARD_HEADING}\n\n{card_section(report, config)}".encode())
    _print(report, config)
    return report


def check_world(dataset: EpisodeDataset, simulator: SimulatorConfig, name: str) -> None:
    """Refuse episodes of another world than the one that a simulator, called by some name, is of."""
    if dataset.spec.env_id != simulator.env_id:
        raise ValueError(
            f"dataset {dataset.folder} was recorded in {dataset.spec.env_id}, but {name} simulates {simulator.env_id}: "
            "pass episodes of that environment."
        )
    if dataset.spec.env_kwargs != simulator.env_kwargs:
        raise ValueError(
            f"dataset {dataset.folder} was recorded with {dataset.spec.env_kwargs}, but {name} simulates "
            f"{simulator.env_id} with {simulator.env_kwargs}: pass episodes recorded with these."
        )


def data_notes(spec: DatasetSpec, data_hash: str, simulator: SimulatorConfig) -> list[str]:
    """What has to be known of the episodes that a simulator was judged on."""
    split = "train" if data_hash == simulator.data_hash else spec.split
    notes = [_SPLIT_NOTES[split]] if split in _SPLIT_NOTES else []
    if spec.policy != "unknown":
        notes.append(f"the real episodes are of the {policy_words(spec.policy)}")
    return notes


def card_section(report: dict[str, Any], config: CompareConfig) -> str:
    """The numbers of a report as the Markdown section of a simulator's card."""
    threads = report["hardware"]["torch_threads"]
    steps = report["denoising_steps"]
    lines = [
        f"{markdown(command('compare', config), code=True)} ({report['seconds']} s with {threads} CPU threads):",
        f"{report['sequences']} episodes of the {report['split']} split, seed {report['seed']}, "
        f"{steps} denoising step(s) per frame.",
        "Next frame: after all real frames before it.",
        f"Dream: {report['horizon']} frames on its own after {report['context']}",
        "real ones, along the recorded actions. Still: the last real frame shown on and on. Brackets: 95 %",
        "intervals over episodes.",
        *(
            ["Nearest: the real frame from the nearest pose. Mean: of the real ones."]
            if "nearest_dream" in report
            else []
        ),
        *(["Poses given: the dream moved by the recorded poses."] if "given_dream" in report else []),
        "",
        f"| | {' | '.join(columns_of(report).values())} |",
        f"|---|{'---|' * len(columns_of(report))}",
        *(f"| {' | '.join(row)} |" for row in rows_of(report, interval=True)),
        "",
        *(f"Note: {markdown(note)}." for note in report["notes"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def columns_of(report: dict[str, Any]) -> dict[str, str]:
    """What was judged, by its name in a report, as it is called in tables."""
    columns = {
        "next_frame": "next frame",
        "dream": "dream",
        "dream_last_frame": "its end",
        "given_dream": "poses given",
        "copy_dream": "still",
        "nearest_dream": "nearest",
        "mean_dream": "mean",
    }
    return {name: label for name, label in columns.items() if name in report}


def rows_of(report: dict[str, Any], *, interval: bool) -> list[list[str]]:
    """The cells of a table of a report, with a label first; with 95 % intervals if these are wanted."""
    return [
        [label, *(cell(report[c], key, interval=interval and c in _WITH_INTERVAL) for c in columns_of(report))]
        for key, label in _LABELS.items()
        if any(key in report[c] for c in columns_of(report))
    ]


def _raycast(dataset: EpisodeDataset, config: CompareConfig) -> gym.Env[Any, Any] | None:
    """The real environment, if what is in its cells can be counted in pictures."""
    if dataset.spec.camera is None or dataset.pose_kind != "grid":
        return None
    env = make_recorded(dataset.spec, config.env_id)
    return env if is_raycast(env) else None


def _collect_fresh(simulator: SimulatorConfig, config: CompareConfig) -> EpisodeDataset:
    length = max(config.context + config.horizon, 3 * config.context)  # of which the context may be a third
    return collect(
        CollectConfig(
            env_id=trusted_id(simulator, config.env_id),
            out=config.out / "episodes",
            frames=config.sequences * length,
            episode_length=length,
            split="test",
            policy=config.policy,
            seed=config.seed,
            env_kwargs=dict(simulator.env_kwargs),
        )
    )


def dream_gif(result: Fidelity) -> bytes:
    """Animate some sequences, real frames above and dreams below, from the end of the context on.

    Grey borders: context, where both are real. Orange: the model dreams. Black: the real episode is over.
    """
    real = result.real.obs[:GIF_SEQUENCES, : result.context + GIF_DREAM]
    below = np.concatenate([real[:, : result.context], result.dreamt.obs[:GIF_SEQUENCES]], 1)
    pictures = []
    for t in range(max(0, result.context - GIF_CONTEXT), real.shape[1]):
        dreaming = t >= result.context
        phase = f"dream, frame {t - result.context + 1}" if dreaming else f"context, frame {t + 1}"
        columns = []
        for sequence, valid in enumerate(result.real.valid[:GIF_SEQUENCES, t]):
            colour = (_ORANGE if dreaming else _GREY) if valid else _BLACK
            pair = [_framed(frames[sequence, t], colour) for frames in (real, below)]
            columns.append(np.concatenate(pair, axis=0))
        sheet = np.pad(np.concatenate(columns, axis=1), ((_STRIP, 0), (0, 0), (0, 0)))
        picture = Image.fromarray(sheet)
        ImageDraw.Draw(picture).text((_BORDER, 3), f"real / dream: {phase}", fill="white")
        pictures.append(np.asarray(picture))
    buffer = io.BytesIO()
    iio.imwrite(buffer, np.stack(pictures), extension=".gif", duration=100, loop=0)
    return buffer.getvalue()


def _framed(frame: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Enlarge a frame (H, W, 3) and draw a border around it."""
    large = frame.repeat(GIF_SCALE, 0).repeat(GIF_SCALE, 1)
    height, width, channels = large.shape
    framed = np.empty((height + 2 * _BORDER, width + 2 * _BORDER, channels), np.uint8)
    framed[:] = colour
    framed[_BORDER:-_BORDER, _BORDER:-_BORDER] = large
    return framed


def fidelity_png(report: dict[str, Any], name: str) -> bytes:
    """Plot what becomes of a dream, frame by frame.

    Args:
        report: The report of `measure`.
        name: What the simulator is called in the title.
    """
    per_step = report["dream_per_step"]
    has_tiles = "tiles_seen" in per_step
    has_errors = "cells_off" in per_step
    panels = 1 + has_tiles + has_errors
    figure = Figure(figsize=(1 + 5 * panels, 5), layout="constrained")
    figure.suptitle(
        printable(f"{name}: {report['sequences']} {report['split']} episodes of {report['env_id']} ")
        + f"(seed {report['seed']}), "
        f"{report['context']} frames of context,\n{report['denoising_steps']} denoising step(s) per frame. Next frame: "
        + _next_frame_text(report["next_frame"]),
        fontsize=10,
        parse_math=False,
    )
    axes: list[Axes] = list(figure.subplots(1, panels, squeeze=False)[0])
    if has_tiles:
        curves = {
            "tiles_seen": ("places seen in the context", "C0-"),
            "objects_seen": ("objects among them", "C1-"),
            "tiles_new": ("places never seen", "C7-"),
            "tiles_new_chance": ("never seen: commonest tile", "C7:"),
        }
        for key, (label, style) in curves.items():
            _curve(axes[0], per_step[key], style, label)
        axes[0].set(ylabel="share of right tiles", ylim=(0, 1.02))
        axes[0].legend(frameon=False)
    given = report.get("given_dream_per_step")
    frames = axes[has_tiles]
    _curve(frames, per_step["psnr"], "C0-", "poses reckoned" if given else None)
    frames.set(ylabel="PSNR (dB)")
    if given:
        _curve(frames, given["psnr"], "C2-", "poses given")
        frames.legend(frameon=False)
    for axis in axes:
        axis.set(xlabel="dreamt frame (open loop)", xlim=(1, report["horizon"]) if report["horizon"] > 1 else None)
        tidy(axis)
    if has_errors:
        _plot_pose_errors(axes[-1], per_step)
    return png(figure, 120)


def _plot_pose_errors(axis: Axes, per_step: dict[str, Any]) -> None:
    """How far the dream thought itself from where it should have been: cells on the left, degrees on the right."""
    _curve(axis, per_step["cells_off"], "C0-", None)
    axis.set_ylabel("pose reckoned wrong by (cells)", color="C0")
    degrees = axis.twinx()
    _curve(degrees, per_step["degrees_off"], "C1-", None)
    degrees.set_ylabel("(degrees)", color="C1")
    for side in (axis, degrees):
        side.set_ylim(bottom=0)


def _curve(axis: Axes, values: list[float | None], style: str, label: str | None) -> None:
    points = np.array(values, np.float64)  # None becomes nan, which leaves a gap
    axis.plot(np.arange(1, len(points) + 1), points, style, marker=".", markersize=3, label=label)


def _next_frame_text(estimates: dict[str, Any]) -> str:
    names = {"tiles_recent": f"tiles seen in the last {RECENT} frames", "objects_recent": "objects among them"}
    parts = [f"{label} {cell(estimates, key)}" for key, label in names.items() if key in estimates]
    return ", ".join([*parts, f"PSNR {cell(estimates, 'psnr')} dB"])


def cell(estimates: dict[str, Any], key: str, *, interval: bool = False) -> str:
    """Write an estimate: shares in per cent, all else in its own unit."""
    estimate = estimates.get(key)  # a control estimates no poses
    if estimate is None or estimate["value"] is None:
        return "-"
    digits = next((digits for name, digits in _DIGITS.items() if key.startswith(name)), None)
    write = _percent if digits is None else f"{{:.{digits}f}}".format
    unit = " %" if digits is None else ""
    value, low, high = (write(estimate[bound]) for bound in ("value", "low", "high"))
    return f"{value}{unit} [{low}, {high}] n={estimate['n']}" if interval else f"{value}{unit}"


def _percent(share: float) -> str:
    """A share in per cent with one digit; with two where rounding would make nearly all of it all, or little none."""
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        return f"{min(100 * share, 99.99):.2f}"
    if text == "0.0" and share > 0:
        return f"{max(100 * share, 0.01):.2f}"
    return text


def _print(report: dict[str, Any], config: CompareConfig) -> None:
    console = Screen()
    console.print(summary(report, config.simulator))
    for note in report["notes"]:
        console.print(f"Note: {note}.")
    console.print(f"Look at {config.out / 'dream_vs_real.gif'} and fidelity.png; all numbers are in report.json.")


def summary(report: dict[str, Any], name: str) -> Table:
    """The numbers of a report as a table for the terminal; `name` is what the simulator is called there."""
    table = Table(title=f"{name}: {report['sequences']} {report['split']} episodes", box=SIMPLE, pad_edge=False)
    table.add_column(no_wrap=True)
    for column in columns_of(report).values():
        table.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows_of(report, interval=False):
        table.add_row(*row)
    return table
