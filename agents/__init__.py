"""Agents that act in the real world and think in the learned one.

`planning` says what planners have in common: they search for actions in imagined worlds, many candidates at once.
`planners` draw whole plans and keep the best, `mcts` grows a tree of `moments` that it knows again, `rewards` lets any
of them plan for something else; `mpc` acts on what they find, one real frame at a time, and `judging` says how well.
`actor_critic` is a policy that `imagination_training` teaches in dreams alone, and `dyna` by turns of real life and
dreams.
"""

from agents.actor_critic import ActorCritic
from agents.following import FollowPolicy
from agents.mcts import MCTS
from agents.mpc import EpisodeRecord, MPCAgent, MPCState, run_episode
from agents.planners import CEM, MPPI, RandomShooting
from agents.planning import Budget, Imaginer, Planner, PlanResult, imagined_returns
from agents.rewards import Curious, TowardsGoal

__all__ = [
    "CEM",
    "MCTS",
    "MPPI",
    "ActorCritic",
    "Budget",
    "Curious",
    "EpisodeRecord",
    "FollowPolicy",
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
