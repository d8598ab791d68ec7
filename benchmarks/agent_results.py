"""Make docs/agents.md, with its pictures and tables, of what is in benchmarks/records/agents.

    python benchmarks/agent_results.py

Nothing is measured here. The words are in agents_template.md; each {name} in it is replaced by what the records say,
and a section whose records are not there is left out. Long tables go to docs/tables/agents.md, and films to
docs/tables/films.md. Pictures live in docs/img only: those that `lssvwm judge` left beside a record are moved there.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import records_io
import tyro
from matplotlib.figure import Figure
from pages import ROOT, bounds, filled, show, table, tables_page, write_pages
from records_io import Record

from lssvwm_models.utils.figures import png, tidy

TEMPLATE: Final = Path(__file__).parent / "agents_template.md"
COMMAND: Final = "python benchmarks/agent_results.py"
WANDER: Final = "`wander`, the script that recorded the first frames of dreams, knows the map; PPO has no such help."
PLANNERS: Final = {"mcts": "MCTS", "cem": "CEM", "mppi": "MPPI", "shooting": "random shooting"}


@dataclass
class Args:
    """Where to read and write.

    Attributes:
        records: Folder of reports, as `lssvwm judge` and `benchmarks/model_free.py` write them.
        out: Folder for agents.md; pictures go into its img/, long tables into its tables/.
    """

    records: Path = ROOT / "benchmarks" / "records" / "agents"
    out: Path = ROOT / "docs"


# What the records hold.


def reports_in(folder: Path) -> list[Record]:
    """What `lssvwm judge` found, by world and then by real frames."""
    reports = [records_io.read(path) for path in folder.glob("*/report.json")]
    return sorted(reports, key=lambda r: (world(r), r.get("training", {}).get("recorded_frames", 0), r["command"]))


def model_free_in(folder: Path) -> list[Record]:
    """The curves of agents without a model."""
    return [records_io.read(path) for path in sorted(folder.glob("model-free-*.json"))]


def loops_in(folder: Path) -> dict[str, list[Record]]:
    """The rounds of every Dyna loop."""
    return {
        path.name.removeprefix("dyna-"): [records_io.read(found) for found in sorted(path.glob("round-*.json"))]
        for path in sorted(folder.glob("dyna-*/"))
    }


def world(report: Record) -> str:
    """Its short name."""
    return str(report["env_id"]).removeprefix("MiniGrid-").removesuffix("-v0")


def rank(report: Record) -> str:
    """The rank correlation of what was promised with what was paid."""
    found = report.get("rank_correlation")
    return "-" if found is None else f"{found:.2f}"


def learned(report: Record) -> bool:
    """Whether it is of a policy from dreams that draws its actions, as PPO does."""
    config = report["config"]
    return config["agent"] == "policy" and "training" in report and not config["deterministic"]


def fewest(reports: list[Record]) -> dict[str, Record]:
    """Of the policies from dreams, those of the fewest real frames, by environment."""
    found: dict[str, Record] = {}
    for r in sorted(filter(learned, reports), key=lambda r: r["training"]["recorded_frames"]):
        found.setdefault(r["env_id"], r)
    return found


def ppo(record: Record) -> str:
    """Which kind of PPO it was."""
    return "PPO with an LSTM" if record["args"]["recurrent"] else "PPO"


def frames_until(record: Record, success: float) -> int | None:
    """Real steps after which a model-free agent first had a success; None if it never had."""
    return next((p["real_steps"] for p in record["curve"] if p["success"]["value"] >= success), None)


# Tables.


def policies(reports: list[Record], perfect: list[Record]) -> str:
    """Policies that learned in dreams alone, beside luck, and beside what a perfect simulator would promise."""
    most = {(p["simulator"], p["args"]["deterministic"]): rank(p) for p in perfect}
    luck = {r["env_id"]: r for r in reports if r["config"]["agent"] == "uniform"}
    rows = []
    for r in (r for r in reports if r["config"]["agent"] == "policy"):
        training = r.get("training", {})
        chance = luck.get(r["env_id"])
        rows.append([
            world(r),
            "likeliest" if r["config"]["deterministic"] else "drawn",
            show(r["success"]),
            show(chance["success"]) if chance else "-",
            show(r["steps"], 1, interval=False),
            rank(r),
            most.get((r["config"]["simulator"], r["config"]["deterministic"]), "-"),
            f"{training['recorded_frames']:,}" if training else "-",
            f"{training['imagined_steps']:,}" if training else "-",
            f"{training['minutes']:.0f}" if training else "-",
        ])  # fmt: skip
    header = ["world", "actions", "success, %", "at random, %", "steps", "promised and paid: rank correlation",
              "of a perfect simulator", "real frames", "imagined steps", "minutes in dreams"]  # fmt: skip
    return table(header, rows)


def fewest_table(reports: list[Record]) -> str:
    """The policies of the fewest real frames, one per world."""
    luck = {r["env_id"]: r for r in reports if r["config"]["agent"] == "uniform"}
    rows = [
        [
            world(r),
            f"{r['training']['recorded_frames']:,}",
            show(r["success"]),
            show(luck[env_id]["success"]) if env_id in luck else "-",
            show(r["steps"], 1, interval=False),
            f"{r['training']['minutes']:.0f}",
        ]
        for env_id, r in fewest(reports).items()
    ]
    header = ["world", "real frames", "success, %", "at random, %", "steps", "minutes in dreams"]
    return table(header, rows)


def rounds(loops: dict[str, list[Record]]) -> str:
    """What became of each round of a Dyna loop."""
    rows = [
        [
            name, str(r["round"]), f"{r['real_frames']:,}", f"{r['imagined_steps']:,}",
            show(r["judged"]["success"]), show(r["judged"]["steps"], 1, interval=False),
            " + ".join(f"{r['seconds'][part] / 60:.0f}" for part in ("collect", "model", "agent")),
        ]
        for name, found in loops.items()
        for r in found
    ]  # fmt: skip
    header = ["world", "round", "real frames", "imagined steps", "success, %", "steps",
              "minutes to collect, model and learn in dreams"]  # fmt: skip
    return table(header, rows)


def planners(reports: list[Record]) -> str:
    """Agents that plan, without a policy."""
    rows = []
    for r in (r for r in reports if r["config"]["agent"] not in ("policy", "uniform")):
        asked = r["config"]
        seconds = r["decision_seconds"]
        budget = [f"{asked[name]:,} {unit}" for name, unit in (("imagined_steps", "steps"), ("seconds", "s"))
                  if asked[name]]  # fmt: skip
        rows.append([
            world(r),
            PLANNERS[asked["agent"]],
            "critic" if asked["policy"] else "nothing",
            f"{asked['curiosity']:g}",
            str(asked["horizon"]),
            ", ".join(budget),
            f"{seconds['mean']:.2f} ({seconds['most']:.2f})",
            show(r["success"], count=True),
            rank(r),
        ])  # fmt: skip
    header = ["world", "planner", "beyond the horizon", "curiosity", "horizon", "budget per decision",
              "s per decision (most)", "success, %", "promised and paid: rank correlation"]  # fmt: skip
    return table(header, rows)


def savings(reports: list[Record], model_free: list[Record]) -> str:
    """Real frames that dreams needed, beside those of model-free agents for the same success."""
    rows = []
    for r in filter(learned, reports):
        frames = r["training"]["recorded_frames"]
        success = r["success"]["value"]
        for m in (m for m in model_free if m["args"]["env_id"] == r["env_id"]):
            there = frames_until(m, success)
            least = there or m["curve"][-1]["real_steps"]
            rows.append([
                world(r), f"{100 * success:.1f}", f"{frames:,}", ppo(m), str(m["args"]["seed"]),
                f"{least:,}" if there else f"more than {least:,}",
                f"{100 * frames / least:.0f}" if there else f"less than {100 * frames / least:.0f}",
            ])  # fmt: skip
    header = ["world", "success of dreams, %", "their real frames", "without a model", "seed",
              "real frames for the same success", "share, %"]  # fmt: skip
    return table(header, rows)


def model_free_table(records: list[Record]) -> str:
    """How far learning without a model came."""
    rows = []
    for m in records:
        best = max(m["curve"], key=lambda p: p["success"]["value"])
        last = m["curve"][-1]
        rows.append([
            m["args"]["env_id"], ppo(m), str(m["args"]["seed"]), f"{last['real_steps']:,}", show(last["success"]),
            f"{100 * best['success']['value']:.0f} at {best['real_steps']:,}", f"{last['minutes']:.0f}",
        ])  # fmt: skip
    return table(
        ["world", "agent", "seed", "real steps", "success at the end, %", "best on the way, %", "minutes"], rows
    )


# Pictures.


def policies_png(reports: list[Record]) -> bytes:
    """Success of every policy with its interval, and of luck."""
    shown = [r for r in reports if r["config"]["agent"] == "policy"][::-1]
    luck = {r["env_id"]: 100 * r["success"]["value"] for r in reports if r["config"]["agent"] == "uniform"}
    figure = Figure(figsize=(8, 1.2 + 0.27 * len(shown)), layout="constrained")
    axis = figure.subplots()
    names = []
    for row, r in enumerate(shown):
        likeliest = r["config"]["deterministic"]
        _with_interval(axis, [row], [r["success"]], "C1s" if likeliest else "C2o", upright=False)
        if r["env_id"] in luck:
            axis.plot(luck[r["env_id"]], row, "kx", markersize=5)
        frames = r.get("training", {}).get("recorded_frames")
        names.append(f"{world(r)}, {frames:,} real frames" if frames else world(r))
    for style, label in {"C2o": "actions drawn", "C1s": "likeliest actions", "kx": "at random"}.items():
        axis.plot([], [], style, label=label)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel="success in the real environment, %", xlim=(-3, 103))
    axis.legend(frameon=False, fontsize=8)
    tidy(axis)
    return png(figure, 110)


def rounds_png(loops: dict[str, list[Record]]) -> bytes:
    """Success after each round of every Dyna loop, against real frames."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for colour, (name, found) in enumerate(loops.items()):
        frames = [r["real_frames"] for r in found]
        _with_interval(axis, frames, [r["judged"]["success"] for r in found], f"C{colour}o-", label=name)
    axis.set(xscale="log", xlabel="real frames", ylabel="success in the real environment, %", ylim=(-3, 103))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    tidy(axis)
    return png(figure, 110)


