"""How the Dyna loop goes, as one value; `dyna.dyna` does it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from lssvwm_agents.learning.imagination import ImaginationConfig
from lssvwm_env.real import PixelEnv, PixelMiniGrid, make_real
from lssvwm_models.training.config import SHORTEST_EVALUATED, TrainingConfig
from lssvwm_models.utils.checks import SHARE, check_fields


@dataclass(frozen=True)
class RoundTraining(TrainingConfig):
    """How the world model is trained in a round; where, and with which seed, the loop says."""

    out: tyro.conf.Suppress[Path] = Path()
    seed: tyro.conf.Suppress[int] = 0
    steps: int = 300
    lengths: tuple[int, ...] = (32,)
    odometry_steps: int = 800
    head_sequences: int = 512
    head_steps: int = 1000
    eval_every: int = 100


@dataclass(frozen=True)
class RoundImagination(ImaginationConfig):
    """How the actor-critic is trained in a round; where, and with which seed, the loop says."""

    out: tyro.conf.Suppress[Path] = Path()
    seed: tyro.conf.Suppress[int] = 0
    updates: int = 100
    num_dreams: int = 64
    refresh: int = 8


@dataclass(frozen=True)
class DynaConfig:
    """What to live in, and how often to do what.

    Attributes:
        env_id: Real environment, as for `lssvwm collect`.
        out: Folder for the rounds and `metrics.jsonl`, which has a line for each; repeating a command resumes it.
        rounds: How often all is done; of a finished run, a larger number adds rounds.
        frames_per_round: Real frames that a round may add to the data. An episode is finished where that takes a few
            more, and the next round has them less.
        explore: Share of the episodes, after the first round, that `policy` plays and not the agent.
        policy: Who plays the first round, when there is no agent yet, as for `lssvwm collect`.
        episode_length: Most frames in a real episode, the first included, and in a dreamt one.
        env_kwargs: Keyword arguments for the environment; `frame_size`, `frame_skip`, `render_frames` and
            `observation_key` are those of `make_real`.
        preset: Size of the model.
        model: How it is trained in every round, on all data. It goes on from the weights of the last round, or, in the
            first one, from `model.init`. Agent and dreams are on `model.device`, too.
        agent: How the actor-critic is trained in every round.
        denoising_steps: Network passes per frame of the dreams that it is trained in; see `lssvwm imagine`.
        episodes: Real episodes to judge the agent in after every round, always the same ones of the validation split.
            Their frames are neither learned from nor counted as `real_frames`. For a figure to publish, judge the round
            that you chose by them with `lssvwm judge`, which plays test episodes.
        seed: Decides everything.
    """

    env_id: str
    out: Path
    rounds: int = 5
    frames_per_round: int = 2000
    explore: float = 0.1
    policy: str | None = None
    episode_length: int = 256
    env_kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    preset: Literal["debug", "micro", "tiny", "small"] = "tiny"
    model: RoundTraining = field(default_factory=RoundTraining)
    agent: RoundImagination = field(default_factory=RoundImagination)
    denoising_steps: int = 2
    episodes: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, rounds=1, episodes=1, episode_length=2, denoising_steps=1, explore=SHARE)
        longest = max(*self.model.lengths, SHORTEST_EVALUATED)
        held_out = self.model.validation
        needed = max(2 * longest + self.episode_length, (longest + self.episode_length) / max(1e-9, 1 - held_out))
        if self.frames_per_round < needed:  # or the first training could be refused, after all was collected
            raise ValueError(
                f"frames_per_round={self.frames_per_round} must be at least {needed:.0f}, to train and validate on "
                f"sequences of {longest} frames from episodes of episode_length={self.episode_length}: "
                "raise it, or shorten these"
            )
        if self.agent.context is not None and self.agent.context > max(self.model.lengths):
            raise ValueError(
                f"agent.context={self.agent.context} must be at most {max(self.model.lengths)}, the longest of "
                "model.lengths"
            )

    def make_env(self) -> PixelEnv | PixelMiniGrid:
        """A new real environment."""
        kwargs: dict[str, Any] = self.env_kwargs
        return make_real(self.env_id, **kwargs)

    def described(self) -> dict[str, Any]:
        """What makes a run the run it is: not where it is, how far it goes, or how fast."""
        without = {"": ("out", "rounds"), "model": ("out", "seed", "threads", "device"), "agent": ("out", "seed")}
        described = asdict(self)
        for part, names in without.items():
            for name in names:
                del (described[part] if part else described)[name]
        return described
