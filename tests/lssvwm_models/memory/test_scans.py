import math
from dataclasses import replace

import torch

from lssvwm_models.memory.frame_context import FrameContext
from lssvwm_models.memory.geometry import patch_places, surrounding_places
from lssvwm_models.memory.scans import BlockScan, PlaceMap
from lssvwm_models.memory.state_size import random_channels
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import NetworkConfig
from lssvwm_models.model.network import Network


def test_a_layer_that_looks_around_finds_what_it_wrote_where_it_wrote_it():
    torch.manual_seed(0)
    scan = PlaceMap(8, 8, 4, patches=4, parts=1, map_size=16, looks_around=True)
    pose = torch.tensor([[[3, -2, 1], [3, -2, 1]]])
    around = surrounding_places(pose, 16)  # (1, 2, 64, 2)
    square = 37
    places = patch_places(None, None, 2, 1, (1, 2)) - 0.5 + around[:, :1, square : square + 1]  # fills one square
    frames = FrameContext.of(places, 1, around, torch.zeros(1, 2).bool(), torch.zeros(1).long(), writes=True)
    remembered = scan(torch.randn(1, 2, 1, 4, 8), frames, torch.zeros(scan.state_shape(1))).around
    strength = remembered.norm(dim=-1)[0]  # (T, 64)
    assert not strength[0].any()  # nothing was written before the first frame
    assert strength[1].argmax() == square
    assert strength[1, square] > 3 * strength[1].topk(10).values[-1]


def test_layers_that_do_not_look_around_return_nothing_remembered():
    scan = PlaceMap(8, 8, 4, patches=4, parts=1, map_size=16)
    places = patch_places(None, None, 2, 1, (1, 1))
    frames = FrameContext.of(places, 1, places, torch.zeros(1, 1).bool(), torch.zeros(1).long(), writes=True)
    assert scan(torch.randn(1, 1, 1, 4, 8), frames, torch.zeros(scan.state_shape(1))).around is None


def recall_of_a_trained_scan(truncation):
    """The error with which a scan tells what it saw a frame ago, reading m = 0 to 8 channels; 1 is knowing nothing."""
    torch.manual_seed(0)
    scan = PlaceMap(8, 8, 8, patches=4, parts=1, map_size=4)
    places, first = patch_places(None, None, 2, 1, (32, 2)), torch.zeros(32, 2).bool()
    scale = 0.6 ** torch.arange(8.0)  # some of what there is to remember is worth more than the rest
    mixed = torch.linalg.qr(torch.randn(8, 8)).Q

    def error(channels):
        seen = torch.randn(32, 1, 1, 4, 8) * scale @ mixed
        frames = FrameContext(places, places, None, first, first.long(), torch.zeros(32).long(), True, channels)
        x = torch.cat([seen, torch.ones_like(seen)], 1)
        y, *_ = scan(x, frames, torch.zeros(scan.state_shape(32)))
        return (y[:, 1] - seen[:, 0]).square().mean() / scale.square().mean()

    optimizer = torch.optim.Adam(scan.parameters(), 1e-2)
    rng = torch.Generator().manual_seed(0)
    for _ in range(300):
        optimizer.zero_grad()
        error(random_channels(32, 1, 8, truncation, rng)[:, 0]).backward()
        optimizer.step()
    with torch.no_grad():
        return [float(error(torch.full((32,), m))) for m in range(9)]


def test_training_with_truncation_puts_the_channels_in_order_of_importance():
    plain, ordered = recall_of_a_trained_scan(0.0), recall_of_a_trained_scan(1.0)
    assert ordered[1] < 0.75 * plain[1] and ordered[2] < 0.5 * plain[2] and ordered[3] < 0.15 < 0.2 < plain[3]
    assert ordered[8] < 0.15 and plain[8] < 0.1 < 0.9 < ordered[0]