def _with_interval(
    axis: Any, at: Sequence[float], found: list[Record], style: str, *, upright: bool = True, label: str | None = None
) -> None:
    """Shares in %, with their intervals, at some places of the other axis."""
    values = 100 * np.array([estimate["value"] for estimate in found])
    reach = np.abs(100 * np.array([bounds(estimate) for estimate in found]).T - values)
    settings = {"fmt": style, "markersize": 5, "capsize": 2, "linewidth": 1, "label": label}
    if upright:
        axis.errorbar(at, values, yerr=reach, **settings)
    else:
        axis.errorbar(values, at, xerr=reach, **settings)


def curves_png(reports: list[Record], model_free: list[Record]) -> bytes:
    """Success against real frames: model-free curves, and policies from dreams as points."""
    ids = list(dict.fromkeys(m["args"]["env_id"] for m in model_free))
    figure = Figure(figsize=(4.2 * len(ids), 3.6), layout="constrained")
    for axis, env_id in zip(figure.subplots(1, len(ids), squeeze=False)[0], ids, strict=True):
        for m in (m for m in model_free if m["args"]["env_id"] == env_id):
            x = [p["real_steps"] / 1000 for p in m["curve"]]
            label = f"{ppo(m)}, on the real environment" if m["args"]["seed"] == 0 else None
            color = "C1" if m["args"]["recurrent"] else "C0"
            axis.plot(x, [100 * p["success"]["value"] for p in m["curve"]], color, label=label, linewidth=1)
        points = [r for r in reports if r["env_id"] == env_id and learned(r)]
        x = [r["training"]["recorded_frames"] / 1000 for r in points]
        axis.plot(x, [100 * r["success"]["value"] for r in points], "C2*", markersize=12, label="learned in dreams")
        axis.set(xlabel="real frames, thousands", ylabel="success, %", ylim=(-3, 103), title=env_id)
        axis.legend(frameon=False, fontsize=8)
        tidy(axis)
    return png(figure, 110)


