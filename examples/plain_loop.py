"""Gymnasium's loop in a dreamed world: make, reset, step. Nothing here knows that a model draws the frames.

python examples/plain_loop.py
python examples/plain_loop.py --env LSSVWM/MiniGrid-DoorKey-6x6-v0 --render-mode human
"""

from dataclasses import dataclass
from typing import Literal

import gymnasium as gym
import tyro

import lssvwm_env  # noqa: F401 (registers the ids)


@dataclass
class Args:
    """Where to walk about, and for how long.

    Attributes:
        env: Id of a simulator; `lssvwm list` shows them all.
        steps: To take, over as many episodes as that makes.
        seed: Of the first episode and of the actions.
        render_mode: "human" opens a window.
    """

    env: str = "LSSVWM/MiniGrid-MemoryS9-v0"
    steps: int = 200
    seed: int = 0
    render_mode: Literal["human"] | None = None


def main(args: Args) -> None:
    """Walk about at random."""
    env = gym.make(args.env, render_mode=args.render_mode)
    env.action_space.seed(args.seed)
    obs, info = env.reset(seed=args.seed)
    print(f"frames {obs.shape} {obs.dtype}, actions {env.action_space}")
    episode = 1
    length = 0
    total = 0.0
    for _ in range(args.steps):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        length += 1
        total += reward
        if terminated or truncated:
            ending = f"terminated, {info['term_prob']:.0%} sure" if terminated else "out of time"
            print(f"episode {episode}: {length} steps, return {total:.2f}, {ending}")
            env.reset()
            episode += 1
            length = 0
            total = 0.0
    print(f"episode {episode} goes on after {length} steps")
    env.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
