"""Make docs/results.md, with its pictures, of what is in benchmarks/records.

    python benchmarks/results.py

Nothing is measured here. The words are in results_template.md; each {name} in it is replaced by a table, and a section
whose records are not there is left out.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np
import tyro
from matplotlib.figure import Figure

from world_models.figures import png, tidy
from world_models.files import write_bytes

ROOT: Final = Path(__file__).parents[1]
TEMPLATE: Final = Path(__file__).parent / "results_template.md"
COMPARED: Final = (
    "ours",
    "full-attention",
    "window",
    "mamba2",
    "mamba2-convolution",
    "blocks-1",
    "paper-blocks",
)
AGES: Final = {"objects_age_9_32": "9-32", "objects_age_33_128": "33-128", "objects_age_129_512": "129-512"}

Record = dict[str, Any]


@dataclass
class Args:
    """Where to read and write.

    Attributes:
        records: Folder of records.
        out: Folder for results.md; pictures go into its img/.
    """

    records: Path = ROOT / "benchmarks" / "records"
    out: Path = ROOT / "docs"


def read(folder: Path) -> dict[int, dict[str, list[Record]]]:
    """Records of the study, NAME-STEPS-SEED.json, by steps of training and by variant, in the order of seeds."""
    found: dict[int, dict[str, list[Record]]] = {}
    for path in sorted(folder.glob("*.json")):
        name, steps, _ = path.stem.rsplit("-", 2)
        found.setdefault(int(steps), {}).setdefault(name, []).append(json.loads(path.read_text()))
    return found


def world(record: Record) -> dict[str, Any]:
    """What was found in the one world of the study."""
    (found,) = record["suite"]["worlds"].values()
    return dict(found)


def cell(records: list[Record], *path: str, unit: float = 100.0) -> str:
    """The mean over seeds of a number of the report; with the value of every seed, or with its interval if there is
    one seed."""
    estimates = []
    for record in records:
        found: Any = world(record)
        for key in path:
            found = found[key]
        if found["value"] is not None:
            estimates.append(found)
    if not estimates:
        return "-"
    value = f"{unit * mean(e['value'] for e in estimates):.1f}"
    if len(estimates) == 1:
        return f"{value} [{unit * estimates[0]['low']:.1f}, {unit * estimates[0]['high']:.1f}]"
    each = ", ".join(f"{unit * estimate['value']:.1f}" for estimate in estimates)
    return f"{value} ({each})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def study_row(name: str, records: list[Record], costs: dict[str, float]) -> list[str]:
    """A model in the tables of the study; costs are seconds of a training step, by name."""
    walks = world(records[0])["out_and_back"]
    return [
        f"`{name}`: {records[0]['about']}",
        *(cell(records, "out_and_back", n, "dream", "psnr_seen", unit=1.0) for n in walks),
        *(cell(records, "out_and_back", n, "dream", "objects_seen") for n in list(walks)[-1:]),
        cell(records, "revisit", "dream", "objects_seen"),
        *(cell(records, "out_and_back", list(walks)[-1], "dream", age) for age in AGES),
        f"{costs[name] / costs['ours']:.2f}",
    ]


def study_section(found: dict[str, list[Record]], names: list[str], costs: dict[str, float]) -> str:
    """A table of the study, and under it the control that copies."""
    some = next(iter(found.values()))
    walks = list(world(some[0])["out_and_back"])
    header = [
        "model",
        *(f"{n} out and back, dB" for n in walks),
        f"{walks[-1]} out: objects %",
        "64 after 256: objects %",
        *(f"{walks[-1]} out: seen {age} ago, %" for age in AGES.values()),
        "a training step",
    ]
    rows = [study_row(name, found[name], costs) for name in names if name in found]
    copied = [
        "the last real frame, copied",
        *(cell(some[:1], "out_and_back", n, "copy", "psnr_seen", unit=1.0) for n in walks),
        cell(some[:1], "out_and_back", walks[-1], "copy", "objects_seen"),
        cell(some[:1], "revisit", "copy", "objects_seen"),
        *(cell(some[:1], "out_and_back", walks[-1], "copy", age) for age in AGES),
        "",
    ]
    return table(header, [*rows, copied])


def distance_png(found: dict[str, list[Record]], trained: int) -> bytes:
    """PSNR on the way back against the distance to what is remembered, per model; one curve per walk."""
    walks = list(world(next(iter(found.values()))[0])["out_and_back"])
    figure = Figure(figsize=(4.2 * len(walks), 3.8), layout="constrained")
    axes = figure.subplots(1, len(walks), sharey=True, squeeze=False)[0]
    for axis, n in zip(axes, walks, strict=True):
        for i, name in enumerate(name for name in (*COMPARED, "winner") if name in found):
            curves = [world(r)["out_and_back"][n]["per_frame"]["psnr_seen"] for r in found[name]]
            values = np.nanmean(np.array(curves, float), 0)
            width = max(1, len(values) // 25)
            points = values[: len(values) // width * width].reshape(-1, width)
            axis.plot(2 * (np.arange(len(points)) + 0.5) * width, np.nanmean(points, 1), f"C{i}", label=name)
        axis.axvline(trained, color="grey", linestyle=":", label="trained length")
        axis.set(title=f"{n} steps out", xlabel="frames since the place was passed")
        tidy(axis)
    axes[0].set_ylabel("PSNR over places seen before (dB)")
    axes[-1].legend(frameon=False, fontsize=7, ncols=2)  # far from its curves
    return png(figure, 110)


def cost_png(costs: Record) -> bytes:
    """Time and bytes per generated frame against history, and training time per frame against length."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    time, size, training = figure.subplots(1, 3)
    for name, curve in costs["generating"].items():
        x = [int(h) for h in curve]
        time.plot(x, [v["ms"] for v in curve.values()], "o-", label=name, markersize=3)
        size.plot(x, [v["bytes"] / 1e6 for v in curve.values()], "o-", markersize=3)
    for name, curve in costs["training"].items():
        training.plot([int(n) for n in curve], list(curve.values()), "o-", label=name, markersize=3)
    time.set(xlabel="frames of history", ylabel="ms per generated frame")
    size.set(xlabel="frames of history", ylabel="MB of memory per world")
    training.set(xlabel="length of training sequences", ylabel="ms per training frame")
    for axis in (time, size, training):
        axis.set(xscale="log", yscale="log")
        tidy(axis)
    time.legend(frameon=False, fontsize=8)
    return png(figure, 110)


