import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from lssvwm_models.memory.first_person.keyframes import Keyframes
from lssvwm_models.memory.state import CompactState, WorldModelState
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import NetworkConfig, preset
from lssvwm_models.model.world_model import WorldModel

TOLERANCES = st.floats(0, 1)
SEEDS = st.integers(0, 10**6)


def make(batch=3, seed=0, attention=False):
    """Random worlds; the second layer is one of attention to two frames, if asked for."""
    g = torch.Generator().manual_seed(seed)
    fading = 0.4 ** torch.arange(3.0).view(3, 1)
    second = (batch, 2, 2, 2, 4, 3) if attention else (batch, 1, 2, 3, 8)
    state = WorldModelState(
        ssm=(torch.randn(batch, 4, 2, 3, 5, generator=g) * fading, torch.randn(second, generator=g)),
        kv=tuple(torch.randn(batch, 2, 4, 2, 2, 3, generator=g) for _ in range(2)),
        latents=torch.randn(batch, 4, 6, generator=g),
        feats=torch.randn(batch, 7, generator=g),
        pose=torch.randint(-9, 9, (batch, 3), generator=g) * torch.tensor([1, 1, 0]),
        age=torch.randint(0, 9, (batch,), generator=g),
        keyframes=Keyframes(
            torch.randint(-127, 128, (batch, 5, 4, 6), generator=g).to(torch.int8),
            torch.randn(batch, 5, 3, generator=g),
            torch.randint(-1, 9, (batch, 5), generator=g),
        ),
        voxels=torch.rand(batch, 9, 24, generator=g),
    )
    state.ssm[0][0, 1] = 0  # a tube that has seen nothing
    return state


def equal(a, b):
    mine, other = a.tensors(), b.tensors()
    return mine.keys() == other.keys() and all(torch.equal(t, other[k]) for k, t in mine.items())


def test_saving_and_loading_is_the_identity(tmp_path):
    state = make()
    state.save(tmp_path / "s.safetensors", {"note": "x"})
    loaded, metadata = WorldModelState.load(tmp_path / "s.safetensors")
    assert equal(loaded, state) and metadata == {"note": "x"}
    assert [f.name for f in tmp_path.iterdir()] == ["s.safetensors"]


def test_a_damaged_file_is_refused_by_name(tmp_path):
    make().save(path := tmp_path / "s.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"s.safetensors is not a saved world model state"):
        WorldModelState.load(path)


@pytest.mark.parametrize("compact", [False, True])
def test_every_flipped_bit_is_refused_or_of_no_account(tmp_path, compact):
    state = make()
    (state.truncated(2) if compact else state).save(path := tmp_path / "s.safetensors", {"keys": "[1, 2, 3]"})
    kept, _ = WorldModelState.load(path)
    data = path.read_bytes()
    (state.truncated(2) if compact else state).save(path, {"keys": "[1, 2, 3]"})
    assert path.read_bytes() == data
    for bit in np.random.default_rng(0).choice(8 * len(data), 200, replace=False).tolist():
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            loaded, metadata = WorldModelState.load(path)
        except ValueError as error:
            assert "s.safetensors is not a saved world model state" in str(error)
        else:
            assert equal(loaded, kept) and metadata["keys"] == "[1, 2, 3]"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("age", torch.tensor([1, -1]), "age is torch.int64 from -1 to 1; expected int64, from 0 to"),
        ("age", torch.tensor([1, 2**63 - 1]), "age is torch.int64 from 1 to 9223372036854775807"),
        ("age", torch.tensor([1.0, 1.0]), "age is torch.float32"),
        ("pose", torch.tensor([[0, 0, 0], [0, 0, 4]]), "expected x and y of up to 4,194,304, and a heading"),
        ("pose", torch.tensor([[0, 0, 0], [0, 0, -1]]), "heading from 0 to 3"),
        ("pose", torch.tensor([[0, 0, 0], [2**22 + 1, 0, 0]]), "expected x and y of up to"),
        ("pose", torch.tensor([[0, 0, 0], [0, -(2**63), 0]]), "expected x and y of up to"),
        ("pose", torch.zeros(2, 3), "pose is"),
        ("feats", torch.full((2, 7), torch.nan), "not finite"),
        ("ssm.0", torch.full((2, 4, 2, 3, 5), torch.inf), "not finite"),
        ("keyframes.eyes", torch.full((2, 5, 3), -5e6), "keyframes.eyes has 5000000.0; expected numbers of up to"),
        ("keyframes.numbers", torch.full((2, 5), -2), "keyframes.numbers is from -2 to -2; expected -1 to"),
        ("voxels", torch.full((2, 9, 24), -0.1), "voxels has counts below 0"),
        ("keyframes.numbers", torch.full((2, 5), 2**62), "keyframes.numbers is from 4611686018427387904"),
    ],
)
def test_files_without_a_sum_are_read_and_what_cannot_be_in_them_is_refused(tmp_path, name, value, message):
    state = make(2)
    save_file(state.tensors(), path := tmp_path / "s.safetensors")
    assert equal(WorldModelState.load(path)[0], state)
    save_file(state.tensors() | {name: value}, path)
    with pytest.raises(ValueError, match=f"s.safetensors is not a saved world model state .*{message}"):
        WorldModelState.load(path)


