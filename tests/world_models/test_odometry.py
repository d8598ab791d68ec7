import torch

from world_models.actions import ActionSpec
from world_models.geometry import EgoView
from world_models.odometry import Odometry


def test_motions_are_learned_from_frames_as_good_and_as_bad_as_those_of_dreams(monkeypatch):
    torch.manual_seed(0)
    odometry = Odometry(EgoView(8, 6, 3, ((0, 0, 0), (1, 0, 0))), ActionSpec("discrete", 3), 4, 200)
    frames = 1000 * torch.eye(200)[:, None].expand(200, 4, 200)  # each with a latent of its own
    seen = []
    forward = odometry.forward
    monkeypatch.setattr(odometry, "forward", lambda latents, act: seen.append(latents) or forward(latents, act))
    pose = torch.zeros(200, 3, dtype=torch.long)
    odometry.loss(frames, torch.zeros(200, dtype=torch.long), pose, pose)
    shares = seen[0] / 1000
    own = shares.diagonal(dim1=0, dim2=2)  # (M, N)
    assert own.min() > 0.5 and 0.8 < own.median() < 0.98  # a frame is still itself, most of them nearly all of it
    assert own.min() < 0.7
    assert ((shares > 0.02).sum(-1) <= 2).all()  # the rest is one other frame
    noise = torch.where(shares < 0.004, seen[0], torch.nan).nanmean(1).nanmedian()
    assert abs(noise) < 0.05
    spread = torch.where(shares < 0.004, seen[0], 0).std((1, 2))  # of every frame
    assert spread.median() < 0.3 and spread.max() > 0.6
