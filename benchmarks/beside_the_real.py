"""Dreams on all cores beside the real environment on as many, in turns, in one run.

    python benchmarks/beside_the_real.py --simulators LSSVWM/ObjectRooms-v0 LSSVWM/MemoryMaze-9x9-v0

The real environment runs in a process per core, the dreams in a thread per core of one process. Both take random
actions, and neither begins an episode while the clock runs. Writes `benchmarks/records/beside-the-real.json`, of which
`speed_results.py` makes a table in docs/speed.md; what is there of other simulators stays.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Final

import gymnasium as gym
import numpy as np
import records_io
import torch
import tyro
from pages import table
from records_io import Record

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.real import make_real
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.provenance import provenance

RECORD: Final = Path(__file__).parent / "records" / "beside-the-real.json"


@dataclass
class Args:
    """What to compare.

    Attributes:
        simulators: Folders, or ids of registered ones.
        worlds: Dreamt side by side.
        cores: Threads of the dreams, and processes of the real environment.
        seconds: Of each turn.
        rounds: Turns of each; medians count.
        seed: Of the actions.
        record: File to write into.
    """

    simulators: tuple[str, ...] = ("LSSVWM/MiniGrid-MemoryS9-v0", "LSSVWM/ObjectRooms-v0")
    worlds: int = 64
    cores: int = 2
    seconds: float = 5.0
    rounds: int = 5
    seed: int = 0
    record: Path = RECORD


@cache
def real_env(env_id: str, options: tuple[tuple[str, Any], ...], seed: int) -> gym.Env[Any, Any]:
    """The environment of this process."""
    env = make_real(env_id, **dict(options))
    env.action_space.seed(seed)
    env.reset(seed=seed)
    return env


def real_steps(env_id: str, options: tuple[tuple[str, Any], ...], seed: int, seconds: float) -> float:
    """Steps per second of one process. The time that resets take does not count."""
    env = real_env(env_id, options, seed)
    steps = 0
    spent = 0.0
    while spent < seconds:
        began = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        spent += time.perf_counter() - began
        steps += 1
        if terminated or truncated:
            env.reset()
    return steps / spent


def dreamt_steps(core: SimulatorCore, seconds: float) -> float:
    """Steps per second of all worlds, whose frames are shown as pixels."""
    steps = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds or not steps:
        core.step(np.stack([core.action_space.sample() for _ in range(core.num_envs)]))
        steps += core.num_envs
    return steps / spent


def compared(name: str, args: Args) -> Record:
    """The speeds of a simulator and of its real environment, in turns."""
    simulator = Simulator.load(name)
    config = simulator.config
    real = config.env_id, tuple(config.env_kwargs.items())
    core = SimulatorCore(simulator, args.worlds)
    core.action_space.seed(args.seed)
    core.reset(range(args.worlds), [args.seed + i for i in range(args.worlds)])
    processes = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(args.cores)]
    speeds: dict[str, list[float]] = {"real": [], "dreamt": []}
    try:
        for _ in range(args.rounds + 1):  # the first does not count
            speeds["dreamt"].append(dreamt_steps(core, args.seconds))
            walks = [p.submit(real_steps, *real, args.seed + i, args.seconds) for i, p in enumerate(processes)]
            speeds["real"].append(sum(walk.result() for walk in walks))
    finally:
        for process in processes:
            process.shutdown()
    return {"env_id": config.env_id, "worlds": args.worlds, "cores": args.cores} | {
        kind: median(found[1:]) for kind, found in speeds.items()
    }


def speeds_table(record: Record) -> str:
    """A row per simulator."""
    rows = [
        [f"`{name}`", f"{r['worlds']}", f"{r['dreamt']:,.0f}", f"{r['real']:,.0f}", f"{r['dreamt'] / r['real']:.2f}"]
        for name, r in record["simulators"].items()
    ]
    return table(["simulator", "worlds", "dreamt steps/s", "real steps/s", "dreamt / real"], rows)


def main(args: Args) -> None:
    """Measure, and write."""
    torch.set_num_threads(args.cores)
    earlier = records_io.read(args.record)["simulators"] if args.record.exists() else {}
    for name in args.simulators:
        earlier |= {name: compared(name, args) | provenance(args, torch.device("cpu"))}
        records_io.write(args.record, {"simulators": earlier})
    print(speeds_table(records_io.read(args.record)))


if __name__ == "__main__":
    main(tyro.cli(Args))
