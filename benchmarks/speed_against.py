"""Is it faster than it was? This checkout against an earlier commit, in turns, in one run.

    python benchmarks/speed_against.py --commit 4c08ef3

Both get the preset `tiny` with untrained weights, whose speed is that of trained ones. What is timed: frames that are
dreamt, decoded and committed, with one denoising step; and training steps, forward and backward, in bfloat16 where the
CPU multiplies it.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import records_io
import tyro
from pages import table

from lssvwm_env.utils.provenance import hardware
from lssvwm_models.execution.precision import supports_bf16

ROOT: Final = Path(__file__).parents[1]

# Run by both commits, with their own packages on the path, which earlier had other names.
TIMED: Final = """
import inspect, json, os, statistics, sys, time
import torch

if os.path.isdir("world_models/lssvwm_models"):
    from lssvwm_models.data.batch import Batch
    from lssvwm_models.execution.recorded import RecordedSteps
    from lssvwm_models.memory.geometry import EgoView
    from lssvwm_models.model.actions import ActionSpec
    from lssvwm_models.model.config import preset
    from lssvwm_models.model.world_model import WorldModel
    from lssvwm_models.training.losses import world_model_loss
else:
    from world_models.actions import ActionSpec
    from world_models.geometry import EgoView
    from world_models.world_model import Batch, WorldModel, preset
    world_model_loss = WorldModel.loss
    try:
        from world_models.recorded import RecordedSteps
    except ImportError:
        RecordedSteps = None

asked = json.loads(sys.argv[1])
torch.set_num_threads(asked["threads"])
torch.manual_seed(0)
view = EgoView(cell=8, row=6, col=3, motions=((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
model = WorldModel(preset("tiny", ActionSpec("discrete", 7), view=view, latent_dim=21))
replayed = {"recorded": RecordedSteps(model, after=1)} if RecordedSteps else {}  # as simulators do

def timed(do):
    for _ in range(min(4, asked["repeats"])):
        do()
    seconds = []
    for _ in range(asked["repeats"]):
        began = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)

def dream(n, bf16):
    model.requires_grad_(False)
    state, act, keys = model.initial_state(n), torch.ones(n, dtype=torch.long), torch.arange(n)
    def step():
        nonlocal state
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            frame, state = model.imagine(state, act, keys, **replayed)
        frame.obs
    return n / timed(step)

def train(length):
    model.requires_grad_(True)
    n = max(1, 128 // length)
    quiet = torch.zeros(n, length, dtype=torch.bool)
    batch = Batch(torch.rand(n, length, 3, 64, 64) * 2 - 1, quiet.long(), quiet.float(), quiet, quiet,
                  torch.zeros(n, length, 3, dtype=torch.long))
    owned = "rng" in inspect.signature(world_model_loss).parameters  # older ones drew from the global stream
    chance = (torch.Generator(),) if owned else ()
    def step():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=asked["bf16"]):
            loss, _ = world_model_loss(model, batch, *chance)
        loss.backward()
    return n * length / timed(step)

found = {}
for bf16, name in enumerate(("float32", "bfloat16")[:1 + asked["bf16"]]):
    found |= {f"dreams, {n} side by side, {name}": dream(n, bool(bf16)) for n in asked["worlds"]}
found |= {f"training, sequences of {length}": train(length) for length in asked["lengths"]}
print(json.dumps(found))
"""


@dataclass
class Args:
    """What to compare.

    Attributes:
        commit: The earlier one.
        worlds: Dreamt side by side.
        lengths: Of training sequences, 128 frames of them at a time.
        rounds: Turns each commit gets; the median counts.
        repeats: Measurements per turn, of which the median counts.
        threads: CPU threads.
        out: The record.
    """

    commit: str = "4c08ef3"
    worlds: tuple[int, ...] = (1, 64)
    lengths: tuple[int, ...] = (16, 64)
    rounds: int = 3
    repeats: int = 20
    threads: int = 2
    out: Path = ROOT / "benchmarks" / "records" / "speed-against.json"


def speeds(checkout: Path, args: Args) -> dict[str, float]:
    """Frames per second of what a checkout does."""
    asked = json.dumps(
        {k: v for k, v in asdict(args).items() if k not in ("commit", "out")} | {"bf16": supports_bf16("cpu")}
    )
    models = checkout / "world_models"
    packages = models if (models / "lssvwm_models").is_dir() else checkout
    made = subprocess.run(
        [sys.executable, "-c", TIMED, asked], cwd=checkout, env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(made.stdout))


def main(args: Args) -> None:
    """Compare, and print the table."""
    turns: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["git", "worktree", "add", "--detach", "--force", f"{folder}/then", args.commit],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        try:
            for _ in range(args.rounds):
                turns["before"].append(speeds(Path(folder) / "then", args))
                turns["now"].append(speeds(ROOT, args))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", f"{folder}/then"], cwd=ROOT, check=True)
    found = {who: {what: median(turn[what] for turn in each) for what in each[0]} for who, each in turns.items()}
    record: dict[str, Any] = {
        "args": {k: v for k, v in asdict(args).items() if k != "out"}, "hardware": hardware("cpu"), "speeds": found
    }  # fmt: skip
    records_io.write(args.out, record)
    print(compared(record))


def compared(record: dict[str, Any]) -> str:
    """The table, in markdown."""
    before, now = record["speeds"]["before"], record["speeds"]["now"]
    rows = [[what, f"{before[what]:,.0f}", f"{now[what]:,.0f}", f"{now[what] / before[what]:.2f}"] for what in now]
    return table(["frames per second", record["args"]["commit"], "now", "times as fast"], rows)


if __name__ == "__main__":
    main(tyro.cli(Args))
