"""Training a world model on recorded episodes. `Trainer.run` is the loop, `Trainer.train_step` the step."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from world_models.data.episodes import EpisodeDataset
from world_models.data.segments import random_segments, to_frames
from world_models.evaluation import dream, episode_lengths, openings, psnr
from world_models.objective import ObjectiveConfig, context_noised
from world_models.run_folder import RunFolder
from world_models.world_model import Batch, WorldModel, WorldModelConfig


@dataclass(frozen=True)
class TrainingConfig:
    """How a world model is trained.

    Attributes:
        out: folder of the run; repeating a command resumes it.
        steps: optimiser steps.
        lengths: sequence lengths in frames, one after the other, each for an equal share of the steps.
        frames_per_step: frames in a batch; batch size is this over the length.
        event_share: share of the sequences that end in a reward or a termination; see `random_segments`.
        head_sequences, head_steps: after everything else, how many sequences the finished network is shown whose last
            quarter has a reward or a termination, and steps, of 64 frames each, that the heads are trained for on them.
        odometry_steps: steps, of 256 frames each, that the dead reckoning is trained for before everything else.
        objective: which frames get how much noise.
        lr: peak learning rate, after `warmup` steps and until the last `cooldown` share of the steps, over which it
            falls to nothing.
        weight_decay, clip: of AdamW, and the largest gradient norm.
        ema: decay of the averaged weights, which are the ones evaluated and kept.
        validation: share of the episodes, the last ones, that are never trained on.
        log_every, eval_every: steps between lines of metrics, and between evaluations with a dream and a checkpoint.
        bf16: compute matrix products in bfloat16.
        seed: every step draws its data and noise from (seed, step), so that a resumed run repeats an unbroken one.
        threads: CPU threads of torch.
        device: where to train.
    """

    out: Path
    steps: int = 3000
    lengths: tuple[int, ...] = (8, 16, 32, 64)
    frames_per_step: int = 128
    event_share: float = 0.5
    head_sequences: int = 1024
    head_steps: int = 2000
    odometry_steps: int = 2400
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    lr: float = 1.5e-3
    warmup: int = 100
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
        if self.steps < 1 or not self.lengths or min(self.lengths) < 2:
            raise ValueError(f"steps={self.steps} and lengths={self.lengths} must be at least 1, and 2 frames each")
        for name in ("head_sequences", "head_steps", "odometry_steps", "warmup", "log_every", "eval_every", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("cooldown", "ema", "event_share", "validation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be a share, from 0 to 1")
        if max(self.lengths) > self.frames_per_step:
            raise ValueError(
                f"lengths has {max(self.lengths)}, more than frames_per_step={self.frames_per_step}; raise the latter"
            )

    def length(self, step: int) -> int:
        """Sequence length at a step."""
        return self.lengths[min(step * len(self.lengths) // self.steps, len(self.lengths) - 1)]

    def lr_at(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, plateau, linear cool-down."""
        return self.lr * min(1.0, (step + 1) / self.warmup, (self.steps - step) / max(1.0, self.cooldown * self.steps))


