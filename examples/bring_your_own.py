"""A world of your own: play it, record it, learn it, and step in what was learned.

Run it as `python examples/bring_your_own.py` for a minute's look; with `--preset tiny --steps 2000` for a good dream.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
import tyro

import lssvwm_env
from lssvwm_env.collect import CollectConfig, collect
from lssvwm_env.compare import CompareConfig, compare
from lssvwm_env.train import TrainConfig, train
from world_models.training import TrainingConfig


class Catch(gym.Env):
    """A ball falls; move the bat (left, stay, right) below it: 1 if it is caught, -1 if not."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        """Drop a new ball."""
        super().reset(seed=seed)
        self.row, self.column, self.bat = 0, int(self.np_random.integers(8)), 4
        return self.frame(), {}

    def step(self, action):
        """Move the bat by action - 1, and the ball down."""
        self.row, self.bat = self.row + 1, int(np.clip(self.bat + action - 1, 0, 7))
        end = self.row == 7
        return self.frame(), float(end and (1 if self.bat == self.column else -1)), end, False, {}

    def frame(self):
        """The picture: blue bat, yellow ball."""
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[56:, 8 * self.bat : 8 * self.bat + 8] = (60, 120, 250)
        picture[8 * self.row :, 8 * self.column :][:8, :8] = (250, 200, 40)
        return picture


@dataclass(frozen=True)
class Args:
    """How much to do.

    Attributes:
        out: Folder for all results.
        frames: To record.
        preset: Size of the model.
        steps: Of training.
    """

    out: Path = Path("runs/catch")
    frames: int = 4000
    preset: Literal["debug", "tiny"] = "debug"
    steps: int = 300


def main(args: Args) -> None:
    """Collect, train, step, compare."""
    data = collect(CollectConfig("bring_your_own:Catch", args.out / "data", args.frames, workers=1))
    training = TrainingConfig(args.out / "run", steps=args.steps, lengths=(4, 8), validation=0.1, head_sequences=256)
    train(TrainConfig(data.folder, training, args.preset, start_frames=2, horizon=8))

    env = lssvwm_env.load(args.out / "run" / "simulator")
    env.reset(seed=0)
    for _ in range(7):
        _, reward, terminated, truncated, _ = env.step(1)
        print(f"reward {reward:+.2f}, terminated {terminated}")
        if terminated or truncated:
            break
    compare(
        CompareConfig(str(args.out / "run" / "simulator"), args.out / "compare", sequences=32, context=2, horizon=6)
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
