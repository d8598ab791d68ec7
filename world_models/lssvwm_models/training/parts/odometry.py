"""Training the dead reckoning by itself, on a few steps each: one wrong motion misplaces everything after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.data.segments import to_frames
from lssvwm_models.memory.geometry import ego_motion
from lssvwm_models.memory.state import LAST_MOTIONS
from lssvwm_models.model.odometry import Odometry, PlaneOdometry
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.parts.fitting import fit

BATCH_SIZE: Final = 256  # steps
ROLLED: Final = 8  # steps in a row that odometry in the plane reckons by itself
CLIP: Final = 1.0  # largest norm of the gradients in the plane, where an unlikely motion has steep ones


def train_odometry(model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig) -> float:
    """Train `model.odometry` in place, on steps between the first `frames` frames of a dataset with poses.

    On a grid all pairs of an action and a motion are drawn equally often: recorded agents hardly run into things, and
    what is hardly ever seen is taken for what is common. In the plane, where there are no kinds of motions, it is
    stretches of ROLLED steps that are drawn, all equally often.

    Returns:
        The last loss.
    """
    odometry = model.odometry
    assert odometry is not None and dataset.pose is not None
    rng = torch.Generator(config.device).manual_seed(config.seed)
    in_plane = isinstance(odometry, PlaneOdometry)
    losses = _losses_in_plane if in_plane else _losses_on_grid
    clip = CLIP if in_plane else math.inf
    return fit("odometry", odometry, losses(model, dataset, frames, config, rng), config.odometry_steps, clip)[-1]


def _losses_on_grid(
    model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig, rng: torch.Generator
) -> Iterator[Tensor]:
    """The losses of steps of the training, one after the other."""
    odometry = model.odometry
    assert isinstance(odometry, Odometry) and dataset.pose is not None
    candidates = np.flatnonzero(~dataset.is_first[1:frames])
    chance = _chances(dataset, candidates, model.config.action.kind == "discrete")
    choices = np.random.default_rng(config.seed).choice(candidates, (config.odometry_steps, BATCH_SIZE), p=chance)
    for i in np.sort(choices):
        latents = model.tokenizer.encode(to_frames(dataset.obs[i]).to(config.device))
        act = torch.from_numpy(dataset.act[i + 1]).to(config.device)
        before, after = (torch.from_numpy(dataset.pose[at]).long().to(config.device) for at in (i, i + 1))
        yield odometry.loss(latents, act, before, after, rng)


def _losses_in_plane(
    model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig, rng: torch.Generator
) -> Iterator[Tensor]:
    """The losses of steps of the training, of stretches that begin anywhere, one after the other."""
    odometry = model.odometry
    assert isinstance(odometry, PlaneOdometry) and dataset.pose is not None
    pose = torch.from_numpy(dataset.pose[:frames])
    moved = ~torch.from_numpy(dataset.is_first[1:frames])
    motion = F.pad(ego_motion(pose[:-1], pose[1:]) * moved.unsqueeze(-1), (0, 0, 1, 0))  # that led to each frame
    odometry.scale.copy_(motion[1:][moved].std(0).clamp(min=1e-3))
    candidates = np.flatnonzero(~dataset.is_first[1:frames])  # frames that another one of their episode follows on
    candidates = candidates[(candidates >= LAST_MOTIONS - 1) & (candidates + ROLLED < frames)]
    drawn = np.random.default_rng(config.seed)
    episode = np.cumsum(dataset.is_first[:frames])
    for _ in range(config.odometry_steps):
        at = np.sort(drawn.choice(candidates, BATCH_SIZE // ROLLED))[:, None]
        steps = at + np.arange(ROLLED)
        latents = model.tokenizer.encode(to_frames(dataset.obs[steps]).to(config.device))
        act = torch.from_numpy(dataset.act[steps + 1]).to(config.device)
        around = at + np.arange(1 - LAST_MOTIONS, ROLLED + 1)
        same = torch.from_numpy(episode[around] == episode[at])  # whatever was before an episode was no motion
        motions = (motion[around] * same.unsqueeze(-1)).to(config.device)
        yield odometry.loss(latents, act, motions, same[:, LAST_MOTIONS:].float().to(config.device), rng)


def _chances(dataset: EpisodeDataset, candidates: NDArray[np.int64], discrete: bool) -> NDArray[np.float64]:
    """The chance (K,) of the step from each of K frames to the next: the same for every pair of action and motion.

    Actions that are vectors have no kinds, so there it is every motion that is drawn as often as any other.
    """
    assert dataset.pose is not None
    before = torch.from_numpy(dataset.pose[candidates]).long()
    after = torch.from_numpy(dataset.pose[candidates + 1]).long()
    kinds = ego_motion(before, after)
    if discrete:
        kinds = torch.cat([kinds, torch.from_numpy(dataset.act[candidates + 1]).view(-1, 1)], 1)
    _, kind, count = kinds.unique(dim=0, return_inverse=True, return_counts=True)
    chance: NDArray[np.float64] = count.double().reciprocal()[kind].numpy()
    return chance / chance.sum()
