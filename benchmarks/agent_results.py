"""Make docs/agents.md, with its pictures, of what is in benchmarks/records/agents.

    python benchmarks/agent_results.py

Nothing is measured here. The words are in agents_template.md; each {name} in it is replaced by a table, and a section
whose records are not there is left out.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tyro
from matplotlib.figure import Figure
from results import filled, show, table

from world_models.figures import png, tidy
from world_models.files import write_bytes

ROOT: Final = Path(__file__).parents[1]
TEMPLATE: Final = Path(__file__).parent / "agents_template.md"
PLANNERS: Final = {"mcts": "MCTS", "cem": "CEM", "mppi": "MPPI", "shooting": "random shooting"}

Record = dict[str, Any]


@dataclass
class Args:
    """Where to read and write.

    Attributes:
        records: Folder of reports, as `lssvwm judge` and `benchmarks/model_free.py` write them.
        out: Folder for agents.md; pictures go into its img/.
    """

    records: Path = ROOT / "benchmarks" / "records" / "agents"
    out: Path = ROOT / "docs"


def world(report: Record) -> str:
    """Its short name."""
    return str(report["env_id"]).removeprefix("MiniGrid-").removesuffix("-v0")


def rank(report: Record) -> str:
    """The rank correlation of what was promised with what was paid."""
    found = report.get("rank_correlation")
    return "-" if found is None else f"{found:.2f}"


def policies(reports: list[Record], perfect: list[Record]) -> str:
    """Policies that learned in dreams alone, beside luck, and beside what a perfect simulator would promise."""
    most = {(p["simulator"], p["args"]["deterministic"]): rank(p) for p in perfect}
    luck = {r["env_id"]: r for r in reports if r["config"]["agent"] == "uniform"}
    rows = []
    for r in (r for r in reports if r["config"]["agent"] == "policy"):
        training, chance = r.get("training", {}), luck.get(r["env_id"])
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


def rounds(folders: list[Path]) -> str:
    """What became of each round of a Dyna loop, from the reports that its folder holds."""
    rows = []
    for folder in folders:
        for r in (json.loads(path.read_text()) for path in sorted(folder.glob("round-*.json"))):
            rows.append([
                folder.name.removeprefix("dyna-"), str(r["round"]), f"{r['real_frames']:,}", f"{r['imagined_steps']:,}",
                show(r["judged"]["success"]), show(r["judged"]["steps"], 1, interval=False),
                " + ".join(f"{r['seconds'][part] / 60:.0f}" for part in ("collect", "model", "agent")),
            ])  # fmt: skip
    header = ["world", "round", "real frames", "imagined steps", "success, %", "steps",
              "minutes to collect, model and learn in dreams"]  # fmt: skip
    return table(header, rows)


def pictures(folder: Path) -> dict[str, Path]:
    """Films of a report's most broken promises and the scatter of all, by name in docs/img; none without both."""
    films, scatter = sorted(folder.glob("overpromised-*.gif")), folder / "promises.png"
    return {f"{folder.name}-{p.name}": p for p in (*films, scatter)} if films and scatter.is_file() else {}


def audit(folders: list[Path]) -> str:
    """The pictures that reports came with, those of each in a line."""
    rows = ([f"![{f.name}: {path.stem}](img/{name})" for name, path in pictures(f).items()] for f in folders)
    return "\n\n".join(" ".join(row) for row in rows if row)


def planners(reports: list[Record]) -> str:
    """Agents that plan, without a policy."""
    rows = []
    for r in (r for r in reports if r["config"]["agent"] not in ("policy", "uniform")):
        asked, seconds = r["config"], r["decision_seconds"]
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
            show(r["success"]),
            rank(r),
        ])  # fmt: skip
    header = ["world", "planner", "beyond the horizon", "curiosity", "horizon", "budget per decision",
              "s per decision (most)", "success, %", "promised and paid: rank correlation"]  # fmt: skip
    return table(header, rows)


def commands(reports: list[Record]) -> str:
    """What made the reports."""
    made = [r["training"]["command"] for r in reports if r["config"]["agent"] == "policy" and "training" in r]
    return "\n".join(["```sh", *dict.fromkeys(made + [r["command"] for r in reports]), "```"])


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


def frames_until(record: Record, success: float) -> int | None:
    """Real steps after which a model-free agent first had a success; None if it never had."""
    return next((p["real_steps"] for p in record["curve"] if p["success"]["value"] >= success), None)


def savings(reports: list[Record], model_free: list[Record]) -> str:
    """Real frames that dreams needed, beside those of model-free agents for the same success."""
    rows = []
    for r in (r for r in reports if learned(r)):
        frames, success = r["training"]["recorded_frames"], r["success"]["value"]
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


def learned(report: Record) -> bool:
    """Whether it is of a policy from dreams that draws its actions, as PPO does."""
    config = report["config"]
    return config["agent"] == "policy" and "training" in report and not config["deterministic"]


def ppo(record: Record) -> str:
    """Which kind of PPO it was."""
    return "PPO with an LSTM" if record["args"]["recurrent"] else "PPO"


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


def main(args: Args) -> None:
    """Fill the template, draw, and copy the pictures that the reports came with."""
    reports = [json.loads(path.read_text()) for path in sorted(args.records.glob("*/report.json"))]
    reports.sort(key=lambda r: (world(r), r.get("training", {}).get("recorded_frames", 0)))
    model_free = [json.loads(path.read_text()) for path in sorted(args.records.glob("model-free-*.json"))]
    perfect = [json.loads(path.read_text()) for path in sorted(args.records.glob("perfect-promises-*.json"))]
    parts = {"commands": commands(reports)}
    (args.out / "img").mkdir(parents=True, exist_ok=True)
    if any(r["config"]["agent"] == "policy" for r in reports):
        parts["policies"] = policies(reports, perfect)
    if any(r["config"]["agent"] not in ("policy", "uniform") for r in reports):
        parts["planners"] = planners(reports)
    if loops := sorted(args.records.glob("dyna-*/")):
        parts["dyna"] = rounds(loops)
    folders = sorted(args.records.glob("*/"))
    if films := audit(folders):
        parts["audit"] = films
    if model_free:
        parts["model_free"], parts["savings"] = model_free_table(model_free), savings(reports, model_free)
        write_bytes(args.out / "img" / "real_frames.png", curves_png(reports, model_free))
    for name, path in (item for folder in folders for item in pictures(folder).items()):
        shutil.copy(path, args.out / "img" / name)
    write_bytes(args.out / "agents.md", filled(TEMPLATE.read_text(), parts).encode())
    print(f"{args.out / 'agents.md'} is written")


if __name__ == "__main__":
    main(tyro.cli(Args))
