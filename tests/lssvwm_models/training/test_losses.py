import pytest
import torch

from lssvwm_models.data.batch import Batch
from lssvwm_models.model.config import NetworkConfig
from lssvwm_models.training.losses import block_losses, event_losses, world_model_loss
from lssvwm_models.training.objective import ObjectiveConfig, noisy_streams
from lssvwm_models.training.parts.heads import head_inputs
from tests.lssvwm_models.random_worlds import MODEL, batch, make


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_gradients_cross_block_borders_unless_cut():
    # With the loss of the second block alone, only a gradient through the memory can reach the first block's frames.
    model = make()
    data = batch(T=8)
    data.is_first[:, 1:] = False

    def reach(cut):
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
        loss, logs = world_model_loss(model, data, rng(step % 2), ObjectiveConfig(kind))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(logs["loss"]))
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_poses_are_asked_for_where_they_are_needed():
    data = batch()
    with pytest.raises(ValueError, match="batch.pose is None"):
        world_model_loss(MODEL, Batch(data.obs, data.act, data.rew, data.terminated, data.is_first), rng())


# Strategies that are switched on in the objective.


def test_switches_add_to_the_loss_and_leave_the_rest_as_it_was():
    data = batch(T=11)
    values = {}
    for name, changes in {"off": {"state_moments": 0.0}, "on": {"recall": 2.0, "state_moments": 0.5}}.items():
        _, logs = world_model_loss(MODEL, data, rng(), ObjectiveConfig(**changes))
        values[name] = {k: float(v) for k, v in logs.items()}
    on, off = values["on"], values["off"]
    assert set(on) - set(off) == {"recall_loss", "moments_loss"}
    for name in set(off) - {"loss"}:
        assert on[name] == off[name], name
    expected = off["loss"] + 2.0 * on["recall_loss"] + 0.5 * on["moments_loss"]
    assert abs(on["loss"] - expected) < 1e-4 * expected


def recall_calls(model, data, monkeypatch, seed=0):
    """The loss of recall, and what the network was asked that wrote nothing."""
    calls, forward = [], model.network.forward

    def spy(latents, tau, act, frames, *memory):
        if not frames.writes:
            calls.append((latents, tau, act, frames, *memory))
        return forward(latents, tau, act, frames, *memory)

    with monkeypatch.context() as patch:
        patch.setattr(model.network, "forward", spy)
        _, logs = world_model_loss(model, data, rng(seed), ObjectiveConfig(recall=1.0))
    return logs["recall_loss"], calls


def test_recall_asks_the_memory_of_now_for_an_earlier_frame_by_its_place(monkeypatch):
    data = batch(T=4)
    data.is_first[:, 1:] = False
    data.is_first[1, 2] = True
    data.pose[:, :, 0] = torch.arange(4)  # so that the place tells which frame is meant
    loss, [(noise, tau, _, frames, *memory)] = recall_calls(MODEL, data, monkeypatch)
    asked = frames.patch_places[:, 0, 0, 0] - MODEL.places(torch.zeros(1, 1, 3, dtype=torch.long), (1, 1))[0, 0, 0, 0]
    assert asked[0] in (0, 1, 2) and asked[1] == 2
    assert noise.shape[:3] == (2, 1, 1) and not tau.any() and frames.is_first.all()
    state, _ = MODEL.observe(MODEL.initial_state(2), data.obs, data.act, data.is_first)
    assert frames.age.tolist() == state.age.tolist()
    tokens, *_ = MODEL.network(noise, tau, data.act[:, :1], frames, *memory)
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
        _, calls = recall_calls(MODEL, data, monkeypatch, seed)
        assert len(calls) == 3
        asked.append(torch.stack([args[3].patch_places[:, 0, 0, 0] for args in calls]))
    zero = MODEL.places(torch.zeros(1, 1, 3, dtype=torch.long), (1, 1))[0, 0, 0, 0]
    frames = torch.stack(asked) - zero  # (seeds, blocks, B)
    assert (frames < torch.tensor([3.0, 7.0, 11.0])[:, None]).all()
    assert frames[:, 2].min() < 4 and frames[:, 2].max() > 7


