"""Training what renders earlier frames, and their voxels, by itself: frames from anywhere teach more than as many of a
few sequences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.data.segments import recorded_pose, to_frames
from lssvwm_models.memory.first_person.keyframes import STEP, Keyframes, Shown, coded, show
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.first_person.voxels import Volume
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.losses import frame_error
from lssvwm_models.training.objective import context_noised
from lssvwm_models.training.parts.fitting import fit
from lssvwm_models.training.regularisers import hidden_frames

MAPS: Final = 8  # per batch,
MAPPED: Final = 24  # of so many frames each,
VIEWS: Final = 8  # from which so many frames are rendered each,
SINCE: Final = 32  # which come less than so many after
LENGTH: Final = 256  # of the sequences that they are drawn from
SEQUENCES: Final = 32  # that several batches are drawn from, as to follow them takes long
BATCHES: Final = 8
CLIP: Final = 1.0  # largest norm of the gradients
VOXELS: Final = 0.3  # what the error of the voxels by themselves counts


def train_renderer(model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig) -> float:
    """Train `model.renderer` in place, on the first `frames` frames of a dataset with poses.

    Returns:
        The mean loss of the last tenth of the steps.
    """
    assert model.renderer is not None
    steps = _losses(model, dataset, frames, config)
    losses = fit("renderer", model.renderer, steps, config.render_steps, CLIP, betas=(0.9, 0.99))
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


class _Sequences(NamedTuple):
    """Sequences of frames: the numbers of the frames (B, T), where each was seen from (B, T, 3), how many frames of its
    episode came before (B, T), and what is shown to each."""

    numbers: NDArray[np.int64]
    eyes: Tensor
    past: Tensor
    shown: Shown


def _losses(model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig) -> Iterator[Tensor]:
    """The losses of steps of the training, of frames anywhere in sequences that begin anywhere, one after the other."""
    drawn = np.random.default_rng(config.seed)
    chance = torch.Generator().manual_seed(config.seed)
    rng = torch.Generator(config.device).manual_seed(config.seed)
    for step in range(config.render_steps):
        if step % BATCHES == 0:
            sequences = _sequences(model, dataset, frames, drawn, chance)
        yield _loss(model, dataset, sequences, config, drawn, rng)


def _sequences(
    model: WorldModel, dataset: EpisodeDataset, frames: int, drawn: np.random.Generator, chance: torch.Generator
) -> _Sequences:
    """Sequences that begin anywhere in the first `frames` frames."""
    view = model.config.view
    assert dataset.pose is not None and isinstance(view, FirstPersonView)
    length = min(LENGTH, frames)
    numbers = drawn.integers(0, frames - length + 1, SEQUENCES)[:, None] + np.arange(length)
    is_first = torch.from_numpy(dataset.is_first[numbers])
    is_first[:, 0] = True
    eyes = view.eye(recorded_pose(dataset.pose[numbers]))
    number = torch.arange(length).expand_as(is_first)
    past = number - torch.where(is_first, number, 0).cummax(1).values
    none = Keyframes.none(SEQUENCES, length, 0, 0, torch.device("cpu"))
    return _Sequences(
        numbers, eyes, past, show(none, eyes[:, 0], eyes, past, is_first, hidden_frames(is_first, chance))
    )


def _loss(
    model: WorldModel,
    dataset: EpisodeDataset,
    sequences: _Sequences,
    config: TrainingConfig,
    drawn: np.random.Generator,
    rng: torch.Generator,
) -> Tensor:
    """The error of a batch of frames that are rendered from earlier ones."""
    assert model.renderer is not None
    count, length = sequences.numbers.shape
    chosen = drawn.integers(count, size=MAPS)
    now = drawn.integers(length, size=MAPS)
    volume, at = _mapped(model, dataset, sequences, config, drawn, rng, chosen, now)
    world = np.tile(chosen, VIEWS)
    shown = sequences.shown
    which = shown.which[world, at].numpy() - length - 1  # in the sequences; before them there was nothing
    earlier = _frames(dataset, sequences.numbers[world[:, None], which.clip(min=0)], config)
    target = model.tokenizer.encode(_frames(dataset, sequences.numbers[world, at], config))
    told = shown.there[world, at], shown.eyes[world, at], sequences.eyes[world, at], shown.age[world, at]
    view, _ = model.renderer(_kept(model, earlier, config, rng), *(part.to(config.device) for part in told), volume)
    errors = [
        frame_error(model, model.tokenizer.encode(picture).unsqueeze(0), target.unsqueeze(0), config.objective).mean()
        for picture in (view, volume.picture)
    ]
    return errors[0] + VOXELS * errors[1]


def _mapped(
    model: WorldModel,
    dataset: EpisodeDataset,
    sequences: _Sequences,
    config: TrainingConfig,
    drawn: np.random.Generator,
    rng: torch.Generator,
    chosen: NDArray[np.int64],
    now: NDArray[np.int64],
) -> tuple[Volume, NDArray[np.int64]]:
    """Views of maps of some frames, before frame `now` (MAPS,), of the sequences `chosen`, with the frames (MAPS *
    VIEWS,) that they are of."""
    assert model.renderer is not None
    voxels = model.renderer.voxels
    past = sequences.past[chosen, now].numpy()
    back = np.sort(1 + (drawn.random((MAPS, MAPPED)) * past[:, None]).astype(np.int64), 1)[:, ::-1]  # frames ago
    before = (now[:, None] - back).clip(min=0)
    rows = chosen[:, None]
    lifted = voxels.lifted(
        _kept(model, _frames(dataset, sequences.numbers[rows, before], config), config, rng).flatten(0, 1)
    )
    lifted = lifted.unflatten(0, (MAPS, MAPPED))
    there = torch.from_numpy((past[:, None] >= back) & (past[:, None] > 0)).to(config.device)
    eyes = sequences.eyes[rows, before].to(config.device)
    world = voxels.empty(MAPS)
    for t in range(MAPPED):
        world = voxels.written(world, lifted[:, t], eyes[:, t], there[:, t])

    length = sequences.numbers.shape[1]
    at = (now + drawn.integers(SINCE, size=(VIEWS, MAPS))).clip(max=length - 1)
    at = np.where(sequences.past[chosen, at].numpy() >= at - now, at, now)  # of the same episode
    eye = sequences.eyes[chosen, at].to(config.device)
    found = [voxels.looked_up(world, eye[v]) for v in range(VIEWS)]
    return voxels.rendered(torch.cat(found)), at.flatten()


def _frames(dataset: EpisodeDataset, numbers: NDArray[np.int64], config: TrainingConfig) -> Tensor:
    return to_frames(dataset.obs[numbers]).to(config.device)


def _kept(model: WorldModel, frames: Tensor, config: TrainingConfig, rng: torch.Generator) -> Tensor:
    """Frames (N, K, C, H, W) as they look when they were kept as latents."""
    kept = coded(context_noised(model.tokenizer.encode(frames), config.objective, rng))
    return model.tokenizer.decode(kept.float() * STEP)
