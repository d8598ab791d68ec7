"""The map of voxels: frames are written where they were seen, and seen from elsewhere as geometry tells."""

import math

import pytest
import torch

from lssvwm_models.memory.first_person.voxels import DEPTHS, FARTHEST, HEIGHTS, NEAREST, PER_CELL, VoxelMap

S = 64
SIDE = 36  # 12 cells
ONE = torch.ones(1, dtype=torch.bool)
HERE = torch.zeros(1, 3)


def sure(depth, side=SIDE):
    """A map that takes all it sees to be at the depth that is nearest to this one, and that depth."""
    torch.manual_seed(0)
    voxels = VoxelMap(S, 3, 8, 90.0, side)
    depths = torch.logspace(math.log10(NEAREST), math.log10(FARTHEST), DEPTHS)
    nearest = (depths.log() - math.log(depth)).abs().argmin()
    with torch.no_grad():
        voxels.usual[nearest] = 50.0
        voxels.forget.fill_(-50.0)
    return voxels, float(depths[nearest])


def wall(left=(1.0, -1.0, -1.0), right=(-1.0, -1.0, 1.0)):
    """A frame of two colours."""
    frame = torch.empty(1, 3, S, S)
    frame[..., : S // 2] = torch.tensor(left).view(3, 1, 1)
    frame[..., S // 2 :] = torch.tensor(right).view(3, 1, 1)
    return frame


def written(voxels, frame, eye=HERE, world=None):
    world = voxels.empty(1) if world is None else world
    with torch.no_grad():
        return voxels.written(world, voxels.lifted(frame), eye, ONE)


def seen(voxels, world, eye):
    with torch.no_grad():
        return voxels.rendered(voxels.looked_up(world, torch.tensor([eye])))


def middle(picture):
    return picture[0, :, S // 2 - 4 : S // 2 + 4]


def test_a_frame_stands_where_the_eye_saw_it():
    voxels, depth = sure(2.0)
    world = written(voxels, wall(), torch.tensor([[5.0, 5.0, 0.0]]))  # looks along x
    columns = world[0].view(SIDE, SIDE, HEIGHTS, 5)  # by y and x
    there = columns[..., 1].sum(2)
    rows, cols = (there > 1e-6).nonzero(as_tuple=True)
    assert set(cols.tolist()) == {math.floor(PER_CELL * (5 + depth)), math.ceil(PER_CELL * (5 + depth))}
    assert rows.min() >= PER_CELL * (5 - depth) - 1 and rows.max() <= PER_CELL * (5 + depth) + 1
    # y points down, to the right of who looks along x: what is left in the frame has the smaller y.
    red = columns[..., 2].sum((1, 2)) - columns[..., 4].sum((1, 2))
    assert red[: 5 * PER_CELL - 1].sum() > 0 > red[5 * PER_CELL + 2 :].sum()
    assert (columns[..., 0] >= columns[..., 1] - 1e-6).all()
    between = columns[5 * PER_CELL, PER_CELL * 5 + 2, :, :2].sum(0)  # was looked through
    assert between[0] > 0.1 and between[1] < 1e-6


def test_who_looks_south_has_the_east_at_the_left():
    voxels, _ = sure(2.0)
    world = written(voxels, wall(), torch.tensor([[5.0, 5.0, math.pi / 2]]))
    columns = world[0].view(SIDE, SIDE, HEIGHTS, 5)
    red = columns[..., 2].sum((0, 2)) - columns[..., 4].sum((0, 2))  # by x
    assert red[: 5 * PER_CELL - 1].sum() < 0 < red[5 * PER_CELL + 2 :].sum()
    assert columns[5 * PER_CELL + 3 :, :, :, 1].sum() > 10 * columns[: 5 * PER_CELL, :, :, 1].sum()


def test_from_where_it_was_seen_a_frame_looks_the_same():
    voxels, depth = sure(2.0)
    volume = seen(voxels, written(voxels, wall()), [0.0, 0.0, 0.0])
    torch.testing.assert_close(middle(volume.picture)[..., 8:24], middle(wall())[..., 8:24], rtol=0, atol=0.4)
    torch.testing.assert_close(middle(volume.picture)[..., -24:-8], middle(wall())[..., -24:-8], rtol=0, atol=0.4)
    ahead = volume.depth[0, 28:36, 8:-8]
    torch.testing.assert_close(ahead, torch.full_like(ahead, math.log(depth)), rtol=0, atol=0.35)
    assert volume.open[0, 28:36, 8:-8].max() < 0.1
    tokens = volume.tokens.view(8, 8, 7, 2, 4)  # rows and columns of patches, and in them of rays
    assert tokens[4, 1, 0].min() > 0.5 > -0.5 > tokens[4, 6, 0].max()
    assert tokens[0, 1, 6].min() > tokens[4, 1, 6].max()  # open, above


@pytest.mark.parametrize(
    ("eye", "right"),
    [([0.0, -1.0, 0.0], 0.5), ([0.0, 1.0, 0.0], -0.5), ([0.0, 0.0, -0.4], math.tan(0.4)), ([1.0, 0.0, 0.0], 0.0)],
    ids=["from the left", "from the right", "turned left", "nearer"],
)
def test_from_elsewhere_the_edge_is_where_geometry_tells(eye, right):
    voxels, depth = sure(2.0)
    if abs(right) == 0.5:
        right *= 2 / depth
    picture = middle(seen(voxels, written(voxels, wall()), eye).picture).mean(1)
    edge = (right + 1) / 2 * S
    redness = picture[0] - picture[2]
    at = int(edge)
    assert redness[max(at - 12, 0) : max(at - 4, 1)].mean() > 0.7
    assert redness[at + 4 : at + 12].mean() < -0.7


def test_what_is_nearer_hides_what_is_farther():
    far, _ = sure(3.0)
    near, _ = sure(1.0)
    world = written(far, wall((1.0, -1.0, -1.0), (1.0, -1.0, -1.0)))
    for _ in range(4):
        world = written(near, wall((-1.0, -1.0, 1.0), (-1.0, -1.0, 1.0)), world=world)
    colour = middle(seen(far, world, [0.0, 0.0, 0.0]).picture)[..., 8:-8].mean((1, 2))
    assert colour[2] > colour[0] + 0.5
    from_between = torch.tensor([2.0, 0.0, 0.0])
    colour = middle(seen(far, world, from_between.tolist()).picture)[..., 16:-16].mean((1, 2))
    assert colour[0] > colour[2] + 0.5


def test_a_map_is_a_torus():
    voxels, _ = sure(2.0)
    cells = SIDE / PER_CELL
    world = written(voxels, wall())
    torch.testing.assert_close(
        world, written(voxels, wall(), torch.tensor([[cells, -2 * cells, 0.0]])), rtol=0, atol=1e-3
    )
    assert not torch.allclose(world, written(voxels, wall(), torch.tensor([[cells / 2, 0.0, 0.0]])))


def test_to_see_the_same_again_changes_nothing_of_what_is_there():
    voxels, _ = sure(2.0)
    once = written(voxels, wall())
    often = once
    for _ in range(30):
        often = written(voxels, wall(), world=often)
    one, other = (seen(voxels, world, [0.0, 0.3, 0.1]).picture for world in (once, often))
    torch.testing.assert_close(middle(other)[..., 12:-12], middle(one)[..., 12:-12], rtol=0, atol=0.2)


def test_what_is_there_half_of_the_time_is_so_however_often_one_looks():
    near, _ = sure(1.0)
    far, _ = sure(4.0)
    depths = []
    for times in (1, 10):
        world = near.empty(1)
        for _ in range(times):
            world = written(near, wall(), world=world)
            world = written(far, wall(), world=world)
        depths.append(float(seen(near, world, [0.0, 0.0, 0.0]).depth[0, S // 2, S // 2]))
    assert depths[0] == pytest.approx(depths[1], abs=0.15)


def test_what_has_gone_is_forgotten_by_who_looks_again_and_kept_elsewhere():
    near, _ = sure(1.0)
    far, _ = sure(4.0)
    world = written(near, wall())
    depths = [float(seen(near, world, [0.0, 0.0, 0.0]).depth[0, S // 2, S // 2])]
    for forget in (-50.0, 0.0):
        with torch.no_grad():
            far.forget.fill_(forget)
        left = written(far, wall(), world=world)
        depths.append(float(seen(near, left, [0.0, 0.0, 0.0]).depth[0, S // 2, S // 2]))
    assert depths[0] + 0.3 < depths[1] < depths[2] - 0.1
    behind = written(far, wall(), torch.tensor([[0.0, 0.0, math.pi]]), world)
    ahead = slice(PER_CELL, SIDE // 2)  # of the columns along x, in the first rows: not looked at again
    one, other = (w[0].view(SIDE, SIDE, -1)[0, ahead] for w in (world, behind))
    torch.testing.assert_close(one, other)


def test_what_is_near_is_seen_by_many_rays_of_which_each_counts_less():
    counts = []
    for far in (0.3, 1.0, 4.0):
        voxels, depth = sure(far)
        with torch.no_grad():
            lifted = voxels.lifted(wall()).view(1, DEPTHS, 16, HEIGHTS, 5)[0, ..., 1].sum(2)
        counts.append(float(lifted.max()) / min(depth / 2, 1))
    assert counts[0] == pytest.approx(16, rel=1e-4)  # all rows of a column of points
    assert counts[1] == pytest.approx(15.5, abs=0.5) and counts[2] < 5  # far away, most are above or below all voxels


def test_above_all_voxels_the_view_is_open():
    voxels, _ = sure(4.0)
    open_ = seen(voxels, written(voxels, wall()), [0.0, 0.0, 0.0]).open[0, :, S // 2]
    assert open_[0] > 0.6 and open_[-1] > 0.6 and open_[S // 2] < 0.2


def test_to_look_more_often_than_enough_tells_no_more():
    voxels, _ = sure(2.0)
    torch.nn.init.normal_(voxels.details.weight, std=0.5)
    world = written(voxels, wall())
    one, other = (seen(voxels, times * world, [0.0, 0.0, 0.0]).picture for times in (1e4, 1e6))
    torch.testing.assert_close(one, other, rtol=0, atol=0.02)


def test_where_no_frame_comes_before_the_map_is_emptied():
    voxels, _ = sure(2.0)
    world = written(voxels, wall())
    with torch.no_grad():
        lifted = voxels.lifted(torch.cat([wall(), wall()]))
        two = voxels.written(world.repeat(2, 1, 1), lifted, HERE.repeat(2, 1), torch.tensor([True, False]))
    assert not two[1].any() and not torch.equal(two[0], world[0])


def test_worlds_side_by_side_are_those_alone():
    voxels, _ = sure(2.0)
    eyes = torch.tensor([[0.0, 0.0, 0.0], [3.0, -1.0, 2.0]])
    frames = torch.rand(2, 3, S, S) * 2 - 1
    with torch.no_grad():
        both = voxels.written(voxels.empty(2), voxels.lifted(frames), eyes, ONE.repeat(2))
        found = voxels.rendered(voxels.looked_up(both, eyes + 0.1)).picture
        for i in range(2):
            alone = written(voxels, frames[i : i + 1], eyes[i : i + 1])
            torch.testing.assert_close(alone[0], both[i])
            torch.testing.assert_close(seen(voxels, alone, (eyes[i] + 0.1).tolist()).picture[0], found[i])


def test_to_follow_is_to_write_and_to_look_up_and_episodes_begin_with_nothing():
    voxels, _ = sure(2.0)
    frames = torch.rand(1, 5, 3, S, S) * 2 - 1
    eyes = torch.randn(1, 6, 3)
    there = torch.tensor([[False, True, True, False, True]])
    with torch.no_grad():
        full = written(voxels, wall())
        world, found = voxels.followed(full, frames, eyes[:, :-1], eyes[:, 1:], there)
        parts = voxels.followed(full, frames[:, :2], eyes[:, :2], eyes[:, 1:3], there[:, :2])
        rest = voxels.followed(parts[0], frames[:, 2:], eyes[:, 2:-1], eyes[:, 3:], there[:, 2:])
    assert not found[:, 0].any() and not found[:, 3].any()
    torch.testing.assert_close(torch.cat([parts[1], rest[1]], 1), found)
    torch.testing.assert_close(rest[0], world)
    torch.testing.assert_close(world, written(voxels, frames[:, 4], eyes[:, 4]))


def test_of_nothing_no_colour_comes():
    voxels, _ = sure(2.0)
    volume = seen(voxels, voxels.empty(1), [0.0, 0.0, 0.0])
    assert not volume.picture.any()
    assert volume.tokens.shape == (1, 64, 8 * (3 + 2 + 2))


def test_depths_are_learned_from_views_alone():
    torch.manual_seed(0)
    voxels = VoxelMap(16, 1, 4, 90.0, SIDE, width=16, layers=1)
    optimizer = torch.optim.Adam(voxels.parameters(), 2e-2)
    slope = (2 * torch.arange(16.0) + 1) / 16 - 1

    def stripes(begins, eye):
        """A wall at x = 3, with stripes, seen by eyes (N, 3) that look along x."""
        x = begins + eye[:, 1:2] + (3 - eye[:, :1]) * slope
        return (2.5 * x).sin().view(-1, 1, 1, 16).expand(-1, -1, 16, 16)

    def error(count=8):
        begins = 6 * torch.rand(count, 1)
        world = voxels.empty(count)
        for _ in range(3):
            eye = torch.cat([torch.rand(count, 1) - 0.5, 2 * torch.rand(count, 1) - 1, torch.zeros(count, 1)], 1)
            world = voxels.written(world, voxels.lifted(stripes(begins, eye)), eye, ONE.expand(count))
        eye = torch.cat([torch.rand(count, 1) - 0.5, torch.rand(count, 1) - 0.5, torch.zeros(count, 1)], 1)
        picture = voxels.rendered(voxels.looked_up(world, eye)).picture
        return (picture - stripes(begins, eye))[..., 4:12, 2:-2].square().mean()

    with torch.no_grad():
        untrained = error(32)
    for _ in range(60):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    with torch.no_grad():
        assert error(32) < 0.6 * untrained
