"""Agents that act in the real world and think in the learned one.

`policies` are trained in dreams by `learning`; `planning` searches in dreams for what to do next; `judging` says how
well either does in the real environment.
"""

from lssvwm_agents.planning.follow_policy import FollowPolicy
from lssvwm_agents.planning.mcts import MCTS
from lssvwm_agents.planning.mpc import EpisodeRecord, MPCAgent, MPCState, run_episode
from lssvwm_agents.planning.protocols import Budget, Imaginer, Planner, PlanRequest, PlanResult, imagined_returns
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
    "PlanRequest",
    "PlanResult",
    "Planner",
    "RandomShooting",
    "TowardsGoal",
    "imagined_returns",
    "run_episode",
]