class Trainer:
    """Trains `model_config` on a dataset inside a run folder; see `TrainingConfig`.

    The tokenizer is fitted to the data first: `model_config.latent_dim` is the most latents it may keep.
    """

    def __init__(self, config: TrainingConfig, model_config: WorldModelConfig, dataset: EpisodeDataset) -> None:
        torch.set_num_threads(config.threads)
        self.config, self.dataset = config, dataset
        self.cut = _validation_cut(dataset, config)  # refuses too little data before there is a run to be in the way
        training = {k: v for k, v in asdict(config).items() if k not in ("out", "threads", "device")}
        self.folder = RunFolder(  # where and how fast it runs does not make it another run
            config.out,
            {
                "training": training,
                "model": asdict(model_config),
                "data": dataset.hash(),
                "env": dataset.spec.env_id,
            },
        )
        torch.manual_seed(config.seed)
        self.model = WorldModel.fitted(model_config, self._sample_frames()).to(config.device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.step, self.seconds, self.reckons = 0, 0.0, self.model.odometry is None
        self.judges = not len(dataset.events[dataset.events < self.cut])
        if (checkpoint := self.folder.load_checkpoint()) is not None:
            self._restore(checkpoint)
        self.folder.rewind(self.step)

    def run(self) -> WorldModel:
        """Train until `config.steps`, from wherever the run folder stands; returns the averaged model."""
        if not self.reckons:
            self.fit_odometry()
            self.checkpoint()
        with _progress() as bar:
            task = bar.add_task("train", total=self.config.steps, completed=self.step, status="")
            recent: list[dict[str, float]] = []
            while self.step < self.config.steps:
                recent.append(self.train_step())
                if self.step % self.config.log_every == 0:
                    logs = {k: float(np.mean([r[k] for r in recent])) for k in recent[0]}
                    recent.clear()
                    self.folder.log(self.step, logs)
                    bar.update(task, status=_status(logs))
                if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                    self.folder.log(self.step, self.evaluate())
                    self.checkpoint()
                bar.update(task, completed=self.step)
        if not self.judges:
            self.fit_heads()
            self.checkpoint()
        return self.ema

    def fit_odometry(self, batch_size: int = 256, lr: float = 2e-3) -> None:
        """Train the dead reckoning on single steps drawn from all of the training frames."""
        config, dataset, odometry = self.config, self.dataset, self.model.odometry
        assert odometry is not None and dataset.pose is not None
        started, total = time.perf_counter(), config.odometry_steps
        optimizer = torch.optim.AdamW(odometry.parameters(), lr, weight_decay=1e-2)
        torch.manual_seed(config.seed)
        rng = np.random.default_rng(config.seed)
        candidates = np.flatnonzero(~dataset.is_first[1 : self.cut])
        with _progress() as bar:
            task = bar.add_task("odometry", total=total, status="")
            for step in range(total):
                optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 50, 1.5 * (1 - step / total))
                i = np.sort(rng.choice(candidates, batch_size))
                latents = self.model.tokenizer.encode(to_frames(dataset.obs[i]).to(config.device))
                latents = context_noised(latents, config.objective)
                before, after = (torch.from_numpy(dataset.pose[j]).long().to(config.device) for j in (i, i + 1))
                loss = odometry.loss(latents, torch.from_numpy(dataset.act[i + 1]).to(config.device), before, after)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                bar.update(task, advance=1, status=f"loss {float(loss.detach()):.5f}")
        assert self.ema.odometry is not None
        self.ema.odometry.load_state_dict(odometry.state_dict())
        self.folder.log(0, {"odometry_loss": float(loss.detach())})
        self.reckons, self.seconds = True, self.seconds + time.perf_counter() - started

    def fit_heads(self, batch_size: int = 64) -> None:
        """Train the heads of the averaged model afresh, on what its network, now finished, makes of events.

        Whether an end pays can depend on two things at once. From the few ends in a batch of `train_step`, in front of
        a network that still moves, heads learn the average of all ends, and stay there.
        """
        config, model, started = self.config, self.ema, time.perf_counter()
        tokens, around, rew, terminated = self._events_shown()
        event = terminated | (rew != 0)
        groups = [group for group in (event.nonzero().flatten(), (~event).nonzero().flatten()) if len(group)]
        torch.manual_seed(config.seed)
        fresh, parameters = WorldModel(model.config), []
        for name in ("features", "reward", "termination"):
            head = getattr(model, name)
            head.load_state_dict(getattr(fresh, name).state_dict())
            parameters += [parameter.requires_grad_() for parameter in head.parameters()]
        optimizer = torch.optim.AdamW(parameters, config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
        for step in range(config.head_steps):
            optimizer.param_groups[0]["lr"] = config.lr * min(1.0, 2 * (1 - step / config.head_steps))
            i = torch.cat([group[torch.randint(len(group), (batch_size // len(groups),))] for group in groups])
            seen = tokens[i].float(), None if around is None else around[i].float()
            loss = model.head_loss(*seen, rew[i], terminated[i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for parameter in parameters:
            parameter.requires_grad_(False)
        self.folder.log(config.steps, {"head_loss": float(loss.detach())})
        self.judges, self.seconds = True, self.seconds + time.perf_counter() - started

    def _events_shown(self) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """What the averaged network makes of K frames, with an event each or without: tokens (K, n, d), surroundings
        (K, E, d_inner), and the rewards and ends (K,) that came with them. All have at least half a sequence before.
        """
        config, length = self.config, max(self.config.lengths)
        count, parts = max(1, config.frames_per_step // length), []
        batches = -(-config.head_sequences // count)
        with _progress() as bar:
            task = bar.add_task("heads", total=batches, status="")
            for i in range(batches):
                batch = self._batch(range(0, self.cut), count, length, config.steps + 1 + i, event_share=1.0)
                with torch.autocast(config.device, torch.bfloat16, enabled=config.bf16):
                    tokens, around = self.ema.shown(batch, config.objective)
                chosen = (batch.terminated | (batch.rew != 0)).cpu()
                chosen[:, : length // 2] = False
                chosen[torch.arange(count), torch.randint(length // 2, length, (count,))] = True
                known = (tokens, around, batch.rew, batch.terminated)
                parts.append([None if x is None else x[chosen.to(x.device)] for x in known])
                bar.update(task, advance=1)
        return tuple(None if x[0] is None else torch.cat(x) for x in zip(*parts, strict=True))  # type: ignore[return-value]

    def train_step(self) -> dict[str, float]:
        """One step of the optimiser."""
        config, started = self.config, time.perf_counter()
        length = config.length(self.step)
        batch = self._batch(range(0, self.cut), max(1, config.frames_per_step // length), length, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr_at(self.step)
        with torch.autocast(config.device, torch.bfloat16, enabled=config.bf16):
            loss, logs = self.model.loss(batch, config.objective)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        seconds = time.perf_counter() - started
        self.seconds += seconds
        frames = batch.act.shape[0] * length
        return {k: float(v) for k, v in logs.items()} | {
            "grad_norm": float(norm),
            "lr": config.lr_at(self.step - 1),
            "length": length,
            "frames_per_second": frames / seconds,
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Losses on held-out episodes, and a dream beside the truth as a GIF."""
        length = self.config.length(self.step - 1)
        batch = self._batch(range(self.cut, len(self.dataset)), 4, max(length, 16), 0)
        with torch.autocast(self.config.device, torch.bfloat16, enabled=self.config.bf16):
            _, logs = self.ema.loss(batch, ObjectiveConfig(pure_noise=1.0, context_noise=0.0))
        lengths = episode_lengths(self.dataset)[self.dataset.episode_starts >= self.cut]
        context = max(1, min(max(length, 16), int(np.median(lengths))) // 2)
        real = openings(self.dataset, 4, max(length, 16), longer_than=context, since=self.cut)
        keys = torch.arange(len(real), device=self.config.device)
        dreamt = dream(self.ema, real.obs, real.act, context, real.obs.shape[1] - context, keys)
        shown = np.concatenate([real.obs[:, :context], dreamt.obs], 1)
        self.folder.save_gif(f"{self.step:06d}", _side_by_side(real.obs, shown))
        quality = psnr(dreamt.obs, real.obs[:, context:])[real.valid[:, context:]].mean()
        return {f"validation/{k}": float(v) for k, v in logs.items()} | {"validation/dream_psnr": float(quality)}

    def checkpoint(self) -> None:
        """Write everything that `run` needs to go on as if it had never stopped."""
        self.folder.save_checkpoint(
            {
                "step": self.step,
                "seconds": self.seconds,
                "reckons": self.reckons,
                "judges": self.judges,
                "model": self.model.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def _restore(self, checkpoint: dict) -> None:
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]
        self.reckons, self.judges = checkpoint["reckons"], checkpoint["judges"]
        self.model.load_state_dict(checkpoint["model"])
        self.ema.load_state_dict(checkpoint["ema"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for averaged, current in zip(self.ema.parameters(), self.model.parameters(), strict=True):
            averaged.lerp_(current, 1 - decay)

    def _batch(self, frames: range, batch_size: int, length: int, step: int, event_share: float | None = None) -> Batch:
        torch.manual_seed(self.config.seed * 1_000_003 + step)
        rng = np.random.default_rng([self.config.seed, step])
        share = self.config.event_share if event_share is None else event_share
        return random_segments(self.dataset, frames, batch_size, length, rng, share).to(self.config.device)

    def _sample_frames(self, count: int = 4000) -> torch.Tensor:
        rng = np.random.default_rng(self.config.seed)
        return to_frames(self.dataset.obs[np.sort(rng.choice(self.cut, min(count, self.cut), replace=False))])


def _validation_cut(dataset: EpisodeDataset, config: TrainingConfig) -> int:
    """The frame at which held-out episodes begin."""
    longest = max(*config.lengths, 16)
    latest = min(len(dataset) * (1 - config.validation), len(dataset) - longest)
    starts = dataset.episode_starts[dataset.episode_starts <= latest]
    if not len(starts) or starts[-1] < longest:
        raise ValueError(
            f"{dataset.folder} has {len(dataset)} frames: too few to train and validate on sequences of {longest} "
            "frames; collect more, or shorten `lengths`"
        )
    return int(starts[-1])


def _side_by_side(real: NDArray[np.uint8], dream: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(B, T, H, W, 3) twice -> (T, 2 H, B W, 3): reality above, dreams below."""
    rows = [np.concatenate(list(v), axis=2) for v in (real, dream)]
    return np.concatenate(rows, axis=1)


def _status(logs: dict[str, float]) -> str:
    return f"loss {logs['loss']:.3f}  {logs['frames_per_second']:.0f} frames/s  length {logs['length']:.0f}"


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
