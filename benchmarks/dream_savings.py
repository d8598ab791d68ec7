"""Draw what dreams save: real frames that policies from dreams used, beside those after which PPO had as much success.

    python benchmarks/dream_savings.py

Nothing is measured here. Each row is a policy that learned in dreams. Every seed of PPO in its world is a dot, where
one of its evaluations first found as much success, or an arrow, from where its training ended without. A policy is left
out if another one of its world had as much success from fewer real frames.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tyro
from agent_results import frames_until, learned, model_free_in, ppo, reports_in, world
from matplotlib.figure import Figure
from pages import ROOT, write_pages
from records_io import Record

from lssvwm_models.utils.figures import png, tidy

MARKERS: Final = {"PPO": ("C0", "o"), "PPO with an LSTM": ("C1", "D")}


@dataclass
class Args:
    """Where to read and write.

    Attributes:
        records: Folder of reports, as `lssvwm judge` and `benchmarks/model_free.py` write them.
        out: Folder whose img/ gets the picture.
    """

    records: Path = ROOT / "benchmarks" / "records" / "agents"
    out: Path = ROOT / "docs"


def unbeaten(reports: list[Record]) -> list[Record]:
    """Policies from dreams without another of their world that has as much success from fewer real frames."""
    found: list[Record] = []
    for r in sorted(filter(learned, reports), key=lambda r: (world(r), r["training"]["recorded_frames"])):
        if all(r["success"]["value"] > other["success"]["value"] for other in found if other["env_id"] == r["env_id"]):
            found.append(r)
    return found


def savings_png(reports: list[Record], model_free: list[Record]) -> bytes:
    """A row per policy; real frames on a logarithmic axis."""
    shown = unbeaten(reports)[::-1]
    figure = Figure(figsize=(8, 1.3 + 0.42 * len(shown)), layout="constrained")
    axis = figure.subplots()
    for row, r in enumerate(shown):
        axis.plot(r["training"]["recorded_frames"], row, "C2*", markersize=13, zorder=3)
        runs = [m for m in model_free if m["args"]["env_id"] == r["env_id"]]
        for i, m in enumerate(runs):
            color, marker = MARKERS[ppo(m)]
            height = row + 0.12 * (i - (len(runs) - 1) / 2)  # two seeds may have the same number
            there = frames_until(m, r["success"]["value"])
            if there:
                axis.plot(there, height, marker, color=color, markersize=6)
            else:
                last = m["curve"][-1]["real_steps"]
                arrow = {"arrowstyle": "->", "color": color, "linewidth": 1.5}
                axis.annotate("", (1.6 * last, height), (last, height), arrowprops=arrow)
                axis.plot(last, height, "|", color=color, markersize=8)
    axis.set_xscale("log")
    axis.set_xlim(right=2 * axis.get_xlim()[1])  # room for arrows
    axis.plot([], [], "C2*", markersize=13, linestyle="none", label="learned in dreams")
    for name, (color, marker) in MARKERS.items():
        axis.plot([], [], marker, color=color, linestyle="none", label=f"{name}, a seed each")
    never = "training ended before that success"
    axis.plot([], [], "k", marker=r"$\to$", markersize=12, linestyle="none", label=never)
    axis.set_yticks(range(len(shown)), [f"{world(r)}, {100 * r['success']['value']:.1f} % won" for r in shown])
    axis.set(xlabel="real frames until that success", ylim=(-0.6, len(shown) - 0.4))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(*axis.get_legend_handles_labels(), frameon=False, fontsize=8, ncols=2, loc="outside upper center")
    tidy(axis)
    return png(figure, 130)


def main(args: Args) -> None:
    """Draw."""
    picture = savings_png(reports_in(args.records), model_free_in(args.records))
    write_pages(args.out, {"img/dream_savings.png": picture})
    print(f"{args.out / 'img' / 'dream_savings.png'} is written")


if __name__ == "__main__":
    main(tyro.cli(Args))
