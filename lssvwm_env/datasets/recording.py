"""Play episodes of a real environment, and record them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lssvwm_env.real import Policy
from lssvwm_env.real.contract import checked_reset, checked_step
from lssvwm_env.real.facts import facts_of, read_facts
from lssvwm_models.data import Episode


class Recorded(NamedTuple):
    """An episode without facts; what `info` said in the documented form, and in words what else it said."""

    episode: Episode
    facts: dict[str, Any]
    refused: dict[str, str]


def record_episode(
    env: gym.Env[Any, Any], policy: Policy, *, seed: int, rng: np.random.Generator, length: int
) -> Episode:
    """Play one episode and record it.

    Args:
        env: The environment; `info["pose"]` and `info["tiles"]` are recorded where every frame comes with them in the
            documented form, and in their place `info["lssvwm/pose"]` and `info["lssvwm/tiles"]`, if they are there.
        policy: Who acts.
        seed: Seed that `env` is reset with.
        rng: Source of the policy's randomness.
        length: Most frames, the first included; the episode is truncated there.

    Returns:
        The episode, each action and reward in the row of the frame it led to.

    Raises:
        ValueError: If the environment breaks its promises, such as by a reward that is no finite number; names the
            frame.
    """
    episode, facts, _ = record(env, policy, seed, rng, length)
    return replace(episode, **facts)


def record(env: gym.Env[Any, Any], policy: Policy, seed: int, rng: np.random.Generator, length: int) -> Recorded:
    """`record_episode`, with what it left out."""
    frames: list[NDArray[np.uint8]] = []
    try:
        obs, info = checked_reset(env, env.reset(seed=seed))
        policy.reset(env, rng)
        first_action = np.zeros(env.action_space.shape or (), _action_dtype(env.action_space))
        frames.append(np.array(obs))
        rows: list[tuple[Any, ...]] = [(first_action, 0.0, False, False)]
        infos = [facts_of(info)]
        terminated = False
        truncated = False
        while not (terminated or truncated):
            action = policy.act(env)
            obs, reward, terminated, truncated, info = checked_step(env, env.step(action))
            truncated = truncated or (not terminated and len(rows) + 1 >= length)
            frames.append(np.array(obs))
            rows.append((action, reward, terminated, truncated))
            infos.append(facts_of(info))
    except ValueError as error:
        raise ValueError(f"{error} (in frame {len(frames)} of the episode of seed {seed})") from error
    actions, rewards, ends, cuts = zip(*rows, strict=True)
    episode = Episode(
        obs=np.stack(frames),
        act=np.stack(actions).astype(first_action.dtype),
        rew=np.array(rewards, np.float32),
        terminated=np.array(ends, np.bool_),
        truncated=np.array(cuts, np.bool_),
        seed=seed,
    )
    return Recorded(episode, *read_facts(infos))


def with_common_facts(recorded: Iterable[Recorded]) -> tuple[list[Episode], dict[str, str]]:
    """Episodes of one file, with the facts that all of them have; and in words what was left out."""
    recorded = list(recorded)
    common = set.intersection(*(set(one.facts) for one in recorded))
    refused: dict[str, str] = {}
    for one in recorded:
        refused = one.refused | refused
    for one in recorded:
        for name in one.facts.keys() - common:
            refused.setdefault(name, f"info of some episodes has no {name}")
    for name in sorted(common):
        kinds = sorted({str(one.facts[name].dtype) for one in recorded})
        if len(kinds) > 1:
            refused.setdefault(name, f"it is {' in some episodes, and in others '.join(kinds)}")
            common.remove(name)
    return [replace(one.episode, **{name: one.facts[name] for name in common}) for one in recorded], refused


def _action_dtype(space: gym.Space[Any]) -> type[np.generic]:
    return np.int64 if isinstance(space, gym.spaces.Discrete) else np.float32
