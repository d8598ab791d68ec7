from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_models.data.batch import Batch
from lssvwm_models.execution.noise import fold
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import NetworkConfig, WorldModelConfig, preset
from lssvwm_models.training.losses import world_model_loss
from tests.lssvwm_models.random_worlds import DISCRETE, MODEL, make, sequence


def assert_same(a, b, tolerance=1e-5):
    for name, tensor in a.tensors().items():
        torch.testing.assert_close(
            tensor, b.tensors()[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 10), max_size=10))
def test_one_scan_equals_any_chunking_and_step_by_step(seed, cuts):
    obs, act, is_first = sequence(seed)
    whole, feats = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    state, parts, cuts = MODEL.initial_state(2), [], sorted(set(cuts))
    for start, stop in zip([0, *cuts], [*cuts, 11], strict=True):
        state, f = MODEL.observe(state, obs[:, start:stop], act[:, start:stop], is_first[:, start:stop])
        parts.append(f)
    torch.testing.assert_close(torch.cat(parts, 1), feats, rtol=1e-5, atol=1e-5)
    assert_same(state, whole)


def test_a_memory_that_fades_does_so_in_any_chunking_and_only_when_it_is_old():
    config = preset("debug", DISCRETE).network
    fading = make(network=replace(config, memory_frames=6))
    obs, act, is_first = sequence(0)
    is_first[:, 1:] = False
    whole, _ = fading.observe(fading.initial_state(2), obs, act, is_first)
    state = fading.initial_state(2)
    for t in range(11):
        state, _ = fading.observe(state, obs[:, t : t + 1], act[:, t : t + 1], is_first[:, t : t + 1])
        if t in (5, 6):
            same, _ = MODEL.observe(MODEL.initial_state(2), obs[:, : t + 1], act[:, : t + 1], is_first[:, : t + 1])
            assert all(torch.allclose(a, b, atol=1e-5) == (t == 5) for a, b in zip(state.ssm, same.ssm, strict=True))
    assert_same(state, whole)


def test_without_an_end_a_memory_that_fades_stays_as_large_as_it_was():
    network = preset("debug", DISCRETE).network
    sizes = {}
    for frames in (None, 8):
        model = make(network=replace(network, memory_frames=frames))
        for block in model.network.blocks:
            block.scan.A_log.data.fill_(-20.0)  # forgets nothing by itself
        obs, act, is_first = (x[:1, :1].expand(1, 120, *x.shape[2:]) for x in sequence(0))
        is_first = is_first & (torch.arange(120) == 0)
        early, _ = model.observe(model.initial_state(1), obs[:, :8], act[:, :8], is_first[:, :8])
        late, _ = model.observe(model.initial_state(1), obs, act, is_first)
        sizes[frames] = [float(b.norm() / a.norm()) for a, b in zip(early.ssm, late.ssm, strict=True)]
    assert all(growth > 10 for growth in sizes[None])
    assert all(0.5 < growth < 1.5 for growth in sizes[8])


def test_dreamt_frames_are_of_the_codebook_and_so_is_what_the_memory_is_told():
    model = make()
    model.set_codebook(torch.rand(3, 3, 8, 8) * 2 - 1)
    codes = {tuple(code) for code in model.tokenizer.codebook.tolist()}
    assert model.config.codebook_size == len(codes) == 3
    obs, act, is_first = sequence(0)
    state, _ = model.observe(model.initial_state(2), obs, act, is_first)
    assert torch.equal(state.latents, model.tokenizer.encode(obs[:, -1]))  # real frames are what they are
    frame, after = model.imagine(state, act[:, 0], torch.tensor([1, 2]))
    shown = {tuple(patch) for patch in frame.latents.flatten(0, 1).tolist()}
    assert shown <= codes and len(shown) > 1
    assert torch.equal(frame.obs, model.tokenizer.decode(frame.latents))
    follows = torch.zeros(2, 1, dtype=torch.bool)
    committed = model.commit(state, frame.latents[:, None], act[:, :1], follows, after.pose[:, None])
    assert_same(committed.state, after)