def test_patches_that_share_a_token_are_written_at_their_own_places():
    torch.manual_seed(0)
    scan = PlaceMap(8, 8, 4, patches=4, parts=4, map_size=8)
    first, age = torch.zeros(1, 2).bool(), torch.zeros(1).long()
    places = patch_places(None, None, 2, 1, (1, 2))
    x = torch.randn(1, 2, 1, 1, 8)

    def second_read(written_at, read_at):
        there = torch.stack([places[:, 0] + written_at, places[:, 1] + read_at], 1)
        state = torch.zeros(scan.state_shape(1))
        state = scan(x[:, :1], FrameContext.of(there[:, :1], 4, None, first[:, :1], age, True), state).state
        return scan(x[:, 1:], FrameContext.of(there[:, 1:], 4, None, first[:, :1], age + 1, False), state).y

    nothing = second_read(torch.zeros(4, 2), torch.tensor([4.0, 4.0]).expand(4, 2))
    assert not torch.allclose(second_read(torch.zeros(4, 2), torch.zeros(4, 2)), nothing, atol=1e-3)
    one_away = second_read(torch.tensor([4.0, 4.0]) * torch.tensor([[0.0], [1], [1], [1]]), torch.zeros(4, 2))
    assert not torch.allclose(one_away, nothing, atol=1e-3)  # one of the four patches is still there to be read
    # A token that moved by one patch reads what another token of the frame had written there.
    torch.testing.assert_close(
        second_read(torch.ones(4, 2), torch.ones(4, 2)), second_read(torch.zeros(4, 2), torch.zeros(4, 2))
    )


def test_merged_patches_come_back_where_they_were():
    torch.manual_seed(0)
    network = Network(
        NetworkConfig(8, 2, (2, 2), (0,), d_inner=8, headdim=4, head_dim=4, map_size=8), 4, 3, ActionSpec("discrete", 2)
    )
    network.out = torch.nn.Identity()
    patches = torch.randn(2, 5, 16, 3)
    torch.testing.assert_close(network.denoised(network._merged(patches).flatten(-2)), patches)
    corner = network._merged(torch.arange(16.0).view(16, 1))[:, :, 0]
    assert corner[0].tolist() == [0, 1, 4, 5] and corner[3].tolist() == [10, 11, 14, 15]


def test_looked_up_codes_are_those_that_training_computes():
    torch.manual_seed(0)
    scan = PlaceMap(8, 8, 4, patches=4, parts=1, map_size=4, looks_around=True)
    pose = torch.randint(-50, 50, (3, 2, 3))
    pose[..., 2] %= 4

    def codes(shift=0.0):
        places = patch_places(None, None, 2, 1, (3, 2)) + pose[:, :, None, :2] + shift
        around, first = surrounding_places(pose, 4), torch.zeros(3, 2).bool()
        frames = FrameContext.of(places, 1, around, first, torch.zeros(3).long(), writes=True)
        asked = ("C", "patch"), ("B", "patch"), ("look", "around")
        return torch.stack([scan._codes(*names, frames, torch.float32) for names in asked])

    for shift in (0.0, 0.5, 0.3):
        computed = codes(shift)
        with torch.no_grad():
            torch.testing.assert_close(codes(shift), computed, rtol=1e-4, atol=1e-4)
            scan.C.mul_(2)  # as an optimiser does: the table is of the weights as they are
            torch.testing.assert_close(codes(shift)[0], 2 * computed[0], rtol=1e-4, atol=1e-4)


def test_a_map_that_was_read_before_it_is_written_gives_the_same():
    torch.manual_seed(0)
    scan = PlaceMap(8, 8, 4, patches=4, parts=1, map_size=4, looks_around=True)
    pose, first = torch.zeros(2, 1, 3).long(), torch.zeros(2, 1).bool()
    x, state = torch.randn(2, 1, 1, 4, 8), torch.randn(scan.state_shape(2))

    def written(read_before):
        places = patch_places(None, None, 2, 1, (2, 1))
        frames = FrameContext.of(places, 1, surrounding_places(pose, 4), first, torch.ones(2).long(), writes=True)
        if read_before:
            reads = scan(torch.randn_like(x), replace(frames, writes=False), state).reads
            frames = replace(frames, reads=reads)
        return scan(x, frames, state)

    for actual, expected in zip(written(True), written(False), strict=True):
        torch.testing.assert_close(actual, expected)


