"""Training a world model on recorded episodes. `Trainer.run` is the loop, `Trainer.train_step` the step."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from lssvwm_models.data.batch import Batch
from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.data.openings import episode_lengths, openings
from lssvwm_models.data.segments import random_segments, to_frames
from lssvwm_models.evaluation.dreams import dream
from lssvwm_models.evaluation.state_monitor import state_metrics, steered
from lssvwm_models.evaluation.video_metrics import psnr
from lssvwm_models.execution.precision import autocast
from lssvwm_models.memory.geometry import ego_motion
from lssvwm_models.model.config import NetworkConfig, WorldModelConfig
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.foresight import Following, Foresight
from lssvwm_models.training.head_training import head_inputs, head_loss
from lssvwm_models.training.losses import block_losses, check_objective, summed, world_model_loss
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.optimizers import optimizers, set_lr
from lssvwm_models.training.pretrained import begun_as, load_mamba2
from lssvwm_models.utils.progress import progress_bar
from lssvwm_models.utils.run_folder import RunFolder

QUIET: Final = 8  # frames of a sequence, besides its events, that the heads are shown


class Trainer:
    """Trains `model_config` on a dataset inside a run folder; see `TrainingConfig`.

    The tokenizer is fitted to the data first: `model_config.latent_dim` is the most latents it may keep.
    """

    def __init__(self, config: TrainingConfig, model_config: WorldModelConfig, dataset: EpisodeDataset) -> None:
        torch.set_num_threads(config.threads)
        self.config, self.dataset = config, dataset
        self.cut = _validation_cut(dataset, config)  # whatever is refused is, before there is a run to be in the way
        check_objective(model_config, config.objective)
        torch.manual_seed(config.seed)
        if config.init is None:
            model = WorldModel.fitted(model_config, self._sample_frames())
        else:
            model = begun_as(model_config, config.init)
        self.model = model.to(config.device)
        if config.pretrained_ssm is not None:
            print(load_mamba2(self.model.network, config.pretrained_ssm))
        about = {"data": dataset.hash(), "env": dataset.spec.env_id}
        defaults = _described(*_as_before(config, model_config))
        self.folder = RunFolder(config.out, _described(config, model_config) | about, defaults)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizers = optimizers(self.model, config)
        self.step, self.frames, self.seconds = 0, 0, 0.0
        self.reckons = self.model.odometry is None
        self.stage, self.stage_losses = 0, list[float]()  # of the curriculum: which length, and how it went
        self.moments_strength = 1.0
        self.event_rate = np.count_nonzero(dataset.events < self.cut) / self.cut
        self.judges = not self.event_rate
        if (checkpoint := self.folder.load_checkpoint()) is not None:
            self._restore(checkpoint)
        self.folder.rewind(self.step)

    def run(self) -> WorldModel:
        """Train until `config.steps`, from wherever the run folder stands; returns the averaged model."""
        if not self.reckons:
            self.fit_odometry()
            self.checkpoint()
        with progress_bar() as bar:
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
                    metrics = self.evaluate()
                    self.folder.log(self.step, metrics)
                    self._adapt(metrics)
                    self.checkpoint()
                bar.update(task, completed=self.step)
        if not self.judges:
            self.fit_heads()
            self.checkpoint()
        return self.ema

    def fit_odometry(self, batch_size: int = 256, lr: float = 2e-3) -> None:
        """Train the dead reckoning on single steps drawn from all of the training frames.

        All pairs of an action and a motion are drawn equally often: recorded agents hardly run into things, and what is
        hardly ever seen is taken for what is common.
        """
        config, dataset, odometry = self.config, self.dataset, self.model.odometry
        assert odometry is not None and dataset.pose is not None
        started, total = time.perf_counter(), config.odometry_steps
        optimizer = torch.optim.AdamW(odometry.parameters(), lr, weight_decay=1e-2)
        torch.manual_seed(config.seed)
        rng = np.random.default_rng(config.seed)
        candidates = np.flatnonzero(~dataset.is_first[1 : self.cut])
        ends = (torch.from_numpy(dataset.pose[j]).long() for j in (candidates, candidates + 1))
        kinds = ego_motion(*ends)
        if self.model.config.action.kind == "discrete":
            kinds = torch.cat([kinds, torch.from_numpy(dataset.act[candidates + 1]).view(-1, 1)], 1)
        _, kind, count = kinds.unique(dim=0, return_inverse=True, return_counts=True)
        chance = count.double().reciprocal()[kind].numpy()
        drawn = np.sort(rng.choice(candidates, (total, batch_size), p=chance / chance.sum()))
        with progress_bar() as bar:
            task = bar.add_task("odometry", total=total, status="")
            for step, i in enumerate(drawn):
                optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 50, 1.5 * (1 - step / total))
                latents = self.model.tokenizer.encode(to_frames(dataset.obs[i]).to(config.device))
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
        a network that still moves, heads learn the average of all ends, and stay there. The features learn to foresee,
        too: see `Foresight`.

        At first events count as if every other frame had one, so that they are learned at all, and in the end as rare
        as they are: heads that were told that half of all frames pay promise a little everywhere, and a policy then
        lives on that instead of coming to an end.
        """
        config, model, started = self.config, self.ema, time.perf_counter()
        tokens, around, rew, terminated, following = self._events_shown()
        event = terminated | (rew != 0)
        groups = [group for group in (event.nonzero().flatten(), (~event).nonzero().flatten()) if len(group)]
        torch.manual_seed(config.seed)
        fresh, foresight = WorldModel(model.config), Foresight(model.config.action, model.config.feature_dim)
        parameters = [*foresight.to(config.device).parameters()]
        for name in ("features", "reward", "termination"):
            head = getattr(model, name)
            head.load_state_dict(getattr(fresh, name).state_dict())
            parameters += [parameter.requires_grad_() for parameter in head.parameters()]
        optimizer = torch.optim.AdamW(parameters, config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
        for step in range(config.head_steps):
            optimizer.param_groups[0]["lr"] = config.lr * min(1.0, 2 * (1 - step / config.head_steps))
            i = torch.cat([group[torch.randint(len(group), (batch_size // len(groups),))] for group in groups])
            feats = model.features(tokens[i].float(), None if around is None else around[i].float())
            share = 0.5 * (2 * self.event_rate) ** min(1.0, step / (0.75 * config.head_steps))
            now = head_loss(model, feats, rew[i], terminated[i], share)
            later = foresight.loss(feats, Following(*(x[i] for x in following)))
            optimizer.zero_grad()
            (now + later).backward()
            optimizer.step()
        for parameter in parameters:
            parameter.requires_grad_(False)
        self.folder.log(config.steps, {"head_loss": float(now.detach()), "foresight_loss": float(later.detach())})
        self.judges, self.seconds = True, self.seconds + time.perf_counter() - started

    def _events_shown(self) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor, Following]:
        """What the averaged network makes of K frames, with an event each or without: tokens (K, n, d), surroundings
        (K, E, d_inner), the rewards and ends (K,) that came with them, and what followed. Events have at least half a
        sequence before them; the others, several of each sequence, are anywhere: policies find every place that a head
        mistakes for one that pays.
        """
        config, length = self.config, max(self.config.lengths)
        count, parts, after = max(1, config.frames_per_step // length), [], list[Following]()
        batches = -(-config.head_sequences // count)
        with progress_bar() as bar:
            task = bar.add_task("heads", total=batches, status="")
            for i in range(batches):
                batch = self._batch(range(0, self.cut), count, length, config.steps + 1 + i, event_share=1.0)
                with self._autocast():
                    tokens, around = head_inputs(self.ema, batch, config.objective)
                chosen = batch.terminated | (batch.rew != 0)
                chosen[:, : length // 2] = False
                chosen[torch.arange(count)[:, None], torch.randint(length, (count, QUIET))] = True
                known = (tokens, around, batch.rew, batch.terminated)
                parts.append([None if x is None else x[chosen] for x in known])
                row, frame = chosen.nonzero(as_tuple=True)
                after.append(Following.of(batch, row, frame))
                bar.update(task, advance=1)
        all_known = (None if x[0] is None else torch.cat(x) for x in zip(*parts, strict=True))
        return *all_known, Following(*map(torch.cat, zip(*after, strict=True)))  # type: ignore[return-value]

    def length(self, step: int) -> int:
        """Frames per sequence at a step: of the schedule, or wherever the curriculum now stands."""
        return self.config.length(step) if self.config.curriculum == "schedule" else self.config.lengths[self.stage]

    def lengths(self) -> tuple[int, ...]:
        """The lengths that the curriculum has come to, or will."""
        whole = self.config.curriculum == "schedule"
        return self.config.lengths if whole else self.config.lengths[: self.stage + 1]

    def train_step(self) -> dict[str, float]:
        """One step of the optimiser."""
        config, started, length = self.config, time.perf_counter(), self.length(self.step)
        batch = self._batch(range(0, self.cut), max(1, config.frames_per_step // length), length, self.step)
        set_lr(self.optimizers, config.lr_at(self.step))
        self.model.zero_grad()
        logs = self._backward(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._average()
        seconds, frames = time.perf_counter() - started, batch.act.shape[0] * length
        self.seconds, self.frames = self.seconds + seconds, self.frames + frames
        return {k: float(v) for k, v in logs.items()} | {
            "grad_norm": float(norm),
            "lr": config.lr_at(self.step - 1),
            "length": length,
            "frames_per_second": frames / seconds,
        }

    def _backward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Gradients of the loss. Where they are cut at block borders, each block is done with before the next begins,
        so that what is kept for the backward pass does not grow with the length (truncated backpropagation).
        """
        config = self.config
        weight = config.objective.state_moments * self.moments_strength
        arguments = batch, replace(config.objective, state_moments=weight), config.checkpoint_blocks
        if not config.objective.cut_gradients:
            with self._autocast():
                loss, logs = world_model_loss(self.model, *arguments)
            loss.backward()
            return logs
        blocks, of_blocks = block_losses(self.model, *arguments), list[dict[str, torch.Tensor]]()
        while True:
            with self._autocast():
                block = next(blocks, None)
            if block is None:
                return summed(of_blocks)
            block[0].backward()
            of_blocks.append(block[1])

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Losses on held-out episodes, the health of the memory, and a dream beside the truth as a GIF."""
        length = max(self.length(self.step - 1), 16)
        batch = self._batch(range(self.cut, len(self.dataset)), 4, length, 0)
        with self._autocast():
            recall = self.config.objective.recall
            objective = ObjectiveConfig(pure_noise=1.0, state_moments=0.0, perceptual=0.0, recall=recall)
            _, logs = world_model_loss(self.ema, batch, objective)
        lengths = episode_lengths(self.dataset)[self.dataset.episode_starts >= self.cut]
        context = max(1, min(length, int(np.median(lengths))) // 2)
        real = openings(self.dataset, 4, length, longer_than=context, since=self.cut)
        keys = torch.arange(len(real), device=self.config.device)
        dreamt = dream(self.ema, real.obs, real.act, context, real.obs.shape[1] - context, keys)
        shown = np.concatenate([real.obs[:, :context], dreamt.obs], 1)
        self.folder.save_gif(f"{self.step:06d}", _side_by_side(real.obs, shown))
        quality = psnr(dreamt.obs, real.obs[:, context:])[real.valid[:, context:]].mean()
        metrics = {f"validation/{k}": float(v) for k, v in logs.items()} | {"validation/dream_psnr": float(quality)}
        seen = slice(int(real.valid.sum(1).min()))  # of all openings
        health = state_metrics(self.ema, to_frames(real.obs[:, seen]), torch.from_numpy(real.act[:, seen]))
        strength = {"state/strength": self.moments_strength} if self.config.objective.state_moments else {}
        return metrics | health | strength

    def _adapt(self, metrics: dict[str, float]) -> None:
        """Answer an evaluation: steer the regulariser of the states, and let the lengths advance."""
        config = self.config
        if config.steer_moments and config.objective.state_moments:
            self.moments_strength = steered(self.moments_strength, metrics)
        if config.curriculum == "plateau":
            self.stage_losses.append(metrics["validation/frame_loss"])
            if self.stage + 1 < len(config.lengths) and has_plateaued(self.stage_losses):
                self.stage, self.stage_losses = self.stage + 1, []

    def _autocast(self) -> torch.autocast:
        return autocast(self.config.device, self.config.bf16)

    def checkpoint(self) -> None:
        """Write everything that `run` needs to go on as if it had never stopped."""
        self.folder.save_checkpoint(
            {
                "step": self.step,
                "frames": self.frames,
                "stage": self.stage,
                "stage_losses": self.stage_losses,
                "moments_strength": self.moments_strength,
                "seconds": self.seconds,
                "reckons": self.reckons,
                "judges": self.judges,
                "model": self.model.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            }
        )

    def _restore(self, checkpoint: dict) -> None:
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]
        lengths = map(self.config.length, range(self.step))
        older = {  # what a checkpoint of an older version does not say
            "frames": sum(self.config.frames_per_step // length * length for length in lengths),
            "stage": 0,
            "stage_losses": [],
            "moments_strength": 1.0,
        }
        for name, value in older.items():
            setattr(self, name, checkpoint.get(name, value))
        self.reckons, self.judges = checkpoint["reckons"], checkpoint["judges"]
        self.model.load_state_dict(checkpoint["model"])
        self.ema.load_state_dict(checkpoint["ema"])
        states = checkpoint["optimizers"] if "optimizers" in checkpoint else [checkpoint["optimizer"]]
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)

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


def has_plateaued(losses: list[float], patience: int = 2, gain: float = 0.02) -> bool:
    """Whether the last `patience` losses are all less than `gain` below the best before them."""
    before, last = losses[:-patience], losses[-patience:]
    return bool(before) and min(last) > (1 - gain) * min(before)


def _described(config: TrainingConfig, model: WorldModelConfig) -> dict[str, Any]:
    """What makes a run the run it is: not where it is, or how fast."""
    training = {k: v for k, v in asdict(config).items() if k not in ("out", "threads", "device")}
    return {"training": training, "model": asdict(model)}


def _as_before(config: TrainingConfig, model: WorldModelConfig) -> tuple[TrainingConfig, WorldModelConfig]:
    """What versions did that did not know a setting yet."""
    objective = ObjectiveConfig(context_noise=0.2, state_moments=0.0, perceptual=0.0)
    network = NetworkConfig(window=1, mlp_ratio=2, mixing="attention")
    return TrainingConfig(config.out, optimizer="adamw", objective=objective), WorldModelConfig(
        model.action, network=network
    )


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
