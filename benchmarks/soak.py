"""A million steps: is memory flat, is every number one, and is an endless dream still of its world?

    python benchmarks/soak.py
    python benchmarks/soak.py --simulator LSSVWM/ObjectRooms-v0 --worlds 1 --steps 100000 --endless

Worlds are stepped along random actions, as a `gymnasium.vector.VectorEnv` that begins ended episodes anew; or as one
dream each that never ends. Once in a while a line is printed: memory of the process, what was not finite, the share of
cells that show no tile of MiniGrid. Returns 1 if memory grew by more than 2 % after the first tenth, if anything was
not finite, or if the last tenth of the steps shows more cells that are no tiles than the first does, beyond chance.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import records_io
import torch
import tyro
from numpy.typing import NDArray

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.evaluation.fidelity import legal_distance
from lssvwm_env.real.minigrid import tile_palette
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.provenance import hardware

MOST_GROWTH: Final = 1.02
LOOKED_AT: Final = 4096  # frames of a line whose tiles are read, at most
RECORDS: Final = Path(__file__).parent / "records"

Step = tuple[NDArray[np.uint8], NDArray[np.float32], bool]  # frames, rewards, whether all in the memory is finite


@dataclass
class Args:
    """What to step.

    Attributes:
        simulator: Id of a registered one, or a folder.
        steps: In all, over all worlds.
        worlds: Side by side.
        endless: Whether dreams go on for ever, or episodes end and begin as they do.
        lines: Printed in all.
        threads: CPU threads.
        seed: Of the dreams and of the actions.
        out: The record; None: `benchmarks/records/soak-NAME.json.gz`.
    """

    simulator: str = "LSSVWM/MiniGrid-MemoryS9-v0"
    steps: int = 1_000_000
    worlds: int = 64
    endless: bool = False
    lines: int = 100
    threads: int = 1
    seed: int = 0
    out: Path | None = None


def episodes(args: Args, simulator: Simulator) -> Iterator[Step]:
    """Steps of a vector environment."""
    env = LSSVWMVectorEnv(simulator, args.worlds)
    env.reset(seed=args.seed)
    env.action_space.seed(args.seed)
    while True:
        frames, rewards, *_ = env.step(env.action_space.sample())
        yield frames, rewards, finite(env.core)


def dreams(args: Args, simulator: Simulator) -> Iterator[Step]:
    """Steps of dreams without an end, that walk and turn more than they touch."""
    core = SimulatorCore(simulator, args.worlds)
    core.reset(list(range(args.worlds)), [args.seed + i for i in range(args.worlds)])
    rng = np.random.default_rng(args.seed)
    odds = np.array([0.19, 0.19, 0.57] + [0.05 / (simulator.action_space.n - 3)] * (simulator.action_space.n - 3))
    while True:
        step = core.step(rng.choice(len(odds), args.worlds, p=odds / odds.sum()))
        yield step.obs.numpy(), step.rew.numpy(), finite(core)


def finite(core: SimulatorCore) -> bool:
    """Whether everything that a core remembers is a number."""
    return all(bool(t.isfinite().all()) for t in core.memory.tensors().values())


def resident() -> float:
    """Megabytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def illegal(frames: NDArray[np.uint8]) -> float:
    """Share of the cells of frames (N, H, W, C) that show no tile clearly."""
    tiles, distance = tile_palette().decode(frames)
    return float((distance > legal_distance()[tiles]).mean())


def line(taken: int, pictures: list[NDArray[np.uint8]], unsound: int, began: float) -> dict[str, Any]:
    """What is printed, and goes into the record, after so many steps."""
    frames = np.concatenate(pictures)
    return {
        "steps": taken,
        "memory": round(resident(), 1),
        "unsound": unsound,
        "illegal": illegal(frames[:: -(-len(frames) // LOOKED_AT)]),
        "seconds": round(time.perf_counter() - began),
    }


def soak(args: Args) -> list[dict[str, Any]]:
    """Step, and print a line once in a while."""
    simulator = Simulator.load(args.simulator)
    stepped = (dreams if args.endless else episodes)(args, simulator)
    turns = args.steps // args.worlds
    often = max(1, turns // args.lines)
    began = time.perf_counter()
    lines: list[dict[str, Any]] = []
    pictures: list[NDArray[np.uint8]] = []
    unsound = 0
    for turn, (frames, rewards, sound) in zip(range(1, turns + 1), stepped, strict=False):
        unsound += not (sound and np.isfinite(rewards).all())
        if turn % max(1, often * args.worlds // LOOKED_AT) == 0:
            pictures.append(frames.copy())
        if turn % often == 0:
            lines.append(line(turn * args.worlds, pictures, unsound, began))
            pictures = []
            print(lines[-1], flush=True)
    return lines


def verdict(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What the lines say, by tenths of the run."""
    tenth = max(1, len(lines) // 10)
    memory = [entry["memory"] for entry in lines]
    shares = np.array([entry["illegal"] for entry in lines])
    early = shares[:tenth].mean()
    late = shares[-tenth:].mean()
    chance = 2 * np.sqrt((shares[:tenth].var() + shares[-tenth:].var()) / tenth)  # two standard errors
    return {
        "memory_growth": max(memory[tenth:]) / memory[tenth - 1],
        "unsound": lines[-1]["unsound"],
        "illegal_first_tenth": float(early),
        "illegal_last_tenth": float(late),
        "passed": bool(
            max(memory[tenth:]) <= MOST_GROWTH * memory[tenth - 1]
            and not lines[-1]["unsound"]
            and late <= early + chance
        ),
    }


def main(args: Args) -> int:
    """Soak, print what came of it, and write the record."""
    torch.set_num_threads(args.threads)
    lines = soak(args)
    found = verdict(lines)
    print(found)
    out = args.out or RECORDS / f"soak-{Path(args.simulator).name}.json.gz"
    settings = {key: value for key, value in asdict(args).items() if key != "out"}
    records_io.write(out, settings | {"hardware": hardware("cpu")} | found | {"lines": lines})
    return int(not found["passed"])


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args)))
