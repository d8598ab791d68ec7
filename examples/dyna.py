"""Live in a world, learn to dream it, learn to act in the dream, and live on: the Dyna loop, and what it led to.

python examples/dyna.py
python examples/dyna.py --env MiniGrid-DoorKey-5x5-v0 --preset tiny --rounds 5 --frames 4000 --steps 600 --updates 200
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import imageio.v3 as imageio
import numpy as np
import tyro

from lssvwm_agents.learning.dyna import DynaConfig, Round, dyna
from lssvwm_agents.learning.dyna_config import RoundImagination, RoundTraining
from lssvwm_env.envs.wrappers import MemoryFeatures
from lssvwm_models.data.splits import SPLITS


@dataclass
class Args:
    """Where to live, and how much to do.

    Attributes:
        env: Id of the real environment.
        out: Folder for all results; `last_agent.gif` is the film.
        rounds: Of living and learning.
        frames: Real frames in each of them.
        preset: Size of the world model.
        steps: Of its training, in each round.
        updates: Batches of dreams that the agent learns from, in each round.
        episodes: To judge the agent in, after each round.
    """

    env: str = "MiniGrid-Empty-Random-6x6-v0"
    out: Path = Path("runs/dyna")
    rounds: int = 3
    frames: int = 1000
    preset: Literal["debug", "tiny"] = "debug"
    steps: int = 200
    updates: int = 60
    episodes: int = 20


def main(args: Args) -> None:
    """Go through the rounds, and film the agent of the last one."""
    config = DynaConfig(
        args.env,
        args.out,
        rounds=args.rounds,
        frames_per_round=args.frames,
        episode_length=100,
        preset=args.preset,
        model=RoundTraining(steps=args.steps),
        agent=RoundImagination(updates=args.updates),
        episodes=args.episodes,
    )
    for report in dyna(config):
        success = "{value:.0%} of {n} episodes".format(**report["judged"]["success"])
        print(f"after {report['real_frames']:,} real and {report['imagined_steps']:,} imagined frames: {success} won")

    simulator, agent = Round(config, args.rounds - 1).outcome()
    real = MemoryFeatures(config.make_env(), simulator, observation="both")
    seen, _ = real.reset(seed=SPLITS["test"].start)
    film = [seen["frames"]]
    total = 0.0
    done = False
    while not done and len(film) < config.episode_length:
        action, _ = agent.predict(seen, deterministic=True)
        seen, reward, terminated, truncated, _ = real.step(action)
        film.append(seen["frames"])
        total += float(reward)
        done = terminated or truncated
    out = args.out / "last_agent.gif"
    imageio.imwrite(out, np.stack(film).repeat(4, 1).repeat(4, 2), duration=250, loop=0)  # 4 times as large
    print(f"a real episode: return {total:.2f} in {len(film) - 1} steps; wrote {out}")


if __name__ == "__main__":
    main(tyro.cli(Args))
