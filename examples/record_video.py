"""Record an episode of a dreamed world as a film, with one of Gymnasium's wrappers.

`RenderCollection` keeps what `render` shows; imageio writes it as a GIF. Where moviepy is installed, Gymnasium's
`RecordVideo(env, "videos")` writes MP4 files in the same way.

python examples/record_video.py
python examples/record_video.py --env LSSVWM/MiniGrid-LavaCrossingS9N1-v0 --seed 3 --out lava.gif
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np
import tyro
from gymnasium.wrappers import RenderCollection

import lssvwm_env  # noqa: F401 (registers the ids)


@dataclass
class Args:
    """What to film.

    Attributes:
        env: Id of a simulator; `lssvwm list` shows them all.
        seed: Of the episode and of the actions.
        max_steps: To take, if the episode does not end before.
        scale: How many times as large the film is as the frames.
        out: The film.
    """

    env: str = "LSSVWM/ObjectRooms-v0"
    seed: int = 0
    max_steps: int = 60
    scale: int = 4
    out: Path = Path("dream.gif")


def main(args: Args) -> None:
    """Walk at random, and keep the film."""
    env = RenderCollection(gym.make(args.env, render_mode="rgb_array"))
    env.action_space.seed(args.seed)
    env.reset(seed=args.seed)
    for _ in range(args.max_steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            break
    frames = np.stack(env.render())  # (T, H, W, 3), uint8; the first is the one that reset returned
    film = frames.repeat(args.scale, axis=1).repeat(args.scale, axis=2)
    imageio.imwrite(args.out, film, duration=1000 / env.metadata["render_fps"], loop=0)
    print(f"wrote {args.out}: {len(film)} frames of {film.shape[2]}x{film.shape[1]} pixels")
    env.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
