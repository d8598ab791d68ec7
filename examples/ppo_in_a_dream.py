"""Train PPO in a dream of MiniGrid-Memory, on what the model remembers, and judge it in the real environment.

python examples/ppo_in_a_dream.py --timesteps 200000
"""

from dataclasses import dataclass

import tyro
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from lssvwm_agents.judging.outcomes import play_episodes, summary
from lssvwm_env import LSSVWMVecEnv, MemoryFeatures, Simulator
from lssvwm_env.real import make_recorded
from lssvwm_models.data.splits import SPLITS


@dataclass
class Args:
    """Where to learn (`simulator`, in `num_envs` dreams), how long, and in how many real episodes to be judged."""

    simulator: str = "LSSVWM/MiniGrid-MemoryS9-v0"
    num_envs: int = 32
    timesteps: int = 200_000
    episodes: int = 50


def main(args: Args) -> None:
    """Learn, then act."""
    simulator = Simulator.load(args.simulator)
    dreams = VecMonitor(LSSVWMVecEnv(simulator, args.num_envs, observation="features", bf16=True))  # prints rewards
    policy = PPO("MlpPolicy", dreams, n_steps=64, batch_size=256, ent_coef=0.01, seed=0, verbose=1)
    policy.learn(args.timesteps)

    def real() -> MemoryFeatures:
        env = make_recorded(simulator.config)
        return MemoryFeatures(TimeLimit(env, simulator.config.horizon), simulator)

    found = summary(play_episodes(policy, real, SPLITS["test"][: args.episodes]), gamma=0.99)
    print("success {value:.2f} [{low:.2f}, {high:.2f}] in {n} real episodes".format(**found["success"]))


if __name__ == "__main__":
    main(tyro.cli(Args))