def made_of(found: dict[str, list[Record]]) -> str:
    """How the study was made, in words."""
    one = found["ours"][0]
    suite, training = one["suite"]["settings"], one["training"]
    return (
        f"{training['steps']} steps of {training['frames_per_step']} frames each, sequences of "
        f"{', '.join(map(str, training['lengths']))} frames, {training['threads']} thread(s) on {one['hardware']}; "
        f"judged on the same {suite['sequences']} test episodes per task, {suite['steps']} denoising step per frame"
    )


def bundled_section(report: Record) -> str:
    """The memory suite on a bundled simulator."""
    rows, aged, looks, asked, far = [], [], [], [], []
    for name, found in report["worlds"].items():
        for gap, task in found.get("gaps", {}).items():
            looks.append([f"{name}: {gap} frames", show(task["first"]["objects"], count=True), show(task["chance"])])
        for n, task in found.get("continuation", {}).items():
            for encoder, distance in (task["frechet"] or {}).items():
                values = (f"{distance[part]:.3f}" for part in ("dream", "copy", "real"))
                clips = f"{distance['clips']} clips of {distance['frames']}"
                far.append([f"{name}: {n} after {task['context']}, {encoder}, {clips}", *values])
        for question, answer in (found.get("questions") or {}).items():
            if isinstance(answer, dict) and "accuracy" in answer:
                asked.append([f"{name}: {question}", show(answer["accuracy"]), show(answer["chance"], interval=False)])
        tasks = {f"{n} out and back": task for n, task in found.get("out_and_back", {}).items()}
        if "revisit" in found:
            tasks[f"{found['revisit']['horizon']} after {found['revisit']['context']}"] = found["revisit"]
        tasks |= {f"{n} after {task['context']}": task for n, task in found.get("continuation", {}).items()}
        for label, task in tasks.items():
            dreamt, copied = task["dream"], task["copy"]
            rows.append(
                [
                    f"{name}: {label}",
                    *(show(dreamt[key], unit) for key, unit in (("psnr", 1.0), ("psnr_seen", 1.0))),
                    f"{dreamt['ssim']['value']:.3f}",
                    *(show(dreamt[key]) for key in ("tiles_seen", "objects_seen")),
                    show(copied["objects_seen"], interval=False),
                    show(dreamt["tiles_new"], interval=False)
                    + " / "
                    + show(dreamt["tiles_new_chance"], interval=False),
                ]
            )
            ages = [show(dreamt[f"objects_age_{age}"], count=True) for age in ("9_32", "33_128", "129_512", "513_up")]
            aged.append([f"{name}: {label}", *ages])
    header = ["task", "PSNR", "PSNR, seen", "SSIM", "tiles seen, %", "objects seen, %", "copied", "never seen / chance"]
    tables = [table(header, rows), table(["objects, by frames since seen", "9-32", "33-128", "129-512", "513+"], aged)]
    if far:
        tables.append(table(["Fréchet distance to the real clips", "dreamt", "copied", "real (halves)"], far))
    if looks:
        tables.append(table(["cue, seen again after turning round in place for", "right, %", "commoner cue, %"], looks))
    if asked:
        tables.append(table(["linear probe, places out of view", "right, %", "commonest answer, %"], asked))
    return "\n\n".join(tables)


