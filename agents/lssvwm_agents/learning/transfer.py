"""Transferring an actor-critic to its world model as it is after more training.

The features of the new model say the same in other words: the heads are trained afresh at the end of every training
(`Trainer.fit_heads`), from other random weights. We looked at a model of DoorKey-5x5 before and after 200 more steps:
features had a cosine of -0.09 with the old ones, and the critic's values a correlation of -0.24. Translated by least
squares, as here, the values had one of 0.90, and 90 % of the likeliest actions were the same.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from lssvwm_agents.policies.actor_critic import ActorCritic
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.data.batch import Batch
from lssvwm_models.data.segments import random_segments

SEQUENCES: Final = 128  # real ones, that both models observe
AT_ONCE: Final = 16  # of them
EVENT_SHARE: Final = 0.5  # of them with a reward or an end, where most depends on what is done
RIDGE: Final = 1e-3  # beside features whose mean square is about 1


def transfer_policy(
    agent: ActorCritic, old: SimulatorCore, new: SimulatorCore, dataset: EpisodeDataset, seed: int
) -> ActorCritic:
    """An actor-critic that does in `new`, as nearly as it can, what `agent` does in `old`; on the CPU.

    Args:
        agent: Trained on the features of `old`.
        old, new: Cores of two models of one environment.
        dataset: Real episodes to compare their features on.
        seed: Decides which parts of them.
    """
    rng = np.random.default_rng(seed)
    before: list[Tensor] = []
    after: list[Tensor] = []
    length = min(old.simulator.config.trained_length, new.simulator.config.trained_length)
    for _ in range(SEQUENCES // AT_ONCE):
        batch = random_segments(dataset, range(len(dataset)), AT_ONCE, length, rng, EVENT_SHARE)
        before.append(_features(old, batch))
        after.append(_features(new, batch))
    return translated(agent, torch.cat(before), torch.cat(after), new.simulator.weights_sha256)


def _features(core: SimulatorCore, batch: Batch) -> Tensor:
    """What a core makes of each frame of B sequences of T, (B T, F)."""
    real = batch.to(core.device)
    _, feats = core.model.observe(core.initial_memory(len(real.act)), real.obs, real.act, real.is_first)
    return feats.flatten(0, 1).cpu()


@torch.no_grad()
def translated(agent: ActorCritic, before: Tensor, after: Tensor, weights_sha256: str | None) -> ActorCritic:
    """An actor-critic that makes of features `after` what `agent` makes of `before`, both (N, F) of the same N frames.

    The map from one to the other is linear, so that the first layers can take it in.
    """
    x = torch.cat([after, torch.ones(len(after), 1)], 1).double()  # with a constant, for the means
    ridge = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    ridge[-1, -1] = 0  # the constant costs nothing
    solution = torch.linalg.solve(x.T @ x / len(x) + ridge, x.T @ before.double() / len(x)).float()
    matrix = solution[:-1]
    constant = solution[-1]
    new = copy.deepcopy(agent)
    new.config = replace(agent.config, weights_sha256=weights_sha256)
    for first in (new.actor[0], new.critic.mlp[0]):
        assert isinstance(first, nn.Linear)
        first.bias.add_(first.weight @ constant)  # by the old weights, so before they change
        first.weight.copy_(first.weight @ matrix.T)
    return new
