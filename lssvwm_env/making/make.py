"""`lssvwm make`: one command from a world's id, or a folder of recorded episodes, to a simulator that is judged.

It collects, looks at what was collected, chooses what fits world, machine and time, trains, compares with the real
world and writes a page about all of it. Each choice is printed with its reason, and can be made by whoever calls it.
The same command goes on with what was cut off; time that it does not run does not count.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.evaluation.compare import CompareConfig, compare
from lssvwm_env.making import choices
from lssvwm_env.making.ledger import Ledger
from lssvwm_env.making.page import page
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.train import TrainConfig, train
from lssvwm_env.utils.command import relative_paths
from lssvwm_models.data import DatasetOrigin, EpisodeDataset, write_dataset
from lssvwm_models.execution.threads import set_threads
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.files import lock_folder, write_bytes

HELD_OUT: Final = 0.1  # share of the episodes of a given dataset, its last ones, that are only judged on
JUDGED: Final = 32  # episodes
CONTEXT: Final = 64  # frames before a dream, and in it
PRESETS: Final = ("tiny", "micro", "debug")  # the first that has time for enough steps


@dataclass(frozen=True)
class MakeConfig:
    """What to make a simulator of, and how long that may take.

    Attributes:
        env_id: Gymnasium id of the real environment, as for `lssvwm collect`; or give `dataset`.
        dataset: Folder of recorded episodes; the last tenth of them is held out to judge by.
        minutes: That all of it may take.
        out: Folder to make it in; None: `runs/` and the name of the world. The simulator will be `simulator/` in it.
        policy, env_kwargs, size, frame_skip, render, observation: As for `lssvwm collect`.
        frames: To collect. None, here and below: chosen.
        episode_length: Most frames in a recorded episode.
        preset: Size of the model.
        steps: Optimiser steps.
        horizon: Most steps in an episode of the simulator.
        threads: CPU threads, and processes to collect with.
        seed: Decides everything but how many steps there is time for.
    """

    env_id: str | None = None
    dataset: Path | None = None
    minutes: float = 45.0
    out: Path | None = None
    policy: str | None = None
    env_kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    size: int | None = None
    frame_skip: int = 1
    render: bool = False
    observation: str | None = None
    frames: int | None = None
    episode_length: int = 256
    preset: Literal["debug", "micro", "tiny", "small"] | None = None
    steps: int | None = None
    horizon: int | None = None
    threads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, frames=1, episode_length=2, steps=1, horizon=1, threads=1, size=1, frame_skip=1)
        if (self.env_id is None) == (self.dataset is None):
            raise ValueError(
                f"env_id={self.env_id!r} and dataset={self.dataset!r}: give one of them, --env-id ID for a world to "
                "collect in or --dataset FOLDER for episodes that you have"
            )
        if not self.minutes > 0:
            raise ValueError(f"minutes={self.minutes} must be more than 0")

    @property
    def folder(self) -> Path:
        """Where it is made."""
        name = self.env_id if self.dataset is None else self.dataset.name
        return self.out or Path("runs") / re.sub(r"[^\w.-]+", "-", str(name).rpartition(":")[2]).strip("-")

    def asked(self) -> dict[str, Any]:
        """What makes this making the one it is: not how fast, or for how long."""
        asked = relative_paths(asdict(self))
        return {name: value for name, value in asked.items() if name not in ("out", "threads", "minutes")}


def make(config: MakeConfig) -> Simulator:
    """Make a simulator, or go on with one that is being made.

    Raises:
        ValueError: If the world cannot be recorded or teaches nothing, the time is too short, or the folder holds
            something else.
        DatasetError: If the dataset is damaged.
    """
    set_threads(config.threads)
    folder = config.folder
    ledger = Ledger(folder, config.asked(), 60 * config.minutes)
    speed = 0.0
    if config.env_id is not None:  # or it is refused, before there is a folder
        speed = choices.real_speed(config.env_id, _collection(config, 1).make_kwargs(), config.policy)
    ledger.write()
    lock = lock_folder(folder)  # until the end of this function
    with ledger.stage("collect"):
        data, judged = _data(config, ledger, speed)
        choices.refuse_what_teaches_nothing(data)
    with ledger.stage("train"):
        simulator = train(_training(config, ledger, data))
    with ledger.stage("compare"):
        report = compare(
            CompareConfig(
                str(folder / "model" / "simulator"),
                folder / "compare",
                dataset=judged,
                sequences=JUDGED,
                context=CONTEXT,
                horizon=CONTEXT,
                card=True,
                env_id=config.env_id,
                policy=config.policy if judged is None else None,
            )
        )
    write_bytes(folder / "report.html", page(folder, simulator, report, ledger).encode())
    del lock
    Console().print(f"Look at {folder / 'report.html'}.", markup=False, highlight=False, soft_wrap=True)
    return simulator


def _data(config: MakeConfig, ledger: Ledger, speed: float) -> tuple[EpisodeDataset, Path | None]:
    """Episodes to train on, and where those are that are judged by; None: in the real environment, which makes `speed`
    steps a second."""
    if config.dataset is not None:
        return _parted(config.dataset, config.folder)
    affordable = partial(choices.frames_to_collect, speed, config.threads, ledger.seconds)
    frames = ledger.choose("frames", affordable, config.frames)
    return collect(_collection(config, frames)), None


def _collection(config: MakeConfig, frames: int) -> CollectConfig:
    return CollectConfig(
        str(config.env_id),
        config.folder / "data",
        frames,
        policy=config.policy,
        seed=config.seed,
        episode_length=config.episode_length,
        workers=config.threads,
        shard_frames=min(8192, max(256, frames // 8)),
        env_kwargs=config.env_kwargs,
        size=config.size,
        frame_skip=config.frame_skip,
        render=config.render,
        observation=config.observation,
    )


def _parted(source: Path, folder: Path) -> tuple[EpisodeDataset, Path]:
    """A dataset in two: to train on, and to judge by."""
    whole = EpisodeDataset(source)
    count = len(whole.episode_starts)
    held_out = max(1, round(HELD_OUT * count))
    if count < 2:
        raise ValueError(f"{source} has {count} episode; expected at least 2, one of them to judge by")
    spec = whole.spec
    origin = DatasetOrigin(
        spec.env_id,
        spec.action_space,
        spec.env_kwargs,
        spec.preprocessing,
        spec.policy,
        spec.seed,
        command=spec.command,
        camera=spec.camera,
    )
    episodes = list(whole.episodes())
    parts = {"data": episodes[:-held_out], "held-out": episodes[-held_out:]}
    for name, part in parts.items():
        if not (folder / name).exists():
            write_dataset(folder / name, part, replace(origin, split="train" if name == "data" else "test"))
    return EpisodeDataset(folder / "data"), folder / "held-out"


def _training(config: MakeConfig, ledger: Ledger, data: EpisodeDataset) -> TrainConfig:
    """How to train in the time that is left."""
    general = choices.how_to_train(data, config.folder / "model", config.threads, config.seed)
    measured: dict[str, TrainingConfig] = {}

    def planned(preset: str) -> TrainingConfig:
        if preset not in measured:
            measured[preset] = choices.within(ledger.left, general, choices.speeds(general, data, preset))
        return measured[preset]

    def largest() -> tuple[str, str]:
        for preset in PRESETS:
            steps = planned(preset).steps
            if steps >= choices.ENOUGH_STEPS:
                return preset, f"the largest that has time for {choices.ENOUGH_STEPS} steps"
        return preset, f"even the smallest has time for {steps} steps only"

    preset = ledger.choose("preset", largest, config.preset)

    def counts() -> tuple[dict[str, int], str]:
        plan = planned(preset)
        if plan.steps < choices.LEAST_STEPS and config.steps is None:
            needed = config.minutes * choices.LEAST_STEPS / plan.steps
            raise ValueError(
                f"minutes={config.minutes:g} is too short: there is time for {plan.steps} steps of the preset "
                f"{preset}, and {choices.LEAST_STEPS} are the least. Say --minutes {math.ceil(needed)}"
            )
        names = ("steps", "odometry_steps", "render_steps", "head_sequences", "head_steps", "eval_every")
        return {name: getattr(plan, name) for name in names}, "what the time that is left is enough for, as timed here"

    chosen = dict(ledger.choose("training", counts))
    if config.steps is not None:
        chosen["steps"] = config.steps
    limit = None if config.env_id is None else choices.time_limit(config.env_id, _collection(config, 1).make_kwargs())
    horizon = ledger.choose("horizon", lambda: choices.horizon(data, limit), config.horizon)
    training = replace(general, **chosen)
    return TrainConfig(data.folder, training, preset, start_frames=choices.start_frames(data), horizon=horizon)
