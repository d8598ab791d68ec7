"""The speed card: how fast a simulator starts, dreams, remembers and forks, and what the rest of the time is spent on.

    python benchmarks/speed_card.py
    python benchmarks/speed_card.py --simulator LSSVWM/MiniGrid-MemoryS9-v0 --device cuda --envs 1 64 1024

All figures are of one run. Settings that are compared take turns, so that a busy machine slows all of them alike, and
medians count. Writes `benchmarks/records/speed-card.json`, and docs/speed.md anew.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import records_io
import speed_results
import torch
import tyro
from cost_curves import timed
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.core_state import CoreState
from lssvwm_env.real import make_real
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.provenance import provenance
from lssvwm_models.execution.precision import supports_bf16
from lssvwm_models.memory.state import WorldModelState

ROOT: Final = Path(__file__).parents[1]
STARTING: Final = """
import time
began = time.perf_counter()
import torch
torch_there = time.perf_counter()
import gymnasium as gym, lssvwm_env
imported = time.perf_counter()
env = gym.make({simulator!r})
env.reset(seed=0)
env.step(env.action_space.sample())
print(torch_there - began, imported - torch_there, time.perf_counter() - imported)
"""

REAL_STEPS: Final = 500  # of the real environment, timed together
STEPS: Final = 20  # of a simulator, timed together: what is done often is recorded, as in any longer use

Record = dict[str, Any]


@dataclass
class Args:
    """What to measure.

    Attributes:
        simulator: Folder, or id of a bundled simulator.
        envs: Batch sizes.
        denoising_steps: Network passes per frame, besides the one that writes it into the memory.
        histories: Real frames in the memory before the clock starts.
        forks: Children of one world.
        rounds: Times every setting is measured; the median counts.
        threads: CPU threads.
        device: Where the simulator runs; the real environment is always on the CPU.
        seed: Of the actions.
        records, docs: Folders for what is written.
    """

    simulator: str = "LSSVWM/ObjectRooms-v0"
    envs: tuple[int, ...] = (1, 4, 16, 64)
    denoising_steps: tuple[int, ...] = (1, 2, 4)
    histories: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    forks: int = 1024
    rounds: int = 7
    threads: int = 2
    device: str = "cpu"
    seed: int = 0
    records: Path = ROOT / "benchmarks" / "records"
    docs: Path = ROOT / "docs"


def starting(args: Args) -> Record:
    """Seconds until torch is there, then until the library is, and then until a first frame is dreamt."""
    code = STARTING.format(simulator=args.simulator)
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    times = np.median([[float(x) for x in run.stdout.split()] for run in runs], 0).tolist()
    return dict(zip(("torch", "library", "first_frame"), times, strict=True))


def lived(core: SimulatorCore, histories: tuple[int, ...]) -> dict[int, WorldModelState]:
    """The memory of one world after each number of real frames: those of the simulator's starts, over and over."""
    starts = core.simulator.starts
    obs, act = (np.concatenate(list(x)) for x in (starts.obs, starts.act))
    memory, frames, found = core.initial_memory(1), 0, {}
    for history in sorted(histories):
        while frames < history:
            index = np.arange(frames, min(frames + 256, history)) % len(obs)
            first = torch.full((1, len(index)), False, device=core.device)
            first[:, 0] = frames == 0
            actions = torch.from_numpy(act[index][None]).to(core.device)
            memory, frames = core.update_memory(memory, obs[index][None], actions, first), frames + len(index)
        found[history] = memory
    return found


def stepping(core: SimulatorCore) -> Callable[[], object]:
    """A step of all worlds, by random actions."""
    return lambda: core.step(np.stack([core.action_space.sample() for _ in range(core.num_envs)]))


def repeated(step: Callable[[], object]) -> None:
    """Some steps, of all worlds."""
    for _ in range(STEPS):
        step()


def real_steps(simulator: Simulator, seed: int) -> Callable[[], object]:
    """Some steps of the real environment."""
    env = make_real(simulator.config.env_id, **simulator.config.env_kwargs)
    env.action_space.seed(seed)
    env.reset(seed=seed)

    def walk() -> None:
        for _ in range(REAL_STEPS):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()

    return walk


def precisions(device: str) -> tuple[bool, ...]:
    """Whether matrices are multiplied in bfloat16: not, and also if the device does it in no more time."""
    return (False, True) if supports_bf16(torch.device(device).type) else (False,)


def dreaming(args: Args, simulator: Simulator) -> Record:
    """Frames per second by precision, denoising steps and batch size, and steps per second of the real environment."""
    work: dict[Any, Callable[[], object]] = {"real": real_steps(simulator, args.seed)}
    for bf16 in precisions(args.device):
        for steps in args.denoising_steps:
            core = SimulatorCore(simulator, 1, steps, args.device, bf16=bf16)
            core.reset([0], [args.seed])
            work |= {(bf16, steps, n): partial(repeated, stepping(core.fork(n))) for n in args.envs}
    seconds = timed(work, args.rounds, args.device)
    rows = [
        {"bf16": bf16, "steps": steps, "speed": {str(n): STEPS * n / seconds[bf16, steps, n] for n in args.envs}}
        for bf16 in precisions(args.device)
        for steps in args.denoising_steps
    ]
    return {"real": REAL_STEPS / seconds["real"], "rows": rows}


