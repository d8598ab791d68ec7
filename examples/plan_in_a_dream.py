"""Act in the real MiniGrid by planning in its learned simulator, and film what was expected beside what came.

python examples/plan_in_a_dream.py
python examples/plan_in_a_dream.py --episode 7 --num-samples 512
"""

from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import tyro
from gymnasium.wrappers import TimeLimit

from agents import CEM, Budget, MPCAgent, run_episode
from lssvwm_env.collect import SPLITS
from lssvwm_env.core import SimulatorCore
from lssvwm_env.real import make_real
from lssvwm_env.simulator import Simulator


@dataclass
class Args:
    """What to plan for, and how hard.

    Attributes:
        env: Id of the real environment; its simulator is "LSSVWM/" + env.
        episode: Which episode of the test split; also the agent's seed.
        max_steps: Real steps after which to give up.
        num_samples: Plans imagined per round.
        horizon: Actions per plan.
        num_iterations: Rounds per decision.
        replan_every: Real steps between decisions.
        out: The film: real frames at the left, at the right what the agent expected.
    """

    env: str = "MiniGrid-MemoryS9-v0"
    episode: int = 0
    max_steps: int = 60
    num_samples: int = 64
    horizon: int = 12
    num_iterations: int = 3
    replan_every: int = 4
    out: Path = Path("plan_in_a_dream.gif")


def main(args: Args) -> None:
    """Run one episode and film it."""
    simulator = Simulator.load(f"LSSVWM/{args.env}")
    planner = CEM(
        num_samples=args.num_samples,
        num_elites=max(1, args.num_samples // 8),
        action_probs=(0.2, 0.2, 0.6, 0.0, 0.0, 0.0, 0.0),  # left, right, forward: there is nothing to pick up or open
    )
    budget = Budget(imagined_steps=args.num_iterations * args.num_samples * args.horizon)
    core = SimulatorCore(simulator, 1)
    agent = MPCAgent(core, planner, args.horizon, budget, seed=args.episode, replan_every=args.replan_every)
    real = TimeLimit(make_real(args.env, **simulator.config.env_kwargs), args.max_steps)
    record = run_episode(agent, real, seed=SPLITS["test"].start + args.episode)

    ending = "terminated" if record.terminated else "out of time"
    print(f"return {record.rewards.sum():.2f} in {len(record.actions)} real steps ({ending})")
    print(f"{record.imagined_steps} imagined steps; the plans promised {record.values.max():.2f} at best")

    film = np.concatenate([record.frames[1:], record.foreseen], axis=2)
    imageio.imwrite(args.out, film.repeat(4, axis=1).repeat(4, axis=2), duration=250, loop=0)  # 4 times as large
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main(tyro.cli(Args))
