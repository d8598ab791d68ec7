"""Killed at random moments, does every command end as if nothing had happened?

    make kills
    python benchmarks/kills.py --kills 8

Four commands follow one another: collect, train, imagine, dyna, all small, with the precision of their defaults.
Each runs unbroken once; then again, killed (SIGKILL, which no program can catch) at random moments of that time and
repeated until it ends by itself. What it leaves must be the same to the last bit, but for times and speeds; nothing it
started may still run, and no temporary file may lie about.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hashlib
import random
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import tyro
from rich.console import Console
from rich.table import Table

LSSVWM: Final = (sys.executable, "-m", "lssvwm_env.cli")
LEARNED: Final = ("*.safetensors", "*.npz", "dataset.json")  # what must be the same; the rest tells of times
WORLD: Final = "MiniGrid-DoorKey-6x6-v0"
TRAINING: Final = (  # options of `train`, and with a prefix of `dyna`
    "lengths 8", "frames-per-step 32", "odometry-steps 10", "head-steps 10", "head-sequences 16", "warmup 1",
    "log-every 2", "eval-every 5", "validation 0.1", "threads 1",
)  # fmt: skip
DREAMING: Final = (
    "num-dreams 8",
    "refresh 2",
    "horizon 4",
    "context 4",
    "minibatches 2",
    "log-every 2",
    "eval-every 4",
)


def options(prefix: str, *settings: str) -> str:
    """Settings as options of a command line."""
    return " ".join(f"--{prefix}{setting}" for setting in settings)


COMMANDS: Final = {
    "collect": f"collect --env-id {WORLD} --out collected --frames 6000 --shard-frames 500 --workers 2",
    "train": "train --dataset collected --out model --preset debug --starts 8 --start-frames 4 "
    + options("", "steps 60", *TRAINING),
    "imagine": "imagine --simulator model/simulator --dataset collected --out agent --threads 1 "
    + options("", "updates 20", *DREAMING),
    "dyna": f"dyna --env-id {WORLD} --out dyna --preset debug --rounds 2 --frames-per-round 300 --episode-length 32 "
    "--episodes 2 " + options("model.", "steps 12", *TRAINING) + " " + options("agent.", "updates 6", *DREAMING),
}


@dataclass
class Args:
    """How much to kill.

    Attributes:
        kills: In all, shared among the commands.
        seed: Of the moments.
    """

    kills: int = 30
    seed: int = 0


def run(command: str, folder: Path, seconds: float | None = None) -> bool:
    """Run a command of this package in a folder, and kill it after so many seconds; whether it ended by itself.

    Raises:
        RuntimeError: If it ended with an error.
    """
    process = subprocess.Popen(
        [*LSSVWM, *shlex.split(command)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    if process.returncode:
        raise RuntimeError(f"lssvwm {command}\n{said.decode()}")
    return True


def learned(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file that must be the same, by its name."""
    files = sorted(path for pattern in LEARNED for path in folder.rglob(pattern))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def left_over(folder: Path) -> list[str]:
    """Temporary files in a folder, and processes that still run there."""
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if ".tmp" in path.name or ".old" in path.name]
    return files + [f"process {process}" for process in running(folder)]


def running(folder: Path, patience: float = 5.0) -> list[int]:
    """Processes whose working directory is a folder, after those that are ending have had the time to."""
    until = time.monotonic() + patience
    while True:
        found = []
        for path in Path("/proc").glob("[0-9]*/cwd"):
            try:
                where = os.readlink(path)
            except OSError:  # gone meanwhile, or another user's
                continue
            if where == str(folder):
                found.append(int(path.parent.name))
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


def ends_as_if_unbroken(
    name: str, kills: int, moments: random.Random, unbroken: Path, broken: Path
) -> dict[str, object]:
    """Run a command unbroken in one folder, and with kills in another, which both hold what came before; compare."""
    before = broken.with_name("before")
    shutil.copytree(broken, before)
    began = time.perf_counter()
    run(COMMANDS[name], unbroken)
    whole = time.perf_counter() - began
    wanted = learned(unbroken)
    differing: set[str] = set()
    left: set[str] = set()
    killed = 0
    while True:
        ended = run(COMMANDS[name], broken, moments.uniform(0, whole) if killed < kills else None)
        if ended:
            found = learned(broken)
            differing |= {file for file in wanted.keys() | found.keys() if wanted.get(file) != found.get(file)}
            left |= set(left_over(broken))
            if killed == kills:
                break
            shutil.rmtree(broken)  # it had less left to do than that: anew, for there are kills to come
            shutil.copytree(before, broken)
        else:
            killed += 1
            left |= {f"orphan {process}" for process in running(broken)}
    shutil.rmtree(before)
    return {
        "command": name,
        "seconds": whole,
        "kills": killed,
        "files": len(wanted),
        "differing": sorted(differing),
        "left": sorted(left),
    }


def main(args: Args) -> int:
    """Kill, print what came of it; returns 1 if anything differs or is left."""
    moments = random.Random(args.seed)
    table = Table("command", "seconds", "kills", "files compared", "differing", "left over")
    failed = False
    with TemporaryDirectory() as temporary:
        unbroken = Path(temporary).resolve() / "unbroken"
        broken = Path(temporary).resolve() / "broken"
        unbroken.mkdir()
        broken.mkdir()
        for i, name in enumerate(COMMANDS):
            kills = args.kills * (i + 1) // len(COMMANDS) - args.kills * i // len(COMMANDS)
            found = ends_as_if_unbroken(name, kills, moments, unbroken, broken)
            failed = failed or bool(found["differing"] or found["left"])
            cells = (
                f"{c:.1f}" if isinstance(c, float) else "\n".join(c) if isinstance(c, list) else str(c)
                for c in found.values()
            )
            table.add_row(*cells)
    Console().print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args)))
