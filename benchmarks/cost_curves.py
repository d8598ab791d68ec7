"""What a frame costs, against how much came before it, for every kind of memory.

    python benchmarks/cost_curves.py

Two curves per model, untrained (weights do not change the cost): time and bytes per generated frame after a history of
50 to 5,000 frames, and training time per frame in sequences of 32 to 1,024. Settings take turns, so that a busy machine
slows all of them alike; medians of one run are shown and written to `benchmarks/records/cost-curves.json`.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import records_io
import torch
import tyro
from rich.console import Console
from rich.table import Table

from lssvwm_env.utils.provenance import hardware
from lssvwm_models.data.batch import Batch
from lssvwm_models.execution.precision import autocast
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.losses import world_model_loss

RECORD: Final = Path(__file__).parent / "records" / "cost-curves.json"
VIEW: Final = EgoView(cell=8, row=6, col=3, motions=((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))

# The memories of memory_study.py, with all else as by default; sizes are matched by the width of the MLP, within 7 %.
MODELS: Final[dict[str, dict[str, Any]]] = {
    "ours": {},
    "window": {"memory": "attention", "memory_window": 8, "mlp_ratio": 4},
    "full-attention": {"memory": "attention", "mlp_ratio": 4},
    "mamba2": {"map_layers": (), "block_sizes": (4, 4, 4, 4), "mlp_ratio": 4},
    "blocks-1": {"map_layers": (), "block_sizes": (1, 1, 1, 1), "mlp_ratio": 5},
}


@dataclass
class Args:
    """What to measure.

    Attributes:
        models: Names in MODELS; what the record says of the others, if it is of the same size and machine, stays.
        histories: Frames in the memory before the one that is timed.
        lengths: Of training sequences.
        most_attended: Longest sequence that full attention is trained on; longer ones take minutes each.
        frames: Trained on in a turn, at least: enough for the moods of a machine to even out.
        size: Of the models, a preset.
        worlds: Dreamt side by side.
        rounds: Times every setting is measured; the median counts.
        threads: CPU threads.
        device: Where to compute.
        out: The record.
    """

    models: tuple[str, ...] = tuple(MODELS)
    histories: tuple[int, ...] = (50, 200, 800, 2000, 5000)
    lengths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    most_attended: int = 256
    frames: int = 256
    size: Literal["debug", "tiny", "small"] = "tiny"
    worlds: int = 1
    rounds: int = 3
    threads: int = 1
    device: str = "cpu"
    out: Path = RECORD


def make(changes: dict[str, Any], size: str, device: str) -> WorldModel:
    """A model with what is particular to it."""
    config = preset(size, ActionSpec("discrete", 7), view=VIEW, latent_dim=21)
    return WorldModel(replace(config, network=replace(config.network, **changes))).to(device)


def after(model: WorldModel, worlds: int, history: int) -> WorldModelState:
    """A memory of the size that it has after so many frames; what is in it does not matter here."""
    state = model.initial_state(worlds)
    network = model.config.network
    if network.memory == "attention" and network.memory_window is None:
        grown = tuple(torch.randn(worlds, history, *s.shape[2:], device=s.device) for s in state.ssm)
        state = replace(state, ssm=grown)
    return replace(state, age=torch.full_like(state.age, history))


def batch_of(length: int, device: str) -> Batch:
    """One sequence of noise."""
    is_first = torch.zeros(1, length, dtype=torch.bool)
    is_first[:, 0] = True
    nothing = torch.zeros(1, length)
    pose = torch.zeros(1, length, 3, dtype=torch.long)
    obs = torch.rand(1, length, 3, 64, 64) * 2 - 1
    return Batch(obs, torch.zeros(1, length, dtype=torch.long), nothing, is_first & False, is_first, pose).to(device)


def timed(
    work: dict[Any, Callable[[], object]], rounds: int, device: str, clock: Callable[[], float] = time.perf_counter
) -> dict[Any, float]:
    """Median seconds of each piece of work; they take turns, and the first turn does not count."""
    seconds: dict[Any, list[float]] = {setting: [] for setting in work}
    for _ in range(rounds + 1):
        for setting, do in work.items():
            began = clock()
            do()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds[setting].append(clock() - began)
    return {setting: median(s[1:]) for setting, s in seconds.items()}


def generating(args: Args) -> dict[str, Any]:
    """Milliseconds and bytes per generated frame, by model and history."""
    work, size = {}, {}
    act, keys = (torch.zeros(args.worlds, dtype=torch.long, device=args.device) for _ in range(2))
    for name in args.models:
        model = make(MODELS[name], args.size, args.device).eval().requires_grad_(False)
        for history in args.histories:
            state = after(model, args.worlds, history)
            size[name, history] = state.nbytes / args.worlds
            work[name, history] = partial(model.imagine, state, act, keys)
    seconds = timed(work, args.rounds, args.device)
    return {
        name: {str(h): {"ms": 1e3 * seconds[name, h] / args.worlds, "bytes": size[name, h]} for h in args.histories}
        for name in args.models
    }


def train_steps(model: WorldModel, batch: Batch, steps: int) -> None:
    """Forward and backward, with checkpoints at temporal blocks."""
    rng = torch.Generator(batch.obs.device)
    for _ in range(steps):
        with autocast(batch.obs.device, bf16=True):
            loss, _ = world_model_loss(model, batch, rng, checkpoint_blocks=True)
        loss.backward()
        model.zero_grad(set_to_none=True)


def training(args: Args) -> dict[str, Any]:
    """Milliseconds per training frame, by model and length, with checkpoints at temporal blocks."""
    work = {}
    for name in args.models:
        model = make(MODELS[name], args.size, args.device).train()
        for length in args.lengths:
            if name == "full-attention" and length > args.most_attended:
                continue
            work[name, length] = partial(train_steps, model, batch_of(length, args.device), steps(args, length))
    seconds = timed(work, args.rounds, args.device)
    return {
        name: {str(n): 1e3 * seconds[name, n] / (n * steps(args, n)) for n in args.lengths if (name, n) in seconds}
        for name in args.models
    }


def steps(args: Args, length: int) -> int:
    """Training steps of a turn, each on one sequence of that length."""
    return max(args.frames // length, 1)


def main(args: Args) -> None:
    """Measure, print and write the record."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    report = {
        "generating": generating(args),
        "training": training(args),
        "size": args.size,
        "worlds": args.worlds,
        "hardware": f"{args.threads} thread(s) on {hardware(args.device)}, torch {torch.__version__}",
    }
    console = Console()
    table = Table("model", *(f"{h:,}" for h in args.histories), title="ms (and MB) per generated frame, by history")
    for name, found in report["generating"].items():
        table.add_row(name, *(f"{f['ms']:.1f} ({f['bytes'] / 1e6:.2f})" for f in found.values()))
    console.print(table)
    table = Table("model", *(f"{n:,}" for n in args.lengths), title="ms per training frame, by length")
    for name, found in report["training"].items():
        table.add_row(name, *(f"{found[str(n)]:.1f}" if str(n) in found else "-" for n in args.lengths))
    console.print(table)
    console.print(report["hardware"])
    older = records_io.read(args.out) if args.out.exists() else {}
    if all(older.get(key) == report[key] for key in ("size", "worlds", "hardware")):
        for part in ("generating", "training"):
            report[part] = older[part] | report[part]
    records_io.write(args.out, report)


if __name__ == "__main__":
    main(tyro.cli(Args))
