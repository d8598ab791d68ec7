"""`report.html`: what was made, how good it is, and what to try next, on one page that needs nothing else."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any, Final

from lssvwm_env.evaluation.compare import columns_of, rows_of
from lssvwm_env.making.ledger import Ledger
from lssvwm_env.simulator.folder import CURVES
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.strangers import printable

STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff; }
h1, h2 { line-height: 1.2; }
img { max-width: 100%; }
figure { margin: 1.5rem 0; }
figure img { image-rendering: pixelated; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; }
pre { background: #f3f3f3; padding: .8rem; overflow-x: auto; }
"""
GOOD: Final = 0.98  # of tiles, and
FEW_EVENTS: Final = 0.95  # of F1, from which on there is nothing to be said


def page(folder: Path, simulator: Simulator, report: dict[str, Any], ledger: Ledger) -> str:
    """The page, in HTML."""
    world = _text(simulator.config.env_id)
    where = _text(folder / "model" / "simulator")
    parameters = sum(p.numel() for p in simulator.model.parameters()) / 1e6
    minutes = sum(ledger.spent.values()) / 60
    columns = columns_of(report)
    fidelity = _table(["", *columns.values()], rows_of(report, interval=False))
    chosen = _table(["", "choice", "why"], [[name, _value(c["value"]), c["why"]] for name, c in ledger.choices.items()])
    notes = "".join(f"<li>{_text(note)}.</li>" for note in report["notes"])
    film = _picture(folder / "compare", "dream_vs_real.gif")
    hints = "".join(f"<li>{hint}</li>" for hint in next_steps(report, ledger))
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{world}, simulated</title>
<style>{STYLE}</style>
<h1>{world}, simulated</h1>
<p>{_text(in_short(report))}</p>
<p>A model of {parameters:.2f} million parameters learned this in {minutes:.0f} minutes, data and judging included.</p>
<figure>
<img alt="Real frames above, and below the dream that goes on from them" src="{film}">
<figcaption>Above what happened, below the dream. With grey borders both are real; with orange ones the dream is on its
own.</figcaption>
</figure>
<h2>Step into it</h2>
<pre>import lssvwm_env

env = lssvwm_env.load("{where}")
obs, info = env.reset(seed=0)
obs, reward, terminated, truncated, info = env.step(env.action_space.sample())</pre>
<h2>How good it is</h2>
{fidelity}
<p>{report["sequences"]} episodes that it was not trained on. <i>Next frame</i> follows real frames. A <i>dream</i> has
{report["horizon"]} frames on its own after {report["context"]} real ones.</p>
<ul>{notes}</ul>
<img alt="What becomes of dreams, frame by frame" src="{_picture(folder / "compare", "fidelity.png")}">
<h2>What to try next</h2>
<ul>{hints}</ul>
<h2>What was chosen, and why</h2>
{chosen}
<img alt="Losses" src="{_picture(folder / "model" / "simulator", CURVES)}">
</html>
"""


def in_short(report: dict[str, Any]) -> str:
    """The point, in a sentence or two."""
    dream = report["dream"]
    told = []
    if (tiles := dream.get("tiles_seen")) and tiles["value"] is not None:
        told.append(f"{tiles['value']:.1%} of the tiles that were seen before are right in dreams.")
    if (objects := dream.get("objects_seen")) and objects["value"] is not None:
        told.append(f"So are {objects['value']:.1%} of the objects.")
    if not told and dream["psnr"]["value"] is not None:
        still = report["copy_dream"]["psnr"]["value"]
        told.append(
            f"Dreams have a PSNR of {dream['psnr']['value']:.1f} dB; the last real frame, shown on, has {still:.1f}."
        )
    return " ".join(told)


def next_steps(report: dict[str, Any], ledger: Ledger) -> list[str]:
    """What may make it better, in HTML."""
    dream = report["dream"]
    hints = []
    reward = dream.get("reward_f1", {}).get("value")
    if reward is None:
        hints.append(
            "No reward came up in the episodes that it was judged on. If there are some to be had, let someone act who "
            "finds them: <code>--policy</code> takes a class of yours, or an agent."
        )
    elif reward < FEW_EVENTS:
        hints.append(
            "Rewards are not foretold well. More of them help: another <code>--policy</code>, or more "
            "<code>--frames</code>."
        )
    tiles = dream.get("tiles_seen", {}).get("value")
    if tiles is not None and tiles < GOOD:
        hints.append(
            "What was seen is not kept well. More time helps: a larger <code>--minutes</code>, in a new folder."
        )
    if ledger.choices["preset"]["value"] != "tiny":
        hints.append("A larger model draws better frames: <code>--preset tiny</code>, with more minutes.")
    hints.append("Let a policy learn in its dreams: <code>lssvwm imagine --help</code>.")
    return hints


def _value(value: Any) -> str:
    return ", ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, dict) else str(value)


def _text(text: object) -> str:
    return escape(printable(text))


def _table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _picture(folder: Path, name: str) -> str:
    """A picture that is part of the page."""
    kind = name.rpartition(".")[2]
    return f"data:image/{kind};base64,{base64.b64encode((folder / name).read_bytes()).decode()}"