def test_recall_passes_over_a_sequence_whose_last_frame_begins_an_episode():
    data = batch(T=4)
    data.is_first[:, 3] = True
    _, logs = world_model_loss(MODEL, data, rng(), ObjectiveConfig(recall=1.0))
    assert logs["recall_loss"] == 0


def test_recall_teaches_what_writes_the_memory():
    model = make().train()
    data = batch(T=4)
    data.is_first[:, 1:] = False
    gradients = []
    for weight in (0.0, 1.0):
        model.zero_grad()
        world_model_loss(model, data, rng(), ObjectiveConfig(recall=weight))[0].backward()
        gradients.append(model.network.blocks[0].scan.in_proj.weight.grad.clone())
    *_, values, steps = (gradients[1] - gradients[0]).split(model.network.blocks[0].scan.split * 4)
    assert values.abs().max() > 1e-6 and steps.abs().max() > 1e-6


def test_recall_without_a_view_is_refused():
    model = make(view=None)
    data = batch(T=4)
    with pytest.raises(ValueError, match=r"recall=0.5 asks .* view=None .* set recall=0"):
        world_model_loss(model, data, rng(), ObjectiveConfig(recall=0.5))


def test_the_pull_on_states_reaches_what_writes_them():
    model = make().train()
    data = batch(T=8)
    model.network.blocks[1].scan.in_proj.weight.data *= 3

    def scale():
        state, _ = model.observe(model.initial_state(2), data.obs, data.act, data.is_first)
        return state.ssm[1].std().item()

    before = scale()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        loss, _ = world_model_loss(model, data, rng(), ObjectiveConfig(state_moments=10.0))
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
        model.zero_grad()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss, _ = world_model_loss(model, data, rng(), objective, checkpoint_blocks=again)
            kept.append(sum(saved))
        loss.backward()
        gradients.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    assert kept[1] < 0.1 * kept[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=0, msg=name)


def test_without_truncation_nothing_is_drawn_and_all_channels_are_read(monkeypatch):
    monkeypatch.setattr("lssvwm_models.training.losses.random_channels", None)  # asking it would fail
    monkeypatch.setattr("lssvwm_models.memory.scans.first_channels", None)
    loss, _ = world_model_loss(MODEL, batch(T=6), rng(), ObjectiveConfig(recall=1.0))
    assert loss.isfinite()


def test_truncation_gives_every_sequence_and_layer_a_number_of_channels_for_all_its_frames(monkeypatch):
    calls, forward = [], MODEL.network.forward

    def spy(*args):
        calls.append(args[6])
        return forward(*args)

    monkeypatch.setattr(MODEL.network, "forward", spy)
    cut, _ = world_model_loss(MODEL, batch(T=11), rng(2), ObjectiveConfig(recall=1.0, truncation=1.0))
    assert len(calls) == 6 and all(torch.equal(c, calls[0]) for c in calls)  # three blocks, each with a question
    assert calls[0].shape == (2, 2) and len(calls[0].unique()) > 1 and calls[0].min() < 16
    plain, _ = world_model_loss(MODEL, batch(T=11), rng(2), ObjectiveConfig(recall=1.0))
    assert cut != plain and calls[-1] is None
    calls.clear()
    head_inputs(MODEL, batch(T=11), ObjectiveConfig(truncation=1.0), rng())  # heads learn to do with as little
    assert len(calls) == 3 and calls[0].shape == (2, 2)


def test_truncation_without_scans_is_refused():
    model = make(network=NetworkConfig(d_model=32, block_sizes=(4,), map_layers=(), memory="attention"))
    with pytest.raises(ValueError, match=r"truncation=0.5 .* memory='attention'; set truncation=0"):
        world_model_loss(model, batch(T=4), rng(), ObjectiveConfig(truncation=0.5))


# What counts how much.


