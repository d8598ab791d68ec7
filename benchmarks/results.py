"""Make docs/results.md, with its pictures and tables, of what is in benchmarks/records.

    python benchmarks/results.py

Nothing is measured here. The words are in results_template.md; each {name} in it is replaced by what the records say,
and a section whose records are not there is left out. Long tables go to docs/tables/memory.md and docs/tables/study.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np
import records_io
import tyro
from first_person_results import first_person_parts
from matplotlib.figure import Figure
from pages import ROOT, Estimate, averaged, bounds, filled, over_seeds, show, table, tables_page, write_pages
from records_io import Record

from lssvwm_models.utils.figures import png, tidy

TEMPLATE: Final = Path(__file__).parent / "results_template.md"
COMMAND: Final = "python benchmarks/results.py"
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

Study = dict[str, list[Record]]


@dataclass
class Args:
    """Where to read and write.

    Attributes:
        records: Folder of records.
        out: Folder for results.md; pictures go into its img/, long tables into its tables/.
    """

    records: Path = ROOT / "benchmarks" / "records"
    out: Path = ROOT / "docs"


# The study of memories.


def read(folder: Path) -> dict[int, Study]:
    """Records of the study, NAME-STEPS-SEED, by steps of training and by variant, in the order of seeds."""
    found: dict[int, Study] = {}
    for path in sorted(folder.glob("*.json.gz")):
        name, steps, _ = path.name.removesuffix(".json.gz").rsplit("-", 2)
        found.setdefault(int(steps), {}).setdefault(name, []).append(records_io.read(path))
    return found


def world(record: Record) -> dict[str, Any]:
    """What was found in the one world of the study."""
    (found,) = record["suite"]["worlds"].values()
    return dict(found)


def estimates(records: list[Record], *path: str) -> list[Estimate]:
    """A number of the report, for every seed that has it."""
    found: list[Any] = [world(record) for record in records]
    for key in path:
        found = [entry[key] for entry in found]
    return [estimate for estimate in found if estimate["value"] is not None]


def cell(records: list[Record], *path: str, unit: float = 100.0) -> str:
    """The mean over seeds of a number of the report; with the value of every seed, or with its interval if there is
    one seed."""
    return over_seeds(estimates(records, *path), unit, sequences=records[0]["suite"]["settings"]["sequences"])


def farthest(found: Study) -> str:
    """The longest walk of the study, in steps out."""
    return list(world(next(iter(found.values()))[0])["out_and_back"])[-1]


def study_row(name: str, records: list[Record], costs: dict[str, float]) -> list[str]:
    """A model in the tables of the study; costs are seconds of a training step, by name."""
    walks = list(world(records[0])["out_and_back"])
    return [
        f"`{name}`: {records[0]['about']}",
        *(cell(records, "out_and_back", n, "dream", "psnr_seen", unit=1.0) for n in walks),
        cell(records, "out_and_back", walks[-1], "dream", "objects_seen"),
        cell(records, "revisit", "dream", "objects_seen"),
        *(cell(records, "out_and_back", walks[-1], "dream", age) for age in AGES),
        f"{costs[name] / costs['ours']:.2f}",
    ]


def study_table(found: Study, names: list[str], costs: dict[str, float]) -> str:
    """A table of the study, and under it the control that copies."""
    some = next(iter(found.values()))[:1]
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
        *(cell(some, "out_and_back", n, "copy", "psnr_seen", unit=1.0) for n in walks),
        cell(some, "out_and_back", walks[-1], "copy", "objects_seen"),
        cell(some, "revisit", "copy", "objects_seen"),
        *(cell(some, "out_and_back", walks[-1], "copy", age) for age in AGES),
        "",
    ]
    return table(header, [*rows, copied])


def study_mean(records: list[Record], part: str, key: str, walk: str) -> float:
    """The mean over seeds of an estimate of a walk: of the "dream", or of the "copy", which is the same for all."""
    return mean(estimate["value"] for estimate in estimates(records, "out_and_back", walk, part, key))


def not_begun(found: Study) -> dict[str, float]:
    """The share of objects, by name, of models that know fewer of them on the longest way back than the copy shows."""
    walk = farthest(found)
    copied = study_mean(found["ours"], "copy", "objects_seen", walk)
    dreamt = {name: study_mean(records, "dream", "objects_seen", walk) for name, records in found.items()}
    return {name: share for name, share in dreamt.items() if share < copied}


def not_begun_section(found: Study) -> str:
    """Which models are no results, in words."""
    behind = not_begun(found)
    if not behind:
        return "Every model knows more objects than the copy control shows."
    walk = farthest(found)
    copied = 100 * study_mean(found["ours"], "copy", "objects_seen", walk)
    copied_psnr = study_mean(found["ours"], "copy", "psnr_seen", walk)
    psnr = [study_mean(found[name], "dream", "psnr_seen", walk) for name in behind]
    shares = ", ".join(f"`{name}` {100 * share:.1f} %" for name, share in behind.items())
    return (
        f"On the way back from {walk} steps, the control that copies the last real frame gets {copied:.1f} % of the "
        f"objects right. Fewer are right in: {shares}. **At this length of training these models have not begun to "
        "learn to remember. Their rows are no results about those methods.** Their PSNR there is at most "
        f"{max(psnr):.1f} dB, that of the copy {copied_psnr:.1f} dB: they draw rooms, but not the ones that were seen."
    )


def seed_spread(found: Study, key: str) -> float:
    """How far two seeds of one model are apart on the longest way back, at most."""
    walk = farthest(found)
    each = [[e["value"] for e in estimates(records, "out_and_back", walk, "dream", key)] for records in found.values()]
    return max(max(values) - min(values) for values in each)


def study_png(found: Study) -> bytes:
    """What every model of the study knows on the longest way back: a dot per seed, beside the copy control."""
    walk = farthest(found)
    names = sorted(found, key=lambda name: study_mean(found[name], "dream", "objects_seen", walk))
    figure = Figure(figsize=(10, 1.6 + 0.24 * len(names)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    panels = {"objects_seen": (100.0, "objects right, %"), "psnr_seen": (1.0, "PSNR over places seen before, dB")}
    for axis, (key, (unit, label)) in zip(axes, panels.items(), strict=True):
        for row, name in enumerate(names):
            values = [unit * e["value"] for e in estimates(found[name], "out_and_back", walk, "dream", key)]
            color = "k" if name == "ours" else "C1" if name in COMPARED else "C0"
            axis.plot(values, [row] * len(values), "o", color=color, markersize=5)
        axis.axvline(unit * study_mean(found["ours"], "copy", key, walk), color="grey", linestyle=":")
        axis.set(xlabel=label)
        tidy(axis)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    styles = {"ko": "ours", "C1o": "another memory", "C0o": "one choice changed", "k:": "last real frame copied"}
    for style, label in styles.items():
        axes[0].plot([], [], style, label=label)
    figure.suptitle(f"the way back from {walk} steps, a dot per training seed", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=8, ncols=4, loc="outside lower center")
    return png(figure, 110)


def distance_png(found: Study, trained: int) -> bytes:
    """PSNR on the way back against the distance to what is remembered, per model; one curve per walk."""
    walks = list(world(next(iter(found.values()))[0])["out_and_back"])
    figure = Figure(figsize=(4.2 * len(walks), 3.8), layout="constrained")
    axes = figure.subplots(1, len(walks), sharey=True, squeeze=False)[0]
    for axis, n in zip(axes, walks, strict=True):
        for i, name in enumerate(name for name in (*COMPARED, "winner") if name in found):
            curves = [world(r)["out_and_back"][n]["per_frame"]["psnr_seen"] for r in found[name]]
            values = np.nanmean(np.array(curves, float), 0)
            axis.plot(*averaged(values, max(1, len(values) // 25), apart=2), f"C{i}", label=name)
        axis.axvline(trained, color="grey", linestyle=":", label="trained length")
        axis.set(title=f"{n} steps out", xlabel="frames since the place was passed")
        tidy(axis)
    axes[0].set_ylabel("PSNR over places seen before (dB)")
    axes[-1].legend(frameon=False, fontsize=7, ncols=2)  # far from its curves
    return png(figure, 110)


def made_of(found: Study) -> str:
    """How the study was made, in words."""
    one = found["ours"][0]
    suite, training = one["suite"]["settings"], one["training"]
    return (
        f"{training['steps']} steps of {training['frames_per_step']} frames each, sequences of "
        f"{', '.join(map(str, training['lengths']))} frames, {training['threads']} thread(s) on {one['hardware']}; "
        f"judged on the same {suite['sequences']} test episodes per task, {suite['steps']} denoising step per frame"
    )


# The memory suite on the bundled simulators.


def tasks(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The dreams of a world, by what they are called."""
    named = {f"{n} out and back": task for n, task in found.get("out_and_back", {}).items()}
    if "revisit" in found:
        named[f"{found['revisit']['horizon']} after {found['revisit']['context']}"] = found["revisit"]
    return named | {f"{n} after {task['context']}": task for n, task in found.get("continuation", {}).items()}


