import math

import pytest
import torch

from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.memory.state import LAST_MOTIONS, WorldModelState
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.odometry import Odometry, PlaneOdometry, Regressed


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


class Body:
    """Slides on: of its last motion half is left, and actions push it. A wall ahead, which is seen, stops it."""

    def __init__(self, count, steps, seed):
        g = torch.Generator().manual_seed(seed)
        self.act = torch.randint(3, (count, steps), generator=g)
        push = torch.tensor([[0.2, 0.0, 0.0], [0.0, 0.0, 0.4], [0.0, 0.0, 0.0]])
        wall = torch.rand(count, steps, generator=g) < 0.3
        self.latents = 3 * torch.randn(count, steps, 4, 3, generator=g)
        self.latents[:, :, [0, 2], 0] = torch.where(wall, 3.0, -3.0)[..., None]  # of 2 x 2 patches
        motion = torch.zeros(count, 3)
        motions = [motion, motion]
        for t in range(steps):
            motion = 0.5 * motion + push[self.act[:, t]]
            motion[:, 0] *= ~wall[:, t]
            motions.append(motion)
        self.motions = torch.stack(motions, 1)


def test_momentum_and_walls_are_learned():
    torch.manual_seed(0)
    odometry = PlaneOdometry(ActionSpec("discrete", 3), 2, 3, width=64)
    odometry.scale.copy_(torch.tensor([0.2, 0.1, 0.4]))
    optimizer = torch.optim.AdamW(odometry.parameters())
    rng = torch.Generator().manual_seed(0)
    for step in range(200):
        body = Body(256, 4, step)
        last = slice(2, 4)
        loss = odometry.loss(body.latents[:, last], body.act[:, last], body.motions[:, 2:], torch.ones(256, 2), rng)
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 200)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(odometry.parameters(), 1.0)
        optimizer.step()
    body = Body(400, 4, 1000)
    with torch.no_grad():
        told = odometry(body.latents[:, 3], body.act[:, 3], body.motions[:, 3:5])
    mean, _ = told.likeliest()
    error = (mean - body.motions[:, 5]).abs()
    stopped = (body.latents[:, 3, 0, 0] > 0) & (body.act[:, 3] == 0)
    assert ((told.stopped > 0) == stopped)[body.act[:, 3] == 0].float().mean() > 0.9
    assert error[~stopped, 0].median() < 0.004 and error[~stopped, 2].median() < 0.008
    assert error[stopped, 0].median() < 0.05  # in front of a wall it would have gone on by 0.2 and more


def test_poses_are_reckoned_from_motions_that_were_reckoned_and_a_new_episode_begins_at_rest(monkeypatch):
    odometry = PlaneOdometry(ActionSpec("discrete", 3), 2, 3)
    seen = []

    def forward(latents, act, motions):
        seen.append(motions)
        mean = motions[:, -1] + torch.tensor([0.25, 0.0, 0.1])
        return Regressed(-torch.ones(2), torch.stack([mean, 0 * mean], 1), torch.ones(2, 2, 3))

    monkeypatch.setattr(odometry, "forward", forward)
    pose = torch.zeros(2, 3)
    last = torch.tensor([[0.5, 0.0, 0.0]]).expand(2, LAST_MOTIONS, 3)
    state = WorldModelState((), (), torch.zeros(2, 4, 3), torch.zeros(2, 8), pose, torch.ones(2).long(), last)
    is_first = torch.tensor([[False, False, False], [False, True, False]])
    poses = odometry.track(state, torch.zeros(2, 3, 4, 3), torch.zeros(2, 3).long(), is_first)
    torch.testing.assert_close(poses[:, 0], torch.tensor([[0.75, 0, 0.1]] * 2))
    assert poses[1, 1].tolist() == [0, 0, 0]
    torch.testing.assert_close(poses[1, 2], torch.tensor([0.25, 0, 0.1]))
    torch.testing.assert_close(seen[1][0], torch.tensor([[0.5, 0, 0], [0.75, 0, 0.1]]))
    assert not seen[2][1].any()


def test_spreads_are_mean_absolute_errors_and_what_is_far_from_the_free_motion_was_stopped():
    motion = torch.tensor([0.1, 0.0, 0.0])
    tolerance = torch.tensor([0.05, 1.0, 1.0])

    def loss(free, stopped, logit, spread=0.1):
        mean = torch.tensor([[free, 0.0, 0.0], [stopped, 0.0, 0.0]])
        return float(Regressed(torch.tensor(logit), mean, torch.full((2, 3), spread)).loss(motion, tolerance))

    log = math.log(0.1)
    assert loss(0.1, 7.0, 0.0) == pytest.approx(3 * log + math.log(2))  # it was free: how it would be stopped is open
    assert loss(0.2, 0.1, 0.0) == pytest.approx(1 + 6 * log + math.log(2))
    assert loss(0.2, 0.1, 9.0) < loss(0.2, 0.1, -9.0) and loss(0.1, 0.1, -9.0) < loss(0.1, 0.1, 9.0)
    one = Regressed(torch.tensor(-1.0), torch.zeros(2, 3, requires_grad=True), torch.full((2, 3), 0.3))
    spread = torch.full((2, 3), 0.3, requires_grad=True)
    one._replace(spread=spread).loss(torch.full((3,), 0.3), torch.ones(3)).backward()
    torch.testing.assert_close(spread.grad, torch.zeros(2, 3))  # at its best where it is the error
