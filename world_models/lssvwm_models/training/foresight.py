"""What makes features say what will matter: foreseeing rewards and ends from them and the actions to come.

Heads that read off what came with a frame need features of what is the case there. What an agent needs is more: that
the cue was seen matters long before the end that it decides. After MuZero (Schrittwieser et al. 2020), which learns its
representation so; here the frames to come are imagined by the world model, and this part is thrown away after training.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    and ends (N, K). `valid` (N, K): whether the step was recorded, in the same episode."""

    act: Tensor
    rew: Tensor
    terminated: Tensor
    valid: Tensor

    @staticmethod
    def of(batch: Batch, row: Tensor, frame: Tensor, steps: int = STEPS) -> Following:
        """What followed the frames (row, frame), both (N,), in a batch (B, T)."""
        T = batch.act.shape[1]
        later = frame[:, None] + torch.arange(1, steps + 1, device=frame.device)
        inside = later < T
        at = row[:, None], later.clamp(max=T - 1)
        # Steps are valid until another episode begins, as one does after every end, or the batch is over.
        over = (batch.is_first[at] | ~inside).cumsum(1) > 0
        return Following(batch.act[at], batch.rew[at], batch.terminated[at], ~over)

    @staticmethod
    def cat(parts: Sequence[Following]) -> Following:
        """What followed the frames of all parts."""
        return Following(*map(torch.cat, zip(*parts, strict=True)))

    def at(self, index: Tensor) -> Following:
        """What followed some of the frames."""
        return Following(self.act[index], self.rew[index], self.terminated[index], self.valid[index])


class Foresight(nn.Module):
    """A recurrent network that goes from features along actions, and predicts rewards and ends on the way."""

    def __init__(self, action: ActionSpec, width: int) -> None:
        super().__init__()
        self.embed_action = ActionEmbedding(action, width)
        self.cell = nn.GRUCell(width, width)
        self.reward = RewardHead(width)
        self.termination = TerminationHead(width)

    def loss(self, feats: Tensor, following: Following) -> Tensor:
        """Of features (N, F): half of it comes from steps with a reward or an end, as these are rare."""
        act, rew, terminated, valid = following
        no_reset = torch.zeros_like(valid)
        state = feats
        states = []
        for step in self.embed_action(act, no_reset).unbind(1):
            state = self.cell(step, state)
            states.append(state)
        x = torch.stack(states, 1)  # (N, K, F)
        return torch.stack(list(event_losses(self.reward, self.termination, x, rew, terminated, valid).values())).sum()