def dreams_of(report: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """All dreams of a report, by world and task."""
    for name, found in report["worlds"].items():
        for label, task in tasks(found).items():
            yield f"{name}: {label}", task


def tasks_table(report: Record) -> str:
    """A row per world and task."""
    sequences = report["settings"]["sequences"]
    rows = [
        [
            label,
            *(show(task["dream"][key], 1.0) for key in ("psnr", "psnr_seen")),
            f"{task['dream']['ssim']['value']:.3f}",
            *(show(task["dream"][key], sequences=sequences) for key in ("tiles_seen", "objects_seen")),
            show(task["copy"]["objects_seen"], interval=False),
            " / ".join(show(task["dream"][key], interval=False) for key in ("tiles_new", "tiles_new_chance")),
        ]
        for label, task in dreams_of(report)
    ]
    header = ["task", "PSNR", "PSNR, seen", "SSIM", "tiles seen, %", "objects seen, %", "copied", "never seen / chance"]
    return table(header, rows)


def ages_table(report: Record) -> str:
    """Objects by how many frames ago their place was last in sight."""
    sequences = report["settings"]["sequences"]
    ages = "9_32", "33_128", "129_512", "513_up"
    rows = [
        [label, *(show(task["dream"][f"objects_age_{age}"], count=True, sequences=sequences) for age in ages)]
        for label, task in dreams_of(report)
    ]
    return table(["objects, by frames since seen", "9-32", "33-128", "129-512", "513+"], rows)


def frechet_table(report: Record) -> str:
    """Distances to the real clips; empty if none were measured."""
    rows = [
        [
            f"{label}, {encoder}, {distance['clips']} clips of {distance['frames']}",
            *(f"{distance[part]:.3f}" for part in ("dream", "copy", "real")),
        ]
        for label, task in dreams_of(report)
        for encoder, distance in (task.get("frechet") or {}).items()
    ]
    return table(["Fréchet distance to the real clips", "dreamt", "copied", "real (halves)"], rows) if rows else ""


def gaps_table(report: Record) -> str:
    """The cue after a gap; empty if it was not asked for."""
    rows = [
        [f"{name}: {gap} frames", show(task["first"]["objects"], count=True), show(task["chance"])]
        for name, found in report["worlds"].items()
        for gap, task in found.get("gaps", {}).items()
    ]
    header = ["cue, seen again after turning round in place for", "right, %", "commoner cue, %"]
    return table(header, rows) if rows else ""


def probes_table(report: Record) -> str:
    """What a linear probe reads from the memory; empty if it was not asked."""
    rows = [
        [f"{name}: {question}", show(answer["accuracy"]), show(answer["chance"], interval=False)]
        for name, found in report["worlds"].items()
        for question, answer in (found.get("questions") or {}).items()
        if isinstance(answer, dict) and "accuracy" in answer
    ]
    return table(["linear probe, places out of view", "right, %", "commonest answer, %"], rows) if rows else ""


def suite_tables(report: Record) -> str:
    """All tables of a report."""
    made = (tasks_table(report), ages_table(report), frechet_table(report), gaps_table(report), probes_table(report))
    return "\n\n".join(text for text in made if text)


def suite_png(report: Record) -> bytes:
    """Objects, and PSNR, by task: a colour per world, and crosses for the last real frame, copied."""
    names = list(dict.fromkeys(label for found in report["worlds"].values() for label in tasks(found)))
    panels = {"objects_seen": (100.0, "objects seen before, right (%)"), "psnr_seen": (1.0, "PSNR, places seen (dB)")}
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, len(panels))
    for axis, (key, (unit, label)) in zip(axes, panels.items(), strict=True):
        for colour, (name, found) in enumerate(report["worlds"].items()):
            at = [names.index(task) + 0.15 * (colour - 1) for task in tasks(found)]
            dreamt = [task["dream"][key] for task in tasks(found).values()]
            values = np.array([unit * estimate["value"] for estimate in dreamt])
            ends = unit * np.array([bounds(estimate, report["settings"]["sequences"]) for estimate in dreamt])
            reach = np.abs(ends.T - values)
            axis.errorbar(at, values, reach, fmt=f"C{colour}o", markersize=5, capsize=2, label=name)
            copied = [unit * task["copy"][key]["value"] for task in tasks(found).values()]
            axis.plot(at, copied, f"C{colour}x", markersize=5)
        axis.plot([], [], "kx", label="last real frame copied")
        axis.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
        axis.set(ylabel=label)
        tidy(axis)
    axes[0].legend(frameon=False, fontsize=8)
    return png(figure, 110)


