"""Save a dreamed world to a file, fork it into many futures, and go back: a moment is a value of fixed size.

Run it as `python examples/save_and_fork.py`, or with a simulator folder of your own as `--simulator`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from lssvwm_env import LSSVWMEnv


@dataclass(frozen=True)
class Args:
    """What to dream.

    Attributes:
        simulator: A simulator folder, or the id of a bundled one.
        forks: How many futures to look at.
        steps: Frames in each.
        seed: Of the world and of the actions.
    """

    simulator: str = "LSSVWM/ObjectRooms-v0"
    forks: int = 4
    steps: int = 12
    seed: int = 0


def main(args: Args) -> None:
    """Live a little, save, fork, and return."""
    env = LSSVWMEnv(args.simulator)
    env.action_space.seed(args.seed)
    env.reset(seed=args.seed)
    for _ in range(5):
        env.step(env.action_space.sample())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "moment.safetensors"
        env.save_state(path)
        print(f"A moment takes {path.stat().st_size / 1e6:.2f} MB, however long the world has lived.\n")

        plan = [env.action_space.sample() for _ in range(args.steps)]
        dreamed = play(env, plan)
        env.load_state(path)
        print(f"Back at the moment, the same actions give the same frames: {np.array_equal(dreamed, play(env, plan))}")

        env.load_state(path)
        print(f"\n{args.forks} other futures of that moment, by their mean pixel difference to the first:")
        for i, fork in enumerate(env.fork(args.forks)):
            future = play(fork, [env.action_space.sample() for _ in range(args.steps)])
            difference = np.abs(future.astype(float) - dreamed).mean((1, 2, 3))
            print(f"  future {i}: " + " ".join(f"{d:4.0f}" for d in difference))


def play(env: LSSVWMEnv, actions: list[int]) -> np.ndarray:
    """The frames (T, H, W, C) that the actions lead to."""
    return np.stack([env.step(action)[0] for action in actions])


if __name__ == "__main__":
    main(tyro.cli(Args))
