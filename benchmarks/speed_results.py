"""Make docs/speed.md, with its pictures, of the records that speed_card.py, beside_the_real.py, speed_against.py and
trade_off.py leave.

    python benchmarks/speed_results.py

Nothing is measured here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import records_io
import tyro
from beside_the_real import speeds_table
from matplotlib.figure import Figure
from pages import ROOT, show, table, write_pages
from records_io import Record
from speed_against import compared

from lssvwm_models.utils.figures import png, tidy

PRECISIONS: Final = "float32", "bfloat16"


@dataclass
class Args:
    """Where to read and write.

    Attributes:
        records: Folder of records; speed-card.json must be there.
        docs: Folder for speed.md; pictures go into its img/.
    """

    records: Path = ROOT / "benchmarks" / "records"
    docs: Path = ROOT / "docs"


def main(args: Args) -> None:
    """Write, and draw."""
    found = {
        name: records_io.read(path) if (path := args.records / f"{name}.json").exists() else None
        for name in ("speed-card", "beside-the-real", "speed-against", "trade-off")
    }
    card, traded = found["speed-card"], found["trade-off"]
    page = written(card, found["beside-the-real"], found["speed-against"], traded)
    files: dict[str, str | bytes] = {"speed.md": page}
    files["img/speed.png"] = drawn(card)
    if traded is not None:
        files["img/trade_off.png"] = trade_off_png(traded)
    write_pages(args.docs, files)


def beside(record: Record) -> str:
    """A section: dreams beside the real environment, on as many cores."""
    some = next(iter(record["simulators"].values()))
    config, machine = some["config"], some["hardware"]
    return f"""## Beside the real environment

{speeds_table(record)}

`python benchmarks/beside_the_real.py` lets both have {some["cores"]} cores of {machine["name"]}: the dreams as threads,
the real environment as processes. They take {config["rounds"]} turns in one run. Both take random actions, and the time
of resets does not count.

"""


def trade_off(record: Record) -> str:
    """A section: what is dreamt right against how fast, by simulator and denoising steps."""
    rows = [
        [f"`{r['simulator']}`", str(r["steps"]), f"{r['parameters'] / 1e6:.2f} M", f"{r['bytes'] / 1e6:.2f}"]
        + [
            show(r[part][key], digits=2, sequences=record["config"]["sequences"])
            for part in ("next_frame", "dream")
            for key in ("tiles_seen", "objects_seen")
        ]
        + [f"{r['speed']:,.0f}", f"{r['speed'] / record['real'][r['env_id']]:.2f}"]
        for r in record["rows"]
    ]
    header = ["simulator", "denoising steps", "parameters", "MB per world", "next frame: tiles seen before, %"]
    header += ["objects, %", "dream: tiles seen before, %", "objects, %", "frames/s", "of the real steps/s"]
    config, machine = record["config"], record["hardware"]
    real = ", ".join(f"{speed:,.0f} of {env_id}" for env_id, speed in record["real"].items())
    return f"""## How good, how fast

What more denoising steps cost in frames per second, and what they buy in tiles:

![Tiles that are right, and frames per second](img/trade_off.png)

{table(header, rows)}

`python benchmarks/trade_off.py` takes {config["sequences"]} episodes of the test split. *Next frame* comes after all
real frames before it. *Dreams* are of up to 64 frames after up to 64 real ones, as `lssvwm compare` makes them. All in
float32, shown as pixels, {config["envs"]} worlds side by side, {config["threads"]} threads of {machine["cpu_count"]},
{machine["platform"]}. Brackets are 95 % intervals over episodes: a bootstrap, or exact (Clopper-Pearson) where all
outcomes are alike. Real steps per second, on one core in the same run: {real}.

"""


def trade_off_png(record: Record) -> bytes:
    """One curve per simulator, one point per number of denoising steps."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axis = figure.subplots()
    for i, name in enumerate(dict.fromkeys(row["simulator"] for row in record["rows"])):
        rows = [row for row in record["rows"] if row["simulator"] == name]
        x = [row["speed"] for row in rows]
        axis.plot(x, [100 * row["dream"]["tiles_seen"]["value"] for row in rows], "o-", color=f"C{i}", label=name)
        for row, at in zip(rows, x, strict=True):
            point = at, 100 * row["dream"]["tiles_seen"]["value"]
            axis.annotate(str(row["steps"]), point, textcoords="offset points", xytext=(4, 4), fontsize=7)
    axis.axhline(99, color="grey", linestyle=":", linewidth=1)
    axis.set(xscale="log", xlabel="frames per second (with denoising steps)", ylabel="tiles seen before, right (%)")
    axis.legend(frameon=False, fontsize=7)
    tidy(axis)
    return png(figure, 110)