def show(estimate: dict[str, Any], unit: float = 100.0, *, interval: bool = True, count: bool = False) -> str:
    """An estimate in a table."""
    if estimate["value"] is None:
        return "-"
    text = f"{unit * estimate['value']:.1f}"
    if interval:
        text += f" [{unit * estimate['low']:.1f}, {unit * estimate['high']:.1f}]"
    return text + (f" n={estimate['n']}" if count else "")


def long_dream_section(report: Record) -> str:
    """The first and the last quarter of the long dream."""
    lines = report["lines"]
    quarter = len(lines) // 4
    parts = {"first quarter": lines[:quarter], "last quarter": lines[-quarter:]}
    rows = [
        [
            name,
            *(f"{max(line['rms'][i] for line in part):.2f}" for i in range(len(lines[0]["rms"]))),
            *(f"{100 * mean(line[key] for line in part):.2f}" for key in ("illegal", "unseen")),
            *(f"{mean(line[key] for line in part):.1f}" for key in ("objects", "kinds")),
        ]
        for name, part in parts.items()
    ]
    layers = [f"largest RMS, layer {i}" for i in range(len(lines[0]["rms"]))]
    header = ["", *layers, "cells that show no tile, %", "cells hidden, %", "objects in view", "kinds of tiles"]
    return table(header, rows)


def state_size_section(report: Record) -> str:
    """What is left of a memory, and what it still knows."""
    rows = [
        [
            f"all but {100 * line['tolerance']:g} % of its energy",
            *(f"{line[size] / 1e3:.0f}" for size in ("memory_bytes", "state_bytes")),
            *(show(line[name]) for name in ("objects_seen", "tiles_seen")),
        ]
        for line in report["lines"]["tolerance"]
    ]
    return table(["kept of the memory", "its kB", "kB with all else", "objects seen, %", "tiles seen, %"], rows)


def cost_section(costs: Record) -> str:
    """Time and memory per generated frame, and time per training frame."""
    generating, training = costs["generating"], costs["training"]
    histories, lengths = (list(next(iter(curves.values()))) for curves in (generating, training))
    first = table(
        ["ms (MB) per generated frame after", *(f"{int(h):,} frames" for h in histories)],
        [
            [f"`{k}`", *(f"{c[h]['ms']:.1f} ({c[h]['bytes'] / 1e6:.2f})" for h in histories)]
            for k, c in generating.items()
        ],
    )
    second = table(
        ["ms per training frame, sequences of", *(f"{int(n):,}" for n in lengths)],
        [[f"`{k}`", *(f"{c[n]:.1f}" if n in c else "-" for n in lengths)] for k, c in training.items()],
    )
    return f"{first}\n\n{second}\n\n{costs['hardware']}."


def measured(folder: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """The tables by the name they have in the template, and the pictures by file, of the records that there are."""
    parts, pictures = {}, {}
    for path in folder.glob("*/memory.json"):
        parts[path.parent.name] = bundled_section(json.loads(path.read_text()))
    if (path := folder / "study-costs.json").exists():
        costs = json.loads(path.read_text())["seconds"]
        for steps, found in read(folder / "study").items():
            one, others = found["ours"][0], [name for name in found if name not in COMPARED]
            parts[f"made-of-{steps}"] = made_of(found)
            parts[f"compared-{steps}"] = study_section(found, list(COMPARED), costs)
            parts[f"ablated-{steps}"] = study_section(found, ["ours", *others], costs)
            pictures[f"memory_distance_{steps}.png"] = distance_png(found, one["training"]["lengths"][-1])
    if (path := folder / "cost-curves.json").exists():
        curves = json.loads(path.read_text())
        parts["costs"], pictures["cost_curves.png"] = cost_section(curves), cost_png(curves)
    if (path := folder / "state-size.json").exists():
        parts["state_size"] = state_size_section(json.loads(path.read_text()))
    if (path := folder / "long-dream.json").exists():
        dreamt = json.loads(path.read_text())
        parts["long_dream"], parts["long_dream_frames"] = long_dream_section(dreamt), f"{dreamt['frames']:,}"
    return parts, pictures


def filled(template: str, parts: dict[str, str]) -> str:
    """The template with its tables; sections that lack one are left out."""
    wanted = re.compile(r"\{([\w-]+)\}")
    head, *sections = re.split(r"(?m)^(?=## )", template)
    kept = [section for section in sections if set(wanted.findall(section)) <= parts.keys()]
    return wanted.sub(lambda found: parts[found[1]], "".join([head, *kept])).rstrip() + "\n"


def main(args: Args) -> None:
    """Fill the template, and draw."""
    parts, pictures = measured(args.records)
    files = {f"img/{name}": data for name, data in pictures.items()}
    files["results.md"] = filled(TEMPLATE.read_text(), parts).encode()
    for name, data in files.items():
        path = args.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    print(f"{args.out / 'results.md'} is written")


if __name__ == "__main__":
    main(tyro.cli(Args))
