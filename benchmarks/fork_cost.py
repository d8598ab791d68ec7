"""What it costs to keep, fork and restore a dreamed world, against how long it has lived.

python benchmarks/fork_cost.py
python benchmarks/fork_cost.py --simulator LSSVWM/MiniGrid-MemoryS9-v0 --forks 4096

Medians, in microseconds. The worlds live on frames of the simulator's own starts, over and over.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from lssvwm_env.core import CoreState, SimulatorCore
from lssvwm_env.simulator import Simulator


@dataclass
class Args:
    """What to measure.

    Attributes:
        simulator: Folder, or id of a bundled simulator.
        histories: Frames that a world has lived.
        forks: Children of one world.
        rounds: Times everything is measured; the median counts.
        threads: CPU threads.
    """

    simulator: str = "LSSVWM/ObjectRooms-v0"
    histories: tuple[int, ...] = (10, 100, 1000, 10_000)
    forks: int = 1024
    rounds: int = 21
    threads: int = 2


def main(args: Args) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    simulator = Simulator.load(args.simulator)
    obs, act = (np.concatenate(list(x)) for x in (simulator.starts.obs, simulator.starts.act))
    title = f"one world of {args.simulator}, by frames lived; median microseconds"
    table = Table(
        "frames", "bytes", f"fork into {args.forks:,}", "save_state", "load_state", "to disk", "back", title=title
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        for history in args.histories:
            index = np.arange(history) % len(obs)
            core = SimulatorCore(simulator, 1)
            core.reset([0], [0], [(obs[index], act[index])], allow_long_context=True)
            state = core.save_state()
            costs = [
                _microseconds(action, args.rounds)
                for action in (
                    partial(core.fork, args.forks),
                    core.save_state,
                    partial(core.load_state, state),
                    partial(state.save, path),
                    partial(CoreState.load, path),
                )
            ]
            table.add_row(f"{history:,}", f"{state.memory.nbytes:,}", *(f"{cost:,.0f}" for cost in costs))
    console = Console()
    console.print(table)
    console.print(
        f"Children share the memory of their parent until they move on. {args.threads} threads of {os.cpu_count()} on "
        f"{platform.machine()}, torch {torch.__version__}"
    )


def _microseconds(action: Callable[[], object], rounds: int) -> float:
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return 1e6 * median(seconds[1:])  # the first warms up


if __name__ == "__main__":
    main(tyro.cli(Args))
