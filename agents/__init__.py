"""Agents that act in the real world and think in the learned one.

`planners` search for actions in imagined worlds, many candidates at once; `mpc` acts on what they find, one real frame
at a time.
"""

from agents.mpc import EpisodeRecord, MPCAgent, run_episode
from agents.planners import CategoricalCEM, Imaginer, Planner, PlanResult, RandomShooting, imagined_returns

__all__ = [
    "CategoricalCEM",
    "EpisodeRecord",
    "Imaginer",
    "MPCAgent",
    "PlanResult",
    "Planner",
    "RandomShooting",
    "imagined_returns",
    "run_episode",
]
