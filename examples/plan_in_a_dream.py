"""Act in the real MiniGrid by planning in its learned simulator, and film what was expected beside what came.

python examples/plan_in_a_dream.py
python examples/plan_in_a_dream.py --planner mcts --episode 7 --imagined-steps 2000
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import imageio.v3 as imageio
import numpy as np
import tyro
from gymnasium.wrappers import TimeLimit

from lssvwm_agents import CEM, MCTS, MPPI, Budget, MPCAgent, RandomShooting, run_episode
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.real import make_real
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data.splits import SPLITS

PLANNERS = {"cem": CEM, "mcts": MCTS, "mppi": MPPI, "shooting": RandomShooting}


@dataclass
class Args:
    """What to plan for, and how hard.

    Attributes:
        env: Id of the real environment; its simulator is "LSSVWM/" + env.
        episode: Which episode of the test split; also the agent's seed.
        max_steps: Real steps after which to give up.
        planner: How plans are searched for.
        horizon: Actions per plan.
        imagined_steps: Frames to imagine for a decision.
        replan_every: Real steps between decisions.
        out: The film: real frames at the left, at the right what the agent expected.
    """

    env: str = "MiniGrid-MemoryS9-v0"
    episode: int = 0
    max_steps: int = 60
    planner: Literal["cem", "mcts", "mppi", "shooting"] = "cem"
    horizon: int = 12
    imagined_steps: int = 1536
    replan_every: int = 4
    out: Path = Path("plan_in_a_dream.gif")


def main(args: Args) -> None:
    """Run one episode and film it."""
    simulator = Simulator.load(f"LSSVWM/{args.env}")
    # Left, right, forward: in MiniGrid-Memory there is nothing to pick up or open.
    planner = PLANNERS[args.planner](action_probs=(0.2, 0.2, 0.6, 0.0, 0.0, 0.0, 0.0))
    core = SimulatorCore(simulator, 1, bf16=True)
    budget = Budget(imagined_steps=args.imagined_steps)
    agent = MPCAgent(core, planner, args.horizon, budget, seed=args.episode, replan_every=args.replan_every)
    real = TimeLimit(make_real(args.env, **simulator.config.env_kwargs), args.max_steps)
    record = run_episode(agent, real, seed=SPLITS["test"].start + args.episode)

    ending = "terminated" if record.terminated else "out of time"
    print(f"return {record.rewards.sum():.2f} in {len(record.actions)} real steps ({ending})")
    print(f"{record.imagined_steps} imagined steps; the plans promised {record.values.max():.2f} at best")
    print(f"the slowest decision took {record.seconds.max():.1f} s")

    film = np.concatenate([record.frames[1:], record.predicted_frames], axis=2)
    imageio.imwrite(args.out, film.repeat(4, axis=1).repeat(4, axis=2), duration=250, loop=0)  # 4 times as large
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main(tyro.cli(Args))
