"""Who acts where data is collected: a script of ours, a user's own, an agent of Stable-Baselines3, or several."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import gymnasium as gym
import numpy as np
from minigrid.minigrid_env import MiniGridEnv

from lssvwm_env.real import Policy, RoamPolicy, StickyPolicy, UniformPolicy, WanderPolicy
from lssvwm_env.real.first_person.roaming import can_roam
from lssvwm_env.real.policies import Action

POLICIES: Final[dict[str, type[Policy]]] = {
    "wander": WanderPolicy,
    "roam": RoamPolicy,
    "sticky": StickyPolicy,
    "uniform": UniformPolicy,
}
ALGORITHMS: Final = dict.fromkeys(("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3"), "stable_baselines3") | dict.fromkeys(
    ("CrossQ", "QRDQN", "RecurrentPPO", "TQC", "TRPO"), "sb3_contrib"
)


class MixedPolicy:
    """Lets one of several policies act in each episode, all with equal odds."""

    def __init__(self, policies: list[Policy]) -> None:
        self._policies = policies

    def reset(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        """Begin an episode."""
        self._acting = self._policies[int(rng.integers(len(self._policies)))]
        self._acting.reset(env, rng)

    def act(self, env: gym.Env[Any, Any]) -> Action:
        """Choose as whose turn it is."""
        return self._acting.act(env)


def default_policy(env: gym.Env[Any, Any]) -> str:
    """Who acts in an environment of `make_real` unless something else is said."""
    return "wander" if isinstance(env.unwrapped, MiniGridEnv) else "roam" if can_roam(env) else "sticky"


def make_policy(name: str | None, env: gym.Env[Any, Any]) -> Policy:
    """A policy by its name.

    Args:
        name: None for the `default_policy`; one of `POLICIES`; "module:Class" for a user's own; "PPO:agent.zip" for an
            agent that `PPO` of Stable-Baselines3 saved, or another of its algorithms or of sb3-contrib; or several of
            these with "+" between them, of which one acts in each episode.
        env: Where it is going to act.

    Raises:
        ValueError: If there is none of that name, or it does not fit the environment.
    """
    policies = [_one_policy(part, env) for part in (name or default_policy(env)).split("+")]
    return policies[0] if len(policies) == 1 else MixedPolicy(policies)


def _one_policy(name: str, env: gym.Env[Any, Any]) -> Policy:
    if name in POLICIES:
        return POLICIES[name]()
    module, colon, rest = name.partition(":")
    if not colon or not module or not rest:
        raise ValueError(
            f"policy={name!r} is none of {', '.join(POLICIES)}; name one of them, module:Class for your own, or "
            "ALGORITHM:FILE.zip for an agent of Stable-Baselines3"
        )
    if module in ALGORITHMS:
        from lssvwm_env.datasets.sb3_agents import SB3Policy  # it imports torch, which others do not wait for

        return SB3Policy(ALGORITHMS[module], module, rest, env)
    return _own_policy(module, rest)


def _own_policy(module: str, name: str) -> Policy:
    """A policy that a user wrote."""
    try:
        made = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(
            f"policy='{module}:{name}' cannot be made ({error}); expected a class that takes no arguments, in a module "
            "that Python finds"
        ) from error
    missing = [method for method in ("reset", "act") if not callable(getattr(made, method, None))]
    if missing:
        raise ValueError(
            f"policy='{module}:{name}' has no {' and no '.join(missing)}; expected reset(env, rng) and act(env), as "
            "lssvwm_env.real.Policy has them"
        )
    policy: Policy = made
    return policy