def test_nothing_leaks_over_a_reset():
    obs, act, is_first = sequence(0)
    is_first[:, 6] = True
    other, other_act, _ = sequence(1)
    other[:, 6:], other_act[:, 7:] = obs[:, 6:], act[:, 7:]  # the action that "led to" a first frame does not count
    state, feats = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    state_other, feats_other = MODEL.observe(MODEL.initial_state(2), other, other_act, is_first)
    torch.testing.assert_close(feats[:, 6:], feats_other[:, 6:])
    assert_same(state, state_other)


def test_the_past_is_remembered():
    obs, act, is_first = sequence(0)
    is_first[:, 1:] = False
    changed = obs.clone()
    changed[:, 0] = -changed[:, 0]
    state, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    state_changed, _ = MODEL.observe(MODEL.initial_state(2), changed, act, is_first)
    keys = torch.tensor([1, 2])
    frame, frame_changed = (MODEL.imagine(s, act[:, 0], keys)[0].obs for s in (state, state_changed))
    assert (frame - frame_changed).abs().max() > 1e-4


def test_worlds_in_a_batch_are_those_dreamt_alone():
    obs, act, is_first = sequence(3)
    keys = torch.tensor([10, 20])
    together, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    for b in range(2):
        one = slice(b, b + 1)
        alone, _ = MODEL.observe(MODEL.initial_state(1), obs[one], act[one], is_first[one])
        joint = together
        for t in range(3):
            expected, joint = MODEL.imagine(joint, act[:, t], keys, steps=2)
            actual, alone = MODEL.imagine(alone, act[one, t], keys[one], steps=2)
            torch.testing.assert_close(actual.obs[0], expected.obs[b], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(actual.rew[0], expected.rew[b], rtol=1e-4, atol=1e-4)


def test_imagining_leaves_the_state_as_it_was_and_can_be_repeated():
    obs, act, is_first = sequence(4)
    state, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    before = state.clone()
    keys = torch.tensor([1, 2])
    first, _ = MODEL.imagine(state, act[:, 0], keys)
    second, _ = MODEL.imagine(state, act[:, 0], keys)
    assert torch.equal(first.obs, second.obs)
    for name, tensor in before.tensors().items():
        assert torch.equal(tensor, state.tensors()[name]), name


def test_an_imagined_frame_is_committed_as_if_it_had_been_observed():
    model = make()
    model.tokenizer.encoder *= 100  # frames of little contrast: nothing is clipped to [-1, 1]
    model.tokenizer.decoder /= 100
    obs, act, is_first = sequence(5)
    state, _ = model.observe(model.initial_state(2), obs / 100, act, is_first)
    prediction, dreamt = model.imagine(state, act[:, 0], torch.tensor([1, 2]))
    assert 0.01 < prediction.obs.abs().max() < 1
    watched, feats = model.observe(state, prediction.obs[:, None], act[:, :1], torch.zeros(2, 1, dtype=torch.bool))
    assert_same(dreamt, watched, 1e-4)
    torch.testing.assert_close(feats[:, 0], prediction.feats, rtol=1e-4, atol=1e-4)


def test_state_bytes_do_not_grow_with_history():
    sizes = set()
    for T in (1, 3, 30):
        state, _ = MODEL.observe(MODEL.initial_state(2), *sequence(0, T))
        sizes.add(state.nbytes)
    assert sizes == {MODEL.initial_state(2).nbytes}


@pytest.mark.parametrize(
    "model",
    [
        make(ActionSpec("box", 2), view=None),
        make(view=None, frame_size=48, patch=6),
        make(view=None, frame_size=32, patch=4, channels=1, latent_dim=16),
        make(frame_size=64, patch=16, network=NetworkConfig(32, 1, (4, 2), (0,), 2, 1, 32, 16, 16)),
    ],
    ids=["box actions", "48 px", "grey 32 px", "patches of two cells"],
)
def test_other_actions_frames_and_patches(model):
    obs, act, is_first = sequence(0, T=6, model=model)
    pose = torch.zeros(2, 6, 3, dtype=torch.long)
    state, feats = model.observe(model.initial_state(2), obs, act, is_first)
    prediction, _ = model.imagine(state, act[:, 0], torch.tensor([1, 2]), steps=2)
    assert prediction.obs.shape == obs[:, 0].shape and feats.shape == (2, 6, model.config.feature_dim)
    loss, _ = world_model_loss(model, Batch(obs, act, torch.zeros(2, 6), is_first, is_first, pose), torch.Generator())
    assert loss.isfinite()


def test_wrong_inputs_are_named():
    obs, act, is_first = sequence(0)
    state = MODEL.initial_state(2)
    with pytest.raises(ValueError, match=r"obs has shape \(2, 11, 3, 64, 32\); expected \(2, 11, 3, 64, 64\)"):
        MODEL.observe(state, obs[..., :32], act, is_first)
    with pytest.raises(ValueError, match=r"act has shape \(2, 10\); expected \(2, 11\)"):
        MODEL.observe(state, obs, act[:, 1:], is_first)
    with pytest.raises(ValueError, match="state holds 3 worlds, but the inputs are for 2"):
        MODEL.observe(MODEL.initial_state(3), obs, act, is_first)
    with pytest.raises(ValueError, match=r"values 5..5; expected 0..4"):
        MODEL.imagine(state, torch.tensor([5, 5]), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="obs has dtype torch.uint8; expected float"):
        MODEL.observe(state, (obs * 127).to(torch.uint8), act, is_first)
    with pytest.raises(ValueError, match="is_first has dtype torch.float32; expected bool"):
        MODEL.observe(state, obs, act, is_first.float())
    with pytest.raises(ValueError, match=r"rng is torch.int64 \(1,\); expected one int64 key per world"):
        MODEL.imagine(state, act[:, 0], torch.tensor([1]))
    with pytest.raises(ValueError, match="steps is 0; a frame takes at least 1"):
        MODEL.imagine(state, act[:, 0], torch.tensor([1, 2]), steps=0)
    with pytest.raises(ValueError, match=r"map_layers=\(1,\) must be layers whose tube is the whole frame"):
        make(network=NetworkConfig(32, block_sizes=(4, 2), map_layers=(1,)))
    with pytest.raises(ValueError, match="frame_size is 60, not divisible by patch 8"):
        WorldModelConfig(DISCRETE, frame_size=60)
    with pytest.raises(ValueError, match="block_sizes has 4, which does not divide the grid of 3 x 3"):
        make(view=None, frame_size=48)
    with pytest.raises(ValueError, match="merge is 2, which does not divide the grid of 3 x 3 patches; set merge=1"):
        make(view=None, frame_size=24)
    with pytest.raises(ValueError, match="no preset is named 'huge'; choose from debug, micro, tiny, small"):
        preset("huge", DISCRETE)


def test_frames_are_decoded_when_somebody_looks_at_them(monkeypatch):
    model = make()
    decoded = []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda latents: decoded.append(1) or decode(latents))
    prediction, state = model.imagine(model.initial_state(2), torch.zeros(2, dtype=torch.long), torch.arange(2))
    assert not decoded
    assert torch.equal(prediction.obs, decode(state.latents)) and prediction.obs is prediction.obs
    assert len(decoded) == 1


@pytest.mark.parametrize(("samples", "steps"), [(2, 2), (3, 4)])
def test_uncertainty_is_how_far_imagined_frames_are_apart(samples, steps):
    obs, act, is_first = sequence(4)
    state, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    keys = torch.tensor([7, 8])
    frames = [MODEL.imagine(state, act[:, 0], fold(keys, i), steps)[0].obs for i in range(samples)]
    expected = torch.stack(frames).std(0).square().mean((1, 2, 3)).sqrt() / 2  # frames are from -1 to 1
    found = MODEL.uncertainty(state, act[:, 0], keys, samples, steps)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert (found > 0).all() and found[0] != found[1]


@pytest.mark.parametrize(("samples", "steps"), [(1, 2), (2, 1)])
def test_one_sample_or_one_step_cannot_disagree(samples, steps):
    state, act = MODEL.initial_state(1), torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match=f"samples={samples} and steps={steps} must be at least 2"):
        MODEL.uncertainty(state, act, torch.zeros(1, dtype=torch.long), samples, steps)
