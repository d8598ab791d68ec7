"""Training the dead reckoning by itself, on single steps: one wrong motion misplaces everything after it."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.data.segments import to_frames
from lssvwm_models.memory.geometry import ego_motion
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.utils.progress import progress

BATCH_SIZE: Final = 256  # steps
LR: Final = 2e-3
WARMUP: Final = 50  # steps


def train_odometry(model: WorldModel, dataset: EpisodeDataset, frames: int, config: TrainingConfig) -> float:
    """Train `model.odometry` in place, on single steps between the first `frames` frames of a dataset with poses.

    All pairs of an action and a motion are drawn equally often: recorded agents hardly run into things, and what is
    hardly ever seen is taken for what is common.

    Returns:
        The last loss.
    """
    odometry = model.odometry
    assert odometry is not None and dataset.pose is not None
    total = config.odometry_steps
    optimizer = torch.optim.AdamW(odometry.parameters(), LR, weight_decay=1e-2)
    rng = torch.Generator(config.device).manual_seed(config.seed)
    candidates = np.flatnonzero(~dataset.is_first[1:frames])
    chance = _chances(dataset, candidates, model.config.action.kind == "discrete")
    choices = np.random.default_rng(config.seed).choice(candidates, (total, BATCH_SIZE), p=chance)
    with progress("odometry", total) as report:
        for step, i in enumerate(np.sort(choices)):
            optimizer.param_groups[0]["lr"] = lr_at(step, total)
            latents = model.tokenizer.encode(to_frames(dataset.obs[i]).to(config.device))
            act = torch.from_numpy(dataset.act[i + 1]).to(config.device)
            before = torch.from_numpy(dataset.pose[i]).long().to(config.device)
            after = torch.from_numpy(dataset.pose[i + 1]).long().to(config.device)
            loss = odometry.loss(latents, act, before, after, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            report(step + 1, f"loss {float(loss.detach()):.5f}")
    return float(loss.detach())


def lr_at(step: int, total: int) -> float:
    """Learning rate at one of `total` steps: linear warm-up, plateau, and over the last two thirds down to nothing."""
    return LR * min(1.0, (step + 1) / WARMUP, 1.5 * (1 - step / total))


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
