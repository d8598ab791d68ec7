import torch

from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.odometry import Odometry


def test_motions_are_learned_from_frames_as_good_and_as_bad_as_those_of_dreams(monkeypatch):
    torch.manual_seed(0)
    odometry = Odometry(EgoView(8, 1, 0, ((0, 0, 0), (1, 0, 0))), ActionSpec("discrete", 3), 2, 8, 200)
    frames = 1000 * torch.eye(200)[:, None].expand(200, 4, 200)  # each with a latent of its own
    seen = []
    forward = odometry.forward
    monkeypatch.setattr(odometry, "forward", lambda latents, act: seen.append(latents) or forward(latents, act))
    pose = torch.zeros(200, 3, dtype=torch.long)
    odometry.loss(frames, torch.zeros(200, dtype=torch.long), pose, pose, torch.Generator().manual_seed(0))
    shares = seen[0] / 1000
    own = shares.diagonal(dim1=0, dim2=2)  # (M, N)
    assert own.min() > 0.5 and 0.8 < own.median() < 0.98  # a frame is still itself, most of them nearly all of it
    assert own.min() < 0.7
    assert ((shares > 0.02).sum(-1) <= 2).all()  # the rest is one other frame
    noise = torch.where(shares < 0.004, seen[0], torch.nan).nanmean(1).nanmedian()
    assert abs(noise) < 0.05
    spread = torch.where(shares < 0.004, seen[0], 0).std((1, 2))  # of every frame
    assert spread.median() < 0.3 and spread.max() > 0.6


def test_what_was_run_into_three_times_is_not_walked_through():
    torch.manual_seed(0)
    kinds, ahead, rare = 3 * torch.randn(12, 6), 4, 11  # ahead: of 3x3 patches the middle
    view = EgoView(8, 2, 1, ((0, 0, 0), (1, 0, 0), (0, 0, 1)))
    turn, forward = 0, 1

    def frames(count, kind):
        content = torch.randint(12, (count, 9))
        content[:, ahead] = kind
        return kinds[content]

    def after(act, kind):  # things of the first four kinds can be walked on
        steps = (act == forward) & (kind < 4)
        return torch.stack([torch.zeros_like(act), -steps.long(), (act == turn).long()], -1)

    odometry, north = Odometry(view, ActionSpec("discrete", 2), 3, 8, 6), torch.tensor([0, 0, 3])
    kind = torch.cat([torch.randint(11, (1000,)), torch.full((3,), rare)])  # hardly ever seen there
    latents, act = frames(len(kind), kind), torch.randint(2, kind.shape)
    act[-3:] = forward
    pose = north + after(act, kind)
    pose[:, 2] %= 4
    optimizer = torch.optim.AdamW(odometry.parameters(), 3e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(400):
        i = torch.cat([torch.randint(1000, (120,)), torch.randint(1000, 1003, (8,))])
        optimizer.zero_grad()
        odometry.loss(latents[i], act[i], north.expand(128, 3), pose[i], rng).backward()
        optimizer.step()
    for now, expected in ((rare, 0), (1, 1), (7, 0)):
        told = odometry(frames(500, torch.full((500,), now)), torch.full((500,), forward)).argmax(-1)
        assert (told == expected).float().mean() > 0.99
