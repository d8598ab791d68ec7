"""How good and how fast are dreams? Simulators, and numbers of denoising steps, beside one another and the real thing.

    python benchmarks/trade_off.py
    python benchmarks/trade_off.py --simulators runs/mine/simulator LSSVWM/ObjectRooms-v0 --envs 1024 --device cuda

What is right is counted by `lssvwm compare`, on test episodes; speeds are of one run, in which all take turns, the real
environments too. Writes `benchmarks/records/trade-off.json`, and docs/speed.md anew.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import records_io
import speed_results
import torch
import tyro
from cost_curves import timed
from speed_card import REAL_STEPS, STEPS, real_steps, repeated, stepping

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.evaluation.compare import CompareConfig, compare
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.provenance import provenance

ROOT: Final = Path(__file__).parents[1]
COUNTED: Final = "tiles_seen", "objects_seen", "psnr"


@dataclass
class Args:
    """What to measure.

    Attributes:
        simulators: Folders, or ids of bundled simulators.
        denoising_steps: Network passes per frame, besides the one that writes it into the memory.
        envs: Worlds side by side.
        sequences: Test episodes that frames are compared with.
        rounds: Times every speed is measured; the median counts.
        threads: CPU threads.
        device: Where the simulators run; real environments are always on the CPU.
        seed: Of the episodes, the dreams and the actions.
        records, docs: Folders for what is written.
    """

    simulators: tuple[str, ...] = ("LSSVWM/ObjectRooms-v0", "LSSVWM/MiniGrid-MemoryS9-v0")
    denoising_steps: tuple[int, ...] = (1, 2, 4)
    envs: int = 64
    sequences: int = 16
    rounds: int = 5
    threads: int = 2
    device: str = "cpu"
    seed: int = 0
    records: Path = ROOT / "benchmarks" / "records"
    docs: Path = ROOT / "docs"


def accuracies(args: Args, folder: Path) -> list[dict[str, Any]]:
    """A row per simulator and number of denoising steps; all of a world are judged on the same episodes."""
    rows, episodes = [], dict[str, Path]()
    for name in args.simulators:
        simulator = Simulator.load(name)
        env_id = simulator.config.env_id
        for steps in args.denoising_steps:
            out = folder / str(len(rows))
            recorded = episodes.get(env_id)
            report = compare(CompareConfig(name, out, recorded, args.sequences, denoising_steps=steps, seed=args.seed))
            episodes.setdefault(env_id, out / "episodes")
            rows.append(
                {"simulator": name, "env_id": env_id, "steps": steps}
                | {part: {key: report[part][key] for key in COUNTED} for part in ("next_frame", "dream")}
                | {"parameters": sum(p.numel() for p in simulator.model.parameters())}
                | {"bytes": simulator.model.initial_state(1).nbytes}
            )
    return rows


def speeds(args: Args, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Frames per second, into the rows; returns the steps per second of the real environments."""
    work: dict[Any, Callable[[], object]] = {}
    for i, row in enumerate(rows):
        simulator = Simulator.load(row["simulator"])
        core = SimulatorCore(simulator, 1, row["steps"], args.device)
        core.reset([0], [args.seed])
        work[i] = partial(repeated, stepping(core.fork(args.envs)))
        work.setdefault(row["env_id"], real_steps(simulator, args.seed))
    seconds = timed(work, args.rounds, args.device)
    for i, row in enumerate(rows):
        row["speed"] = STEPS * args.envs / seconds[i]
    return {name: REAL_STEPS / spent for name, spent in seconds.items() if isinstance(name, str)}


def main(args: Args) -> None:
    """Measure, and write."""
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = accuracies(args, Path(folder))
    record = {"rows": rows, "real": speeds(args, rows)} | provenance(args, torch.device(args.device))
    records_io.write(args.records / "trade-off.json", record)
    speed_results.main(speed_results.Args(args.records, args.docs))


if __name__ == "__main__":
    main(tyro.cli(Args))
