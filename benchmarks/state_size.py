"""How many bytes of memory does it take to remember? Recall against the size of a compacted state.

    python benchmarks/state_size.py
    python benchmarks/state_size.py --simulator runs/ordered/simulator

Real out-and-back walks of the test split: the model sees the way out, its state is compacted and expanded, and the way
back is dreamt from what is left. Two ways of compacting: every tube keeps as many channels as it needs within a
tolerance, or all tubes keep the same number. What counts is the share of objects that are right in cells seen before.
Models trained with `--objective.truncation` have their channels in order of importance; any other can be measured
too. Writes `benchmarks/records/state-size.json.gz` and the picture `docs/img/state_size.png`.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import records_io
import torch
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lssvwm_env.evaluation.fidelity import last_seen, tile_report
from lssvwm_env.evaluation.memory.suite import Recording, SuiteSettings, World, record_suite
from lssvwm_env.real.walks import OutAndBack
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.provenance import hardware
from lssvwm_models.data.segments import to_frames, to_uint8
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.state import CompactState, WorldModelState
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.utils.figures import png, tidy
from lssvwm_models.utils.files import write_bytes

ROOT: Final = Path(__file__).parents[1]
JUDGED: Final = ("objects_seen", "tiles_seen")


@dataclass
class Args:
    """What to measure.

    Attributes:
        simulator: Folder, or id of a registered simulator of a MiniGrid world.
        walk: Actions out.
        horizon: Frames of the way back to dream, at most `walk` and 4.
        sequences: Walks.
        tolerances: Shares of the squared norm of every layer's memory that may be dropped.
        channels: Numbers of channels that all tubes keep alike.
        steps: Denoising steps per frame.
        batch: Walks side by side.
        threads: CPU threads.
        seed: Of the walks and of the dreams.
        record, picture: Where to write.
    """

    simulator: str = "LSSVWM/ObjectRooms-v0"
    walk: int = 100
    horizon: int = 32
    sequences: int = 32
    tolerances: tuple[float, ...] = (0, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
    channels: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32)
    steps: int = 1
    batch: int = 8
    threads: int = 2
    seed: int = 0
    record: Path = ROOT / "benchmarks" / "records" / "state-size.json.gz"
    picture: Path = ROOT / "docs" / "img" / "state_size.png"

    def __post_init__(self) -> None:
        if not 1 <= self.horizon <= OutAndBack(self.walk).horizon:
            raise ValueError(
                f"horizon={self.horizon} must be from 1 to {OutAndBack(self.walk).horizon}, the frames of the way back "
                f"of walk={self.walk}; take a longer walk"
            )


def recorded(args: Args, simulator: Simulator) -> Recording:
    """The walks, (B, context + horizon) frames."""
    config = simulator.config
    world = World(config.env_id, config.env_id, dict(config.env_kwargs), ("out_and_back",))
    settings = SuiteSettings((world,), args.sequences, (args.seed,), (args.walk,), questions=0)
    played = record_suite(settings).episodes[world.name, f"out_and_back/{args.walk}"]
    return played[:, : OutAndBack(args.walk).context + args.horizon]


@torch.no_grad()
def observed(model: WorldModel, walks: Recording) -> WorldModelState:
    """The memory after some frames."""
    is_first = torch.zeros(walks.act.shape, dtype=torch.bool)
    is_first[:, 0] = True
    state = model.initial_state(len(walks))
    return model.observe(state, to_frames(walks.frames), torch.from_numpy(walks.act), is_first)[0]


def dreamt(model: WorldModel, state: WorldModelState, act: np.ndarray, keys: torch.Tensor, steps: int) -> np.ndarray:
    """Frames uint8 (B, T, H, W, C) along actions (B, T)."""
    frames = []
    for actions in torch.from_numpy(act).unbind(1):
        prediction, state = model.imagine(state, actions, keys, steps)
        frames.append(to_uint8(prediction.obs))
    return np.stack(frames, 1)


def judged(walks: Recording, context: int, frames: np.ndarray) -> dict[str, Any]:
    """Estimates of the frames dreamt after the context."""
    age = last_seen(walks.pose, walks.visible, context)[:, context:]
    tallies = tile_report(frames, walks.tiles[:, context:], age, np.ones(frames.shape[:2], np.bool_))
    return {name: tallies[name].estimate() for name in JUDGED}


def size(compact: CompactState) -> dict[str, Any]:
    """Bytes per world, of the scans' memory and of the whole state; channels kept by the tubes of each layer."""
    memory = sum(t.numel() * t.element_size() for t in (*compact.held, *compact.kept))
    counts = [held.sum(-1).float() for held in compact.held if held.dim() == 3]
    return {
        "memory_bytes": memory / compact.batch_size,
        "state_bytes": compact.nbytes / compact.batch_size,
        "kept": [{"least": float(c.min()), "mean": float(c.mean()), "most": float(c.max())} for c in counts],
    }


