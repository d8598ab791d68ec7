"""How many frames per second a simulator dreams, against batch size and history, beside its real environment.

python benchmarks/step_speed.py
python benchmarks/step_speed.py --simulator LSSVWM/MiniGrid-MemoryS9-v0 --device cuda

All figures are of one run: settings take turns, so that a busy machine slows all of them alike; medians are shown.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import platform
import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from lssvwm_env.core import SimulatorCore
from lssvwm_env.real import make_real
from lssvwm_env.simulator import Simulator


@dataclass
class Args:
    """What to measure.

    Attributes:
        simulator: Folder, or id of a bundled simulator.
        envs: Batch sizes.
        histories: Real frames in the memory before the clock starts.
        rounds: Times every setting is measured; the median counts.
        steps: Steps per measurement.
        threads: CPU threads.
        device: Where the simulator runs; the real environment is always on the CPU.
        bf16: Compute in bfloat16.
        seed: Of the real episode that fills the memory.
    """

    simulator: str = "LSSVWM/ObjectRooms-v0"
    envs: tuple[int, ...] = (1, 16, 64)
    histories: tuple[int, ...] = (100, 5000)
    rounds: int = 7
    steps: int = 4
    threads: int = 2
    device: str = "cpu"
    bf16: bool = False
    seed: int = 0


def real_frames(simulator: Simulator, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Frames and actions of a random walk in the real environment, and its steps per second."""
    env = make_real(simulator.config.env_id, **simulator.config.env_kwargs)
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    frames, actions, seconds = [obs], [env.action_space.sample()], 0.0
    while len(frames) < count:
        actions.append(env.action_space.sample())
        began = time.perf_counter()
        obs, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated or truncated:
            obs, _ = env.reset()
        seconds += time.perf_counter() - began
        frames.append(obs)
    return np.stack(frames), np.stack(actions), (count - 1) / seconds


def main(args: Args) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    simulator = Simulator.load(args.simulator)
    frames, actions, real_speed = real_frames(simulator, max(args.histories), args.seed)
    cores = {}
    for history in args.histories:
        core = SimulatorCore(simulator, 1, device=args.device, bf16=args.bf16)
        core.reset([0], [args.seed], [(frames[:history], actions[:history])], allow_long_context=True)
        cores |= {(n, history): core.fork(n) for n in args.envs}

    act = np.random.default_rng(args.seed)
    seconds = {setting: [] for setting in cores}
    for _ in range(args.rounds + 1):  # the first round warms up
        for (n, history), core in cores.items():
            chosen = act.integers(0, simulator.action_space.n, (args.steps, n))
            began = time.perf_counter()
            for step in chosen:
                core.step(step)
            seconds[n, history].append((time.perf_counter() - began) / args.steps)
    speed = {(n, history): n / median(s[1:]) for (n, history), s in seconds.items()}

    table = Table("envs", *(f"history {h:,}" for h in args.histories), "time ratio", title="frames per second")
    for n in args.envs:
        of_n = [speed[n, h] for h in args.histories]
        table.add_row(str(n), *(f"{s:.1f}" for s in of_n), f"{of_n[0] / of_n[-1]:.2f}")
    console = Console()
    console.print(table)
    console.print(f"real environment: {real_speed:,.0f} steps per second on one core, in the same run")
    state = cores[args.envs[0], args.histories[0]].memory[:1].nbytes / 1e6
    console.print(
        f"{args.simulator}, {simulator.config.denoising_steps} denoising step(s), {state:.2f} MB per world; "
        f"{args.device}, {'bfloat16' if args.bf16 else 'float32'}, "
        f"{args.threads} threads of {os.cpu_count()} on {platform.machine()}, "
        f"torch {torch.__version__}, seed {args.seed}"
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
