"""Dead reckoning: which way did this action move the eye?

The pose that the paper's networks are given (section 5.1) is here inferred from what an agent has: the frame it saw
and the action it took. On a grid motions are few (stay, step, turn), so inferring one is classification; in the plane
it is regression. The recorded poses of the training data are the labels. At run time the simulator reckons on its own.
One wrong step misplaces all that follows, so this network is trained by itself, on far more frames than the rest could
be shown (`Trainer.fit_odometry`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.first_person.rays import FirstPersonView, straight_ahead
from lssvwm_models.memory.geometry import EgoView, advance, ego_motion, motion_patches
from lssvwm_models.memory.state import LAST_MOTIONS, WorldModelState
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
        assert view.motions is not None
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

    def track(self, state: WorldModelState, latents: Tensor, act: Tensor, is_first: Tensor) -> Tensor:
        """Poses (B, T, 3) of frames with latents (B, T, M, k) that follow on a state."""
        before = torch.cat([state.latents.unsqueeze(1), latents[:, :-1]], 1)
        with torch.autocast(before.device.type, enabled=False):  # an error here lasts, and precision is cheap
            motion = self.motions[self(before, act).argmax(-1)]  # (B, T, 3)
        pose = state.pose
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


class Regressed(NamedTuple):
    """Ego motions (forward, right, turn) in cells and radians, of two kinds: free, and stopped by what is in the way.

    `stopped` (...) is the logit of the latter. `mean` and `spread`, the mean absolute error that is expected, are of
    both, (..., 2, 3).
    """

    stopped: Tensor
    mean: Tensor
    spread: Tensor

    def likeliest(self) -> tuple[Tensor, Tensor]:
        """The mean and the spread, (..., 3) each, of the likelier kind."""
        stopped = (self.stopped > 0)[..., None]
        mean, spread = (torch.where(stopped, of[..., 1, :], of[..., 0, :]) for of in (self.mean, self.spread))
        return mean, spread

    def loss(self, motion: Tensor, tolerance: Tensor) -> Tensor:
        """(...) of the motions (..., 3) that were; those farther than `tolerance` (3,) from the free ones were stopped.

        Errors count as under Laplace's distribution: the free motion is what happens mostly, and not what happens on
        average of bodies of which a few are stopped.
        """
        error = (self.mean - motion.unsqueeze(-2)).abs()
        unlikely = (error / self.spread + self.spread.log()).sum(-1)  # (..., 2)
        stopped = (error[..., 0, :] > tolerance).any(-1).float()
        missed = F.binary_cross_entropy_with_logits(self.stopped, stopped, reduction="none")
        return unlikely[..., 0] + stopped * unlikely[..., 1] + missed


class PlaneOdometry(nn.Module):
    """Regresses the ego motion between two frames in the plane, with its uncertainty.

    A body has momentum: where nothing is in the way, its motion follows from the action and from the motions before.
    Frames would only blur that. What is in the way is seen: so frames decide whether something is, and what then
    happens, and nothing else.
    """

    scale: Tensor
    ends: Tensor

    def __init__(self, action: ActionSpec, grid: int, latent_dim: int, width: int = 128) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(3))  # of motions, as they are in the data
        self.register_buffer("ends", torch.tensor(straight_ahead(grid)), persistent=False)
        told = LAST_MOTIONS * 3
        self.embed_action = nn.ModuleList(ActionEmbedding(action, width) for _ in range(2))
        self.embed_motions = nn.ModuleList(nn.Linear(told, width) for _ in range(2))
        self.embed_ends = nn.Linear(len(self.ends) * latent_dim, width)
        self.free = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 6))
        self.stopped = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 7))

    def forward(self, latents: Tensor, act: Tensor, motions: Tensor) -> Regressed:
        """What act (...) does at the frame with latents (..., M, k) after the last `motions` (..., LAST_MOTIONS, 3)."""
        no_reset = torch.zeros(latents.shape[:-2], dtype=torch.bool, device=latents.device)
        told = (motions / self.scale).flatten(-2)
        body, world = (
            embed(act, no_reset) + motion(told)
            for embed, motion in zip(self.embed_action, self.embed_motions, strict=True)
        )
        seen = latents[..., self.ends, :].tanh().flatten(-2)
        free = self.free(body)
        stopped, logit = self.stopped(world + self.embed_ends(seen)).split([6, 1], -1)
        change, log_spread = torch.stack([free, stopped], -2).chunk(2, -1)
        mean = motions[..., -1:, :] + change * self.scale
        return Regressed(logit.squeeze(-1), mean, self.scale * (log_spread.clamp(-3, 4) - 2).exp())

    def track(self, state: WorldModelState, latents: Tensor, act: Tensor, is_first: Tensor) -> Tensor:
        """Poses (B, T, 3) of frames with latents (B, T, M, k) that follow on a state."""
        assert state.motions is not None
        before = torch.cat([state.latents.unsqueeze(1), latents[:, :-1]], 1)
        pose = state.pose
        motions = state.motions
        poses = []
        with torch.autocast(before.device.type, enabled=False):
            for t in range(act.shape[1]):
                motion, _ = self(before[:, t], act[:, t], motions).likeliest()
                pose = torch.where(is_first[:, t, None], torch.zeros_like(pose), advance(pose, motion))
                motions = torch.cat([motions[:, 1:], motion.unsqueeze(1)], 1)
                motions = torch.where(is_first[:, t, None, None], torch.zeros_like(motions), motions)
                poses.append(pose)
        return torch.stack(poses, 1)

    def loss(self, latents: Tensor, act: Tensor, motions: Tensor, counts: Tensor, rng: torch.Generator) -> Tensor:
        """Of U motions in a row, by act (N, U) from latents (N, U, M, k).

        What came before are its own motions, but for the first LAST_MOTIONS: as in dreams, where errors add up. So
        `motions` is (N, LAST_MOTIONS + U, 3); `counts` (N, U) says which steps do. Frames are made worse, as for
        `Odometry`.
        """
        seen = _worse(latents.flatten(0, 1), rng).view_as(latents)
        last = motions[:, :LAST_MOTIONS]
        losses = []
        for u in range(act.shape[1]):
            regressed = self(seen[:, u], act[:, u], last)
            losses.append(regressed.loss(motions[:, LAST_MOTIONS + u], self.scale / 4))
            motion, _ = regressed.likeliest()
            last = torch.cat([last[:, 1:], motion.unsqueeze(1)], 1)
        return (torch.stack(losses, 1) * counts).sum() / counts.sum().clamp(min=1)


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
