"""The speed card: how fast a simulator starts, dreams, remembers and forks, and what the rest of the time is spent on.

    python benchmarks/speed_card.py
    python benchmarks/speed_card.py --simulator LSSVWM/MiniGrid-MemoryS9-v0 --device cuda --envs 1 64 1024

All figures are of one run. Settings that are compared take turns, so that a busy machine slows all of them alike, and
medians count. Writes `benchmarks/records/speed-card.json`, and from it docs/speed.md with its picture.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import json
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
import torch
import tyro
from cost_curves import timed
from matplotlib.figure import Figure
from results import table
from speed_against import compared
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_env.core import CoreState, SimulatorCore
from lssvwm_env.provenance import provenance
from lssvwm_env.real import make_real
from lssvwm_env.simulator import Simulator
from world_models.figures import png, tidy
from world_models.files import write_bytes
from world_models.precision import knows_bf16
from world_models.state import WorldModelState

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
PRECISIONS: Final = "float32", "bfloat16"

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
    memory, frames, found = core.nothing_seen(1), 0, {}
    for history in sorted(histories):
        while frames < history:
            index = np.arange(frames, min(frames + 256, history)) % len(obs)
            first = torch.full((1, len(index)), False, device=core.device)
            first[:, 0] = frames == 0
            actions = torch.from_numpy(act[index][None]).to(core.device)
            memory, frames = core.remember(memory, obs[index][None], actions, first), frames + len(index)
        found[history] = memory
    return found


def stepping(core: SimulatorCore) -> Callable[[], object]:
    """A step of all worlds, by random actions."""
    return lambda: core.step(np.stack([core.action_space.sample() for _ in range(core.num_envs)]))


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
    return (False, True) if knows_bf16(torch.device(device).type) else (False,)


def dreaming(args: Args, simulator: Simulator) -> Record:
    """Frames per second by precision, denoising steps and batch size, and steps per second of the real environment."""
    work: dict[Any, Callable[[], object]] = {"real": real_steps(simulator, args.seed)}
    for bf16 in precisions(args.device):
        for steps in args.denoising_steps:
            core = SimulatorCore(simulator, 1, steps, args.device, bf16=bf16)
            core.reset([0], [args.seed])
            work |= {(bf16, steps, n): stepping(core.fork(n)) for n in args.envs}
    seconds = timed(work, args.rounds, args.device)
    rows = [
        {"bf16": bf16, "steps": steps, "speed": {str(n): n / seconds[bf16, steps, n] for n in args.envs}}
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
            work[history, "step"] = partial(core.imagine, memory, act, keys)
            work[history, "fork"] = partial(world.fork, args.forks)
            work[history, "save"] = partial(state.save, path)
            work[history, "load"] = partial(CoreState.load, path)
        seconds = timed(work, 3 * args.rounds, args.device)
    return [
        {"frames": history, "bytes": memory.nbytes}
        | {name: 1e3 * seconds[history, name] for name in ("step", "fork", "save", "load")}
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
    before = args.records / "speed-against.json"
    earlier = json.loads(before.read_text()) if before.exists() else None
    for path, text in {
        args.records / "speed-card.json": (json.dumps(record, indent=1) + "\n").encode(),
        args.docs / "speed.md": written(record, earlier).encode(),
        args.docs / "img" / "speed.png": drawn(record),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text)
        print(f"{path} is written")


def written(record: Record, earlier: Record | None) -> str:
    """docs/speed.md; with what `speed_against.py` measured, if it has."""
    config, start, dreams, lives = record["config"], record["starting"], record["dreaming"], record["remembering"]
    envs = list(dreams["rows"][0]["speed"])
    speeds = table(
        ["precision", "denoising steps", *(f"{n} envs" for n in envs)],
        [[PRECISIONS[r["bf16"]], str(r["steps"]), *(f"{r['speed'][n]:,.0f}" for n in envs)] for r in dreams["rows"]],
    )
    by_history = table(
        ["frames lived", "bytes", "step, ms", f"fork into {config['forks']:,}, ms", "to disk, ms", "from disk, ms"],
        [
            [f"{x['frames']:,}", f"{x['bytes']:,}", *(f"{x[k]:.2f}" for k in ("step", "fork", "save", "load"))]
            for x in lives
        ],
    )
    floors = table(
        ["step of", "ms", "GFLOP", "GB moved", "floor, ms", "floor / time", "scan", "attention", "MLP", "rest"],
        [
            [f"{f['envs']} envs, {PRECISIONS[f['bf16']]}", f"{f['ms']:.0f}", f"{f['gflop']:.1f}"]
            + [f"{f['gbytes']:.2f}", f"{f['floor_ms']:.1f}", f"{f['floor_ms'] / f['ms']:.0%}"]
            + [f"{f['parts'][name]:.0%}" for name in ("scan", "attention", "mlp", "rest")]
            for f in record["floors"]
        ],
    )
    machine = record["hardware"]
    against = (
        ""
        if earlier is None
        else f"""
