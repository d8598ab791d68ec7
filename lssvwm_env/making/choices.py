"""What fits a world, a machine and a budget: read off the episodes, and off a few steps that are timed."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import gymnasium as gym
import numpy as np

from lssvwm_env.datasets.acting import make_policy
from lssvwm_env.real import make_real
from lssvwm_env.train import model_config
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.data.openings import episode_lengths
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.trainer import Trainer

PROBED: Final = 300  # steps of a real environment, at most,
PROBE_SECONDS: Final = 3.0  # and seconds, that its speed is told by
COLLECTING: Final = 0.1  # share of the budget
FRAMES: Final = (2_000, 100_000)  # least and most that are collected
TIMED: Final = 4  # optimiser steps, after one that does not count
LEAST_STEPS: Final = 60
MOST_STEPS: Final = 6_000
ENOUGH_STEPS: Final = 800  # of the larger preset, that it is taken for
TAKEN: Final = 0.9  # share of what is left that is planned with: a machine may become slower
COMPARING: Final = (
    0.1,
    60,
    0.3,
)  # shares of it: for `compare`, at least so many seconds if they are no more than so much,
HEADS: Final = 0.1  # the heads,
RECKONING: Final = 0.06  # dead reckoning,
RENDERING: Final = 0.3  # and the renderer, where there is one
START_FRAMES: Final = 16
LONGEST: Final = 1_000  # frames of an episode, where nobody says
EVALUATIONS: Final = 6
FEWEST_CHANGES: Final = 0.01  # share of the frames that must differ from the one before


def real_speed(env_id: str, kwargs: dict[str, Any], policy: str | None) -> float:
    """Steps per second of the real environment in one process, the time of resets included."""
    env = make_real(env_id, **kwargs)
    acting = make_policy(policy, env)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    acting.reset(env, rng)
    began = time.monotonic()
    steps = 0
    while steps < PROBED and time.monotonic() - began < PROBE_SECONDS:
        action: Any = acting.act(env)
        _, _, terminated, truncated, _ = env.step(action)
        steps += 1
        if terminated or truncated:
            env.reset()
            acting.reset(env, rng)
    env.close()
    return steps / (time.monotonic() - began)


def frames_to_collect(speed: float, workers: int, seconds: float) -> tuple[int, str]:
    """As many as a share of the budget gives."""
    affordable = int(speed * workers * COLLECTING * seconds)
    frames = min(max(affordable, FRAMES[0]), FRAMES[1])
    return (
        frames,
        f"{workers} processes make {speed * workers:,.0f} a second, and {COLLECTING:.0%} of the time is for them",
    )


def refuse_what_teaches_nothing(dataset: EpisodeDataset) -> None:
    """Say what is missing in episodes from which no model can learn how a world answers.

    Raises:
        ValueError: If pictures never change, or only one action was taken.
    """
    within = ~dataset.is_first[1:]
    changed = (dataset.obs[1:] != dataset.obs[:-1]).any((1, 2, 3))[within]
    if changed.mean() < FEWEST_CHANGES:
        raise ValueError(
            f"{dataset.folder}: only {changed.mean():.2%} of its pictures differ from the one before. Is the right "
            "thing recorded? Try --render to record what the environment renders, or another --policy"
        )
    taken = dataset.act[1:][within]
    if len(np.unique(taken, axis=0)) == 1:
        raise ValueError(
            f"{dataset.folder}: the only action ever taken is {taken[0]!s}. A model learns what actions do from "
            "different ones: record with another --policy, such as sticky"
        )


class Speeds(NamedTuple):
    """Seconds per step of the parts of a training, and per evaluation."""

    network: float
    evaluation: float
    odometry: float
    renderer: float


def speeds(training: TrainingConfig, dataset: EpisodeDataset, preset: str) -> Speeds:
    """Time a few steps of each part, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        few = replace(training, out=Path(folder), steps=TIMED + 1, odometry_steps=TIMED, render_steps=TIMED)
        trainer = Trainer(few, model_config(dataset, preset), dataset)
        found = {}
        for name, done, fit in (
            ("odometry", trainer.odometry_trained, trainer.fit_odometry),
            ("renderer", trainer.renderer_trained, trainer.fit_renderer),
        ):
            began = time.monotonic()
            if not done:
                fit()
            found[name] = (time.monotonic() - began) / TIMED if not done else 0.0
        trainer.train_step()
        began = time.monotonic()
        for _ in range(TIMED):
            trainer.train_step()
        network = (time.monotonic() - began) / TIMED
        began = time.monotonic()
        trainer.evaluate()
        return Speeds(network, time.monotonic() - began, **found)


