"""What docs/results.md says of worlds in first person; `results.py` puts it there.

Of the records of `lssvwm eval recall` that lie in `benchmarks/records/first-person/` as SIMULATOR/TASK.json.gz, and of
those of `first_person_study.py`, beside them.
"""

from pathlib import Path
from typing import Final

import numpy as np
import records_io
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pages import Estimate, averaged, over_seeds, show, table
from records_io import Record

from lssvwm_env.evaluation.revisits import AGES
from lssvwm_models.utils.figures import png, tidy

DREAMS: Final = {  # name in the report, and in tables and pictures
    "given_dream": "dream, poses given",
    "dream": "dream, poses reckoned",
    "nearest_dream": "nearest pose copied",
    "copy_dream": "last frame copied",
    "mean_dream": "mean frame",
}
TABLED: Final = ("given_dream", "dream", "nearest_dream")  # the others are in the picture
WINDOW: Final = 25  # frames that a point of a curve is the mean of

Parts = tuple[dict[str, str], dict[str, str | bytes]]


def first_person_parts(folder: Path) -> Parts:
    """Parts of the template by name, and files, of the records in a folder."""
    parts: dict[str, str] = {}
    files: dict[str, str | bytes] = {}
    for reports in sorted(folder.glob("*/")):
        found = {p.name.removesuffix(".json.gz"): records_io.read(p) for p in sorted(reports.glob("*.json.gz"))}
        if found:
            parts[f"{reports.name}-recall"] = recall_table(found)
            files[f"img/recall_{reports.name.replace('-', '_').lower()}.png"] = recall_png(found)
    for world, study in read(folder).items():
        parts[f"{world}-study"] = study_table(study)
        parts[f"{world}-study-made"] = made_of(study)
        files[f"img/study_{world}.png"] = study_png(study)
    return parts, files


# The bundled simulators.


def recall_table(reports: dict[str, Record]) -> str:
    """A row per task and dream, and for the control that copies; reports by the name of the task."""
    rows = []
    for task, report in reports.items():
        for name in TABLED:
            if dream := report.get(name):
                whole = [_cell(dream, key) for key in ("psnr", "psnr_revisited", "psnr_new")]
                by_age = [_cell(dream, f"psnr_age_{age}", interval=False) for age in AGES[2:]]
                rows.append([f"{task}: {DREAMS[name]}", *whole, *by_age, f"{dream['ssim']['value']:.3f}"])
    ages = [f"seen {age.replace('_up', '+').replace('_', '-')} ago" for age in AGES[2:]]
    return table(["dB", "PSNR", "revisited", "new", *ages, "SSIM"], rows)


def _cell(dream: dict[str, Estimate], key: str, interval: bool = True) -> str:
    return show(dream[key], 1.0, interval=interval) if key in dream else "-"


def recall_png(reports: dict[str, Record]) -> bytes:
    """PSNR by dreamt frame, a panel per task."""
    figure = Figure(figsize=(4.2 * len(reports), 3.6), layout="constrained")
    axes = figure.subplots(1, len(reports), sharey=True, squeeze=False)[0]
    for axis, (task, report) in zip(axes, reports.items(), strict=True):
        for i, (name, label) in enumerate(DREAMS.items()):
            if f"{name}_per_step" in report:
                _curve(axis, report[f"{name}_per_step"]["psnr"], f"C{i}", label)
        axis.set(title=task, xlabel="dreamt frame")
        tidy(axis)
    axes[0].set_ylabel("PSNR (dB)")
    axes[0].legend(frameon=False, fontsize=7)
    return png(figure, 110)


# The study.


def read(folder: Path) -> dict[str, dict[str, list[Record]]]:
    """Records of the study by world, and by variant, ours first, in the order of seeds."""
    found: dict[str, dict[str, list[Record]]] = {}
    records = [records_io.read(path) for path in sorted(folder.glob("*.json.gz"))]
    for record in sorted(records, key=lambda record: record["variant"] != "ours"):
        found.setdefault(record["world"], {}).setdefault(record["variant"], []).append(record)
    return found


def study_table(study: dict[str, list[Record]]) -> str:
    """A row per model, and one for the control that copies the frame from the nearest pose."""
    columns = {
        "retrieval": ("retrieval", "psnr"),
        "reasoning": ("reasoning", "psnr"),
        "reasoning, revisited": ("reasoning", "psnr_revisited"),
        "reasoning, new": ("reasoning", "psnr_new"),
        "96 after 192, revisited": ("96 after 192", "psnr_revisited"),
    }
    rows = [
        [
            f"`{name}`: {records[0]['about']}",
            *(cell(records, "given_dream", *column) for column in columns.values()),
            f"{records[0]['state_bytes'] / 1e6:.2f}",
        ]
        for name, records in study.items()
    ]
    some = next(iter(study.values()))[:1]
    copied = [cell(some, "nearest_dream", *column) for column in columns.values()]
    header = ["PSNR in dB", *columns, "MB per world"]
    return table(header, [*rows, ["the frame from the nearest pose, copied", *copied, ""]])


def cell(records: list[Record], dream: str, task: str, key: str) -> str:
    """An answer, over seeds; "-" where it was not asked for."""
    answers = [record["answers"][task].get(dream, {}) for record in records]
    found = [answer[key] for answer in answers if key in answer]
    counted = all(estimate["value"] is not None for estimate in found)
    return over_seeds(found if counted else [], 1.0, interval=False)


def made_of(study: dict[str, list[Record]]) -> str:
    """How the study was made, in words."""
    records = [record for each in study.values() for record in each]
    one = records[0]
    training = one["training"]
    episodes = one["answers"]["retrieval"]["sequences"]
    rendering = max(record["render_steps"] for record in records)
    return (
        f"{training['steps']} steps of {training['frames_per_step']} frames each on {one['env_id']}, "
        f"{training['threads']} thread(s) on {one['hardware']}; a renderer of {rendering:,} steps is shared by those "
        f"that keep keyframes; judged on {episodes} episodes, 1 denoising step per frame"
    )


def study_png(study: dict[str, list[Record]]) -> bytes:
    """PSNR on the exact way back, against how long ago a frame was seen."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for i, (name, records) in enumerate(study.items()):
        curves = [record["answers"]["retrieval"]["given_dream_per_step"]["psnr"] for record in records]
        _curve(axis, list(np.mean(np.array(curves, float), 0)), f"C{i}", name, apart=2)
    axis.set(xlabel="frames since it was seen", ylabel="PSNR on the way back (dB)")
    axis.legend(frameon=False, fontsize=7, ncols=2)
    tidy(axis)
    return png(figure, 110)


def _curve(axis: Axes, values: list[float], color: str, label: str, apart: int = 1) -> None:
    """Means of `WINDOW` values, which are so many frames apart."""
    axis.plot(*averaged(values, min(WINDOW, len(values)), apart), color, label=label)
