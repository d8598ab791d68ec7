"""Judging agents where it counts: in real episodes that nobody trained on, against what their plans had promised."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional import spearman_corrcoef

from lssvwm_agents.planning.mpc import MPCState
from lssvwm_agents.policies.returns import discounted_returns
from lssvwm_models.evaluation.tally import Tally


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
        promised: (T,) float, the value of the plan that each action belongs to, when it was made; None from agents
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

    def returns(self, gamma: float) -> NDArray[np.float64]:
        """(T,): the discounted rewards from each step on."""
        return discounted_returns(self.rewards, gamma)


class _Step(NamedTuple):
    """What is noted of a real step; `promised` is NaN from agents without plans."""

    reward: float
    promised: float
    planned: bool
    seconds: float


def play_episodes(agent: Agent, make_env: Callable[[], gym.Env[Any, Any]], seeds: Sequence[int]) -> list[Outcome]:
    """Let an agent play one real episode per seed, all of them side by side.

    Whoever is done leaves the batch, so that nothing is planned for nobody.
    """
    envs = [make_env() for _ in seeds]
    observations = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    logs: list[list[_Step]] = [[] for _ in seeds]
    terminated = [False] * len(seeds)
    playing = list(range(len(seeds)))
    state = None
    starts = np.ones(len(seeds), bool)
    while playing:
        began = time.perf_counter()
        batch = np.stack([observations[i] for i in playing])
        actions, state = agent.predict(batch, state, starts, deterministic=True)
        seconds = time.perf_counter() - began
        rows_left = list[int]()
        for row, (i, action) in enumerate(zip(playing, actions, strict=True)):
            observations[i], reward, terminated[i], truncated, _ = envs[i].step(action)
            plans = isinstance(state, MPCState)
            promised = float(state.value[row]) if plans else math.nan
            planned = plans and int(state.used[row]) == 1
            logs[i].append(_Step(float(reward), promised, planned, seconds))
            if not (terminated[i] or truncated):
                rows_left.append(row)
        if len(rows_left) < len(playing):
            playing = [playing[row] for row in rows_left]
            if state is not None and rows_left:
                state = state[torch.tensor(rows_left, dtype=torch.long)]
        starts = np.zeros(len(playing), bool)
    return [_outcome(seed, log, end) for seed, log, end in zip(seeds, logs, terminated, strict=True)]


def _outcome(seed: int, log: list[_Step], terminated: bool) -> Outcome:
    promised = np.array([step.promised for step in log])
    return Outcome(
        seed=seed,
        rewards=np.array([step.reward for step in log]),
        terminated=terminated,
        promised=None if np.isnan(promised).any() else promised,
        planned=np.array([step.planned for step in log]),
        seconds=np.array([step.seconds for step in log]),
    )


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
        "success": wilson_interval(sum(o.success for o in outcomes), len(outcomes)),
        "return": mean_interval([o.rewards.sum() for o in outcomes]),
        "steps": mean_interval([len(o.rewards) for o in outcomes]),
    }
    planned = [o for o in outcomes if o.promised is not None]
    if planned:
        seconds = np.concatenate([o.seconds[o.planned] for o in planned])
        promised, paid = promised_and_paid(planned, gamma)
        report["decision_seconds"] = {
            "mean": float(seconds.mean()),
            "p95": float(np.percentile(seconds, 95)),
            "most": float(seconds.max()),
        }
        report["rank_correlation"] = rank_correlation(promised, paid)
        worst = sorted(planned, key=lambda o: _largest_excess(o, gamma), reverse=True)
        report["overpromised"] = [o.seed for o in worst[:10] if _largest_excess(o, gamma) > 0]
    return report


def promised_and_paid(outcomes: list[Outcome], gamma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every plan that was made, its value, and the discounted return that was paid from there on."""
    promised = [o.promised[o.planned] for o in outcomes if o.promised is not None]
    paid = [o.returns(gamma)[o.planned] for o in outcomes if o.promised is not None]
    return np.concatenate(promised), np.concatenate(paid)


def _largest_excess(outcome: Outcome, gamma: float) -> float:
    """How much more a plan of an episode promised than was paid, at most."""
    promised, paid = promised_and_paid([outcome], gamma)
    return float((promised - paid).max())


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Spearman's; None where one of them does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearman_corrcoef(torch.from_numpy(a).float(), torch.from_numpy(b).float()))


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> dict[str, float | int | None]:
    """A share with its 95 % interval, which has a width where all or none succeed, too (Wilson 1927)."""
    if not trials:
        return {"value": None, "low": None, "high": None, "n": 0}
    share = successes / trials
    scale = 1 + z**2 / trials
    middle = (share + z**2 / (2 * trials)) / scale
    reach = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / scale
    return {"value": share, "low": max(0.0, middle - reach), "high": min(1.0, middle + reach), "n": trials}


def mean_interval(values: Sequence[float]) -> dict[str, float | int | None]:
    """A mean with its 95 % interval, a bootstrap over the values."""
    array = np.array(values, np.float64)[:, None]
    return Tally.of(array, np.ones_like(array, dtype=bool)).estimate()