def move_pictures(records: Path, img: Path) -> None:
    """Move what `lssvwm judge` drew beside its records to where pages show it."""
    for path in sorted(records.glob("*/*")):
        if path.suffix in (".png", ".gif"):
            img.mkdir(parents=True, exist_ok=True)
            shutil.move(path, img / f"{path.parent.name}-{path.name}")


def films(records: Path, img: Path) -> dict[str, str]:
    """A section per record that has pictures: films of its most broken promises, and the scatter of all."""
    sections = {}
    for folder in sorted(records.glob("*/")):
        shown = [*sorted(img.glob(f"{folder.name}-overpromised-*.gif")), *img.glob(f"{folder.name}-promises.png")]
        if shown:
            sections[folder.name] = " ".join(f"![{path.stem}](../img/{path.name})" for path in shown)
    return sections


# The pages.


def main(args: Args) -> None:
    """Fill the template, draw, and move the pictures that the reports came with."""
    reports = reports_in(args.records)
    model_free = model_free_in(args.records)
    perfect = [records_io.read(path) for path in sorted(args.records.glob("perfect-promises-*.json"))]
    loops = loops_in(args.records)
    img = args.out / "img"
    parts: dict[str, str] = {}
    tables: dict[str, str] = {}
    files: dict[str, str | bytes] = {}
    if any(r["config"]["agent"] == "policy" for r in reports):
        tables["Policies learned in dreams alone"] = f"{WANDER}\n\n{policies(reports, perfect)}"
        parts["fewest"] = fewest_table(reports)
        parts["policies"] = "![Success of every policy](img/policies.png)"
        files["img/policies.png"] = policies_png(reports)
    if any(r["config"]["agent"] not in ("policy", "uniform") for r in reports):
        parts["planners"] = planners(reports)
    if loops:
        tables["Rounds of the Dyna loop"] = rounds(loops)
        parts["rounds"] = "![Success after each round, against real frames](img/rounds.png)"
        files["img/rounds.png"] = rounds_png(loops)
    if model_free:
        tables["PPO without a model"] = model_free_table(model_free)
        tables["Real frames that dreams save"] = f"{WANDER}\n\n{savings(reports, model_free)}"
        parts["model-free"] = "![Success against real frames](img/real_frames.png)"
        files["img/real_frames.png"] = curves_png(reports, model_free)
    move_pictures(args.records, img)
    if found := films(args.records, img):
        parts["films"] = "[films and scatter plots](tables/films.md)"
        files["tables/films.md"] = tables_page("Where most was promised that was not paid", COMMAND, found)
    if tables:
        files["tables/agents.md"] = tables_page("Agents, in full", COMMAND, tables)
    write_pages(args.out, files | {"agents.md": filled(TEMPLATE.read_text(), parts)})


if __name__ == "__main__":
    main(tyro.cli(Args))