def written(record: Record, real: Record | None, earlier: Record | None, traded: Record | None) -> str:
    """docs/speed.md; with what the other programs measured, if they have."""
    config, start, dreams, lives = record["config"], record["starting"], record["dreaming"], record["remembering"]
    envs = list(dreams["rows"][0]["speed"])
    speeds = table(
        ["precision", "denoising steps", *(f"{n} envs" for n in envs)],
        [[PRECISIONS[r["bf16"]], str(r["steps"]), *(f"{r['speed'][n]:,.0f}" for n in envs)] for r in dreams["rows"]],
    )
    by_history = table(
        ["frames lived", "bytes", "step, ms", f"fork into {config['forks']:,}, ms", "to disk, ms", "from disk, ms"],
        [
            [f"{x['frames']:,}", f"{x['bytes']:,}", *(f"{x[k]:.2f}" for k in ("step", "fork", "save", "load"))]
            for x in lives
        ],
    )
    floors = table(
        ["step of", "ms", "GFLOP", "GB moved", "floor, ms", "floor / time", "scan", "attention", "MLP", "rest"],
        [
            [f"{f['envs']} envs, {PRECISIONS[f['bf16']]}", f"{f['ms']:.0f}", f"{f['gflop']:.1f}"]
            + [f"{f['gbytes']:.2f}", f"{f['floor_ms']:.1f}", f"{f['floor_ms'] / f['ms']:.0%}"]
            + [f"{f['parts'][name]:.0%}" for name in ("scan", "attention", "mlp", "rest")]
            for f in record["floors"]
        ],
    )
    machine = record["hardware"]
    against = (
        ""
        if earlier is None
        else f"""
## Against an earlier version

`python benchmarks/speed_against.py` compares commit `{earlier["args"]["commit"]}`, from before there was any work on
speed, with a later one: {earlier["args"]["rounds"]} turns each in one run, {earlier["args"]["threads"]} thread(s), the
preset `tiny`.

{compared(earlier)}
"""
    )
    return f"""# Speed card

A step after {lives[-1]["frames"]:,} frames takes {lives[-1]["step"] / lives[1]["step"]:.2f} of the time of one after
{lives[1]["frames"]:,}, and the memory has as many bytes. A fork copies nothing: children share their parent's memory
until they move on.

![Frames per second, and time by history](img/speed.png)

`python benchmarks/speed_card.py` measured {config["simulator"]} with {machine["torch_threads"]} threads of
{machine["cpu_count"]}, {machine["platform"]}, device {machine["device"]}, torch {record["versions"]["torch"]},
lssvwm-env {record["versions"]["lssvwm-env"]}: medians of {config["rounds"]} turns in one run. `python
benchmarks/speed_results.py` makes this page of the records. The commands are in
[`recipes/measure.sh`](../recipes/measure.sh). The speed of training is in [results.md](results.md#what-a-frame-costs),
beside the models it is compared with.

## To start

`import torch` takes {start["torch"]:.1f} s. Then `import lssvwm_env` takes {start["library"]:.2f} s. Then `gym.make`,
up to the first dreamt frame, takes {start["first_frame"]:.2f} s.

## To dream: frames per second

{speeds}

Every frame takes one pass of the network per denoising step, and one more that writes it into the memory. The real
environment makes {dreams["real"]:,.0f} steps per second on one core in the same run.

{beside(real) if real else ""}{trade_off(traded) if traded else ""}## To remember, and to fork

{by_history}

## Where the time goes

{floors}

With one thread. The floor is what a step would take if its matrix products ran as fast as one large product does here,
and if its memory and weights were moved once per pass, at the speed of a copy. The rest is spent on many small
element-wise operations: norms, rotations, gates, softmax.
{against}"""


def drawn(record: Record) -> bytes:
    """Frames per second against batch size, and a step against history."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    speed, history = figure.subplots(1, 2)
    for row in record["dreaming"]["rows"]:
        envs = [int(n) for n in row["speed"]]
        label = f"{PRECISIONS[row['bf16']]}, {row['steps']} step(s)"
        style = "o-" if row["bf16"] else "o--"
        speed.plot(envs, list(row["speed"].values()), style, color=f"C{row['steps'] - 1}", label=label, markersize=3)
    speed.axhline(record["dreaming"]["real"], color="grey", linestyle=":", label="real, one core")
    speed.set(xscale="log", yscale="log", xlabel="envs side by side", ylabel="frames per second")
    speed.legend(frameon=False, fontsize=7)
    lives = record["remembering"]
    history.plot([x["frames"] for x in lives], [x["step"] for x in lives], "o-")
    history.set(
        xscale="log",
        ylim=(0, 1.2 * max(x["step"] for x in lives)),
        xlabel="frames lived",
        ylabel="ms per step of one world",
    )
    for axis in (speed, history):
        tidy(axis)
    return png(figure, 110)


if __name__ == "__main__":
    main(tyro.cli(Args))
