import torch

from world_models.geometry import surrounding_places, token_places
from world_models.layers import BlockScan, Frames


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
