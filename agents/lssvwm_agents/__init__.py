"""Agents that act in the real world and think in the learned one.

`planning` says what planners have in common: they search for actions in imagined worlds, many candidates at once.
`planners` draw whole plans and keep the best, `mcts` grows a tree of `moments` that it knows again, `rewards` lets any
of them plan for something else; `mpc` acts on what they find, one real frame at a time, and `judging` says how well.
`actor_critic` is a policy that `imagination_training` teaches in dreams alone, and `dyna` by turns of real life and
dreams.
"""

from lssvwm_agents.planning.follow_policy import FollowPolicy
from lssvwm_agents.planning.mcts import MCTS
from lssvwm_agents.planning.mpc import EpisodeRecord, MPCAgent, MPCState, run_episode
from lssvwm_agents.planning.protocols import Budget, Imaginer, Planner, PlanResult, imagined_returns
from lssvwm_agents.planning.rewards import Curious, TowardsGoal
from lssvwm_agents.planning.shooting import CEM, MPPI, RandomShooting
from lssvwm_agents.policies.actor_critic import ActorCritic

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
