"""Judging agents where it counts: in real episodes that nobody trained on, against what their plans had promised."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from lssvwm_models.evaluation.tally import Tally
from numpy.typing import NDArray
from torchmetrics.functional import spearman_corrcoef

from lssvwm_agents.planning.mpc import MPCState


class Agent(Protocol):
    """Anything that acts as the policies of Stable-Baselines3 do, such as these or an `MPCAgent`."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """Choose the next action of every world; see `MPCAgent.predict`."""


@dataclass(frozen=True)
class Outcome:
    """A real episode of T steps.

    Attributes:
        seed: It was reset with.
        rewards: (T,) float.
        terminated: Whether it ended by itself; otherwise it was truncated.
        promised: (T,) float, what the plan that each action belongs to was worth when it was made; None from agents
            without plans.
        planned: (T,) bool, where a plan was made.
        seconds: (T,) float, what it took to choose the action, together with those of all worlds played beside it.
    """

    seed: int
    rewards: NDArray[np.float64]
    terminated: bool
    promised: NDArray[np.float64] | None
    planned: NDArray[np.bool_]
    seconds: NDArray[np.float64]

    @property
    def success(self) -> bool:
        """Whether the episode paid."""
        return bool(self.rewards.sum() > 0)

    def paid(self, gamma: float) -> NDArray[np.float64]:
        """(T,): the discounted rewards from each step on."""
        return discounted(self.rewards, gamma)


def discounted(rewards: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """(T,): the discounted sum of rewards (T,) from each step on."""
    returns, following = np.zeros_like(rewards), 0.0
    for t in range(len(rewards) - 1, -1, -1):
        returns[t] = following = rewards[t] + gamma * following
    return returns


def play(agent: Agent, make_env: Callable[[], gym.Env[Any, Any]], seeds: Sequence[int]) -> list[Outcome]:
    """Let an agent play one real episode per seed, all of them side by side.

    Whoever is done leaves the batch, so that nothing is planned for nobody.
    """
    envs = [make_env() for _ in seeds]
    seen = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    logs: list[list[tuple[float, float, bool, float]]] = [[] for _ in seeds]
    terminated, playing = [False] * len(seeds), list(range(len(seeds)))
    state, starts = None, np.ones(len(seeds), bool)
    while playing:
        began = time.perf_counter()
        actions, state = agent.predict(np.stack([seen[i] for i in playing]), state, starts, deterministic=True)
        seconds, on = time.perf_counter() - began, []
        plans = isinstance(state, MPCState)
        for row, (i, action) in enumerate(zip(playing, actions, strict=True)):
            seen[i], reward, terminated[i], truncated, _ = envs[i].step(action)
            value, planned = (float(state.value[row]), int(state.used[row]) == 1) if plans else (math.nan, False)
            logs[i].append((float(reward), value, planned, seconds))
            if not (terminated[i] or truncated):
                on.append(row)
        if len(on) < len(playing):
            playing = [playing[row] for row in on]
            state = state[torch.tensor(on, dtype=torch.long)] if state is not None and on else state
        starts = np.zeros(len(playing), bool)
    return [_outcome(seed, log, end) for seed, log, end in zip(seeds, logs, terminated, strict=True)]


def _outcome(seed: int, log: list[tuple[float, float, bool, float]], terminated: bool) -> Outcome:
    rewards, promised, planned, seconds = (np.array(column) for column in zip(*log, strict=True))
    return Outcome(seed, rewards, terminated, None if np.isnan(promised).any() else promised, planned, seconds)


def summary(outcomes: list[Outcome], gamma: float) -> dict[str, Any]:
    """What an agent earned, and whether its plans kept what they promised.

    Returns:
        `success` with the 95 % interval of Wilson, `return` and `steps` with one by bootstrap over episodes; for plans
        `decision_seconds` (mean, 95th percentile and most, over the steps that made a plan), `rank_correlation` of
        what plans promised with what was paid from there on, and `overpromised`, the seeds of the ten episodes in
        which a plan promised most more than was paid.
    """
    report: dict[str, Any] = {
        "episodes": len(outcomes),
        "success": wilson(sum(o.success for o in outcomes), len(outcomes)),
        "return": _mean([o.rewards.sum() for o in outcomes]),
        "steps": _mean([len(o.rewards) for o in outcomes]),
    }
    planned = [o for o in outcomes if o.promised is not None]
    if planned:
        seconds = np.concatenate([o.seconds[o.planned] for o in planned])
        promised, paid = promises(planned, gamma)
        report["decision_seconds"] = {
            "mean": float(seconds.mean()), "p95": float(np.percentile(seconds, 95)), "most": float(seconds.max()),
        }  # fmt: skip
        report["rank_correlation"] = rank_correlation(promised, paid)
        worst = sorted(planned, key=lambda o: -float(_broken(o, gamma).max()))
        report["overpromised"] = [o.seed for o in worst[:10] if _broken(o, gamma).max() > 0]
    return report


def promises(outcomes: list[Outcome], gamma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For every plan that was made: what it promised, and the discounted rewards that were paid from there on."""
    promised = np.concatenate([o.promised[o.planned] for o in outcomes if o.promised is not None])
    return promised, np.concatenate([o.paid(gamma)[o.planned] for o in outcomes if o.promised is not None])


def _broken(outcome: Outcome, gamma: float) -> NDArray[np.float64]:
    """How much more each step's plan promised than was paid."""
    assert outcome.promised is not None
    broken: NDArray[np.float64] = np.where(outcome.planned, outcome.promised - outcome.paid(gamma), -np.inf)
    return broken


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Spearman's; None where one of them does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearman_corrcoef(torch.from_numpy(a).float(), torch.from_numpy(b).float()))


def wilson(successes: int, trials: int, z: float = 1.96) -> dict[str, float | int | None]:
    """A share with its 95 % interval, which is of use where all or none succeed, too (Wilson 1927)."""
    if not trials:
        return {"value": None, "low": None, "high": None, "n": 0}
    share, scale = successes / trials, 1 + z**2 / trials
    middle = (share + z**2 / (2 * trials)) / scale
    reach = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / scale
    return {"value": share, "low": max(0.0, middle - reach), "high": min(1.0, middle + reach), "n": trials}


def _mean(values: Sequence[float]) -> dict[str, float | int | None]:
    array = np.array(values, np.float64)[:, None]
    return Tally.of(array, np.ones_like(array, dtype=bool)).estimate()
