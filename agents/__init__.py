"""Agents that act in the real world and think in the learned one.

`planning` says what planners have in common: they search for actions in imagined worlds, many candidates at once.
`planners` draw whole plans and keep the best, `mcts` grows a tree, `goals` gives any of them a picture to reach; `mpc`
acts on what they find, one real frame at a time.
"""

from agents.goals import TowardsGoal
from agents.mcts import MCTS
from agents.mpc import EpisodeRecord, MPCAgent, MPCState, run_episode
from agents.planners import CEM, MPPI, RandomShooting
from agents.planning import Budget, Imaginer, Planner, PlanResult, imagined_returns

__all__ = [
    "CEM",
    "MCTS",
    "MPPI",
    "Budget",
    "EpisodeRecord",
    "Imaginer",
    "MPCAgent",
    "MPCState",
    "PlanResult",
    "Planner",
    "RandomShooting",
    "TowardsGoal",
    "imagined_returns",
    "run_episode",
]
