"""What makes features say what will matter: foreseeing rewards and ends from them and the actions to come.

Heads that tell what came with a frame need features of what is the case there. What an agent needs is more: that the
cue is known matters long before the end that it decides. After MuZero (Schrittwieser et al. 2020), which learns its
representation so; here the frames to come are imagined by the world model, and this part is thrown away after training.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from lssvwm_models.data.batch import Batch
from lssvwm_models.model.actions import ActionEmbedding, ActionSpec
from lssvwm_models.model.heads import RewardHead, TerminationHead
from lssvwm_models.training.losses import event_losses

STEPS: Final = 16  # that are foreseen


class Following(NamedTuple):
    """K steps after each of N frames: actions (N, K) or (N, K, A), and what came with the frames they led to, rewards
    and ends (N, K). `known` (N, K): whether the step was recorded, in the same episode."""

    act: Tensor
    rew: Tensor
    terminated: Tensor
    known: Tensor

    @staticmethod
    def of(batch: Batch, row: Tensor, frame: Tensor, steps: int = STEPS) -> Following:
        """What followed the frames (row, frame), both (N,), in a batch (B, T)."""
        later = frame[:, None] + torch.arange(1, steps + 1, device=frame.device)
        inside = later < batch.act.shape[1]
        at = row[:, None], later.clamp(max=batch.act.shape[1] - 1)
        terminated = batch.terminated[at] & inside
        begun_anew = (batch.is_first[at] | ~inside).cumsum(1) > 0
        over = torch.cat([batch.terminated[row, frame][:, None], terminated[:, :-1]], 1).cumsum(1) > 0
        return Following(batch.act[at], batch.rew[at], terminated, ~(begun_anew | over))


class Foresight(nn.Module):
    """A recurrent network that goes from features along actions, and tells rewards and ends on the way."""

    def __init__(self, action: ActionSpec, width: int) -> None:
        super().__init__()
        self.embed_action, self.cell = ActionEmbedding(action, width), nn.GRUCell(width, width)
        self.reward, self.termination = RewardHead(width), TerminationHead(width)

    def loss(self, feats: Tensor, following: Following) -> Tensor:
        """Of features (N, F): half of it comes from steps with a reward or an end, as these are rare."""
        act, rew, terminated, known = following
        steps, hidden = self.embed_action(act, torch.zeros_like(known)), list[Tensor]()
        for step in steps.unbind(1):
            hidden.append(self.cell(step, hidden[-1] if hidden else feats))
        x = torch.stack(hidden, 1)  # (N, K, F)
        return torch.stack(list(event_losses(self.reward, self.termination, x, rew, terminated, known).values())).sum()
