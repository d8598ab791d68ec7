"""Dead reckoning: which way did this action move the eye?

The pose that the paper's networks are given (section 5.1) is here inferred from what an agent has: the frame it saw
and the action it took. Motions are few (stay, step, turn), so inferring one is classification; the recorded poses of
the training data are the labels. At run time the simulator reckons on its own. One wrong step misplaces all that
follows, so this network is trained by itself, on far more frames than the rest could be shown (`Trainer.fit_odometry`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.geometry import EgoView, advance, ego_motion, motion_patches
from lssvwm_models.memory.rays import FirstPersonView, straight_ahead
from lssvwm_models.model.actions import ActionEmbedding, ActionSpec
from lssvwm_models.utils.randomness import normal_like


class Odometry(nn.Module):
    """Classifies the ego motion between two frames from the earlier frame's latents and the action.

    Whether a motion can be done is decided where it leads to, so that is where it looks: at the patches that show the
    cells that motions end in. Whoever sees whole frames takes an object that was run into nine times for the frames
    around it; in its patch, it looks the same every time. In first person, they end straight ahead.
    """

    motions: Tensor
    ends: Tensor

    def __init__(
        self,
        view: EgoView | FirstPersonView,
        action: ActionSpec,
        grid: int,
        patch: int,
        latent_dim: int,
        width: int = 128,
    ) -> None:
        super().__init__()
        ends = motion_patches(view, grid, patch) if isinstance(view, EgoView) else straight_ahead(grid)
        self.register_buffer("motions", torch.tensor(view.motions), persistent=False)
        self.register_buffer("ends", torch.tensor(ends), persistent=False)
        self.embed_action = ActionEmbedding(action, width)
        self.embed_ends = nn.Linear(len(ends) * latent_dim, width)
        self.classify = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, len(view.motions))
        )

    def forward(self, latents: Tensor, act: Tensor) -> Tensor:
        """Logits (..., motions) for the motion caused by act (...) taken at the frame with latents (..., M, k)."""
        no_reset = torch.zeros(act.shape[: latents.dim() - 2], dtype=torch.bool, device=latents.device)
        # Whitened latents of rare objects reach tens of units; what matters here is what they are, not how rare.
        seen = latents[..., self.ends, :].tanh().flatten(-2)
        return self.classify(self.embed_ends(seen) + self.embed_action(act, no_reset))

    def track(self, pose: Tensor, latents: Tensor, previous: Tensor, act: Tensor, is_first: Tensor) -> Tensor:
        """Poses (B, T, 3) of frames with latents (B, T, M, k), after pose (B, 3) and previous latents (B, M, k)."""
        before = torch.cat([previous.unsqueeze(1), latents[:, :-1]], 1)
        with torch.autocast(before.device.type, enabled=False):  # an error here lasts, and precision is cheap
            motion = self.motions[self(before, act).argmax(-1)]  # (B, T, 3)
        poses = []
        for t in range(act.shape[1]):
            pose = torch.where(is_first[:, t, None], torch.zeros_like(pose), advance(pose, motion[:, t]))
            poses.append(pose)
        return torch.stack(poses, 1)

    def loss(self, latents: Tensor, act: Tensor, before: Tensor, after: Tensor, rng: torch.Generator) -> Tensor:
        """Cross-entropy of the motions from poses `before` to `after`, both (N, 3), by act from frames (N, M, k).

        The frames are made worse than they were, with chances from `rng`, on their device: those of a dream are, and
        their motions must be read as surely.
        """
        truth = (ego_motion(before, after)[:, None, :] == self.motions).all(-1)  # (N, motions)
        return F.cross_entropy(self(_worse(latents, rng), act), truth.int().argmax(-1))


def _worse(latents: Tensor, rng: torch.Generator) -> Tensor:
    """Latents (N, M, k) with up to 0.45 of every patch taken from another frame, and noise of up to unit variance.

    Most frames are made little worse. Where most are bad, a clear picture is no longer believed: nearly every forward
    move of a recorded agent is a step, so that is the safe guess in front of a wall.
    """
    N, M, _ = latents.shape
    device = latents.device
    other = latents[torch.randperm(N, generator=rng, device=device)]
    noise = normal_like(latents, rng)
    of_frame = torch.rand(N, 1, 1, generator=rng, device=device)
    of_patch = torch.rand(N, M, 1, generator=rng, device=device)
    scale = torch.rand(N, 1, 1, generator=rng, device=device) ** 3
    return latents.lerp(other, 0.45 * of_frame * of_patch) + scale * noise
