"""Training a world model on recorded episodes. `Trainer.run` is the whole of it, `Trainer.train_step` the step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from lssvwm_models.data.batch import Batch
from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.data.openings import openings, pieces
from lssvwm_models.data.patches import distinct_patches
from lssvwm_models.data.segments import random_segments, to_frames
from lssvwm_models.evaluation.dreams import dream
from lssvwm_models.evaluation.state_monitor import state_metrics, steered
from lssvwm_models.evaluation.video_metrics import psnr
from lssvwm_models.execution.precision import autocast, in_float32
from lssvwm_models.model.config import MOST_CODES, NetworkConfig, WorldModelConfig
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import SHORTEST_EVALUATED, TrainingConfig
from lssvwm_models.training.losses import block_losses, check_objective, summed, world_model_loss
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.optimizers import averaged, optimizers, set_lr, warmed_up_ema
from lssvwm_models.training.parts.heads import head_examples, train_heads
from lssvwm_models.training.parts.odometry import train_odometry
from lssvwm_models.training.parts.renderer import train_renderer
from lssvwm_models.training.pretrained import load_mamba2, model_from_weights
from lssvwm_models.utils.randomness import modules_drawn_from, step_generator
from lssvwm_models.utils.run_folder import RunFolder
from lssvwm_models.utils.training_loop import Schedule, TrainingLoop

EVALUATED: Final = 4  # held-out sequences, and dreams
TOKENIZER_FRAMES: Final = 4000  # that it is fitted to
OLD_NAMES: Final = {"odometry_trained": "reckons", "heads_trained": "judges"}  # in checkpoints of older versions


class Trainer(TrainingLoop):
    """Trains `model_config` on a dataset inside a run folder; see `TrainingConfig`.

    The tokenizer is fitted to the data first: `model_config.latent_dim` is the most latents it may keep. All chance
    comes from generators made of (seed, step); the global streams are neither read nor moved.

    Attributes:
        model: What the optimisers change, on `config.device`.
        frames: Frames seen so far.
        odometry_trained, renderer_trained, heads_trained: Whether that part is done, or there is nothing to be done.
    """

    @in_float32()
    def __init__(self, config: TrainingConfig, model_config: WorldModelConfig, dataset: EpisodeDataset) -> None:
        self.config = config
        self.dataset = dataset
        # Whatever is refused is, before there is a run to be in the way.
        self.cut = _validation_cut(dataset, config)
        if self.cut not in dataset.episode_starts:
            print(
                f"No episode of {dataset.folder} begins late enough to be held out, so its last "
                f"{len(dataset) - self.cut:,} frames are: the validation says nothing of other layouts."
            )
        check_objective(model_config, config.objective)
        with modules_drawn_from(torch.Generator().manual_seed(config.seed)):
            if config.init is None:
                model = WorldModel.fitted(model_config, self._tokenizer_frames())
            else:
                model = model_from_weights(model_config, config.init)
        patches = distinct_patches(dataset.obs[: self.cut], model.config.patch, MOST_CODES)
        if patches is not None:
            model.set_codebook(to_frames(patches))
        self.model = model.to(config.device)
        if config.pretrained_ssm is not None:
            print(load_mamba2(self.model.network, config.pretrained_ssm))
        about = {"data": dataset.hash(), "env": dataset.spec.env_id}
        defaults = _described(*_as_before(config, model_config))
        folder = RunFolder(config.out, _described(config, model_config) | about, defaults)
        schedule = Schedule("train", config.steps, config.log_every, config.eval_every, config.eval_every)
        super().__init__(folder, schedule)
        self.averaged = averaged(self.model, warmed_up_ema(config.ema))
        self.optimizers = optimizers(self.model, config)
        self.frames = 0
        self.odometry_trained = self.model.odometry is None
        self.renderer_trained = self.model.renderer is None or not config.render_steps
        self.event_rate = np.count_nonzero(dataset.events < self.cut) / self.cut
        self.heads_trained = not self.event_rate
        self.stage = 0  # of the curriculum: which of the lengths
        self.stage_losses: list[float] = []
        self.moments_strength = 1.0
        self.resume()

    @property
    def ema(self) -> WorldModel:
        """The model with averaged weights: the one that is evaluated and kept."""
        model = self.averaged.module
        assert isinstance(model, WorldModel)
        return model

    @in_float32()
    def run(self) -> WorldModel:
        """Train until `config.steps`, from wherever the run folder stands; returns the averaged model."""
        if not self.odometry_trained:
            self.fit_odometry()
            self.checkpoint()
        if not self.renderer_trained:
            self.fit_renderer()
            self.checkpoint()
        self.loop(self._evaluate_and_adapt)
        if not self.heads_trained:
            self.fit_heads()
            self.checkpoint()
        return self.ema

    def fit_odometry(self) -> None:
        """Train the dead reckoning on single steps drawn from all of the training frames."""
        self._fit_part("odometry", train_odometry, "odometry_loss")
        self.odometry_trained = True

    def fit_renderer(self) -> None:
        """Train the renderer and its voxels on frames drawn from all of the training frames."""
        self._fit_part("renderer", train_renderer, "render_loss")
        self.renderer_trained = True

    def _fit_part(self, name: str, train: Callable[..., float], logged: str) -> None:
        """Train a part by itself; the averaged model gets it as it is in the end."""
        started = time.perf_counter()
        loss = train(self.model, self.dataset, self.cut, self.config)
        self.ema.get_submodule(name).load_state_dict(self.model.get_submodule(name).state_dict())
        self.folder.log(0, {logged: loss})
        self.seconds += time.perf_counter() - started

    def fit_heads(self) -> None:
        """Train the heads of the averaged model afresh, on what its network, now finished, makes of events."""
        config = self.config
        started = time.perf_counter()
        length = max(config.lengths)

        def draw(number: int) -> tuple[Batch, torch.Generator]:
            step = config.steps + 1 + number  # after all that training drew
            return self._batch(range(self.cut), config.batch_size(length), length, step, event_share=1.0)

        examples = head_examples(self.ema, draw, config)
        self.folder.log(config.steps, train_heads(self.ema, examples, self.event_rate, config))
        self.heads_trained = True
        self.seconds += time.perf_counter() - started

    def length(self, step: int) -> int:
        """Frames per sequence at a step: of the schedule, or wherever the curriculum now stands."""
        return self.config.length(step) if self.config.curriculum == "schedule" else self.config.lengths[self.stage]

    def lengths(self) -> tuple[int, ...]:
        """The lengths that the curriculum has come to, or will."""
        whole = self.config.curriculum == "schedule"
        return self.config.lengths if whole else self.config.lengths[: self.stage + 1]

    def train_step(self) -> dict[str, float]:
        """One step of the optimisers."""
        config = self.config
        started = time.perf_counter()
        length = self.length(self.step)
        lr = config.lr_at(self.step)
        drawn = range(self.cut), config.batch_size(length), length, self.step
        batch, rng = self._batch(*drawn, retraced=config.retraced)
        set_lr(self.optimizers, lr)
        self.model.zero_grad()
        logs = self._backward(batch, rng)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.averaged.update_parameters(self.model)
        seconds = time.perf_counter() - started
        frames = batch.act.shape[0] * length
        self.seconds += seconds
        self.frames += frames
        return {k: float(v) for k, v in logs.items()} | {
            "grad_norm": float(norm),
            "lr": lr,
            "length": length,
            "frames_per_second": frames / seconds,
        }

    def _backward(self, batch: Batch, rng: torch.Generator) -> dict[str, torch.Tensor]:
        """Gradients of the loss. Where they are cut at block borders, each block is done with before the next begins,
        so that what is kept for the backward pass does not grow with the length (truncated backpropagation).
        """
        config = self.config
        weight = config.objective.state_moments * self.moments_strength
        arguments = batch, rng, replace(config.objective, state_moments=weight), config.checkpoint_blocks
        if not config.objective.cut_gradients:
            with self._autocast():
                loss, logs = world_model_loss(self.model, *arguments)
            loss.backward()
            return logs
        blocks = block_losses(self.model, *arguments)
        logs_of_blocks: list[dict[str, torch.Tensor]] = []
        while True:
            with self._autocast():
                block = next(blocks, None)
            if block is None:
                return summed(logs_of_blocks)
            loss, logs = block
            loss.backward()
            logs_of_blocks.append(logs)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Losses on held-out episodes, the health of the memory, and a dream beside the truth as a GIF."""
        length = max(self.length(self.step - 1), SHORTEST_EVALUATED)
        batch, rng = self._batch(range(self.cut, len(self.dataset)), EVALUATED, length, 0)  # the same every time
        with self._autocast():
            recall = self.config.objective.recall
            objective = ObjectiveConfig(pure_noise=1.0, state_moments=0.0, perceptual=0.0, recall=recall)
            _, logs = world_model_loss(self.ema, batch, rng, objective)
        _, lengths = pieces(self.dataset, self.cut)
        context = max(1, min(length, int(np.median(lengths))) // 2)
        real = openings(self.dataset, EVALUATED, length, longer_than=context, since=self.cut)
        keys = torch.arange(len(real), device=self.config.device)
        dreamt = dream(self.ema, real.obs, real.act, context, real.obs.shape[1] - context, keys)
        film = np.concatenate([real.obs[:, :context], dreamt.obs], 1)
        self.folder.save_gif(f"{self.step:06d}", _side_by_side(real.obs, film))
        quality = psnr(dreamt.obs, real.obs[:, context:])[real.valid[:, context:]].mean()
        metrics = {f"validation/{k}": float(v) for k, v in logs.items()} | {"validation/dream_psnr": float(quality)}
        in_all = slice(int(real.valid.sum(1).min()))  # frames that every opening has
        health = state_metrics(self.ema, to_frames(real.obs[:, in_all]), torch.from_numpy(real.act[:, in_all]))
        strength = {"state/strength": self.moments_strength} if self.config.objective.state_moments else {}
        return metrics | health | strength

    def _evaluate_and_adapt(self) -> dict[str, float]:
        """Evaluate, steer the regulariser of the states by what was found, and let the lengths advance."""
        config = self.config
        metrics = self.evaluate()
        if config.steer_moments and config.objective.state_moments:
            self.moments_strength = steered(self.moments_strength, metrics)
        if config.curriculum == "plateau":
            self.stage_losses.append(metrics["validation/frame_loss"])
            if self.stage + 1 < len(config.lengths) and has_plateaued(self.stage_losses):
                self.stage += 1
                self.stage_losses = []  # longer sequences have losses of their own
        return metrics

    def _autocast(self) -> torch.autocast:
        return autocast(self.config.device, self.config.bf16)

    def status(self, metrics: dict[str, float]) -> str:
        """What the progress bar says."""
        return "loss {loss:.3f}  {frames_per_second:.0f} frames/s  length {length:.0f}".format(**metrics)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; see `TrainingLoop`."""
        return {
            "frames": self.frames,
            "stage": self.stage,
            "stage_losses": self.stage_losses,
            "moments_strength": self.moments_strength,
            "odometry_trained": self.odometry_trained,
            "renderer_trained": self.renderer_trained,
            "heads_trained": self.heads_trained,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of a checkpoint, perhaps of an older version."""
        lengths = [self.config.length(step) for step in range(self.step)]
        unless_there = {
            "frames": sum(self.config.batch_size(length) * length for length in lengths),
            "stage": 0,
            "stage_losses": [],
            "moments_strength": 1.0,
            "renderer_trained": self.renderer_trained,
        }
        for name, value in unless_there.items():
            setattr(self, name, state.get(name, value))
        for name, old_name in OLD_NAMES.items():
            setattr(self, name, state[name] if name in state else state[old_name])
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.averaged.n_averaged.fill_(self.step + 1)  # with the weights before the first step
        states = state["optimizers"] if "optimizers" in state else [state["optimizer"]]
        for optimizer, of_optimizer in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(of_optimizer)

    def _batch(
        self,
        frames: range,
        batch_size: int,
        length: int,
        step: int,
        event_share: float | None = None,
        retraced: float = 0.0,
    ) -> tuple[Batch, torch.Generator]:
        """The sequences of a step, drawn from a range of frames, and the stream that its noise is drawn from."""
        config = self.config
        rng = np.random.default_rng([config.seed, step])
        share = config.event_share if event_share is None else event_share
        batch = random_segments(self.dataset, frames, batch_size, length, rng, share, retraced).to(config.device)
        return batch, step_generator(config.seed, step, config.device)

    def _tokenizer_frames(self) -> torch.Tensor:
        rng = np.random.default_rng(self.config.seed)
        chosen = rng.choice(self.cut, min(TOKENIZER_FRAMES, self.cut), replace=False)
        return to_frames(self.dataset.obs[np.sort(chosen)])


def has_plateaued(losses: list[float], patience: int = 2, gain: float = 0.02) -> bool:
    """Whether the last `patience` losses are all less than `gain` below the best before them."""
    before = losses[:-patience]
    return bool(before) and min(losses[-patience:]) > (1 - gain) * min(before)


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
    """The frame at which held-out episodes begin; or, if none begins late enough, the end of one that is held out."""
    longest = max(*config.lengths, SHORTEST_EVALUATED)
    latest = int(min(len(dataset) * (1 - config.validation), len(dataset) - longest))
    if latest < longest:
        raise ValueError(
            f"{dataset.folder} has {len(dataset)} frames: too few to train and validate on sequences of {longest} "
            "frames; collect more, or shorten `lengths`"
        )
    starts = dataset.episode_starts[dataset.episode_starts <= latest]
    return int(starts[-1]) if starts[-1] >= longest else latest


def _side_by_side(real: NDArray[np.uint8], dream: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(B, T, H, W, 3) twice -> (T, 2 H, B W, 3): reality above, dreams below."""
    rows = [np.concatenate(list(v), axis=2) for v in (real, dream)]
    return np.concatenate(rows, axis=1)
