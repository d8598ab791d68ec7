import torch

from world_models.geometry import surrounding_places, token_places
from world_models.layers import BlockScan, Frames
from world_models.state_size import random_channels


def test_a_layer_that_looks_around_finds_what_it_wrote_where_it_wrote_it():
    torch.manual_seed(0)
    scan = BlockScan(8, 8, 4, grid=2, block=2, d_state=256, map_size=16, looks_around=True)
    pose = torch.tensor([[[3, -2, 1], [3, -2, 1]]])
    around = surrounding_places(pose, 16)  # (1, 2, 64, 2)
    square = 37
    places = token_places(None, None, 2, 1, (1, 2)) - 0.5 + around[:, :1, square : square + 1]  # fills one square
    frames = Frames.of(places, around, torch.zeros(1, 2).bool(), torch.zeros(1).long(), writes=True)
    _, _, remembered = scan(torch.randn(1, 2, 1, 4, 8), frames, torch.zeros(scan.state_shape(1, 4)))
    strength = remembered.norm(dim=-1)[0]  # (T, 64)
    assert not strength[0].any()  # nothing was written before the first frame
    assert strength[1].argmax() == square
    assert strength[1, square] > 3 * strength[1].topk(10).values[-1]


def test_layers_that_do_not_look_around_return_nothing_remembered():
    scan = BlockScan(8, 8, 4, grid=2, block=2, d_state=16, map_size=16)
    places = token_places(None, None, 2, 1, (1, 1))
    frames = Frames.of(places, places, torch.zeros(1, 1).bool(), torch.zeros(1).long(), writes=True)
    _, _, remembered = scan(torch.randn(1, 1, 1, 4, 8), frames, torch.zeros(scan.state_shape(1, 4)))
    assert remembered is None


def recall_of_a_trained_scan(truncation):
    """The error with which a scan tells what it saw a frame ago, reading m = 0 to 8 channels; 1 is knowing nothing."""
    torch.manual_seed(0)
    scan = BlockScan(8, 8, 8, grid=2, block=2, d_state=16, map_size=16)
    places, first = token_places(None, None, 2, 1, (32, 2)), torch.zeros(32, 2).bool()
    scale = 0.6 ** torch.arange(8.0)  # some of what there is to remember is worth more than the rest
    mixed = torch.linalg.qr(torch.randn(8, 8)).Q

    def error(channels):
        seen = torch.randn(32, 1, 1, 4, 8) * scale @ mixed
        frames = Frames(places, None, first, first.long(), torch.zeros(32).long(), True, channels)
        x = torch.cat([seen, torch.ones_like(seen)], 1)
        y, *_ = scan(x, frames, torch.zeros(scan.state_shape(32, 4)))
        return (y[:, 1] - seen[:, 0]).square().mean() / scale.square().mean()

    optimizer = torch.optim.Adam(scan.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        error(random_channels(32, 1, 8, truncation)[:, 0]).backward()
        optimizer.step()
    with torch.no_grad():
        return [float(error(torch.full((32,), m))) for m in range(9)]


def test_training_with_truncation_puts_the_channels_in_order_of_importance():
    plain, ordered = recall_of_a_trained_scan(0.0), recall_of_a_trained_scan(1.0)
    assert ordered[1] < 0.6 * plain[1] and ordered[2] < 0.5 * plain[2] and ordered[3] < 0.15 < 0.3 < plain[3]
    assert ordered[8] < 0.1 and plain[8] < 0.1 < 0.9 < ordered[0]