def test_what_was_read_before_is_what_counts():
    scan = PlaceMap(8, 8, 4, patches=4, parts=1, map_size=4, looks_around=True)
    places, first = patch_places(None, None, 2, 1, (2, 1)), torch.zeros(2, 1).bool()
    frames = FrameContext.of(places, 1, None, first, torch.ones(2).long(), writes=True)
    x, state = torch.randn(2, 1, 1, 4, 8), torch.randn(scan.state_shape(2))
    nothing = torch.zeros(2, 1, 4, 2, 4)
    for writes in (True, False):
        blind = replace(frames, writes=writes, reads=nothing)
        empty = replace(frames, writes=writes)
        torch.testing.assert_close(scan(x, blind, state).y, scan(x, empty, torch.zeros_like(state)).y)


def test_tubes_that_overlap_let_tokens_hear_of_their_neighbours_in_either_cut():
    torch.manual_seed(0)
    scan = BlockScan(8, 8, 4, grid=4, block=2, d_state=16, overlap=True)
    places, first = patch_places(None, None, 4, 1, (1, 2)), torch.zeros(1, 2).bool()
    frames = FrameContext.of(places, 1, None, first, torch.zeros(1).long(), writes=True)
    x = torch.randn(1, 2, 1, 16, 8)

    def heard(row, column):
        """Where the second frame hears that a token of the first was another: by cut, the tokens of a 4 x 4 frame."""
        other = x.clone()
        other[0, 0, 0, 4 * row + column] += 1
        y = []
        for seen in (x, other):
            _, value, B, C, dt = scan.in_proj(seen).split(scan.split, -1)
            C, B, dt = scan.C_norm(C), scan.B_norm(B), scan.step_sizes(dt)
            value = scan.by_head(value)
            state = torch.zeros(scan.state_shape(1))
            for i, shift in enumerate((0, scan.shift)):
                cut = value[..., i::2, :], B, dt[..., i::2], state[:, :, i::2], scan.A_log[i::2]
                y.append(scan._scan_tubes(C, *cut, shift, frames)[0][0, 1, 0].flatten(1))
        return [(one - two).abs().amax(-1).view(4, 4) > 1e-6 for one, two in zip(y[:2], y[2:], strict=True)]

    for row, column in ((0, 0), (1, 2), (3, 1)):
        plain, shifted = heard(row, column)
        rows, columns = torch.arange(4), torch.arange(4)
        same = (rows // 2 == row // 2)[:, None] & (columns // 2 == column // 2)
        assert torch.equal(plain, same)
        half_further = ((rows - 1) % 4 // 2 == (row - 1) % 4 // 2)[:, None] & (
            (columns - 1) % 4 // 2 == (column - 1) % 4 // 2
        )
        assert torch.equal(shifted, half_further)


def test_heads_of_the_two_cuts_take_turns():
    torch.manual_seed(0)
    scan = BlockScan(8, 16, 4, grid=4, block=2, d_state=16, overlap=True)  # four heads
    places, first = patch_places(None, None, 4, 1, (1, 1)), torch.zeros(1, 1).bool()
    frames = FrameContext.of(places, 1, None, first, torch.zeros(1).long(), writes=True)
    x = torch.randn(1, 1, 1, 16, 8)
    state = scan(x, frames, torch.zeros(scan.state_shape(1))).state  # (B, tubes, H, P, N), one cut per head
    other = x.clone()
    other[..., 0, :] += 1  # a token of the first tube in one cut, and of the last in the other
    changed = (scan(other, frames, torch.zeros(scan.state_shape(1))).state != state).flatten(3).any(-1)[0]
    assert changed.tolist() == [[True, False, True, False], 4 * [False], 4 * [False], [False, True, False, True]]


def test_reads_of_scans_that_write_nothing_are_those_of_scans_that_do():
    for overlap in (False, True):
        torch.manual_seed(0)
        scan = BlockScan(8, 8, 4, grid=4, block=2, d_state=16, overlap=overlap)
        places, first = patch_places(None, None, 4, 1, (2, 1)), torch.zeros(2, 1).bool()
        frames = FrameContext.of(places, 1, None, first, torch.ones(2).long(), writes=True)
        x, state = torch.randn(2, 1, 3, 16, 8), torch.randn(scan.state_shape(2))
        written, read = scan(x, frames, state), scan(x, replace(frames, writes=False), state)
        torch.testing.assert_close(read.y, written.y)
        torch.testing.assert_close(read.state, state)
        assert not torch.equal(written.state, state)


def test_a_new_scan_writes_well_and_its_heads_forget_after_four_to_a_thousand_frames():
    for scan, written in (
        (BlockScan(8, 64, 8, grid=4, block=2, d_state=16), 4),
        (PlaceMap(8, 64, 8, patches=9, parts=1, map_size=4), 9),
    ):
        steps = scan.step_sizes(torch.zeros(scan.n_heads))
        assert (steps >= 0.1).all() and (steps <= 1).all() and steps.std() > 0.05
        lifetimes = 1 / (scan.A_log.exp() * steps * written)
        torch.testing.assert_close(lifetimes, torch.logspace(math.log10(4), 3, 8), rtol=1e-3, atol=0)
        assert (scan.D == 1).all()
        torch.testing.assert_close(scan.step_sizes(torch.full((8,), 50.0)), 50 + scan.dt_bias)


def test_a_new_map_looks_as_blurred_as_its_squares_are_wide():
    scan = PlaceMap(8, 8, 4, patches=4, parts=1, map_size=4, looks_around=True)
    assert (scan.B == 1).all() and (scan.C == 1).all()
    x, y = scan.frequencies.unbind(-1)
    torch.testing.assert_close(scan.look, ((x / 2).cos() * (y / 2).cos()).repeat(2))


def test_what_is_read_of_a_token_is_its_value_times_the_likeness_of_keys():
    torch.manual_seed(0)
    scan = BlockScan(8, 8, 4, grid=1, block=1, d_state=16)
    places, first = patch_places(None, None, 1, 1, (1, 2)), torch.zeros(1, 2).bool()
    frames = FrameContext.of(places, 1, None, first, torch.zeros(1).long(), writes=True)
    x = torch.randn(1, 2, 1, 1, 8)
    with torch.no_grad():
        scan.D.zero_()  # nothing goes past the state
        z, value, B, C, dt = (part[0, :, 0, 0] for part in scan.in_proj(x).split(scan.split, -1))
        likeness = (scan.B_norm(B[0]) * scan.C_norm(C[1])).sum() / 16
        read = likeness * scan.step_sizes(dt[0])[:, None] * scan.by_head(value[0])
        expected = scan.finished(read[None], scan.by_head(value[1:]), z[1:])
        torch.testing.assert_close(
            scan(x, frames, torch.zeros(scan.state_shape(1))).y[0, 1, 0], expected, rtol=1e-4, atol=1e-5
        )


def test_what_was_read_is_joined_gated_normed_and_projected_by_token():
    torch.manual_seed(0)
    scan = PlaceMap(8, 6, 3, patches=8, parts=2, map_size=4)
    y, value, z = torch.randn(5, 8, 2, 3), torch.randn(5, 8, 2, 3), torch.randn(5, 8, 6)
    with torch.no_grad():
        scan.D.copy_(torch.tensor([2.0, -1.0]))
        scan.norm.weight.uniform_(0.5, 1.5)
        gated = (y + value * torch.tensor([[2.0], [-1.0]])).flatten(2) * z * z.sigmoid()
        normed = scan.norm.weight * gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        tokens = torch.stack([torch.cat([normed[:, 2 * i], normed[:, 2 * i + 1]], -1) for i in range(4)], 1)
        torch.testing.assert_close(scan.finished(y, value, z), scan.out_proj(tokens), rtol=1e-5, atol=1e-5)
