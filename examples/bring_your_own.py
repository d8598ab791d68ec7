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
from lssvwm_env.evaluation.compare import CompareConfig, compare
from lssvwm_env.train import TrainConfig, train
from lssvwm_models.data import DatasetOrigin, Episode, write_dataset
from lssvwm_models.data.splits import SPLITS
from lssvwm_models.training.trainer import TrainingConfig

ENV_ID = "bring_your_own:Catch"  # module:name, by which `compare` makes it again; it imports what it is told to


class Catch(gym.Env):
    """A ball falls; move the bat (left, stay, right) below it: 1 if it is caught, -1 if not."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        """Drop a new ball."""
        super().reset(seed=seed)
        self.row = 0
        self.column = int(self.np_random.integers(8))
        self.bat = 4
        return self.frame(), {}

    def step(self, action):
        """Move the bat by action - 1, and the ball down."""
        self.row += 1
        self.bat = int(np.clip(self.bat + action - 1, 0, 7))
        end = self.row == 7
        reward = (1.0 if self.bat == self.column else -1.0) if end else 0.0
        return self.frame(), reward, end, False, {}

    def frame(self):
        """The picture: blue bat, yellow ball."""
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[56:, 8 * self.bat : 8 * self.bat + 8] = (60, 120, 250)
        picture[8 * self.row :, 8 * self.column :][:8, :8] = (250, 200, 40)
        return picture


def record(env: Catch, seed: int) -> Episode:
    """Play at random; `act[t]` and `rew[t]` are what led to frame t, so the first are zero.

    `lssvwm collect --env-id bring_your_own:Catch` does this for any environment, on several cores.
    """
    obs, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    frames = [obs]
    actions = [0]
    rewards = [0.0]
    terminated = False
    while not terminated:
        action = int(env.action_space.sample())
        obs, reward, terminated, _, _ = env.step(action)
        frames.append(obs)
        actions.append(action)
        rewards.append(reward)
    last = np.arange(len(frames)) == len(frames) - 1
    return Episode(
        obs=np.stack(frames),
        act=np.array(actions),
        rew=np.array(rewards, np.float32),
        terminated=last,
        truncated=np.zeros_like(last),
        seed=seed,
    )


@dataclass(frozen=True)
class Args:
    """How much to do.

    Attributes:
        out: Folder for all results.
        episodes: To record.
        preset: Size of the model.
        steps: Of training.
    """

    out: Path = Path("runs/catch")
    episodes: int = 500
    preset: Literal["debug", "tiny"] = "debug"
    steps: int = 300


def main(args: Args) -> None:
    """Record, train, step, compare."""
    seeds = SPLITS["train"][: args.episodes]  # `compare` plays with seeds of the test split, which are others
    data = write_dataset(
        args.out / "data",
        (record(Catch(), seed) for seed in seeds),
        DatasetOrigin(
            env_id=ENV_ID,
            action_space={"type": "Discrete", "n": 3},
            policy="uniform",
        ),
    )
    training = TrainingConfig(args.out / "run", steps=args.steps, lengths=(4, 8), validation=0.1, head_sequences=256)
    train(TrainConfig(data.folder, training, args.preset, start_frames=2, horizon=8))

    simulator = args.out / "run" / "simulator"
    env = lssvwm_env.load(simulator)
    env.reset(seed=0)
    for _ in range(7):
        _, reward, terminated, truncated, _ = env.step(1)
        print(f"reward {reward:+.2f}, terminated {terminated}")
        if terminated or truncated:
            break
    compare(CompareConfig(str(simulator), args.out / "compare", sequences=32, context=2, horizon=6, env_id=ENV_ID))


if __name__ == "__main__":
    main(tyro.cli(Args))