def test_rare_events_count_by_their_share_and_frames_that_do_not_count_do_not():
    feats = torch.randn(1, 6, MODEL.config.feature_dim, generator=rng())
    rew = torch.tensor([[0.0, 2.0, 0.0, 0.0, 0.0, 1.0]])
    terminated = torch.tensor([[False, False, True, False, False, False]])
    where = torch.tensor([[True, True, True, True, False, False]])
    found = event_losses(MODEL.reward, MODEL.termination, feats, rew, terminated, where, share=0.25)
    for name, each in {
        "reward_loss": MODEL.reward.loss(feats, rew)[0],
        "termination_loss": MODEL.termination.loss(feats, terminated)[0],
    }.items():
        expected = 2 * (0.25 * each[[1, 2]].mean() + 0.75 * each[[0, 3]].mean())
        torch.testing.assert_close(found[name], expected)
    halves = event_losses(MODEL.reward, MODEL.termination, feats, rew, terminated, where)
    each = MODEL.reward.loss(feats, rew)[0]
    torch.testing.assert_close(halves["reward_loss"], each[[1, 2]].mean() + each[[0, 3]].mean())


def test_a_single_event_counts_as_much_as_all_other_frames_together():
    feats = torch.randn(1, 9, MODEL.config.feature_dim, generator=rng())
    rew = torch.zeros(1, 9)
    rew[0, 4] = 1.0
    found = event_losses(MODEL.reward, MODEL.termination, feats, rew, rew < 0, rew == rew)
    each = MODEL.reward.loss(feats, rew)[0]
    torch.testing.assert_close(found["reward_loss"], each[4] + (each.sum() - each[4]) / 8)


def test_where_there_are_no_events_the_others_count_as_before():
    feats = torch.randn(1, 3, MODEL.config.feature_dim, generator=rng())
    nothing = torch.zeros(1, 3)
    found = event_losses(MODEL.reward, MODEL.termination, feats, nothing, nothing > 0, nothing == 0)
    torch.testing.assert_close(found["reward_loss"], MODEL.reward.loss(feats, nothing).mean())


def test_every_part_of_the_loss_has_its_weight():
    objective = ObjectiveConfig(recall=0.3, state_moments=0.7, perceptual=0.2)
    _, logs = world_model_loss(MODEL, batch(T=4), rng(), objective)
    weights = {"recall_loss": 0.3, "moments_loss": 0.7, "perceptual_loss": 0.2}
    parts = {name: float(value) for name, value in logs.items() if name != "loss"}
    assert parts.keys() == {"frame_loss", "reward_loss", "termination_loss"} | weights.keys()
    expected = sum(weights.get(name, 1.0) * value for name, value in parts.items())
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-5)


def test_blocks_count_by_their_frames():
    data = batch(T=6)  # a block of four, and one of two
    objective = ObjectiveConfig(pure_noise=1.0, state_moments=0.0)
    blocks = [logs["frame_loss"] for _, logs in block_losses(MODEL, data, rng(), objective)]
    latents = MODEL.tokenizer.encode(data.obs)
    streams = noisy_streams(latents, objective, rng())  # the same noise
    state = MODEL.initial_state(2)
    expected = []
    for frames in (slice(4), slice(4, 6)):
        part = data[frames]
        noisy = streams.latents[:, frames], streams.tau[:, frames]
        state, tokens, *_ = MODEL.commit(state, latents[:, frames], part.act, part.is_first, part.pose, noisy)
        error = (MODEL.network.denoised(tokens[:, :, 1]) - latents[:, frames]).square() * MODEL.tokenizer.importance()
        expected.append(error.mean() * part.act.shape[1] / 6)
    torch.testing.assert_close(torch.stack(blocks), torch.stack(expected).detach())


def test_the_noise_is_a_function_of_the_generator_alone():
    data = batch(T=9)
    objective = ObjectiveConfig(recall=1.0, truncation=0.5, context_noise=0.2)
    before = torch.get_rng_state()
    one, same, other = (world_model_loss(MODEL, data, rng(seed), objective)[0] for seed in (3, 3, 4))
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), before)
