from dataclasses import replace

import pytest
import torch

from lssvwm_models.memory.geometry import Rotation
from lssvwm_models.memory.scans import BlockScan, PlaceMap
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import PRESETS, NetworkConfig
from lssvwm_models.model.mixers import FrameLocalAttention, LocalConvolution
from lssvwm_models.model.network import Network, _fourier
from tests.lssvwm_models.random_worlds import MODEL, sequence

ACTION = ActionSpec("discrete", 3)


def test_noise_levels_are_told_apart_by_waves_of_one_to_two_hundred_radians():
    golden = torch.tensor(
        [
            [0.0000, 0.0000, 0.0000, 1.0000, 1.0000, 1.0000],
            [0.4794, 0.5590, -0.5064, 0.8776, 0.8292, 0.8623],
            [0.8415, 0.9270, -0.8733, 0.5403, 0.3750, 0.4872],
        ]
    )
    waves = _fourier(torch.tensor([0.0, 0.5, 1.0]))
    assert waves.shape == (3, 64)
    torch.testing.assert_close(waves[:, [0, 1, 31, 32, 33, 63]], golden, rtol=0, atol=1e-4)


def test_a_new_network_says_nothing_and_its_gates_are_open():
    torch.manual_seed(0)
    network = Network(PRESETS["debug"], 8, 5, ACTION)
    assert not network.denoised(torch.randn(1, 16, 32)).any()
    for block in network.blocks:
        gates = block.modulation.bias.view(9, -1)
        assert (gates[2::3] == 1).all() and not gates[0::3].any() and not gates[1::3].any()
        assert not block.modulation.weight.any()
    assert network.position.std().item() == pytest.approx(0.5, rel=0.1)


def test_layers_are_what_the_config_says():
    config = NetworkConfig(d_model=32, block_sizes=(4, 2, 4, 1), map_layers=(0, 2), d_inner=32, headdim=16, head_dim=16)
    network = Network(config, 8, 5, ACTION)
    scans = [block.scan for block in network.blocks]
    assert [type(scan) for scan in scans] == [PlaceMap, BlockScan, PlaceMap, BlockScan]
    assert [scan.look is not None for scan in scans[::2]] == [False, True]  # the last map looks around
    assert [scan.d_state for scan in scans] == [256, 16, 256, 4]
    assert [scan.tubes for scan in scans] == [1, 4, 1, 16]
    assert network.surroundings == 64 and network.tokens == 16 and network.parts == 4
    assert all(isinstance(block.attention, LocalConvolution) for block in network.blocks)
    attention = Network(replace(config, mixing="attention", map_layers=()), 8, 5, ACTION)
    assert all(isinstance(block.attention, FrameLocalAttention) for block in attention.blocks)
    assert attention.surroundings == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merge": 3}, "merge is 3, which does not divide the grid of 8 x 8 patches"),
        ({"block_sizes": (4, 3)}, "block_sizes has 3, which does not divide the grid of 4 x 4 tokens"),
        ({"map_layers": (1,)}, r"map_layers=\(1,\) must be layers whose tube is the whole frame"),
        ({"map_layers": (2,)}, r"map_layers=\(2,\) must be layers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Network(replace(PRESETS["debug"], **changes), 8, 5, ACTION)


def test_a_pass_that_is_given_what_another_read_is_the_same_pass():
    obs, act, is_first = sequence(0)
    state, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    places = MODEL.places(torch.zeros(2, 1, 3, dtype=torch.long), (2, 1))
    with torch.no_grad():
        frames = MODEL.network.context(places, None, torch.zeros(2, 1).bool(), state.age, writes=False)
        inputs = torch.randn(2, 1, 3, 64, MODEL.config.latent_dim), torch.rand(2, 1, 3), act[:, :1], frames
        first = MODEL.network(*inputs, state.ssm, state.kv)
        again = MODEL.network(*inputs, state.ssm, state.kv, reads=first.reads)
        torch.testing.assert_close(again.tokens, first.tokens)
        nothing = tuple(None if r is None else torch.zeros_like(r) for r in first.reads)
        blind = MODEL.network(*inputs, state.ssm, state.kv, reads=nothing)
    assert [r is None for r in first.reads] == [False, True]  # scans by content ask anew at every noise level
    assert not torch.allclose(blind.tokens, first.tokens)
    assert first.around is None


def test_what_is_written_is_not_read_ahead():
    obs, act, is_first = sequence(0)
    state = MODEL.initial_state(2)
    places = MODEL.places(torch.zeros(*is_first.shape, 3, dtype=torch.long), is_first.shape)
    frames = MODEL.network.context(places, None, is_first, state.age, writes=True)
    streams = MODEL.tokenizer.encode(obs).unsqueeze(2)
    output = MODEL.network(streams, torch.ones(*is_first.shape, 1), act, frames, state.ssm, state.kv)
    assert output.reads == (None, None)


def test_places_are_looked_up_without_gradients_and_computed_with():
    places = MODEL.places(torch.zeros(1, 1, 3, dtype=torch.long), (1, 1))
    arguments = places, places, torch.zeros(1, 1).bool(), torch.zeros(1).long(), True
    assert isinstance(MODEL.network.context(*arguments).patch_codes, Rotation)
    with torch.no_grad():
        frames = MODEL.network.context(*arguments)
        assert isinstance(frames.patch_codes, torch.Tensor) and isinstance(frames.around_codes, torch.Tensor)
        askew = MODEL.network.context(places + 0.3, *arguments[1:])
        assert isinstance(askew.patch_codes, Rotation)
