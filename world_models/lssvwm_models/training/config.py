"""How a world model is trained, as one value; `training.Trainer` does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from lssvwm_models.execution.devices import as_device
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.utils.checks import SHARE, check_fields

SHORTEST_EVALUATED: Final = 16  # frames of a held-out sequence, even where those trained on are shorter


@dataclass(frozen=True)
class TrainingConfig:
    """How a world model is trained.

    Attributes:
        out: folder of the run; repeating a command resumes it.
        steps: optimiser steps; 0 leaves the network as `init` has it, and trains only what is trained before and after.
        lengths: sequence lengths in frames, one after the other: with several, a curriculum.
        curriculum: when the next length begins: each gets an equal share of the steps (`schedule`), or an evaluation
            finds that the last two have not brought the frame loss on held-out episodes down by 2 % (`plateau`).
        frames_per_step: frames in a batch; batch size is this over the length.
        event_share: share of the sequences that end in a reward or a termination; see `random_segments`.
        retraced: share of the sequences in which time runs backwards: in half of these from the middle on, so that they
            come back by the way they went, and in the others throughout. For worlds in which nothing changes but where
            the agent is.
        head_sequences, head_steps: after everything else, how many sequences the finished network observes whose last
            quarter has a reward or a termination, and steps, of 64 frames each, that the heads are trained for on them.
        odometry_steps: steps, of 256 frames each, that the dead reckoning is trained for before everything else.
        render_steps: steps, of 64 views each, that the renderer and its voxels are trained for then; 0 leaves them as
            they are.
        objective: which frames get how much noise, and what else counts.
        steer_moments: whether the weight `objective.state_moments`, where there is one, is raised while the states of
            the scans leave the band of `state_monitor`, and lowered while they are inside, at every evaluation.
        checkpoint_blocks: keep only the states between blocks of frames, and compute what is inside a block again in
            the backward pass (gradient checkpointing): less memory for long sequences, for one more forward pass.
        init: weights to begin with, the `model.safetensors` of a simulator of the same environment; the model is as
            large as that simulator's. The dead reckoning is learned anew.
        pretrained_ssm: a safetensors file of a trained Mamba-2 that the scans begin as; see `pretrained.load_mamba2`.
        optimizer: "muon" for the matrices inside the blocks and AdamW for the rest, or "adamw" for all.
        lr: peak learning rate of AdamW (Muon's is in proportion), after `warmup` steps and until the last `cooldown`
            share of the steps, over which it falls to nothing.
        weight_decay, clip: of both, and the largest gradient norm.
        ema: decay of the averaged weights, which are the ones evaluated and kept.
        validation: share of the dataset's episodes, the last ones, that are evaluated on and never trained on. The
            splits `validation` and `test` are other episodes, which no training sees.
        log_every, eval_every: steps between lines of metrics, and between evaluations with a dream and a checkpoint.
        bf16: compute matrix products in bfloat16, where the hardware does; in float32 elsewhere.
        seed: every step draws its data and noise from (seed, step), so that a resumed run repeats an unbroken one.
        threads: CPU threads of torch, which the commands set.
        device: where to train: "cpu", "cuda", "cuda:1", ...; "auto", which is CUDA where there is some, is put down as
            what it is.
    """

    out: Path
    steps: int = 3000
    lengths: tuple[int, ...] = (64,)
    curriculum: Literal["schedule", "plateau"] = "schedule"
    frames_per_step: int = 128
    event_share: float = 0.5
    retraced: float = 0.0
    head_sequences: int = 1024
    head_steps: int = 2000
    odometry_steps: int = 2400
    render_steps: int = 1200
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    steer_moments: bool = True
    checkpoint_blocks: bool = False
    init: Path | None = None
    pretrained_ssm: Path | None = None
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 1.5e-3
    warmup: int = 30
    cooldown: float = 0.3
    weight_decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.99
    validation: float = 0.02
    log_every: int = 25
    eval_every: int = 250
    bf16: bool = True
    seed: int = 0
    threads: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_fields(
            self,
            steps=1 if self.init is None else 0,
            lengths=2,
            frames_per_step=1,
            event_share=SHARE,
            retraced=SHARE,
            head_sequences=1,
            head_steps=1,
            odometry_steps=1,
            render_steps=0,
            warmup=1,
            cooldown=SHARE,
            ema=SHARE,
            validation=SHARE,
            log_every=1,
            eval_every=1,
            threads=1,
        )
        object.__setattr__(self, "device", str(as_device(self.device)))
        if not self.lengths:
            raise ValueError("lengths=() must be one or more lengths of at least 2 frames each")
        if max(self.lengths) > self.frames_per_step:
            raise ValueError(
                f"lengths has {max(self.lengths)}, more than frames_per_step={self.frames_per_step}; raise the latter"
            )

    def length(self, step: int) -> int:
        """Sequence length at a step of the schedule."""
        return self.lengths[min(step * len(self.lengths) // self.steps, len(self.lengths) - 1)]

    def batch_size(self, length: int) -> int:
        """Sequences of a length in a batch."""
        return max(1, self.frames_per_step // length)

    def lr_at(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, plateau, linear cool-down."""
        return self.lr * min(1.0, (step + 1) / self.warmup, (self.steps - step) / max(1.0, self.cooldown * self.steps))