def test_forks_are_side_by_side_and_independent():
    state = make(2)
    forks = state.repeat_interleave(3)
    assert forks.batch_size == 6 and equal(forks[[0, 3]], state) and equal(forks[[2, 5]], state)
    before = state.clone()
    forks.latents.zero_()
    assert equal(state, before)


def test_where_picks_worlds():
    a, b = make(3, 0), make(3, 1)
    mixed = a.where(torch.tensor([True, False, True]), b)
    assert equal(mixed[[0, 2]], a[[0, 2]]) and equal(mixed[[1]], b[[1]])


def test_cat_undoes_indexing():
    state = make(3)
    assert equal(WorldModelState.cat([state[:1], state[1:]]), state)


def test_forks_of_one_world_take_no_memory_and_are_values_like_others(tmp_path):
    state = make(1)
    forks = state.repeat_interleave(5)
    assert equal(forks, WorldModelState.cat([state] * 5)) and forks.latents.data_ptr() == state.latents.data_ptr()
    changed = forks.where(torch.tensor([True, False, True, True, True]), make(5, seed=1))
    assert equal(changed[[0]], state) and equal(forks[[1]], state) and not equal(changed[[1]], state)
    forks.save(tmp_path / "s.safetensors")
    assert equal(WorldModelState.load(tmp_path / "s.safetensors")[0], forks)


def test_nbytes_counts_every_tensor():
    state = make(1)
    assert state.nbytes == 4 * (4 * 30 + 48 + 2 * 96 + 24 + 7) + 8 * 4 + 5 * (24 + 4 * 3 + 8) + 4 * 9 * 24
    assert make(3).nbytes == 3 * state.nbytes


# A compact state is a state without what it does not need.


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, attention=st.booleans())
def test_without_tolerance_nothing_is_lost(seed, attention):
    state = make(seed=seed, attention=attention)
    compact = state.compact(0.0)
    assert equal(compact.expand(), state)
    assert not compact.held[0][0, 1].any() and compact.held[0].sum() == 11 * 3


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, tolerances=st.lists(TOLERANCES, min_size=2, max_size=2))
def test_bytes_fall_with_the_tolerance(seed, tolerances):
    state, (low, high) = make(seed=seed), sorted(tolerances)
    assert state.compact(high).nbytes <= state.compact(low).nbytes <= state.nbytes + 3 * 5 * 3
    assert state.compact(1.0).nbytes < state.compact(0.0).nbytes


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, tolerance=TOLERANCES)
def test_compacting_again_changes_nothing_and_what_is_kept_is_as_it_was(seed, tolerance):
    state = make(seed=seed)
    compact = state.compact(tolerance)
    whole = compact.expand()
    assert equal(whole.compact(0.0).expand(), whole)
    for before, after in zip(state.ssm, whole.ssm, strict=True):
        assert torch.equal(after, torch.where(after != 0, before, 0.0))
        assert ((before - after).square().sum((1, 2, 3, 4)) <= tolerance * before.square().sum((1, 2, 3, 4))).all()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, tolerance=TOLERANCES, attention=st.booleans(), n=st.integers(1, 3))
def test_worlds_are_picked_forked_and_joined_as_those_of_whole_states(seed, tolerance, attention, n):
    state = make(seed=seed, attention=attention)
    compact = state.compact(tolerance)
    whole = compact.expand()
    for ids in ([2, 0], slice(1, None), torch.tensor([1, 1]), torch.tensor([True, False, True]), [-1]):
        assert equal(compact[ids].expand(), whole[ids])
        assert equal(compact[ids], state[ids].compact(tolerance))  # a world alone is what it is in a batch
    assert equal(compact.repeat_interleave(n).expand(), whole.repeat_interleave(n))
    assert compact.repeat_interleave(n).nbytes == n * compact.nbytes
    assert equal(CompactState.cat([compact[:1], compact[1:]]), compact)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, tolerance=TOLERANCES, attention=st.booleans())
def test_saving_and_loading_a_compact_state_is_the_identity(seed, tolerance, attention, tmp_path_factory):
    path = tmp_path_factory.mktemp("states") / "s.safetensors"
    compact = make(seed=seed, attention=attention).compact(tolerance)
    compact.save(path, {"note": "x"})
    loaded, metadata = CompactState.load(path)
    assert equal(loaded, compact) and metadata == {"note": "x"}
    state, metadata = WorldModelState.load(path)
    assert equal(state, compact.expand()) and metadata == {"note": "x"}
    assert [f.name for f in path.parent.iterdir()] == ["s.safetensors"]


