"""What a simulator's users would otherwise do: PPO on the frames of the real environment, without a model.

    python benchmarks/model_free.py --env-id MiniGrid-DoorKey-6x6-v0 --steps 400000
    python benchmarks/model_free.py --env-id MiniGrid-MemoryS9-v0 --steps 1200000 --recurrent
    python benchmarks/model_free.py --env-id MemoryMaze/9x9-v0 --steps 64000 --num-envs 4 --judge-envs 4

The record is written anew at every evaluation, into benchmarks/records/agents/.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
import records_io
import torch
import tyro
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor, nn

from lssvwm_agents.judging.outcomes import mean_interval, wilson_interval
from lssvwm_env.real import make_real
from lssvwm_env.simulator.simulator import package_versions
from lssvwm_env.utils.provenance import hardware
from lssvwm_models.data.splits import SPLITS

RECORDS: Final = Path(__file__).parent / "records" / "agents"


@dataclass
class Args:
    """Where to learn, and how long.

    Attributes:
        env_id: The real environment.
        steps: Real steps.
        recurrent: With an LSTM: sb3-contrib's RecurrentPPO.
        num_envs: Real environments side by side.
        judge_envs: Likewise, to be judged in.
        eval_every: Real steps between evaluations, which are not counted.
        episodes: Of the test split, per evaluation.
        threads: CPU threads.
        seed: Of everything.
    """

    env_id: str = "MiniGrid-DoorKey-6x6-v0"
    steps: int = 400_000
    recurrent: bool = False
    num_envs: int = 16
    judge_envs: int = 20
    eval_every: int = 20_480
    episodes: int = 100
    threads: int = 1
    seed: int = 0


class Tiles(BaseFeaturesExtractor):
    """A network that knows that tiles have 8x8 pixels: smaller, faster and better here than SB3's for Atari."""

    def __init__(self, space: gym.spaces.Box, features: int = 128) -> None:
        super().__init__(space, features)
        self.net = nn.Sequential(
            nn.Conv2d(3, 32, 8, 8), nn.ReLU(), nn.Conv2d(32, 64, 2), nn.ReLU(), nn.Flatten(),
            nn.Linear(64 * 7 * 7, features), nn.ReLU(),
        )  # fmt: skip

    def forward(self, frames: Tensor) -> Tensor:
        """Features (B, F) of frames (B, 3, 64, 64) in [0, 1]."""
        features: Tensor = self.net(frames)
        return features


class Seeded(gym.Wrapper[Any, Any, Any, Any]):
    """Begins each episode with the next of some seeds."""

    def __init__(self, env: gym.Env[Any, Any], seeds: range) -> None:
        super().__init__(env)
        self.seeds = iter(seeds)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        return super().reset(seed=next(self.seeds), options=options)


def extractor(env_id: str) -> dict[str, Any]:
    """How a policy of SB3 looks at frames: as `Tiles` where they are of tiles, else as it usually does."""
    env = make_real(env_id)
    first_person = "camera" in env.metadata
    env.close()
    return {} if first_person else {"features_extractor_class": Tiles}


def environments(args: Args, split: str, count: int) -> VecEnv:
    """Real environments that share the seeds of a split among them."""
    parts = [SPLITS[split][i::count] for i in range(count)]
    return DummyVecEnv([lambda part=part: Seeded(make_real(args.env_id), part) for part in parts])  # type: ignore[misc]


class Judge(BaseCallback):
    """Plays test episodes now and then, and writes the record."""

    def __init__(self, args: Args, path: Path) -> None:
        super().__init__()
        self.args, self.path, self.curve = args, path, list[dict[str, Any]]()
        self.seconds, self.resumed = 0.0, time.perf_counter()

    def _on_rollout_start(self) -> None:
        done = self.num_timesteps
        if done - (self.curve[-1]["real_steps"] if self.curve else -self.args.eval_every) >= self.args.eval_every:
            self.judge()

    def _on_training_end(self) -> None:
        self.judge()

    def _on_step(self) -> bool:
        return True

    def judge(self) -> None:
        """Write one more point of the curve. The policy draws its actions, as it does while it learns."""
        self.seconds += time.perf_counter() - self.resumed
        worlds = environments(self.args, "test", self.args.judge_envs)
        returns, _ = evaluate_policy(
            self.model, worlds, self.args.episodes, deterministic=False, return_episode_rewards=True, warn=False
        )
        worlds.close()
        point = {"real_steps": self.num_timesteps, "minutes": round(self.seconds / 60, 1)}
        point["success"] = wilson_interval(sum(r > 0 for r in returns), len(returns))
        point["return"] = mean_interval(returns)
        self.curve.append(point)
        record = {"args": asdict(self.args), "hardware": hardware("cpu"), "versions": package_versions()}
        records_io.write(self.path, record | {"curve": self.curve})
        print(f"{self.num_timesteps:>9,} real steps, {self.seconds / 60:5.1f} min: {np.mean(returns):.2f}", flush=True)
        self.resumed = time.perf_counter()


def main(args: Args) -> None:
    """Learn, and be judged on the way."""
    torch.set_num_threads(args.threads)
    memory = "-recurrent" if args.recurrent else ""
    path = RECORDS / f"model-free-{args.env_id.replace('/', '-')}{memory}-{args.seed}.json"
    settings: dict[str, Any] = {
        "n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": 5e-4, "ent_coef": 0.01, "gamma": 0.99,
        "seed": args.seed, "policy_kwargs": extractor(args.env_id),
    }  # fmt: skip
    worlds = environments(args, "train", args.num_envs)
    model: PPO | RecurrentPPO
    if args.recurrent:
        settings["policy_kwargs"] |= {"lstm_hidden_size": 128}
        model = RecurrentPPO("CnnLstmPolicy", worlds, **settings)
    else:
        model = PPO("CnnPolicy", worlds, **settings)
    model.learn(args.steps, callback=Judge(args, path))


if __name__ == "__main__":
    main(tyro.cli(Args))
