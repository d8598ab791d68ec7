"""What a training step of every model of the memory study takes, against one of "ours".

    python benchmarks/study_costs.py

Steps of one sequence of 64 frames, with batches, gradients and optimisers. Models take turns, and what counts is CPU
time, so that a machine that is shared with other work changes little. Medians go to
`benchmarks/records/study-costs.json`.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import records_io
import torch
import tyro
from cost_curves import timed
from memory_study import VARIANTS, Args, configs

from lssvwm_env.utils.provenance import hardware
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.training.trainer import Trainer

RECORD: Final = Path(__file__).parent / "records" / "study-costs.json"


@dataclass
class CostArgs:
    """What to measure.

    Attributes:
        dataset: Folder of training episodes.
        rounds: Steps of every model that count, after a first one that does not.
        out: The record.
    """

    dataset: Path = Path("data/object-rooms-train")
    rounds: int = 5
    out: Path = RECORD


def main(args: CostArgs) -> None:
    """Measure, print and write the record."""
    torch.set_num_threads(1)
    dataset, work = EpisodeDataset(args.dataset), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, variant in VARIANTS.items():
            training, model = configs(variant, 0, Args(), dataset)
            training = replace(training, out=Path(folder, name), lengths=(64,), curriculum="schedule")
            work[name] = Trainer(training, model, dataset).train_step
        seconds = timed(work, args.rounds, "cpu", time.process_time)
    step = {name: round(found, 4) for name, found in seconds.items()}
    report = {"seconds": step, "hardware": f"1 thread on {hardware('cpu')}, torch {torch.__version__}"}
    records_io.write(args.out, report)
    for name, found in step.items():
        print(f"{name:26} {found:6.2f} s  {found / step['ours']:5.2f}")
    print(report["hardware"])


if __name__ == "__main__":
    main(tyro.cli(CostArgs))
