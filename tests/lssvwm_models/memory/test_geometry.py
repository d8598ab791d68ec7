from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_models.memory.geometry import (
    EgoView,
    advance,
    ego_motion,
    motion_patches,
    patch_places,
    place_frequencies,
    place_rotation,
    surrounding_places,
)

VIEW = EgoView(cell=8, row=6, col=3, motions=((0, 0, 0),))
poses = st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.integers(0, 3)).map(torch.tensor)


@given(before=poses, after=poses)
def test_ego_motion_is_what_advance_needs(before, after):
    assert torch.equal(advance(before, ego_motion(before, after)), after)


plane = st.tuples(*[st.floats(-20, 20)] * 2, st.floats(-3.1, 3.1)).map(torch.tensor)


@settings(deadline=None)
@given(before=plane, after=plane)
def test_in_the_plane_too(before, after):
    motion = ego_motion(before, after)
    assert motion[2].abs() <= torch.pi + 1e-6
    torch.testing.assert_close(advance(before, motion), after, rtol=0, atol=1e-4)


@settings(deadline=None)
@given(before=poses, motion=st.tuples(*[st.integers(-3, 3)] * 3).map(torch.tensor))
def test_the_grid_is_the_plane_at_whole_cells_and_quarter_turns(before, motion):
    radians = torch.tensor([1.0, 1.0, torch.pi / 2])
    after = advance(before, motion)
    moved = advance(before * radians, motion * radians)
    torch.testing.assert_close(moved[:2], after[:2].float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        torch.polar(torch.tensor(1.0), moved[2]), torch.polar(torch.tensor(1.0), after[2] * radians[2])
    )
    there_and_back = ego_motion(before * radians, after * radians)
    torch.testing.assert_close(there_and_back[:2], ego_motion(before, after)[:2].float(), rtol=0, atol=1e-4)


def test_a_step_forward_east_then_a_right_turn_then_a_step():
    pose = torch.tensor([0, 0, 0])
    for motion in ([1, 0, 0], [0, 0, 1], [1, 0, 0]):  # right of east is south, which is +y
        pose = advance(pose, torch.tensor(motion))
    assert pose.tolist() == [1, 1, 1]


@given(pose=poses)
def test_the_agents_token_is_where_the_agent_is(pose):
    places = patch_places(pose, VIEW, grid=8, patch=8, lead=())
    assert torch.equal(places.view(8, 8, 2)[6, 3], pose[:2].float())


@given(pose=poses)
def test_places_do_not_move_when_the_agent_turns_and_looks_back(pose):
    """The cell two ahead and one to the right is found again, elsewhere in the view, after a turn to the right."""
    turned = advance(pose, torch.tensor([0, 0, 1]))
    before = patch_places(pose, VIEW, 8, 8, ()).view(8, 8, 2)
    after = patch_places(turned, VIEW, 8, 8, ()).view(8, 8, 2)
    assert torch.equal(before[4, 4], after[5, 1])


def test_large_patches_are_placed_at_their_centre():
    places = patch_places(torch.zeros(3), VIEW, grid=4, patch=16, lead=()).view(4, 4, 2)
    small = patch_places(torch.zeros(3), VIEW, grid=8, patch=8, lead=()).view(8, 8, 2)
    torch.testing.assert_close(places[1, 2], small[2:4, 4:6].mean((0, 1)))


def test_without_a_view_a_token_is_at_its_column_and_row():
    places = patch_places(None, None, grid=3, patch=8, lead=(2,))
    assert places.shape == (2, 9, 2) and places[1, 5].tolist() == [2, 1]


@given(pose=poses)
def test_surroundings_are_squares_of_two_by_two_cells_around_the_agent(pose):
    squares = surrounding_places(pose, map_size=16).view(8, 8, 2)
    forward, right = advance(pose, torch.tensor([1, 0, 0])) - pose, advance(pose, torch.tensor([0, 1, 0])) - pose
    # Row 4, column 4 holds the agent's cell, the one to its right, and the two behind them.
    assert torch.equal(squares[4, 4], pose[:2] - 0.5 * forward[:2] + 0.5 * right[:2])
    assert torch.equal(squares[0, 4], squares[4, 4] + 8 * forward[:2])
    assert torch.equal(squares[4, 7], squares[4, 4] + 6 * right[:2])


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (8, [3 * 6 + 2, 4 * 6 + 2, 4 * 6 + 3]),  # ahead, own cell, at the right; behind is out of sight
        (16, [1 * 3 + 1, 2 * 3 + 1]),  # patches of 2 x 2 cells
        (4, [row * 12 + col for row in (6, 7) for col in (4, 5)] + [r * 12 + c for r in (8, 9) for c in (4, 5, 6, 7)]),
    ],
)
def test_motions_end_in_patches_in_sight(patch, expected):
    view = EgoView(8, 4, 2, ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (-2, 0, 0)))
    assert motion_patches(view, 48 // patch, patch) == expected


def test_motions_may_end_at_the_borders_of_the_frame():
    corner = EgoView(8, 0, 0, ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, -1, 0)))
    assert motion_patches(corner, 6, 8) == [0, 1]
    other = EgoView(8, 5, 5, ((0, 0, 0), (-1, 0, 0), (0, 1, 0), (1, 0, 0)))
    assert motion_patches(other, 6, 8) == [4 * 6 + 5, 5 * 6 + 5]


def test_an_agent_out_of_sight_is_refused():
    with pytest.raises(ValueError, match="no cell in sight that a motion ends in"):
        motion_patches(EgoView(8, 9, 2, ((0, 0, 0), (1, 0, 0))), 6, 8)


def test_codes_of_different_places_are_nearly_orthogonal():
    frequencies = place_frequencies(128, map_size=16)
    cells = torch.cartesian_prod(torch.arange(16.0), torch.arange(16.0))
    codes = place_rotation(cells, frequencies)(torch.ones(256, 256) / 16)
    overlap = codes @ codes.T - torch.eye(256)
    assert overlap.abs().max() < 0.04


def test_rotation_depends_only_on_relative_place():
    q, k = torch.randn(2, 8)
    frequencies = place_frequencies(4, map_size=16)
    here, there, shift = torch.tensor([[1.0, 2], [4, 3], [5, -7]])

    def overlap(a, b):
        return place_rotation(a, frequencies)(q) @ place_rotation(b, frequencies)(k)

    torch.testing.assert_close(overlap(here, there), overlap(here + shift, there + shift), rtol=1e-4, atol=1e-5)


def test_autocast_does_not_blur_places():
    places, frequencies = torch.tensor([[13.0, -17.0], [101.0, 64.0]]), place_frequencies(8, map_size=16)
    exact = place_rotation(places, frequencies)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(place_rotation(places, frequencies).cos, exact.cos)


def test_a_view_is_a_value():
    with pytest.raises(FrozenInstanceError):
        EgoView(8, 4, 2, ((0, 0, 0),)).row = 5
