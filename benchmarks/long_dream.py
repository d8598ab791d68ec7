"""Ten thousand frames on its own: does the memory stay bounded, and the world a world?

    python benchmarks/long_dream.py
    python benchmarks/long_dream.py --simulator LSSVWM/MemoryMaze-9x9-v0 --name long-dream-maze

A few worlds are dreamt on along random actions, open loop. Once in a while the record is kept: the RMS of the state of
every layer, and how much of a picture the frames are; in worlds of tiles the share of cells that show no tile of
MiniGrid, and what is in view, too. Writes `benchmarks/records/NAME.json.gz` and the picture `docs/img/NAME.png`.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import records_io
import torch
import tyro
from matplotlib.figure import Figure

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.evaluation.fidelity import legal_distance
from lssvwm_env.real.minigrid import TilePalette, tile_palette
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.provenance import hardware
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.utils.figures import png, tidy
from lssvwm_models.utils.files import write_bytes

ROOT: Final = Path(__file__).parents[1]
SHOWN: Final = (1, 10, 100, 1000, 2000, 5000, 10000)  # frames in the picture


@dataclass
class Args:
    """What to dream.

    Attributes:
        simulator: Folder, or id of a registered one.
        frames: Of the dream.
        worlds: Side by side, from different starts.
        every: Frames between two lines of the record.
        threads: CPU threads.
        seed: Of the dreams and the actions. In worlds of tiles these are left, right and forward with odds 1 : 1 : 3,
            now and then another. In first person any action, for up to ten frames.
        name: Of the record and the picture.
        out: Folder for `benchmarks/records` and `docs/img`.
    """

    simulator: str = "LSSVWM/ObjectRooms-v0"
    frames: int = 10_000
    worlds: int = 4
    every: int = 50
    threads: int = 2
    seed: int = 0
    name: str = "long-dream"
    out: Path = ROOT


def actions(simulator: Simulator, worlds: int, seed: int) -> Iterator[np.ndarray]:
    """What each world does, for ever."""
    rng = np.random.default_rng(seed)
    count = int(simulator.action_space.n)
    if isinstance(simulator.config.model.view, FirstPersonView):
        held, left = np.zeros(worlds, np.int64), np.zeros(worlds, np.int64)
        while True:
            held = np.where(left == 0, rng.integers(0, count, worlds), held)
            left = np.where(left == 0, rng.integers(1, 11, worlds), left) - 1
            yield held
    odds = np.array([0.19, 0.19, 0.57] + [0.05 / (count - 3)] * (count - 3))
    while True:
        yield rng.choice(count, worlds, p=odds / odds.sum())


def line(frame: int, core: SimulatorCore, frames: np.ndarray) -> dict[str, Any]:
    """The record of one frame of all worlds: frames is uint8 (B, H, W, C)."""
    found = {
        "frame": frame,
        "rms": [float(s.float().square().mean().sqrt()) for s in core.memory.ssm],
        "contrast": float(frames.std()),
        "edges": float(np.abs(np.diff(frames.astype(np.float32), axis=2)).mean()),
    }
    return found if isinstance(core.simulator.config.model.view, FirstPersonView) else found | of_tiles(frames)


def of_tiles(frames: np.ndarray) -> dict[str, float]:
    """What frames show that should be made of MiniGrid's tiles."""
    palette = tile_palette()
    tiles, distance = palette.decode(frames)
    return {
        "illegal": float((distance > legal_distance()[tiles]).mean()),
        "objects": float(palette.is_object(tiles).sum((1, 2)).mean()),
        "unseen": float((tiles == TilePalette.UNSEEN).mean()),
        "kinds": len(np.unique(tiles)),
    }


def picture(lines: list[dict[str, Any]], shown: dict[int, np.ndarray], layers: list[str]) -> bytes:
    """Frames of the dream above, the record below."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.2, 1))
    grid = above.subplots(len(next(iter(shown.values()))), len(shown), squeeze=False)
    for column, (frame, pictures) in enumerate(shown.items()):
        for row, image in enumerate(pictures):
            grid[row, column].imshow(image, interpolation="nearest")
            grid[row, column].set(xticks=[], yticks=[])
        grid[0, column].set_title(f"frame {frame:,}", fontsize=9)
    left, right = below.subplots(1, 2)
    x = [entry["frame"] for entry in lines]
    for i, name in enumerate(layers):
        left.plot(x, [entry["rms"][i] for entry in lines], label=name)
    left.set(xlabel="dreamt frame", ylabel="RMS of the state", yscale="log")
    of_cells = {"illegal": "cells that show no tile", "unseen": "cells hidden from view"}
    of_pixels = {"contrast": "standard deviation of pixels", "edges": "difference of neighbouring pixels"}
    tiles = "illegal" in lines[0]
    for key, label in (of_cells if tiles else of_pixels).items():
        right.plot(x, [entry[key] for entry in lines], label=label)
    right.set(
        xlabel="dreamt frame", ylabel="share of cells" if tiles else "levels of 255", ylim=(0, 1 if tiles else None)
    )
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
        tidy(axis)
    return png(figure)


def main(args: Args) -> None:
    """Dream and write."""
    torch.set_num_threads(args.threads)
    simulator = Simulator.load(args.simulator)
    core = SimulatorCore(simulator, args.worlds)
    core.reset(list(range(args.worlds)), [args.seed + i for i in range(args.worlds)])
    lines, shown, began = [], {}, time.perf_counter()
    for frame, action in zip(range(1, args.frames + 1), actions(simulator, args.worlds, args.seed), strict=False):
        step = core.step(action)
        if frame % args.every == 0 or frame in SHOWN:
            frames = step.obs.cpu().numpy()
            lines.append(line(frame, core, frames))
            if frame in SHOWN:
                shown[frame] = frames
    report = {
        "simulator": args.simulator,
        "weights_sha256": simulator.weights_sha256,
        "frames": args.frames,
        "worlds": args.worlds,
        "seed": args.seed,
        "seconds": round(time.perf_counter() - began),
        "hardware": f"{args.threads} thread(s) on {hardware('cpu')}",
        "lines": lines,
    }
    network = simulator.config.model.network
    layers = [
        f"layer {i}: {'map' if i in network.map_layers else f'blocks of {size}'}"
        for i, size in enumerate(network.block_sizes)
    ]
    drawn = args.out / "docs" / "img" / f"{args.name.replace('-', '_')}.png"
    records_io.write(args.out / "benchmarks" / "records" / f"{args.name}.json.gz", report)
    drawn.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(drawn, picture(lines, shown, layers))
    first, last = lines[: len(lines) // 4], lines[-(len(lines) // 4) :]
    for key in [key for key in lines[0] if key not in ("frame", "rms")]:
        early, late = (np.mean([entry[key] for entry in part]) for part in (first, last))
        print(f"{key}: {early:.3f} in the first quarter, {late:.3f} in the last")
    growth = np.array([e["rms"] for e in last]).max(0) / np.array([e["rms"] for e in first]).max(0)
    print("largest RMS of the last quarter over that of the first, by layer:", np.round(growth, 2))
    print(f"{report['seconds']} s, {report['hardware']}; see {drawn}")


if __name__ == "__main__":
    main(tyro.cli(Args))
