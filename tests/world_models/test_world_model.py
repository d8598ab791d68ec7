import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from world_models.actions import ActionSpec
from world_models.geometry import EgoView
from world_models.network import NetworkConfig
from world_models.objective import ObjectiveConfig
from world_models.world_model import Batch, WorldModel, WorldModelConfig, preset

VIEW = EgoView(cell=8, row=6, col=3, motions=((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
DISCRETE = ActionSpec("discrete", 5)


def make(action=DISCRETE, view=VIEW, **changes):
    """A small model with random weights everywhere (some layers begin at zero, which would hide mistakes)."""
    torch.manual_seed(0)
    model = WorldModel(preset("debug", action, view=view, block_frames=4, **changes)).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


MODEL = make()


def sequence(seed, T=11, batch=2, model=MODEL):
    g = torch.Generator().manual_seed(seed)
    c = model.config
    obs = torch.rand(batch, T, c.channels, c.frame_size, c.frame_size, generator=g) * 2 - 1
    if c.action.kind == "discrete":
        act = torch.randint(0, c.action.size, (batch, T), generator=g)
    else:
        act = torch.randn(batch, T, c.action.size, generator=g)
    is_first = torch.rand(batch, T, generator=g) < 0.15
    is_first[:, 0] = True
    return obs, act, is_first


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
    obs, act, is_first = sequence(5)
    state, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    prediction, dreamt = MODEL.imagine(state, act[:, 0], torch.tensor([1, 2]))
    latents = MODEL.tokenizer.encode(MODEL.tokenizer.decode(dreamt.latents))
    if torch.allclose(latents, dreamt.latents, atol=1e-5):  # unless clipped to [-1, 1]
        watched, feats = MODEL.observe(state, prediction.obs[:, None], act[:, :1], torch.zeros(2, 1, dtype=torch.bool))
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
    loss, _ = model.loss(Batch(obs, act, torch.zeros(2, 6), is_first, is_first, pose))
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
    with pytest.raises(ValueError, match="no preset is named 'huge'; choose from debug, tiny, small"):
        preset("huge", DISCRETE)


def batch(seed=0, T=11):
    obs, act, is_first = sequence(seed, T)
    return Batch(obs, act, torch.rand(2, T), is_first, is_first, torch.zeros(2, T, 3, dtype=torch.long))


def test_gradients_cross_block_borders_unless_cut():
    # With the loss of the second block alone, only a gradient through the memory can reach the first block's frames.
    model = make()
    data = batch(T=8)
    data.is_first[:, 1:] = False

    def reach(cut):
        torch.manual_seed(1)
        obs = data.obs.clone().requires_grad_()
        latents = model.tokenizer.encode(obs)
        state, *_ = model.commit(
            model.initial_state(2), latents[:, :4], data.act[:, :4], data.is_first[:, :4], data.pose[:, :4]
        )
        state = state.detach() if cut else state
        _, tokens, *_ = model.commit(
            state, latents[:, 4:].detach(), data.act[:, 4:], data.is_first[:, 4:], data.pose[:, 4:]
        )
        return tokens.sum(), obs

    tokens, obs = reach(cut=False)
    assert torch.autograd.grad(tokens, obs)[0][:, :4].abs().sum() > 0
    tokens, obs = reach(cut=True)
    assert torch.autograd.grad(tokens, obs, allow_unused=True)[0] is None


@pytest.mark.parametrize("kind", ["clean_noisy", "diffusion_forcing"])
def test_a_few_steps_of_either_objective_lower_the_loss(kind):
    model = make().train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    data, losses = batch(T=6), []
    for step in range(12):
        torch.manual_seed(step % 2)
        loss, logs = model.loss(data, ObjectiveConfig(kind))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(logs["loss"]))
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_poses_are_asked_for_where_they_are_needed():
    data = batch()
    with pytest.raises(ValueError, match="batch.pose is None"):
        MODEL.loss(Batch(data.obs, data.act, data.rew, data.terminated, data.is_first))


# Strategies that are switched on in the objective.


def test_switches_add_to_the_loss_and_leave_the_rest_as_it_was():
    data = batch(T=11)
    values = {}
    for name, changes in {"off": {}, "on": {"recall": 2.0, "state_moments": 0.5}}.items():
        torch.manual_seed(0)
        values[name] = {k: float(v) for k, v in MODEL.loss(data, ObjectiveConfig(**changes))[1].items()}
    on, off = values["on"], values["off"]
    assert set(on) - set(off) == {"recall_loss", "moments_loss"}
    for name in set(off) - {"loss"}:
        assert on[name] == off[name], name
    expected = off["loss"] + 2.0 * on["recall_loss"] + 0.5 * on["moments_loss"]
    assert abs(on["loss"] - expected) < 1e-4 * expected


def recall_calls(model, data, monkeypatch):
    """The loss of recall, and what the network was asked that wrote nothing."""
    calls, forward = [], model.network.forward

    def spy(*args, writes, **switches):
        if not writes:
            calls.append(args)
        return forward(*args, writes=writes, **switches)

    with monkeypatch.context() as patch:
        patch.setattr(model.network, "forward", spy)
        _, logs = model.loss(data, ObjectiveConfig(recall=1.0))
    return logs["recall_loss"], calls


def test_recall_asks_the_memory_of_now_for_an_earlier_frame_by_its_place(monkeypatch):
    data = batch(T=4)
    data.is_first[:, 1:] = False
    data.is_first[1, 2] = True
    data.pose[:, :, 0] = torch.arange(4)  # so that the place tells which frame is meant
    loss, [(noise, tau, _, is_first, places, _, *memory)] = recall_calls(MODEL, data, monkeypatch)
    asked = places[:, 0, 0, 0] - MODEL.places(torch.zeros(1, 1, 3, dtype=torch.long), (1, 1))[0, 0, 0, 0]
    assert asked[0] in (0, 1, 2) and asked[1] == 2
    assert noise.shape[:3] == (2, 1, 1) and not tau.any() and is_first.all()
    state, _ = MODEL.observe(MODEL.initial_state(2), data.obs, data.act, data.is_first)
    assert memory[2].tolist() == state.age.tolist()
    tokens, *_ = MODEL.network(noise, tau, data.act[:, :1], is_first, places, None, *memory, writes=False)
    truth = MODEL.tokenizer.encode(data.obs)[torch.arange(2), asked.long()]
    error = (MODEL.network.denoised(tokens)[:, 0, 0] - truth).square() * MODEL.tokenizer.importance()
    torch.testing.assert_close(loss, error.mean().detach())
    assert torch.equal(memory[0][0] != 0, state.ssm[0] != 0)  # the memory after the last frame, not an empty one


def test_recall_goes_back_over_block_borders_and_costs_one_frame_per_block(monkeypatch):
    data = batch(T=12)  # three blocks
    data.is_first[:, 1:] = False
    data.pose[:, :, 0] = torch.arange(12)
    asked = []
    for seed in range(6):
        torch.manual_seed(seed)
        _, calls = recall_calls(MODEL, data, monkeypatch)
        assert len(calls) == 3
        asked.append(torch.stack([args[4][:, 0, 0, 0] for args in calls]))
    zero = MODEL.places(torch.zeros(1, 1, 3, dtype=torch.long), (1, 1))[0, 0, 0, 0]
    frames = torch.stack(asked) - zero  # (seeds, blocks, B)
    assert (frames < torch.tensor([3.0, 7.0, 11.0])[:, None]).all()
    assert frames[:, 2].min() < 4 and frames[:, 2].max() > 7


def test_recall_passes_over_a_sequence_whose_last_frame_begins_an_episode():
    data = batch(T=4)
    data.is_first[:, 3] = True
    _, logs = MODEL.loss(data, ObjectiveConfig(recall=1.0))
    assert logs["recall_loss"] == 0


def test_recall_teaches_what_writes_the_memory():
    model = make().train()
    data = batch(T=4)
    data.is_first[:, 1:] = False
    gradients = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        model.zero_grad()
        model.loss(data, ObjectiveConfig(recall=weight))[0].backward()
        gradients.append(model.network.blocks[0].scan.in_proj.weight.grad.clone())
    *_, values, steps = (gradients[1] - gradients[0]).split(model.network.blocks[0].scan.split * 4)
    assert values.abs().max() > 1e-6 and steps.abs().max() > 1e-6


def test_recall_without_a_view_is_refused():
    model = make(view=None)
    data = batch(T=4)
    with pytest.raises(ValueError, match=r"recall=0.5 asks .* view=None .* set recall=0"):
        model.loss(data, ObjectiveConfig(recall=0.5))


def test_the_pull_on_states_reaches_what_writes_them():
    model = make().train()
    data = batch(T=8)

    def scale():
        state, _ = model.observe(model.initial_state(2), data.obs, data.act, data.is_first)
        return state.ssm[1].std().item()

    before = scale()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        loss, _ = model.loss(data, ObjectiveConfig(state_moments=10.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(torch.tensor(scale()).log()) < 0.5 * abs(torch.tensor(before).log())


@pytest.mark.parametrize("bf16", [False, True])
def test_computing_blocks_again_gives_the_same_gradients_and_keeps_less(bf16):
    model = make().train()
    data = batch(T=11)
    objective = ObjectiveConfig(recall=1.0, state_moments=1.0, truncation=0.5)
    gradients, kept = [], []
    for again in (False, True):
        torch.manual_seed(0)
        model.zero_grad()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss, _ = model.loss(data, objective, checkpoint_blocks=again)
            kept.append(sum(saved))
        loss.backward()
        gradients.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    assert kept[1] < 0.1 * kept[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=0, msg=name)


def test_without_truncation_nothing_is_drawn_and_all_channels_are_read(monkeypatch):
    monkeypatch.setattr("world_models.losses.random_channels", None)  # asking it would fail
    monkeypatch.setattr("world_models.scans.first_channels", None)
    loss, _ = MODEL.loss(batch(T=6), ObjectiveConfig(recall=1.0))
    assert loss.isfinite()


def test_truncation_gives_every_sequence_and_layer_a_number_of_channels_for_all_its_frames(monkeypatch):
    calls, forward = [], MODEL.network.forward

    def spy(*args, channels, **others):
        calls.append(channels)
        return forward(*args, channels=channels, **others)

    monkeypatch.setattr(MODEL.network, "forward", spy)
    torch.manual_seed(2)
    cut, _ = MODEL.loss(batch(T=11), ObjectiveConfig(recall=1.0, truncation=1.0))
    assert len(calls) == 6 and all(torch.equal(c, calls[0]) for c in calls)  # three blocks, each with a question
    assert calls[0].shape == (2, 2) and len(calls[0].unique()) > 1 and calls[0].min() < 16
    torch.manual_seed(2)
    plain, _ = MODEL.loss(batch(T=11), ObjectiveConfig(recall=1.0))
    assert cut != plain and calls[-1] is None
    calls.clear()
    MODEL.shown(batch(T=11), ObjectiveConfig(truncation=1.0))  # heads learn to do with as little
    assert len(calls) == 3 and calls[0].shape == (2, 2)


def test_truncation_without_scans_is_refused():
    model = make(network=NetworkConfig(d_model=32, block_sizes=(4,), map_layers=(), memory="attention"))
    with pytest.raises(ValueError, match=r"truncation=0.5 .* memory='attention'; set truncation=0"):
        model.loss(batch(T=4), ObjectiveConfig(truncation=0.5))


def test_frames_are_decoded_when_somebody_looks_at_them(monkeypatch):
    model = make()
    decoded = []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda latents: decoded.append(1) or decode(latents))
    prediction, state = model.imagine(model.initial_state(2), torch.zeros(2, dtype=torch.long), torch.arange(2))
    assert not decoded
    assert torch.equal(prediction.obs, decode(state.latents)) and prediction.obs is prediction.obs
    assert len(decoded) == 1