def measure(args: Args, simulator: Simulator) -> dict[str, list[dict[str, Any]]]:
    """By way of compacting, a line per tolerance or number of channels."""
    model, walks, context = simulator.model, recorded(args, simulator), OutAndBack(args.walk).context
    keys = fold(torch.arange(len(walks)), args.seed)
    batches = [slice(start, start + args.batch) for start in range(0, len(walks), args.batch)]
    states = [observed(model, walks[some, :context]) for some in batches]
    ways: dict[str, dict[float, Callable[[WorldModelState], CompactState]]] = {
        "tolerance": {t: partial(WorldModelState.compact, tolerance=t) for t in args.tolerances},
        "channels": {n: partial(WorldModelState.truncated, channels=n) for n in args.channels},
    }
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for name, settings in ways.items():
        for setting, compacted in settings.items():
            compact = [compacted(state) for state in states]
            frames = [
                dreamt(model, left.expand(), walks.act[some, context:], keys[some], args.steps)
                for left, some in zip(compact, batches, strict=True)
            ]
            numbers = size(CompactState.cat(compact)) | judged(walks, context, np.concatenate(frames))
            lines[name].append({name: setting} | numbers)
    return lines


def picture(lines: dict[str, list[dict[str, Any]]], layers: list[str]) -> bytes:
    """Recall against bytes on the left, channels kept against the tolerance on the right."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label in (("tolerance", "as many as each tube needs"), ("channels", "the same number in all tubes")):
        found = [entry for entry in lines[name] if entry["objects_seen"]["value"] is not None]
        kept = [entry for entry in found if any(layer["most"] for layer in entry["kept"])]
        value, low, high = (np.array([e["objects_seen"][k] for e in kept]) for k in ("value", "low", "high"))
        left.errorbar(
            [e["memory_bytes"] / 1e3 for e in kept],
            value,
            (value - low, high - value),
            fmt="o-",
            capsize=2,
            label=label,
        )
        for entry in found:
            if entry not in kept:
                left.axhline(entry["objects_seen"]["value"], color="0.6", linestyle=":", label="nothing kept")
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:g}")
    left.set(xlabel="kB of the scans' memory, per world", ylabel="objects right, in cells seen before")
    x = [max(entry["tolerance"], 1e-4) for entry in lines["tolerance"]]
    for i, name in enumerate(layers):
        least, mean, most = ([e["kept"][i][k] for e in lines["tolerance"]] for k in ("least", "mean", "most"))
        right.plot(x, mean, "o-", markersize=3, label=name)
        right.fill_between(x, least, most, alpha=0.15)
    right.set(xscale="log", xlabel="tolerance (0 at the left end)", ylabel="channels kept: mean and range over tubes")
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
        tidy(axis)
    return png(figure)


def main(args: Args) -> None:
    """Measure, print and write."""
    torch.set_num_threads(args.threads)
    simulator, began = Simulator.load(args.simulator), time.perf_counter()
    network = simulator.config.model.network
    if network.memory != "scan":
        raise ValueError(f"{args.simulator} remembers by {network.memory}, which has no channels to drop: name another")
    lines = measure(args, simulator)
    report = {
        "simulator": args.simulator,
        "weights_sha256": simulator.weights_sha256,
        "sequences": args.sequences,
        "context": OutAndBack(args.walk).context,
        "horizon": args.horizon,
        "steps": args.steps,
        "seed": args.seed,
        "whole_bytes": simulator.model.initial_state(1).nbytes,
        "seconds": round(time.perf_counter() - began),
        "hardware": f"{args.threads} thread(s) on {hardware('cpu')}",
        "lines": lines,
    }
    layers = [
        f"layer {i}: {'map' if i in network.map_layers else f'blocks of {block}'}"
        for i, block in enumerate(network.block_sizes)
    ]
    records_io.write(args.record, report)
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(args.picture, picture(lines, layers))
    table = Table("kept", "memory, bytes", "state, bytes", *JUDGED, title=f"{args.simulator}, per world")
    for name, found in lines.items():
        for entry in found:
            shares = ("-" if entry[j]["value"] is None else f"{entry[j]['value']:.3f}" for j in JUDGED)
            sizes = (f"{entry[k]:,.0f}" for k in ("memory_bytes", "state_bytes"))
            table.add_row(f"{name} {entry[name]:g}", *sizes, *shares)
    console = Console()
    console.print(table)
    console.print(f"{report['seconds']} s, {report['hardware']}; see {args.picture}")


if __name__ == "__main__":
    main(tyro.cli(Args))