def test_files_shrink(tmp_path):
    state = make()
    state.save(tmp_path / "whole")
    state.truncated(1).save(tmp_path / "compact")
    whole, compact = ((tmp_path / name).stat().st_size for name in ("whole", "compact"))
    assert compact < whole - 3 * (4 * 2 * 2 * 5 + 2 * 2 * 8) * 4 + 300  # two of three channels, less a longer header


def test_files_of_something_else_are_refused_by_name(tmp_path):
    make().save(path := tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match=r"s.safetensors holds a whole state, .* WorldModelState.load"):
        CompactState.load(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"s.safetensors is not a saved world model state"):
        CompactState.load(path)


def test_truncated_states_keep_the_same_number_of_channels_in_every_tube():
    state = make()
    compact = state.truncated(2)
    assert [h.sum(-1).unique().tolist() for h in compact.held] == [[2], [2]]
    assert torch.equal(compact.expand().ssm[0][:, :, :, :2], state.ssm[0][:, :, :, :2])
    assert not compact.expand().ssm[0][:, :, :, 2:].any() and equal(state.truncated(99).expand(), state)
    with pytest.raises(ValueError, match="channels=-1 must be at least 0"):
        state.truncated(-1)


def test_attention_is_left_whole():
    state = make(attention=True)
    for compact in (state.compact(1.0), state.truncated(0)):
        assert torch.equal(compact.expand().ssm[1], state.ssm[1]) and len(compact.kept[0]) < len(state.ssm[0]) * 4 * 3


def test_a_compact_state_shares_no_memory_with_what_expands_from_it():
    compact = make().compact(0.1)
    before = compact.map(torch.clone)
    compact.expand().ssm[0].zero_()
    assert equal(compact, before) and equal(compact.to("cpu"), before)


# What reads see in training is what is left of a state that was truncated.

SIZES = {"d_model": 32, "block_sizes": (4, 2), "map_layers": (0,), "window": 2, "state_per_token": 1}
SIZES |= {"d_inner": 32, "head_dim": 16, "headdim": 16, "map_size": 8}
CHANGES = {"map and tubes": {}, "overlap": {"block_sizes": (4, 2, 2), "overlap": True}}


def model_of(changes):
    torch.manual_seed(0)
    network = NetworkConfig(**SIZES | changes)
    model = WorldModel(preset("debug", ActionSpec("discrete", 5), block_frames=4, network=network)).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("changes", CHANGES.values(), ids=list(CHANGES))
@torch.no_grad()
def test_reading_few_channels_is_reading_a_memory_truncated_before_every_frame(changes):
    model, few = model_of(changes), 3
    g = torch.Generator().manual_seed(0)
    obs = torch.rand(2, 6, 3, 64, 64, generator=g) * 2 - 1
    act, is_first = torch.randint(0, 5, (2, 6), generator=g), torch.zeros(2, 6, dtype=torch.bool)
    is_first[:, 0] = is_first[1, 3] = True
    latents = model.tokenizer.encode(obs)
    channels = torch.full((2, len(model.network.blocks)), few)
    start = model.initial_state(2)
    expected, tokens, _, around, _ = model.commit(start, latents, act, is_first, None, channels=channels)
    _, all_tokens, *_ = model.commit(start, latents, act, is_first, None)
    assert not torch.allclose(all_tokens, tokens, atol=1e-3)
    state = start
    for t in range(6):
        now = latents[:, t : t + 1], act[:, t : t + 1], is_first[:, t : t + 1]
        state, token, _, seen, _ = model.commit(state.truncated(few).expand(), *now, None)
        torch.testing.assert_close(token, tokens[:, t : t + 1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(seen, around[:, t : t + 1], rtol=1e-4, atol=1e-4)
    # Channels that are kept have never heard of those that are not.
    for mine, other in zip(state.ssm, expected.ssm, strict=True):
        torch.testing.assert_close(mine[:, :, :, :few], other[:, :, :, :few], rtol=1e-4, atol=1e-4)


def test_reads_that_write_nothing_see_as_many_channels():
    model = model_of({})
    state = model.initial_state(2)
    g = torch.Generator().manual_seed(0)
    state = WorldModelState.from_tensors(
        {k: torch.randn(t.shape, generator=g) if t.is_floating_point() else t for k, t in state.tensors().items()}
    )
    x, tau = torch.randn(2, 1, 1, 64, model.config.latent_dim, generator=g), torch.zeros(2, 1, 1)
    first, places = torch.zeros(2, 1).bool(), model.places(None, (2, 1))
    asked = x, tau, torch.zeros(2, 1).long(), model.network.context(places, None, first, state.age, writes=False)
    few = torch.tensor([[3, 3], [3, 3]])
    expected = model.network(*asked, state.truncated(3).expand().ssm, state.kv).tokens
    actual = model.network(*asked, state.ssm, state.kv, few).tokens
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
