"""Training what renders keyframes by itself: frames from anywhere teach more than as many of a few sequences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.data.segments import recorded_pose, to_frames
from lssvwm_models.memory.keyframes import STEP, Keyframes, coded, show
from lssvwm_models.memory.rays import FirstPersonView
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.losses import frame_error
from lssvwm_models.training.objective import context_noised
from lssvwm_models.training.parts.fitting import fit
from lssvwm_models.training.regularisers import hidden_frames

BATCH_SIZE: Final = 64  # frames
LENGTH: Final = 256  # of the sequences that they are drawn from
SEQUENCES: Final = 32  # that several batches are drawn from, as to follow them takes long
BATCHES: Final = 8
CLIP: Final = 1.0  # largest norm of the gradients


def train_renderer(model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig) -> float:
    """Train `model.renderer` in place, on the first `frames` frames of a dataset with poses.

    Returns:
        The mean loss of the last tenth of the steps.
    """
    assert model.renderer is not None
    steps = _losses(model, dataset, frames, config)
    losses = fit("renderer", model.renderer, steps, config.render_steps, CLIP, betas=(0.9, 0.99))
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _losses(model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig) -> Iterator[Tensor]:
    """The losses of steps of the training, of frames anywhere in sequences that begin anywhere, one after the other."""
    view = model.config.view
    assert model.renderer is not None and dataset.pose is not None and isinstance(view, FirstPersonView)
    drawn = np.random.default_rng(config.seed)
    rng = torch.Generator(config.device).manual_seed(config.seed)
    chance = torch.Generator().manual_seed(config.seed)
    length = min(LENGTH, frames)
    none = Keyframes.none(SEQUENCES, length, 0, 0, torch.device("cpu"))
    for step in range(config.render_steps):
        if step % BATCHES == 0:
            sequences = drawn.integers(0, frames - length + 1, SEQUENCES)[:, None] + np.arange(length)
            is_first = torch.from_numpy(dataset.is_first[sequences])
            is_first[:, 0] = True
            eyes = view.eye(recorded_pose(dataset.pose[sequences]))
            number = torch.arange(length).expand_as(is_first)
            past = number - torch.where(is_first, number, 0).cummax(1).values
            shown = show(none, eyes[:, 0], eyes, past, is_first, hidden_frames(is_first, chance))
        world, at = drawn.integers(0, [[SEQUENCES], [length]], (2, BATCH_SIZE))
        which = shown.which[world, at].numpy() - length - 1  # in the sequences; before them there was nothing
        earlier = sequences[world[:, None], which.clip(min=0)]  # (BATCH_SIZE, K)
        target = sequences[world, at]
        before, now = (to_frames(dataset.obs[numbers]).to(config.device) for numbers in (earlier, target))
        told = shown.there[world, at], shown.eyes[world, at], eyes[world, at], shown.age[world, at]
        yield _loss(model, before, now, tuple(part.to(config.device) for part in told), config, rng)


def _loss(
    model: WorldModel,
    earlier: Tensor,
    target: Tensor,
    told: tuple[Tensor, ...],
    config: TrainingConfig,
    rng: torch.Generator,
) -> Tensor:
    """The error of frames (N, C, H, W) that are rendered from earlier ones (N, K, C, H, W)."""
    assert model.renderer is not None
    kept = coded(context_noised(model.tokenizer.encode(earlier), config.objective, rng))
    view, _ = model.renderer(model.tokenizer.decode(kept.float() * STEP), *told)
    latents = model.tokenizer.encode(target)
    return frame_error(model, model.tokenizer.encode(view).unsqueeze(0), latents.unsqueeze(0), config.objective).mean()
