"""Views from elsewhere: a pinhole camera, to the last pixel, where depths are known, and depths that are learned."""

import math

import pytest
import torch

from lssvwm_models.memory.first_person.keyframes import SHOWN
from lssvwm_models.memory.first_person.rendering import Renderer
from lssvwm_models.memory.first_person.voxels import Volume
from lssvwm_models.memory.geometry import ego_motion

S = 64
SIDE = 24
RENDERER = Renderer(S, 3, 8, 90.0, SIDE, width=16, layers=1)
COLUMNS = torch.arange(S, dtype=torch.float32)
SLOPE = (2 * COLUMNS + 1) / S - 1  # of the ray of a column, with a field of view of 90 degrees


def bend(frame, move, depth):
    """A frame (3, S, S) from an eye that `move` would lead from to its own, and how much of it is seen."""
    frames = torch.cat([frame, torch.ones(1, S, S)])[None, None]
    bent, visible = RENDERER.bent(frames, torch.tensor([[move]]), torch.full((1, S, S), depth))
    return bent[0, 0], visible[0, 0]


@pytest.mark.parametrize("depth", [0.3, 5.0])
def test_from_the_same_eye_a_frame_looks_the_same(depth):
    frame = torch.rand(3, S, S)
    bent, visible = bend(frame, [0.0, 0.0, 0.0], depth)
    torch.testing.assert_close(bent, frame, rtol=0, atol=1e-4)
    assert (visible == 1).all()


@pytest.mark.parametrize("depth", [0.5, 2.0])
@pytest.mark.parametrize("turn", [20.0, -35.0])
def test_who_turns_sees_directions_move(turn, depth):
    # What is painted is the direction itself: of then, by the eye of then.
    frame = (SLOPE.atan() + math.radians(turn)).expand(3, S, S)
    bent, visible = bend(frame, [0.0, 0.0, math.radians(turn)], depth)
    inside = visible[0] > 0
    torch.testing.assert_close(bent[0, S // 2][inside], SLOPE.atan()[inside], rtol=0, atol=2e-3)
    expected = (SLOPE.atan().rad2deg() - turn).abs() < 45
    assert ((visible[S // 2] > 0) == expected).all()


def test_a_wall_comes_nearer_by_as_much_as_the_eye_of_then_is_behind():
    # A wall 3 cells ahead of an eye that is one cell behind the eye of now, for which it is 2 ahead.
    frame = torch.stack([3 * SLOPE.expand(S, S), 3 * SLOPE.unsqueeze(1).expand(S, S), torch.zeros(S, S)])
    bent, visible = bend(frame, [-1.0, 0.0, 0.0], 2.0)
    assert (visible == 1).all()
    torch.testing.assert_close(bent[0], 2 * SLOPE.expand(S, S), rtol=0, atol=1e-4)
    torch.testing.assert_close(bent[1], 2 * SLOPE.unsqueeze(1).expand(S, S), rtol=0, atol=1e-4)


def test_a_wall_moves_aside_by_as_much_as_the_eye_of_then_was_to_the_right():
    frame = (4 * SLOPE + 0.5).expand(3, S, S)  # positions on the wall, from the eye of now
    bent, visible = bend(frame, [0.0, 0.5, 0.0], 4.0)
    seen = visible[0] > 0
    torch.testing.assert_close(bent[0, 0][seen], (4 * SLOPE)[seen], rtol=0, atol=1e-4)
    assert not seen[:3].any() and seen[5:].all()  # what is to the left was out of sight


def test_what_is_behind_the_eye_of_then_is_not_seen():
    _, visible = bend(torch.rand(3, S, S), [3.0, 0.0, 0.0], 2.0)
    assert not visible.any()


def test_moves_are_forward_right_and_clockwise():
    now = torch.tensor([[2.0, 3.0, math.pi / 2]])  # looking along y, which points down, to the right of x
    then = torch.tensor([[[2.0, 5.0, math.pi], [1.0, 3.0, math.pi / 2]]])
    expected = [[[2.0, 0.0, math.pi / 2], [0.0, 1.0, 0.0]]]
    torch.testing.assert_close(ego_motion(now.unsqueeze(1), then), torch.tensor(expected), rtol=0, atol=1e-6)


def rendered(renderer, frames, there, eyes, eye):
    """What it shows, whose voxels are empty."""
    age = torch.ones(there.shape).long()
    voxels = renderer.voxels
    volume = voxels.rendered(voxels.looked_up(voxels.empty(len(eye)), eye))
    return renderer(frames, there, eyes, eye, age, volume)


def test_of_nothing_nothing_is_shown():
    frames = torch.full((2, SHOWN, 3, S, S), torch.inf).nan_to_num(posinf=1.0)
    eyes = torch.zeros(2, SHOWN, 3)
    view, unseen = rendered(RENDERER, frames, torch.zeros(2, SHOWN, dtype=torch.bool), eyes, eyes[:, 0])
    assert view.abs().max() < 1e-3 and unseen.min() > 0.999
    assert unseen.shape == (2, 64)


def test_what_no_frame_shows_is_drawn_from_the_voxels():
    eye = torch.zeros(1, 3)
    picture = torch.rand(1, 3, S, S)
    volume = Volume(torch.zeros(1, 64, 56), picture, torch.zeros(1, S, S), torch.ones(1, S, S))
    frames = torch.rand(1, SHOWN, 3, S, S)
    nothing = torch.zeros(1, SHOWN, dtype=torch.bool)
    with torch.no_grad():
        view, _ = RENDERER(frames, nothing, torch.zeros(1, SHOWN, 3), eye, nothing.long(), volume)
    torch.testing.assert_close(view, picture, rtol=0, atol=1e-3)


def test_before_it_has_learned_a_frame_from_here_is_what_it_shows():
    frames = torch.rand(1, SHOWN, 3, S, S)
    there = torch.tensor([[False, True, False, False]])
    eyes = torch.zeros(1, SHOWN, 3)
    view, unseen = rendered(RENDERER, frames, there, eyes, eyes[:, 0])
    torch.testing.assert_close(view, frames[:, 1], rtol=0.02, atol=0.02)
    assert unseen.max() < 0.02


def test_it_learns_how_far_away_a_wall_is():
    torch.manual_seed(0)
    renderer = Renderer(16, 1, 4, 90.0, SIDE, width=16, layers=1)
    renderer.voxels.requires_grad_(False)  # they are empty
    optimizer = torch.optim.Adam((p for p in renderer.parameters() if p.requires_grad), 1e-2)
    slope = (2 * torch.arange(16.0) + 1) / 16 - 1

    def views(count):
        """A wall 3 cells ahead, with stripes, from two eyes: so far to the right of where the stripes begin."""
        begins = 6 * torch.rand(count, 1)
        aside = 0.6 * torch.rand(count, 1) - 0.3
        then, now = ((3 * (3 * slope + begins + a)).sin().view(-1, 1, 1, 16) for a in (aside, 0 * aside))
        frames = torch.zeros(count, SHOWN, 1, 16, 16)
        frames[:, 0] = then
        eyes = torch.zeros(count, SHOWN, 3)
        eyes[:, 0, 1] = aside[:, 0]
        there = torch.zeros(count, SHOWN, dtype=torch.bool)
        there[:, 0] = True
        return rendered(renderer, frames, there, eyes, torch.zeros(count, 3))[0], now.expand(-1, -1, 16, 16), then

    for _ in range(80):
        view, now, _ = views(16)
        loss = (view - now).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        view, now, then = views(64)
    error = (view - now)[..., 3:-3].square().mean()
    assert error < 0.2 * (then - now)[..., 3:-3].square().mean()
