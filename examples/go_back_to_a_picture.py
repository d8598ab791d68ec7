"""Walk about in a real ObjectRooms world, then go back to a place by its picture alone.

The agent is shown a real walk. Its goal is one of the frames on the way: the last in which something lay in front of
it. It finds back by planning in the memory of what it saw, towards frames that look like the picture.

python examples/go_back_to_a_picture.py
python examples/go_back_to_a_picture.py --episode 3 --walk 60
"""

from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
import tyro

from lssvwm_agents import CEM, Budget, MPCAgent, TowardsGoal
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.real import WanderPolicy, make_recorded, tile_palette
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data.segments import to_frames
from lssvwm_models.data.splits import SPLITS


@dataclass
class Args:
    """Where to go, and how hard to think.

    Attributes:
        simulator: Of an ObjectRooms world.
        episode: Which episode of the test split.
        walk: Real steps of the walk; the goal is seen before the last third.
        max_steps: Real steps to find back.
        horizon: Actions per plan.
        imagined_steps: Frames to imagine for a decision.
        out: The film: what the agent sees at the left, its goal at the right.
    """

    simulator: str = "LSSVWM/ObjectRooms-v0"
    episode: int = 0
    walk: int = 40
    max_steps: int = 60
    horizon: int = 16
    imagined_steps: int = 2048
    out: Path = Path("go_back_to_a_picture.gif")


def main(args: Args) -> None:
    """Walk, choose a picture, and go back to it."""
    simulator = Simulator.load(args.simulator)
    core = SimulatorCore(simulator, 1, bf16=True)
    real = make_recorded(simulator.config)
    seed = SPLITS["test"].start + args.episode

    walker = WanderPolicy(noise=0.0)
    frame, info = real.reset(seed=seed)
    walker.reset(real, np.random.default_rng(seed))
    frames = [frame]
    acts = [0]
    tiles = [info["tiles"]]
    for _ in range(args.walk):
        acts.append(walker.act(real))
        frame, _, _, _, info = real.step(acts[-1])
        frames.append(frame)
        tiles.append(info["tiles"])
    palette = tile_palette()
    ahead = palette.is_object(palette.encode(np.stack(tiles)))[:, 3:6, 3].any(1)  # one to three cells in front
    good = np.flatnonzero(ahead[: 2 * args.walk // 3])
    goal = frames[int(good[-1]) if len(good) else args.walk // 2]

    world = TowardsGoal(core, goal)
    budget = Budget(imagined_steps=args.imagined_steps)
    planner = CEM(action_probs=(0.25, 0.25, 0.5, 0, 0, 0, 0))  # left, right, forward
    agent = MPCAgent(world, planner, args.horizon, budget, replan_every=4)
    is_first = torch.arange(args.walk).unsqueeze(0) == 0
    seen = core.update_memory(core.initial_memory(1), np.stack(frames[:-1])[None], torch.tensor([acts[:-1]]), is_first)
    state = agent.state_after(seen, torch.tensor(acts[-1:]))
    film = []
    reached = False
    for _ in range(args.max_steps):
        film.append(np.concatenate([frame, goal], axis=1))
        reached = bool(world.likeness(to_frames(frame)[None]) >= world.reached)
        if reached:
            break
        action, state = agent.predict(frame[None], state)
        frame, *_ = real.step(action[0])
    print(f"{'back' if reached else 'not back'} after {len(film) - 1} real steps")
    imageio.imwrite(args.out, np.stack(film).repeat(4, axis=1).repeat(4, axis=2), duration=250, loop=0)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main(tyro.cli(Args))