# Costs, long dreams and small memories.


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


def long_dream_section(report: Record) -> str:
    """The quarters of the long dream."""
    lines = report["lines"]
    length = len(lines) // 4
    parts = {name: lines[i * length :][:length] for i, name in enumerate(("first", "second", "third", "last"))}
    rows = [
        [
            f"{name} quarter",
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
            *(show(line[name], sequences=report["sequences"]) for name in ("objects_seen", "tiles_seen")),
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


# The pages.


def suite_parts(folder: Path) -> tuple[dict[str, str], dict[str, str | bytes]]:
    """What the memory suite found: parts of the template, and files."""
    reports = {path.parent.name: records_io.read(path) for path in sorted(folder.glob("*/memory.json.gz"))}
    if not reports:
        return {}, {}
    parts = {f"{name}-tasks": tasks_table(report) for name, report in reports.items()}
    parts |= {f"{name}-ages": ages_table(report) for name, report in reports.items()}
    parts |= {f"{name}-gaps": gaps_table(report) for name, report in reports.items()}
    files: dict[str, str | bytes] = {}
    if rooms := reports.get("ObjectRooms-v0"):
        files["img/memory_suite.png"] = suite_png(rooms)
        walk = rooms["worlds"]["rooms-13"]["out_and_back"]["400"]
        parts["far-objects"] = show(walk["dream"]["objects_seen"], interval=False)
        parts["far-copied"] = show(walk["copy"]["objects_seen"], interval=False)
    tables = {name: suite_tables(report) for name, report in reports.items()}
    files["tables/memory.md"] = tables_page("The memory suite, in full", COMMAND, tables)
    return parts, files


def study_parts(folder: Path, costs: dict[str, float]) -> tuple[dict[str, str], dict[str, str | bytes]]:
    """What the study found, likewise."""
    parts: dict[str, str] = {}
    files: dict[str, str | bytes] = {}
    tables: dict[str, str] = {}
    for steps, found in read(folder).items():
        others = [name for name in found if name not in COMPARED]
        parts[f"made-of-{steps}"] = made_of(found)
        parts[f"not-begun-{steps}"] = not_begun_section(found)
        parts[f"spread-dB-{steps}"] = f"{seed_spread(found, 'psnr_seen'):.1f}"
        parts[f"spread-objects-{steps}"] = f"{100 * seed_spread(found, 'objects_seen'):.0f}"
        warning = parts[f"not-begun-{steps}"]
        tables[f"Other memories, {steps} steps"] = f"{warning}\n\n{study_table(found, list(COMPARED), costs)}"
        tables[f"One choice at a time, {steps} steps"] = study_table(found, ["ours", *others], costs)
        trained = found["ours"][0]["training"]["lengths"][-1]
        files[f"img/memory_distance_{steps}.png"] = distance_png(found, trained)
        files[f"img/study_{steps}.png"] = study_png(found)
    if tables:
        files["tables/study.md"] = tables_page("The study of memories, in full", COMMAND, tables)
    return parts, files


def measured(folder: Path) -> tuple[dict[str, str], dict[str, str | bytes]]:
    """The parts by the name they have in the template, and the files, of the records that there are."""
    parts, files = suite_parts(folder)
    if (path := folder / "study-costs.json").exists():
        found, drawn = study_parts(folder / "study", records_io.read(path)["seconds"])
        parts |= found
        files |= drawn
    found, drawn = first_person_parts(folder / "first-person")
    parts |= found
    files |= drawn
    if (path := folder / "cost-curves.json").exists():
        curves = records_io.read(path)
        parts["costs"] = cost_section(curves)
        files["img/cost_curves.png"] = cost_png(curves)
    if (path := folder / "state-size.json.gz").exists():
        parts["state_size"] = state_size_section(records_io.read(path))
    if (path := folder / "long-dream.json.gz").exists():
        dreamt = records_io.read(path)
        parts["long_dream"] = long_dream_section(dreamt)
        parts["long_dream_frames"] = f"{dreamt['frames']:,}"
        parts["long_dream_rms"] = f"{max(max(line['rms']) for line in dreamt['lines']):.1f}"
    return parts, files


def main(args: Args) -> None:
    """Fill the template, and draw."""
    parts, files = measured(args.records)
    write_pages(args.out, files | {"results.md": filled(TEMPLATE.read_text(), parts)})


if __name__ == "__main__":
    main(tyro.cli(Args))
