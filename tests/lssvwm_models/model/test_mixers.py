"""The laws of memory hold whatever carries it, and whatever mixes the tokens of a frame."""

import pytest
import torch
from torch import nn

from lssvwm_models.data.batch import Batch
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import NetworkConfig, preset
from lssvwm_models.model.mixers import CausalAttention, LocalConvolution
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.losses import world_model_loss

VIEW = EgoView(cell=8, row=6, col=3, motions=((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
SIZES = {"d_model": 32, "block_sizes": (4, 2), "map_layers": (0,), "window": 2, "state_per_token": 1}
SIZES |= {"d_inner": 32, "head_dim": 16, "headdim": 16, "map_size": 8}
CHANGES = {
    "tokens of one patch": {"merge": 1, "block_sizes": (8, 2)},
    "overlap": {"overlap": True},
    "convolution": {"mixing": "convolution"},
    "attention inside the frame": {"mixing": "attention"},
    "attention to the last 3": {"memory": "attention", "memory_window": 3},
    "attention to all": {"memory": "attention"},
}


def make(view=VIEW, **changes):
    torch.manual_seed(0)
    network = NetworkConfig(**SIZES | changes)
    model = WorldModel(preset("debug", ActionSpec("discrete", 5), view=view, block_frames=4, network=network)).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module", params=CHANGES, ids=list(CHANGES))
def model(request):
    return make(**CHANGES[request.param])


def sequence(seed, T=11, batch=2, resets=True):
    g = torch.Generator().manual_seed(seed)
    obs = torch.rand(batch, T, 3, 64, 64, generator=g) * 2 - 1
    is_first = torch.rand(batch, T, generator=g) < 0.15 * resets
    is_first[:, 0] = True
    return obs, torch.randint(0, 5, (batch, T), generator=g), is_first


def assert_same(a, b):
    for name, tensor in a.tensors().items():
        torch.testing.assert_close(tensor, b.tensors()[name], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("cuts", [range(1, 11), [3, 5]], ids=["step by step", "in chunks"])
def test_one_scan_equals_any_chunking(model, cuts):
    obs, act, is_first = sequence(3)
    whole, feats = model.observe(model.initial_state(2), obs, act, is_first)
    state, parts = model.initial_state(2), []
    for start, stop in zip([0, *cuts], [*cuts, 11], strict=True):
        state, f = model.observe(state, obs[:, start:stop], act[:, start:stop], is_first[:, start:stop])
        parts.append(f)
    torch.testing.assert_close(torch.cat(parts, 1), feats, rtol=1e-5, atol=1e-5)
    assert_same(state, whole)


def test_nothing_leaks_over_a_reset(model):
    obs, act, is_first = sequence(0)
    is_first[:, 6] = True
    other = obs.clone()
    other[:, :6] = -other[:, :6]
    keys = torch.tensor([1, 2])
    frames = []
    for o in (obs, other):
        state, _ = model.observe(model.initial_state(2), o, act, is_first)
        frames.append(model.imagine(state, act[:, 0], keys)[0].obs)
    torch.testing.assert_close(*frames)


@pytest.mark.parametrize("name", CHANGES)
def test_the_past_is_remembered_as_far_as_it_reaches(name):
    model = make(view=None, **CHANGES[name])  # dead reckoning would be a memory of its own
    obs, act, is_first = sequence(0, resets=False)
    changed = obs.clone()
    changed[:, 0] = -changed[:, 0]
    keys = torch.tensor([1, 2])
    frames = []
    for o in (obs, changed):
        state, _ = model.observe(model.initial_state(2), o, act, is_first)
        frames.append(model.imagine(state, act[:, 0], keys)[0].obs)
    difference = (frames[0] - frames[1]).abs().max()
    # In each of two layers a frame hears of what is three frames older, and then of what is two frames older.
    assert difference < 1e-6 if name == "attention to the last 3" else difference > 1e-4


def test_worlds_in_a_batch_are_those_dreamt_alone(model):
    obs, act, is_first = sequence(3)
    keys = torch.tensor([10, 20])
    together, _ = model.observe(model.initial_state(2), obs, act, is_first)
    expected, _ = model.imagine(together, act[:, 0], keys)
    for b in range(2):
        one = slice(b, b + 1)
        alone, _ = model.observe(model.initial_state(1), obs[one], act[one], is_first[one])
        torch.testing.assert_close(
            model.imagine(alone, act[one, 0], keys[one])[0].obs[0], expected.obs[b], rtol=1e-4, atol=1e-4
        )


def test_only_full_attention_grows_with_history(model):
    sizes = []
    for T in (1, 9):
        state, _ = model.observe(model.initial_state(2), *sequence(0, T))
        sizes.append(state.nbytes)
    grows = model.config.network.memory == "attention" and model.config.network.memory_window is None
    assert (sizes[1] > sizes[0]) == grows


def test_every_parameter_learns(model):
    obs, act, is_first = sequence(0, T=6)
    pose = torch.zeros(2, 6, 3, dtype=torch.long)
    loss, _ = world_model_loss(model, Batch(obs, act, torch.rand(2, 6), is_first, is_first, pose), torch.Generator())
    loss.backward()
    learnt = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    aside = {n for n, _ in model.named_parameters() if n.startswith(("odometry", "features.squeeze_around"))}
    unused = {n for n, _ in model.named_parameters()} - learnt - aside
    assert not {n for n in unused if ".scan." in n or ".attention." in n}
    model.zero_grad()


@pytest.mark.parametrize("window", [0, 3])
def test_a_new_convolution_keeps_the_size_of_what_it_mixes(window):
    torch.manual_seed(0)
    convolution = LocalConvolution(64, grid=4, window=window)
    assert convolution.kernels.shape == (window + 1, 64, 1, 3, 3)
    assert convolution.kernels.std().item() == pytest.approx(1 / (3 * (window + 1) ** 0.5), rel=0.1)


def test_a_new_attention_over_earlier_frames_forgets_slowly_with_some_heads():
    attention = CausalAttention(32, 8, tokens=4, window=None, map_size=8)
    torch.testing.assert_close(attention.log_slope.exp(), torch.linspace(0.5, 0.001, 4))
    assert attention.nothing.shape == (2, 4, 8) and attention.nothing.std().item() < 0.2
    assert (attention.q_bias[::2] == 1).all() and not attention.q_bias[1::2].any()
    assert not attention.frequencies[1::2].any() and attention.frequencies[::2].any()


def test_attention_over_earlier_frames_by_hand():
    torch.manual_seed(0)
    attention = CausalAttention(4, 2, tokens=3, window=None, map_size=8)  # two heads
    q = torch.cat([torch.randn(2, 1, 2, 3, 2), attention._slope(torch.zeros(2, 1, 3, 2, 2)).transpose(2, 3)], -1)
    seen, past = torch.randn(2, 4, 2, 2, 3, 2), torch.tensor([4, 1])  # four frames, of which the second world has one
    found = attention._attend(q, seen, past)
    slope = attention.log_slope.exp()
    for world, head, token in ((0, 0, 0), (0, 1, 2), (1, 1, 1)):
        frames = range(4 - int(past[world]), 4)
        keys = [attention.nothing[0, head]] + [seen[world, f, 0, head, i] for f in frames for i in range(3)]
        values = [attention.nothing[1, head]] + [seen[world, f, 1, head, i] for f in frames for i in range(3)]
        ages = torch.tensor([0] + [4 - f for f in frames for _ in range(3)])
        scores = torch.stack(keys) @ q[world, 0, head, token, :2] - slope[head] * ages
        expected = scores.softmax(0) @ torch.stack(values)
        torch.testing.assert_close(found[world, head, token], expected, rtol=1e-4, atol=1e-5)


def test_codes_of_places_are_no_weights(model):
    assert not [name for name in model.state_dict() if "frequencies" in name or "motions" in name or "bins" in name]
