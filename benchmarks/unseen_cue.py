"""What is dreamt where nothing was seen? In MiniGrid-Memory, the cue is a key in half of the episodes, else a ball.

    python benchmarks/unseen_cue.py
    python benchmarks/unseen_cue.py --simulator runs/memory-s9/simulator --denoising-steps 1 2 4 8

Episodes of the test split whose first frame does not show the cue. The model sees that frame alone and dreams, with
many keys, what the agent sees as it comes to look at the cue: by turning round where it stands, or after walking to the
other end of the corridor first. A faithful model dreams each of the two cues in half of the dreams of *every* start. A
policy that learns in the dreams of another one learns to bet on the cue instead of looking at it.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.real import make_real, tile_palette
from lssvwm_env.real.minigrid import world_cells
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data.splits import SPLITS
from lssvwm_models.execution.noise import fold

LEFT, FORWARD = 0, 2


@dataclass
class Args:
    """What to measure.

    Attributes:
        simulator: Folder, or id of a bundled simulator, of a MiniGrid-Memory world.
        denoising_steps: Network passes per frame.
        starts: Episodes per way of coming to look.
        dreams: Of each.
        threads: CPU threads.
    """

    simulator: str = "LSSVWM/MiniGrid-MemoryS9-v0"
    denoising_steps: tuple[int, ...] = (1, 2, 4)
    starts: int = 12
    dreams: int = 16
    threads: int = 2


class Look(NamedTuple):
    """A start, the actions that bring the cue into view, and where in the view (row, column) it then is."""

    first: NDArray[np.uint8]
    actions: list[int]
    where: tuple[int, int]


def looks(env: Any, count: int, *, walks_first: bool) -> Iterator[Look]:
    """Starts of the test split that do not show the cue."""
    for seed in SPLITS["test"]:
        if not count:
            return
        first, info = env.reset(seed=seed)
        if cue_in_view(env, info) is not None:
            continue
        ahead = env.unwrapped.width - 4 - int(env.unwrapped.agent_pos[0]) if walks_first else 0
        plan, actions = [FORWARD] * ahead + [LEFT, LEFT] + [FORWARD] * env.unwrapped.width, []
        for action in plan:
            _, _, terminated, _, info = env.step(action)
            actions.append(action)
            if terminated:
                break
            if (where := cue_in_view(env, info)) is not None:
                count -= 1
                yield Look(first, actions, where)
                break


def cue_in_view(env: Any, info: dict[str, Any]) -> tuple[int, int] | None:
    """Where in the view the cue is seen."""
    cue = np.array([1, env.unwrapped.height // 2 - 1])
    there = (world_cells(info["pose"]) == cue).all(-1) & (tile_palette().encode(info["tiles"]) != tile_palette().UNSEEN)
    return None if not there.any() else (int(there.nonzero()[0][0]), int(there.nonzero()[1][0]))


def dreamt(simulator: Simulator, look: Look, steps: int, dreams: int) -> NDArray[np.int64]:
    """The tile that each of some dreams shows in the place of the cue."""
    core = SimulatorCore(simulator, 1, steps)
    core.reset([0], [0], [(look.first[None], np.zeros(1, np.int64))])
    core = core.fork(dreams)
    core.keys = fold(torch.arange(dreams), 0)
    for action in look.actions:
        shown = core.step(np.full(dreams, action)).obs
    ids, _ = tile_palette().decode(shown.numpy())
    return ids[(slice(None), *look.where)]


def main(args: Args) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    simulator, palette = Simulator.load(args.simulator), tile_palette()
    env = make_real(simulator.config.env_id, **simulator.config.env_kwargs)
    fair = np.random.default_rng(0).binomial(args.dreams, 0.5, 100_000)
    header = ["comes to look by", "denoising steps", "the commoner cue", "no cue", "the commoner cue of each start"]
    table = Table(*header, title=f"{args.simulator}: {args.starts} starts x {args.dreams} dreams; share of dreams")
    for walks_first in (False, True):
        found = list(looks(env, args.starts, walks_first=walks_first))
        for steps in args.denoising_steps:
            tiles = [dreamt(simulator, look, steps, args.dreams) for look in found]
            cues = [Counter(t[palette.is_object(t)].tolist()).most_common() for t in tiles]
            both = Counter[int]()
            for cue in cues:
                both.update(dict(cue))
            shown = max(1, both.total())
            table.add_row(
                "walking on, turning round" if walks_first else "turning round",
                str(steps),
                f"{max(both.values(), default=0) / shown:.2f}",
                f"{1 - both.total() / (len(tiles) * args.dreams):.2f}",
                f"{np.mean([cue[0][1] / sum(n for _, n in cue) for cue in cues if cue]):.2f}",
            )
    console = Console()
    console.print(table)
    each = np.maximum(fair, args.dreams - fair).mean() / args.dreams
    console.print(f"A fair coin: 0.50, and {each:.2f} of each start's {args.dreams} dreams.")


if __name__ == "__main__":
    main(tyro.cli(Args))
