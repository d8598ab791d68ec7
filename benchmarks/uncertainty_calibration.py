"""Is a dream wrong where it is unsure? Uncertainty against real error, frame by frame, in open-loop dreams.

python benchmarks/uncertainty_calibration.py --dataset runs/compare/object-rooms/episodes

Prints the error by fifths of the uncertainty and the rank correlation of the two, and draws them.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.data.openings import openings
from lssvwm_models.utils.files import write_atomic


@dataclass
class Args:
    """What to measure.

    Attributes:
        dataset: Folder of test episodes, such as those that `lssvwm compare` collects.
        simulator: Folder, or id of a registered simulator.
        sequences: Episodes.
        context: Real frames before each dream.
        horizon: Dreamt frames.
        samples: Samples of every frame.
        threads: CPU threads.
        out: Where to draw the picture.
        seed: Of the episodes drawn and of the dreams.
    """

    dataset: Path
    simulator: str = "LSSVWM/ObjectRooms-v0"
    sequences: int = 16
    context: int = 64
    horizon: int = 32
    samples: int = 4
    threads: int = 2
    out: Path = Path("runs/uncertainty.png")
    seed: int = 0


def main(args: Args) -> None:
    """Measure, print and draw."""
    torch.set_num_threads(args.threads)
    simulator = Simulator.load(args.simulator)
    length = args.context + args.horizon
    real = openings(EpisodeDataset(args.dataset), args.sequences, length, longer_than=length - 1, seed=args.seed)
    env = LSSVWMVectorEnv(simulator, len(real), length, uncertainty_samples=args.samples)
    contexts = [(obs[: args.context], act[: args.context]) for obs, act in zip(real.obs, real.act, strict=True)]
    env.reset(seed=args.seed, options=[{"context": context, "allow_long_context": True} for context in contexts])
    unsure, error = np.empty((2, len(real), args.horizon))
    for t in range(args.horizon):
        step = env.core.step(real.act[:, args.context + t])
        difference = step.obs.numpy().astype(float) - real.obs[:, args.context + t]
        unsure[:, t], error[:, t] = step.info()["uncertainty"], np.sqrt((difference**2).mean((1, 2, 3))) / 255
    report(args, unsure.ravel(), error.ravel())


def report(args: Args, unsure: np.ndarray, error: np.ndarray) -> None:
    """Print the table and write the picture."""
    ranks = [np.argsort(np.argsort(values)) for values in (unsure, error)]
    correlation = np.corrcoef(*ranks)[0, 1]
    table = Table(
        "fifth",
        "uncertainty",
        "error",
        title=f"{args.simulator}: {len(error)} dreamt frames, shares of full brightness",
    )
    fifths = np.array_split(np.argsort(unsure), 5)
    for i, chosen in enumerate(fifths):
        table.add_row(str(i + 1), f"{unsure[chosen].mean():.4f}", f"{error[chosen].mean():.4f}")
    console = Console()
    console.print(table)
    console.print(f"rank correlation {correlation:.2f}; seed {args.seed}, {args.samples} samples; see {args.out}")
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    axis.loglog(unsure + 1e-4, error + 1e-4, ".", alpha=0.3, markersize=4, label="one dreamt frame")
    means = [(unsure[chosen].mean() + 1e-4, error[chosen].mean() + 1e-4) for chosen in fifths]
    axis.loglog(*zip(*means, strict=True), "k-o", label="mean of each fifth")
    axis.set(xlabel="uncertainty", ylabel="real error (RMS)", title=f"rank correlation {correlation:.2f}")
    axis.legend(frameon=False)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(args.out, lambda file: figure.savefig(file, format="png", dpi=120))


if __name__ == "__main__":
    main(tyro.cli(Args))
