"""What first-person frames are of: places along rays."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_models.memory.first_person.rays import FirstPersonView, in_plane, sight, straight_ahead
from lssvwm_models.memory.geometry import advance
from lssvwm_models.utils.json_files import from_json

VIEW = FirstPersonView(90.0, ((0, 0, 0), (1, 0, 0)), depths=(1.0, 2.0))


def test_a_square_picture_of_90_degrees_looks_45_to_each_side_at_its_edges():
    directions = VIEW.directions(1000)
    assert directions[0].item() == pytest.approx(-math.pi / 4, abs=2e-3)
    assert directions[-1].item() == pytest.approx(math.pi / 4, abs=2e-3)  # to the right is clockwise
    assert VIEW.directions(3)[1] == 0
    torch.testing.assert_close(VIEW.directions(4).tan(), torch.tensor([-0.75, -0.25, 0.25, 0.75]))


def test_places_lie_along_the_rays_of_the_columns():
    pose = torch.tensor([[10, 20, 1]])  # southwards, which is +y
    seen = sight(pose, pose, VIEW, grid=3, side=1)
    places = seen.places.view(3, 2, 2)
    torch.testing.assert_close(places[1], torch.tensor([[10.0, 21.0], [10.0, 22.0]]))
    slant = math.atan(2 / 3)  # the left column looks to the left of south, which is east
    expected = torch.tensor([[10 + math.sin(slant), 20 + math.cos(slant)]])
    torch.testing.assert_close(places[0, :1], expected)
    torch.testing.assert_close(seen.gazes, torch.tensor([[[10, 20, math.pi / 2]]]))


def test_rays_begin_where_the_camera_is():
    behind = FirstPersonView(90.0, VIEW.motions, ahead=-0.5, depths=VIEW.depths)
    for heading, back in enumerate([(-0.5, 0), (0, -0.5), (0.5, 0), (0, 0.5)]):
        pose = torch.tensor([3, 4, heading])
        moved, still = (sight(pose, pose, view, 4, 2) for view in (behind, VIEW))
        for one, other in zip(moved[:2], still[:2], strict=True):
            torch.testing.assert_close((one - other)[..., :2], torch.tensor(back).expand_as(one[..., :2]).float())


def test_units_of_poses_may_be_others_than_cells():
    metres = FirstPersonView(90.0, None, ahead=0.6, cell=2.5, depths=VIEW.depths)
    cells = FirstPersonView(90.0, None, ahead=0.24, depths=VIEW.depths)
    pose = torch.tensor([[1.0, -2.0, 0.3], [4.0, 0.5, -3.0]])
    unit = torch.tensor([2.5, 2.5, 1.0])
    one, other = (sight(p, p.flip(0), view, 4, 2) for p, view in ((pose * unit, metres), (pose, cells)))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match=r"cell=2.5 must be 1 where motions are counted in cells"):
        FirstPersonView(90.0, VIEW.motions, cell=2.5)


def test_motions_are_told_as_the_eye_makes_them():
    before = torch.tensor([[10, 20, 3]])  # northwards
    seen = sight(torch.tensor([[11, 18, 0]]), before, VIEW, 3, 1)
    torch.testing.assert_close(
        seen.moved, torch.tensor([[2.0, 1.0, 0.0, 1.0]])
    )  # two ahead, one aside, a turn to the right
    plane = torch.tensor([[0.0, 0.0, 3.0]])
    turned = sight(advance(plane, torch.tensor([[0.25, 0.0, 0.5]])), plane, VIEW, 3, 1)  # through pi
    torch.testing.assert_close(turned.moved, torch.tensor([[0.25, 0.0, math.cos(0.5), math.sin(0.5)]]))


@settings(deadline=None, max_examples=20)
@given(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 3)).map(torch.tensor))
def test_a_pose_on_a_grid_is_one_of_those_in_the_plane(pose):
    place, angle = in_plane(pose)
    plane = torch.cat([place, angle[None]])
    for one, other in zip(sight(pose, pose, VIEW, 4, 2), sight(plane, plane, VIEW, 4, 2), strict=True):
        torch.testing.assert_close(one, other)
    step = advance(plane, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(step[:2], advance(pose, torch.tensor([1, 0, 0]))[:2].float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("grid", "columns"), [(8, {3, 4}), (3, {1}), (1, {0})])
def test_a_step_leads_to_what_the_middle_columns_show(grid, columns):
    patches = straight_ahead(grid)
    assert len(patches) == grid * len(columns) and {p % grid for p in patches} == columns


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fov": 180.0}, "fov=180.0 must be"),
        ({"fov": math.nan}, "fov=nan must be"),
        ({"depths": ()}, r"depths=\(\) must be 1 to 64"),
        ({"depths": (-1.0,)}, r"depths=\(-1.0,\) must be"),
        ({"motions": ()}, r"motions=\(\) must be 1 to 64"),
    ],
)
def test_views_that_are_none_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FirstPersonView(**{"fov": 90.0, "motions": ((1, 0, 0),)} | changes)


def test_a_view_comes_back_from_json_as_what_it_was():
    from lssvwm_models.memory.geometry import EgoView

    either = EgoView | FirstPersonView | None
    above = EgoView(8, 6, 3, ((1, 0, 0),))
    for view in (VIEW, above):
        content = {k: [list(x) for x in v] if k == "motions" else v for k, v in vars(view).items()}
        content |= {"depths": list(view.depths)} if view is VIEW else {}
        assert from_json(either, content, "view") == view
    assert from_json(either, None, "view") is None
    with pytest.raises(ValueError, match="view has the unknown field 'soul'"):
        from_json(either, {"fov": 90.0, "motions": [[1, 0, 0]], "soul": 1}, "view")
    with pytest.raises(ValueError, match="view is 3; expected"):
        from_json(either, 3, "view")
