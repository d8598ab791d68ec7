import torch

from world_models.actions import ActionSpec
from world_models.geometry import EgoView
from world_models.odometry import Odometry


def test_motions_are_learned_from_frames_that_are_as_bad_as_dreams(monkeypatch):
    torch.manual_seed(0)
    odometry = Odometry(EgoView(8, 6, 3, ((0, 0, 0), (1, 0, 0))), ActionSpec("discrete", 3), patches=4, latent_dim=50)
    frames = 1000 * torch.eye(50)[:, None].expand(50, 4, 50)  # each with a latent of its own
    seen = []
    forward = odometry.forward
    monkeypatch.setattr(odometry, "forward", lambda latents, act: seen.append(latents) or forward(latents, act))
    pose = torch.zeros(50, 3, dtype=torch.long)
    odometry.loss(frames, torch.zeros(50, dtype=torch.long), pose, pose)
    shares = seen[0] / 1000
    own = shares.diagonal(dim1=0, dim2=2)  # (M, N)
    assert own.min() > 0.5 and 0.6 < own.median() < 0.9  # most of a frame is still itself
    assert ((shares > 0.02).sum(-1) <= 2).all()  # the rest is one other frame
    noise = seen[0][:, :, :][(shares < 0.02).nonzero(as_tuple=True)]
    assert 0.3 < noise.std() < 0.9 and abs(noise.mean()) < 0.05