## Against an earlier version

`python benchmarks/speed_against.py`: commit `{earlier["args"]["commit"]}`, from before there was any work on speed, and
this one, {earlier["args"]["rounds"]} turns each in one run with {earlier["args"]["threads"]} thread(s). Both are the
preset `tiny`.

{compared(earlier)}
"""
    )
    return f"""# Speed card

`python benchmarks/speed_card.py`, {config["simulator"]}, {machine["torch_threads"]} threads of {machine["cpu_count"]},
{machine["platform"]}, device {machine["device"]}, torch {record["versions"]["torch"]}, lssvwm-env
{record["versions"]["lssvwm-env"]}; medians of {config["rounds"]} turns in one run. Training is in
[results.md](results.md#what-a-frame-costs), beside the models it is compared with.

## To start

`import torch` {start["torch"]:.1f} s; then `import lssvwm_env` {start["library"]:.2f} s; then `gym.make` up to the
first dreamt frame {start["first_frame"]:.2f} s.

## To dream: frames per second

{speeds}

The real environment makes {dreams["real"]:,.0f} steps per second on one core in the same run. Every frame takes one
pass of the network per denoising step, and one more that writes it into the memory.

![Frames per second, and time by history](img/speed.png)

## To remember, and to fork

{by_history}

A step after {lives[-1]["frames"]:,} frames takes {lives[-1]["step"] / lives[1]["step"]:.2f} of the time it takes after
{lives[1]["frames"]:,}. Forking copies nothing: children share their parent's memory until they move on.

## Where the time goes

{floors}

With one thread. The floor is what a step would take if its matrix products ran as fast as one large product does here,
and if its memory and weights were moved once per pass, at the speed of a copy. The rest is spent on many small
element-wise operations: norms, rotations, gates, softmax.
{against}"""


def drawn(record: Record) -> bytes:
    """Frames per second against batch size, and a step against history."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    speed, history = figure.subplots(1, 2)
    for row in record["dreaming"]["rows"]:
        envs = [int(n) for n in row["speed"]]
        label = f"{PRECISIONS[row['bf16']]}, {row['steps']} step(s)"
        style = "o-" if row["bf16"] else "o--"
        speed.plot(envs, list(row["speed"].values()), style, color=f"C{row['steps'] - 1}", label=label, markersize=3)
    speed.axhline(record["dreaming"]["real"], color="grey", linestyle=":", label="real, one core")
    speed.set(xscale="log", yscale="log", xlabel="envs side by side", ylabel="frames per second")
    speed.legend(frameon=False, fontsize=7)
    lives = record["remembering"]
    history.plot([x["frames"] for x in lives], [x["step"] for x in lives], "o-")
    history.set(
        xscale="log",
        ylim=(0, 1.2 * max(x["step"] for x in lives)),
        xlabel="frames lived",
        ylabel="ms per step of one world",
    )
    for axis in (speed, history):
        tidy(axis)
    return png(figure, 110)


if __name__ == "__main__":
    main(tyro.cli(Args))
