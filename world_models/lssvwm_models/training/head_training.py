"""Training the heads that tell rewards and ends, by themselves, on what a finished network makes of events."""

from __future__ import annotations

import torch
from torch import Tensor

from lssvwm_models.data.batch import Batch
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.losses import drawn_channels, event_losses
from lssvwm_models.training.objective import ObjectiveConfig, context_noised


@torch.no_grad()
def head_inputs(
    model: WorldModel, batch: Batch, objective: ObjectiveConfig | None = None
) -> tuple[Tensor, Tensor | None]:
    """What heads see of frames with context noise: tokens (B, T, n, d), and surroundings (B, T, E, d_inner)."""
    objective = objective or ObjectiveConfig()
    latents = context_noised(model.tokenizer.encode(batch.obs), objective)
    channels = drawn_channels(model, len(latents), objective)
    state = model.initial_state(len(latents))
    tokens = []
    around = []
    for frames in model.temporal_blocks(latents.shape[1]):
        now = batch[frames]
        pose = now.pose if model.odometry is not None else None
        committed = model.commit(state, latents[:, frames], now.act, now.is_first, pose, channels=channels)
        state = committed.state
        tokens.append(committed.tokens[:, :, 0])
        around += [] if committed.around is None else [committed.around]
    return torch.cat(tokens, 1), torch.cat(around, 1) if around else None


def head_loss(model: WorldModel, feats: Tensor, rew: Tensor, terminated: Tensor, share: float) -> Tensor:
    """The part of the loss that is about rewards and ends, for the features (..., F) of frames; `share` of it comes
    from the frames with one of them."""
    everywhere = torch.ones_like(terminated)
    losses = event_losses(model.reward, model.termination, feats, rew, terminated, everywhere, share)
    return torch.stack(list(losses.values())).sum()
