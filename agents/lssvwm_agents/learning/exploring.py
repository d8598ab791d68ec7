"""Agents that gather the data that their model goes on to learn from."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from lssvwm_agents.policies.actor_critic import ActorCritic
from lssvwm_env.datasets.acting import make_policy
from lssvwm_env.datasets.collect import CollectConfig, Player
from lssvwm_env.envs.wrappers import MemoryFeatures
from lssvwm_env.real import Policy
from lssvwm_env.simulator.simulator import Simulator


def agent_player(
    agent: ActorCritic, simulator: Simulator, config: CollectConfig, explore: float, command: str, device: str = "cpu"
) -> Player:
    """An agent that `collect` lets play.

    Args:
        agent: It draws its actions at random, as it was trained to.
        simulator: What it remembers with.
        config: What is collected; the policy that this names, or means, plays in its place at times.
        explore: Share of the episodes in which that happens.
        command: As in `Player`.
        device: Where the simulator runs.
    """

    def join(env: gym.Env[Any, Any]) -> tuple[gym.Env[Any, Any], Policy]:
        observed = MemoryFeatures(env, simulator, "frames", device)
        return observed, Exploring(agent, observed, make_policy(config.policy, env), explore)

    return Player(f"actor-critic {agent.sha256()[:12]} exploring {explore:.0%}", command, join)


class Exploring:
    """A policy that follows an agent, and in a share of the episodes another one, which may see the world's inside.

    The agent gets nothing but the features of `observed`, which follow from the frames and the actions taken.
    """

    def __init__(self, agent: ActorCritic, observed: MemoryFeatures, other: Policy, share: float) -> None:
        self._agent = agent
        self._observed = observed
        self._other = other
        self._share = share

    def reset(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        """Begin an episode."""
        self._explores = rng.random() < self._share
        if self._explores:
            self._other.reset(env, rng)
        else:
            self._agent.set_random_seed(int(rng.integers(2**63)))

    def act(self, env: gym.Env[Any, Any]) -> Any:
        """Choose an action."""
        if self._explores:
            return self._other.act(env)
        return self._agent.predict(self._observed.core.features().cpu().numpy())[0][0]