def how_to_train(dataset: EpisodeDataset, out: Path, threads: int, seed: int) -> TrainingConfig:
    """What does not depend on the budget; sequences are no longer than episodes, over whose ends nothing is kept."""
    longest = int(episode_lengths(dataset).max())
    first_person = dataset.pose is not None and dataset.spec.camera is not None
    length = max(2, min(128 if first_person else 64, longest))
    objective = ObjectiveConfig(context_noise=0.2, pure_noise=0.8) if first_person else ObjectiveConfig()
    return TrainingConfig(out, lengths=(length,), objective=objective, threads=threads, seed=seed)


def start_frames(dataset: EpisodeDataset) -> int:
    """Real frames that dreams begin from: a quarter of the usual episode, or as many as it takes to look around."""
    return int(max(1, min(START_FRAMES, np.median(episode_lengths(dataset)) // 4)))


def within(left: float, training: TrainingConfig, speed: Speeds) -> TrainingConfig:
    """The training as long as it may be if there are so many seconds left for it and for `compare`.

    The heads observe sequences without gradients, which takes a third of the time of a step for as many frames.
    """
    budget = TAKEN * left
    share, least, most = COMPARING
    comparing = min(max(share * budget, least), most * budget)
    heads = HEADS * budget
    reckoning = RECKONING * budget if speed.odometry else 0.0
    rendering = RENDERING * budget if speed.renderer else 0.0
    network = budget - comparing - heads - reckoning - rendering - EVALUATIONS * speed.evaluation
    steps = int(network / speed.network)
    observed = max(training.lengths) * speed.network / 3 / training.frames_per_step  # seconds per sequence
    return replace(
        training,
        steps=min(max(steps, 1), MOST_STEPS),
        odometry_steps=_between(1, reckoning / (speed.odometry or math.inf), 2400),
        render_steps=_between(1, rendering / (speed.renderer or math.inf), 3000),
        head_sequences=_between(32, heads / observed, 1024),
        head_steps=_between(50, steps, 2000),
        eval_every=_between(1, math.ceil(steps / EVALUATIONS), 250),
    )


def _between(least: int, number: float, most: int) -> int:
    return int(min(max(number, least), most))


def time_limit(env_id: str, kwargs: dict[str, Any]) -> int | None:
    """Steps after which the real environment cuts an episode off; None where it does not say."""
    env = make_real(env_id, **kwargs)
    said = [env.spec.max_episode_steps if env.spec else None, _max_steps(env)]
    env.close()
    return min((steps for steps in said if steps), default=None)


def _max_steps(env: gym.Env[Any, Any]) -> int | None:
    steps = getattr(env.unwrapped, "max_steps", None)
    return steps if isinstance(steps, int) and 0 < steps < 10**6 else None


def horizon(dataset: EpisodeDataset, limit: int | None) -> tuple[int, str]:
    """Most steps of a dreamt episode."""
    if limit is not None:
        return min(limit, LONGEST), f"the real environment ends episodes after {limit:,}"
    longest = int(episode_lengths(dataset).max())
    return max(1, min(longest - 1, LONGEST)), f"the longest recorded episode has {longest:,} frames"