def remembering(args: Args, simulator: Simulator) -> list[Record]:
    """A step, in milliseconds, and what it costs to keep and to fork a world, by the frames it has lived."""
    core = SimulatorCore(simulator, 1, device=args.device)
    memories, keys = lived(core, args.histories), core.keys
    act = torch.from_numpy(simulator.starts.act[0, -1:]).to(core.device)
    work: dict[Any, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for history, memory in memories.items():
            state = CoreState(memory, keys, simulator.weights_sha256)
            path = Path(folder) / f"{history}.safetensors"
            world = SimulatorCore(simulator, 1, device=args.device)
            world.load_state(state)
            work[history, "step"] = partial(repeated, partial(core.imagine, memory, act, keys))
            work[history, "fork"] = partial(world.fork, args.forks)
            work[history, "save"] = partial(state.save, path)
            work[history, "load"] = partial(CoreState.load, path)
        seconds = timed(work, 3 * args.rounds, args.device)
    return [
        {"frames": history, "bytes": memory.nbytes}
        | {"step": 1e3 * seconds[history, "step"] / STEPS}
        | {name: 1e3 * seconds[history, name] for name in ("fork", "save", "load")}
        for history, memory in memories.items()
    ]


def floors(args: Args, simulator: Simulator) -> list[Record]:
    """Of one world, and of the most, with one thread: a counter sees the operations of its own thread alone."""
    largest = max(args.envs)
    torch.set_num_threads(1)
    try:
        one = floor(args, simulator, 1, bf16=False)
        return [one, *(floor(args, simulator, largest, bf16=b) for b in precisions(args.device))]
    finally:
        torch.set_num_threads(args.threads)


def floor(args: Args, simulator: Simulator, envs: int, *, bf16: bool) -> Record:
    """What a step must cost: its products at the speed of one large product here, and each byte of its memory and
    weights moved once per use."""
    core = SimulatorCore(simulator, 1, device=args.device, bf16=bf16)
    core.reset([0], [args.seed])
    core = core.fork(envs)
    step = stepping(core)
    with FlopCounterMode(display=False) as counter:
        step()
    dtype = torch.bfloat16 if bf16 else torch.float32
    a, b = (torch.randn(2048, 2048, device=args.device, dtype=dtype) for _ in range(2))
    block, target = (torch.zeros(2**26, device=args.device) for _ in range(2))
    work = {"step": step, "product": lambda: a @ b, "copy": lambda: target.copy_(block)}
    seconds = timed(work, args.rounds, args.device)
    weights = sum(p.nbytes for p in core.model.parameters())
    moved = (core.denoising_steps + 2) * core.memory.nbytes + (core.denoising_steps + 1) * weights  # written once
    flops, bandwidth = 2 * 2048**3 / seconds["product"], 2 * block.nbytes / seconds["copy"]
    return {
        "envs": envs, "bf16": bf16, "ms": 1e3 * seconds["step"], "gflop": counter.get_total_flops() / 1e9,
        "gbytes": moved / 1e9, "gflop_per_s": flops / 1e9, "gbytes_per_s": bandwidth / 1e9,
        "floor_ms": 1e3 * (counter.get_total_flops() / flops + moved / bandwidth), "parts": parts(core, step),
    }  # fmt: skip


def parts(core: SimulatorCore, step: Callable[[], object], steps: int = 5) -> dict[str, float]:
    """The share of a step that goes to each part of the network."""
    spent, began = defaultdict(float), dict[int, float]()

    def before(module: torch.nn.Module, _: Any) -> None:
        began[id(module)] = time.perf_counter()

    def after(name: str, module: torch.nn.Module, _: Any, __: Any) -> None:
        spent[name] += time.perf_counter() - began[id(module)]

    hooks = []
    for block in core.model.network.blocks:
        for name in ("scan", "attention", "mlp"):
            part = getattr(block, name)
            hooks += [part.register_forward_pre_hook(before), part.register_forward_hook(partial(after, name))]
    started = time.perf_counter()
    for _ in range(steps):
        step()
    total = time.perf_counter() - started
    for hook in hooks:
        hook.remove()
    return {name: share / total for name, share in spent.items()} | {"rest": 1 - sum(spent.values()) / total}


def main(args: Args) -> None:
    """Measure, and write."""
    torch.set_num_threads(args.threads)
    simulator = Simulator.load(args.simulator)
    record = {
        "starting": starting(args),
        "dreaming": dreaming(args, simulator),
        "remembering": remembering(args, simulator),
        "floors": floors(args, simulator),
    } | provenance(args, torch.device(args.device))
    records_io.write(args.records / "speed-card.json", record)
    speed_results.main(speed_results.Args(args.records, args.docs))


if __name__ == "__main__":
    main(tyro.cli(Args))
