"""Dead reckoning: which way did this action move the eye?

The pose that the paper's networks are given (section 5.1) is here inferred from what an agent has: the frame it saw
and the action it took. Motions are few (stay, step, turn), so inferring one is classification; the recorded poses of
the training data are the labels. Only this small network sees them: at run time the simulator reckons on its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.actions import ActionEmbedding, ActionSpec
from world_models.geometry import EgoView, advance, ego_motion


class Odometry(nn.Module):
    """Classifies the ego motion between two frames from the earlier frame's latents and the action."""

    motions: Tensor

    def __init__(self, view: EgoView, action: ActionSpec, tokens: int, latent_dim: int, width: int = 128) -> None:
        super().__init__()
        self.register_buffer("motions", torch.tensor(view.motions), persistent=False)
        self.embed_action = ActionEmbedding(action, width)
        self.embed_frame = nn.Linear(tokens * latent_dim, width)
        self.classify = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, len(view.motions))
        )

    def forward(self, latents: Tensor, act: Tensor) -> Tensor:
        """Logits (..., motions) for the motion caused by act (...) taken at the frame with latents (..., n, k)."""
        no_reset = torch.zeros(act.shape[: latents.dim() - 2], dtype=torch.bool, device=latents.device)
        # Whitened latents of rare objects reach tens of units; what matters here is what they are, not how rare.
        return self.classify(self.embed_frame(latents.tanh().flatten(-2)) + self.embed_action(act, no_reset))

    def track(self, pose: Tensor, latents: Tensor, previous: Tensor, act: Tensor, is_first: Tensor) -> Tensor:
        """Poses (B, T, 3) of frames with latents (B, T, n, k), after pose (B, 3) and previous latents (B, n, k)."""
        before = torch.cat([previous.unsqueeze(1), latents[:, :-1]], 1)
        motion = self.motions[self(before, act).argmax(-1)]  # (B, T, 3)
        poses = []
        for t in range(act.shape[1]):
            pose = torch.where(is_first[:, t, None], torch.zeros_like(pose), advance(pose, motion[:, t]))
            poses.append(pose)
        return torch.stack(poses, 1)

    def loss(self, latents: Tensor, act: Tensor, pose: Tensor, is_first: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy against the motions in recorded poses (B, T, 3); frames that begin an episode do not count."""
        truth = (ego_motion(pose[:, :-1], pose[:, 1:])[..., None, :] == self.motions).all(-1)  # (B, T - 1, motions)
        logits = self(latents[:, :-1], act[:, 1:])
        counts = truth.any(-1) & ~is_first[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), truth.int().argmax(-1).flatten(), reduction="none").view_as(counts)
        right = logits.argmax(-1) == truth.int().argmax(-1)
        total = counts.sum().clamp(min=1)
        return (loss * counts).sum() / total, {"odometry_accuracy": (right & counts).sum() / total}
