"""A map along rays shows what is at a place from wherever it is looked at."""

from dataclasses import replace

import torch

from lssvwm_models.memory.first_person.rays import FirstPersonView, RayMap, sight
from lssvwm_models.memory.frame_context import FrameContext

VIEW = FirstPersonView(90.0, ((0, 0, 0),), depths=(1.0, 2.0, 3.0))
GRID, SIDE, DEPTHS = 4, 2, 3


def frames_of(*poses, writes=True):
    """The context of frames side by side, each the first of its episode, seen from these poses."""
    pose = torch.tensor(poses).unsqueeze(1)
    seen = sight(pose, pose, VIEW, GRID, SIDE)
    first = torch.zeros(len(poses), 1, dtype=torch.bool)
    return FrameContext.of(seen.places, 4, None, first, torch.zeros(len(poses)).long(), writes, seen.gazes)


def ray_map(shown_at=None):
    """A map whose patches are all at one of the depths, or at all of them."""
    torch.manual_seed(0)
    memory = RayMap(d_model=16, d_inner=8, headdim=4, grid=GRID, merge=2, depths=DEPTHS, map_size=16)
    if shown_at is not None:
        torch.nn.init.zeros_(memory.at_depth.weight)
        with torch.no_grad():
            memory.at_depth.bias.view(4, DEPTHS)[:] = -50 * (torch.arange(DEPTHS) != shown_at).float()
    return memory


def read_at(memory, frames, state):
    """What the places along the rays of frames hold, (B, G, K)."""
    codes = memory._codes("C", "patch", frames, torch.float32)
    y = codes.flatten(1, 2) @ state.flatten(1, 3).transpose(1, 2)
    return y.norm(dim=-1).unflatten(1, (GRID, DEPTHS)).detach()


def test_what_is_seen_at_a_depth_is_found_there_from_another_side():
    memory = ray_map(shown_at=1)
    x = torch.randn(1, 1, 1, 4, 16)
    state = memory(x, frames_of((0, 0, 0)), torch.zeros(memory.state_shape(1))).state  # two cells to the east
    assert read_at(memory, frames_of((0, 0, 0)), state).mean((0, 1)).argmax() == 1
    # From four cells further east one looks back west at the same places, at the middle depth again: left and right
    # change sides.
    back = read_at(memory, frames_of((4, 0, 2)), state)[0]
    away = read_at(memory, frames_of((4, 0, 0)), state)[0]
    middle = [1, 2]
    assert back[middle, 1].min() > 2 * back[middle][:, [0, 2]].max() and back[middle, 1].min() > 5 * away.max()


def test_patches_read_the_rays_of_their_own_columns():
    memory = ray_map()
    frames = frames_of((0, 0, 0), writes=False)
    codes = memory._codes("C", "patch", frames, torch.float32)[0, 0].unflatten(0, (GRID, DEPTHS))
    for column in range(GRID):
        # A map that holds nothing but what is along one of the rays; codes of places are nearly orthogonal, not quite.
        state = torch.zeros(memory.state_shape(1))
        state[0, 0] += codes[column].sum(0)
        reads = memory(torch.randn(1, 1, 1, 4, 16), frames, state).reads
        strength = reads[0, 0].flatten(1).norm(dim=1).detach()  # of the patches, token by token
        patches = strength.view(SIDE, SIDE, 2, 2).permute(0, 2, 1, 3).reshape(GRID, GRID)  # as they are in the frame
        assert (patches.argmax(1) == column).all() and patches[:, column].min() > 2 * patches[:, column - 2].max()


def test_rows_have_projections_of_their_own():
    memory = ray_map()
    frames = frames_of((0, 0, 0), writes=False)
    state = torch.randn(memory.state_shape(1))
    x = torch.randn(1, 1, 1, 4, 16)
    before = memory(x, frames, state).reads
    with torch.no_grad():
        memory.hides[3] *= 2
    changed = (memory(x, frames, state).reads != before)[0, 0].flatten(1).any(1).view(SIDE, SIDE, 2, 2)
    assert changed[1, :, 1].all() and changed.sum() == 4  # the last row


def test_what_was_read_is_not_read_again_and_streams_see_the_same():
    memory = ray_map()
    state = torch.randn(memory.state_shape(2))
    x = torch.randn(2, 1, 3, 4, 16)
    frames = frames_of((0, 0, 0), (2, -1, 3), writes=False)
    read = memory(x, frames, state)
    assert torch.equal(read.state, state)
    again = memory(x, replace(frames, reads=read.reads), torch.full_like(state, torch.nan))
    torch.testing.assert_close(again.y, read.y)
    for stream in range(3):
        torch.testing.assert_close(
            memory(x[:, :, stream : stream + 1], frames, state).y, read.y[:, :, stream : stream + 1]
        )
    writing = replace(frames, writes=True)
    written = memory(x, writing, state)
    torch.testing.assert_close(written.y, read.y)  # the frame does not see itself
    assert not torch.allclose(written.state, state)
    torch.testing.assert_close(memory(x, replace(writing, reads=read.reads), state).state, written.state)
    noisier = torch.cat([x[:, :, :1], torch.randn(2, 1, 2, 4, 16)], 2)
    torch.testing.assert_close(memory(noisier, writing, state).state, written.state)  # stream 0 alone writes
