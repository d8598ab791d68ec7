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


def _losses(model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig) -> Iterator[Tensor]:
    """The losses of steps of the training, of frames anywhere in sequences that begin anywhere, one after the other."""
    task = _Task(model, dataset, frames, config)
    for step in range(config.render_steps):
        if step % BATCHES == 0:
            sequences = task.sequences()
        yield task.loss(sequences)


class _Sequences(NamedTuple):
    """Sequences of frames: the numbers of the frames (B, T), where each was seen from (B, T, 3), how many frames of its
    episode came before (B, T), and what is shown to each."""

    numbers: NDArray[np.int64]
    eyes: Tensor
    past: Tensor
    shown: Shown


class _Task:
    """Draws batches from the first `frames` frames of a dataset, and tells the error of what is rendered."""

    def __init__(self, model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig) -> None:
        assert model.renderer is not None
        self.model = model
        self.renderer = model.renderer
        self.dataset = dataset
        self.frames = frames
        self.config = config
        self.drawn = np.random.default_rng(config.seed)
        self.chance = torch.Generator().manual_seed(config.seed)
        self.rng = torch.Generator(config.device).manual_seed(config.seed)

    def sequences(self) -> _Sequences:
        """Sequences that begin anywhere."""
        view = self.model.config.view
        assert self.dataset.pose is not None and isinstance(view, FirstPersonView)
        length = min(LENGTH, self.frames)
        numbers = self.drawn.integers(0, self.frames - length + 1, SEQUENCES)[:, None] + np.arange(length)
        is_first = torch.from_numpy(self.dataset.is_first[numbers])
        is_first[:, 0] = True
        eyes = view.eye(recorded_pose(self.dataset.pose[numbers]))
        number = torch.arange(length).expand_as(is_first)
        past = number - torch.where(is_first, number, 0).cummax(1).values
        none = Keyframes.none(SEQUENCES, length, 0, 0, torch.device("cpu"))
        shown = show(none, eyes[:, 0], eyes, past, is_first, hidden_frames(is_first, self.chance))
        return _Sequences(numbers, eyes, past, shown)

    def loss(self, sequences: _Sequences) -> Tensor:
        """The error of a batch of frames that are rendered from earlier ones."""
        count, length = sequences.numbers.shape
        chosen = self.drawn.integers(count, size=MAPS)
        now = self.drawn.integers(length, size=MAPS)
        world = self._mapped(sequences, chosen, now)
        at = (now + self.drawn.integers(SINCE, size=(VIEWS, MAPS))).clip(max=length - 1)
        at = np.where(sequences.past[chosen, at].numpy() >= at - now, at, now)  # of the same episode
        eyes = sequences.eyes[chosen, at].to(self.config.device)
        voxels = self.renderer.voxels
        volume = voxels.rendered(torch.cat([voxels.looked_up(world, eye) for eye in eyes]))

        views = np.tile(chosen, VIEWS), at.flatten()
        target = self.model.tokenizer.encode(self._seen(sequences.numbers[views]))
        shown = sequences.shown
        which = shown.which[views].numpy() - length - 1  # in the sequences; before them there was nothing
        earlier = self._kept(sequences.numbers[views[0][:, None], which.clip(min=0)])
        told = shown.there[views], shown.eyes[views], sequences.eyes[views], shown.age[views]
        view, _ = self.renderer(earlier, *(part.to(self.config.device) for part in told), volume)
        return self._error(view, target) + VOXELS * self._error(volume.picture, target)

    def _mapped(self, sequences: _Sequences, chosen: NDArray[np.int64], now: NDArray[np.int64]) -> Tensor:
        """Voxels of some frames before the frames `now` (MAPS,) of the sequences `chosen`, of the same episodes."""
        past = sequences.past[chosen, now].numpy()[:, None]
        back = 1 + (self.drawn.random((MAPS, MAPPED)) * past).astype(np.int64)  # frames ago
        before = chosen[:, None], (now[:, None] - np.sort(back, 1)[:, ::-1]).clip(min=0)
        voxels = self.renderer.voxels
        lifted = voxels.lifted(self._kept(sequences.numbers[before]).flatten(0, 1)).unflatten(0, (MAPS, MAPPED))
        eyes = sequences.eyes[before].to(self.config.device)
        there = torch.from_numpy(past[:, 0] > 0).to(self.config.device)
        world = voxels.empty(MAPS)
        for t in range(MAPPED):
            world = voxels.written(world, lifted[:, t], eyes[:, t], there)
        return world

    def _seen(self, numbers: NDArray[np.int64]) -> Tensor:
        """Frames (..., C, H, W) by number."""
        return to_frames(self.dataset.obs[numbers]).to(self.config.device)

    def _kept(self, numbers: NDArray[np.int64]) -> Tensor:
        """Frames (N, K, C, H, W) by number, as they look when they were kept as latents."""
        latents = self.model.tokenizer.encode(self._seen(numbers))
        kept = coded(context_noised(latents, self.config.objective, self.rng))
        return self.model.tokenizer.decode(kept.float() * STEP)

    def _error(self, pictures: Tensor, target: Tensor) -> Tensor:
        """Of pictures (N, C, H, W) of frames with latents (N, M, k)."""
        latents = self.model.tokenizer.encode(pictures)
        return frame_error(self.model, latents.unsqueeze(0), target.unsqueeze(0), self.config.objective).mean()
