import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import lssvwm_models.training.trainer as trainer_module
from lssvwm_models.data import DatasetOrigin, Episode, EpisodeDataset, write_dataset
from lssvwm_models.data.openings import openings
from lssvwm_models.data.patches import distinct_patches
from lssvwm_models.data.segments import motions, random_segments, segments, to_uint8
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import NetworkConfig, WorldModelConfig
from lssvwm_models.training.losses import world_model_loss
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.parts.heads import head_examples, head_loss, train_heads
from lssvwm_models.training.trainer import Trainer, TrainingConfig, has_plateaued

SMALL = NetworkConfig(
    16, merge=1, block_sizes=(2, 1), map_layers=(0,), window=1, d_inner=16, headdim=8, head_dim=8, map_size=8
)


def model_config(dataset):
    view = EgoView(cell=1, row=0, col=0, motions=motions(dataset))
    return WorldModelConfig(
        ActionSpec("discrete", 2), 16, patch=8, latent_dim=8, network=SMALL, feature_dim=16, view=view
    )


def config(out, **changes):
    values = {"steps": 6, "lengths": (4, 8), "frames_per_step": 16, "eval_every": 3, "log_every": 1, "threads": 1,
              "warmup": 1, "validation": 0.2, "odometry_steps": 3, "head_steps": 3,
              "head_sequences": 4}  # fmt: skip
    return TrainingConfig(out, **(values | changes))


def test_too_little_data_is_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match="sequences of 9 frames were asked of 8 frames"):
        random_segments(dataset, range(8), 1, 9, np.random.default_rng(0))
    with pytest.raises(ValueError, match="too few to train and validate on sequences of 200 frames"):
        Trainer(config(tmp_path, lengths=(200,), frames_per_step=200), model_config(dataset), dataset)


def test_the_end_of_one_long_episode_is_held_out(dataset, tmp_path, capsys):
    first = np.arange(60) == 0
    rng = np.random.default_rng(0)
    acts = np.where(first, 0, rng.integers(0, 2, 60))
    obs = rng.integers(0, 256, (60, 16, 16, 3), np.uint8)
    episode = Episode(obs, acts, np.zeros(60, np.float32), np.zeros(60, bool), np.zeros(60, bool), seed=7)
    one = write_dataset(tmp_path / "data", [episode], DatasetOrigin("Dots-v0", dataset.spec.action_space))
    trainer = Trainer(config(tmp_path / "run", validation=0.25), replace(model_config(dataset), view=None), one)
    assert trainer.cut == 44  # sequences of 16 are evaluated
    assert "its last 16 frames are: the validation says nothing of other layouts" in capsys.readouterr().out
    assert np.isfinite(trainer.evaluate()["validation/dream_psnr"])
    held_out = openings(one, 4, 10, since=44)
    np.testing.assert_array_equal(held_out.obs[0], one.obs[44:54])
    assert held_out.seeds.tolist() == [7] and held_out.valid.all()
    with pytest.raises(ValueError, match="has 60 frames: too few to train and validate on sequences of 31 frames"):
        Trainer(config(tmp_path / "long", lengths=(31,), frames_per_step=31), model_config(dataset), one)


def test_training_learns_and_leaves_its_records(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, steps=100, eval_every=50, lr=1e-2), model_config(dataset), dataset)
    trainer.run()
    lines = trainer.folder.metrics()
    losses = [line["frame_loss"] for line in lines if "frame_loss" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert {line["length"] for line in lines if "length" in line} == {4, 8}
    assert sorted(p.name for p in (tmp_path / "dreams").iterdir()) == ["000050.gif", "000100.gif"]
    assert list((tmp_path / "tensorboard").iterdir())
    assert json.loads((tmp_path / "config.json").read_text())["data"] == dataset.hash()
    quality = [line["validation/dream_psnr"] for line in lines if "validation/frame_loss" in line]
    assert len(quality) == 2 and np.isfinite(quality).all()


def test_dreams_of_short_episodes_are_judged_too(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, lengths=(40,), frames_per_step=40), model_config(dataset), dataset)
    trainer.train_step()  # twice as long as an episode
    assert np.isfinite(trainer.evaluate()["validation/dream_psnr"])


def test_a_killed_run_resumes_as_if_it_had_never_stopped(dataset, tmp_path):
    whole = Trainer(config(tmp_path / "whole", steer_moments=False), model_config(dataset), dataset).run()
    killed = Trainer(config(tmp_path / "killed", steer_moments=False), model_config(dataset), dataset)
    for _ in range(3):
        killed.train_step()
    killed.checkpoint()
    killed.train_step()  # lost with the kill
    resumed = Trainer(config(tmp_path / "killed", steer_moments=False), model_config(dataset), dataset)
    assert resumed.step == 3
    for name, tensor in resumed.run().state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=0, atol=0, msg=name)


def test_a_training_that_begins_with_weights_learns_to_reckon_anew(dataset, tmp_path):
    """In other data of the same environment, motions may have other numbers."""
    first = Trainer(config(tmp_path / "first"), model_config(dataset), dataset).run()
    save_file({k: v.contiguous() for k, v in first.state_dict().items()}, tmp_path / "model.safetensors")
    on = Trainer(config(tmp_path / "on", init=tmp_path / "model.safetensors"), model_config(dataset), dataset)
    assert not on.odometry_trained and on.step == 0
    for name, tensor in on.model.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[name]) or name.startswith("odometry."), name
    weight = "odometry.classify.1.weight"
    assert not torch.equal(on.model.state_dict()[weight], first.state_dict()[weight])


def test_a_training_that_begins_with_weights_takes_their_tokenizer_whatever_its_size(dataset, tmp_path):
    narrow = replace(model_config(dataset), latent_dim=2)
    first = Trainer(config(tmp_path / "first", steps=1), narrow, dataset).run()
    save_file({k: v.contiguous() for k, v in first.state_dict().items()}, tmp_path / "model.safetensors")
    fresh = Trainer(config(tmp_path / "fresh"), model_config(dataset), dataset)
    on = Trainer(config(tmp_path / "on", init=tmp_path / "model.safetensors"), model_config(dataset), dataset)
    assert on.model.config.latent_dim == 2 < fresh.model.config.latent_dim
    assert torch.equal(on.model.tokenizer.encoder, first.tokenizer.encoder)


def test_dreams_are_made_of_the_patches_of_the_data_and_of_no_others(dataset, tmp_path):
    """A dot is a white column of eight, or there is none."""
    trainer = Trainer(config(tmp_path / "run"), model_config(dataset), dataset)
    model = trainer.run()
    assert model.config.codebook_size == 9
    state = model.initial_state(2)
    for _ in range(3):
        frame, state = model.imagine(state, torch.ones(2).long(), torch.arange(2))
    patches = distinct_patches(to_uint8(frame.obs), 8, 9)
    kinds = {patch.tobytes() for patch in distinct_patches(dataset.obs, 8, 9)}
    assert {patch.tobytes() for patch in patches} <= kinds
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors")
    dots = EpisodeDataset(dataset.folder)
    dots.obs[:, 0] = 7  # other patches above, and the same below
    on = Trainer(config(tmp_path / "on", init=tmp_path / "model.safetensors"), model_config(dataset), dots)
    assert torch.equal(on.model.tokenizer.encoder, model.tokenizer.encoder)
    assert on.model.config.codebook_size == len(on.model.tokenizer.codebook) == 18


def test_frames_of_many_kinds_of_patches_have_no_codebook(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "MOST_CODES", 8)
    trainer = Trainer(config(tmp_path), model_config(dataset), dataset)
    assert trainer.model.tokenizer.codebook is None and trainer.model.config.codebook_size == 0


def test_dead_reckoning_is_learned_first(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, odometry_steps=150), model_config(dataset), dataset)
    trainer.fit_odometry()
    batch = segments(dataset, dataset.episode_starts[-4:], 20)  # episodes that are never trained on
    state, _ = trainer.ema.observe(trainer.ema.initial_state(4), batch.obs, batch.act, batch.is_first)
    assert torch.equal(state.pose, batch.pose[:, -1])


def test_a_run_killed_while_it_learns_to_reckon_begins_again(dataset, tmp_path, monkeypatch):
    whole = Trainer(config(tmp_path / "whole"), model_config(dataset), dataset).run()
    killed = Trainer(config(tmp_path / "killed"), model_config(dataset), dataset)
    loss, calls = killed.model.odometry.loss, iter([False, True])

    def until_killed(*args):
        if next(calls):
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(killed.model.odometry, "loss", until_killed)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = Trainer(config(tmp_path / "killed"), model_config(dataset), dataset).run()
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=0, atol=0, msg=name)


def test_the_heads_are_trained_last_on_a_network_that_stays_as_it_is(dataset, tmp_path):
    changes = {"head_steps": 250, "head_sequences": 200, "lr": 1e-2}
    trainer = Trainer(config(tmp_path, **changes), model_config(dataset), dataset)
    before = {name: tensor.clone() for name, tensor in trainer.ema.state_dict().items()}
    trainer.fit_heads()
    heads = ("features", "reward", "termination")
    for name, tensor in trainer.ema.state_dict().items():
        assert name.startswith(heads) or torch.equal(tensor, before[name]), name
    assert not any(parameter.requires_grad for parameter in trainer.ema.parameters())
    batch = random_segments(dataset, range(trainer.cut), 64, 8, np.random.default_rng(0), event_share=1.0)
    _, feats = trainer.ema.observe(trainer.ema.initial_state(64), batch.obs, batch.act, batch.is_first)
    predicted = trainer.ema.reward(feats)[:, 4:]  # the dot at the left border pays
    paid = batch.rew[:, 4:] > 0
    assert predicted[paid].mean() > 0.3 and predicted[~paid].mean() < 0.1


def test_heads_without_evidence_predict_events_as_rarely_as_they_are(dataset, tmp_path):
    settings = config(tmp_path, head_steps=200, lr=1e-2)
    trainer = Trainer(settings, model_config(dataset), dataset)
    examples = head_examples(trainer.ema, lambda i: trainer._batch(range(trainer.cut), 2, 8, i, 1.0), settings)
    tokens = examples.tokens[:1].expand_as(examples.tokens)
    around = examples.around[:1].expand_as(examples.around)
    train_heads(trainer.ema, examples._replace(tokens=tokens, around=around), trainer.event_rate, settings)
    predicted = trainer.ema.reward(trainer.ema.features(tokens[:1].float(), around[:1].float())).item()
    usual = dataset.rew[: trainer.cut].mean()
    assert 0.5 * usual < predicted < 2 * usual < 0.5


def test_a_run_killed_while_its_heads_are_trained_finishes_as_if_it_had_not_been(dataset, tmp_path, monkeypatch):
    whole = Trainer(config(tmp_path / "whole"), model_config(dataset), dataset).run()
    killed = Trainer(config(tmp_path / "killed"), model_config(dataset), dataset)
    calls = iter([False, True])

    def until_killed(*args):
        if next(calls):
            raise KeyboardInterrupt
        return head_loss(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lssvwm_models.training.parts.heads.head_loss", until_killed)
        killed.run()
    resumed = Trainer(config(tmp_path / "killed"), model_config(dataset), dataset)
    assert resumed.step == 6 and not resumed.heads_trained
    for name, tensor in resumed.run().state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=0, atol=0, msg=name)


def test_another_configuration_in_the_same_folder_is_refused(dataset, tmp_path):
    Trainer(config(tmp_path), model_config(dataset), dataset)
    with pytest.raises(ValueError, match=r"training.lr: 0.0015 there, 0.5 now"):
        Trainer(config(tmp_path, lr=0.5), model_config(dataset), dataset)


def test_a_run_of_an_older_version_goes_on_if_what_is_new_is_as_by_default(dataset, tmp_path):
    old = Trainer(config(tmp_path), model_config(dataset), dataset)
    old.odometry_trained = True
    old.train_step()
    old.checkpoint()
    before = json.loads((tmp_path / "config.json").read_text())
    del before["training"]["curriculum"], before["training"]["objective"]["recall"], before["model"]["block_frames"]
    (tmp_path / "config.json").write_text(json.dumps(before))
    checkpoint = torch.load(tmp_path / "checkpoint.pt")
    for name in ("frames", "stage", "stage_losses", "moments_strength", "sha256"):
        del checkpoint[name]
    for name, old_name in {"odometry_trained": "reckons", "heads_trained": "judges"}.items():
        checkpoint[old_name] = checkpoint.pop(name)
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    new = Trainer(config(tmp_path), model_config(dataset), dataset)
    assert (new.step, new.frames, new.stage, new.moments_strength) == (1, 16, 0, 1.0)
    assert new.odometry_trained and not new.heads_trained
    with pytest.raises(ValueError, match=r"training.objective.recall: 0.0 there, 0.5 now"):
        Trainer(config(tmp_path, objective=ObjectiveConfig(recall=0.5)), model_config(dataset), dataset)


def test_frames_seen_are_counted(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, lengths=(4, 7)), model_config(dataset), dataset)
    for _ in range(5):
        trainer.train_step()
    assert trainer.frames == 3 * 16 + 2 * 14
    trainer.checkpoint()
    assert Trainer(config(tmp_path, lengths=(4, 7)), model_config(dataset), dataset).frames == trainer.frames


def test_the_health_of_the_memory_is_logged_and_steers_its_regulariser(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, objective=ObjectiveConfig(state_moments=0.1)), model_config(dataset), dataset)
    trainer.run()
    lines = [line for line in trainer.folder.metrics() if "validation/loss" in line]
    names = {f"state/{i}/{k}" for i in (0, 1) for k in ("rms", "drift", "rank", "dead")} | {"state/strength"}
    assert all(names <= line.keys() for line in lines)
    assert lines[0]["state/strength"] == 1.0 and lines[1]["state/strength"] in (1.5, 1 / 1.5)


def test_the_steered_strength_weighs_the_regulariser(dataset, tmp_path):
    objective, totals = ObjectiveConfig(state_moments=0.1), []
    for strength in (1.0, 4.0):
        trainer = Trainer(config(tmp_path / str(strength), objective=objective), model_config(dataset), dataset)
        trainer.moments_strength = strength
        logs = trainer.train_step()
        totals.append(logs["loss"] - 0.1 * strength * logs["moments_loss"])
    assert totals[0] == pytest.approx(totals[1], rel=1e-3)


def test_lengths_advance_when_the_loss_no_longer_falls():
    assert not has_plateaued([1.0]) and not has_plateaued([1.0, 1.0])
    assert has_plateaued([1.0, 1.0, 0.99])
    assert not has_plateaued([1.0, 0.97, 0.99])  # one of the last two was better than all before
    assert has_plateaued([1.0, 0.9, 0.89, 0.95])


def test_the_curriculum_of_plateaus_goes_on_at_evaluations_and_ends_with_the_last_length(
    dataset, tmp_path, monkeypatch
):
    """Longer sequences have larger losses, at first: those of the shorter ones say nothing of them."""
    changes = {"curriculum": "plateau", "steps": 10, "eval_every": 1, "lengths": (4, 6, 8)}
    trainer = Trainer(config(tmp_path, **changes), model_config(dataset), dataset)
    losses = iter([1.0, 0.9, 0.9, 0.9, 2.0, 1.5, 1.5, 1.5, 0.8, 0.8])
    monkeypatch.setattr(trainer, "evaluate", lambda: {"validation/frame_loss": next(losses)})
    trainer.run()
    lengths = [line["length"] for line in trainer.folder.metrics() if "length" in line]
    assert lengths == [4] * 4 + [6] * 4 + [8] * 2
    assert trainer.lengths() == (4, 6, 8)
    assert Trainer(config(tmp_path / "new", **changes), model_config(dataset), dataset).lengths() == (4,)


def test_a_killed_run_with_every_strategy_on_resumes_as_if_it_had_never_stopped(dataset, tmp_path):
    changes = {
        "objective": ObjectiveConfig(cut_gradients=True, state_moments=0.1, recall=0.1),
        "curriculum": "plateau",
        "checkpoint_blocks": True,
        "eval_every": 1,
        "steps": 5,
        "lr": 1e-5,  # so slow that it is a plateau
    }
    model = replace(model_config(dataset), block_frames=4)
    whole = Trainer(config(tmp_path / "whole", **changes), model, dataset)
    whole.run()
    killed = Trainer(config(tmp_path / "killed", **changes), model, dataset)
    evaluate, calls = killed.evaluate, iter([False] * 3 + [True])

    def until_killed():
        if next(calls):
            raise KeyboardInterrupt
        return evaluate()

    killed.evaluate = until_killed
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    resumed = Trainer(config(tmp_path / "killed", **changes), model, dataset)
    assert resumed.step == 3 and resumed.stage == 1 and resumed.moments_strength != 1.0
    resumed.run()
    for name in ("frames", "stage", "stage_losses", "moments_strength"):
        assert getattr(resumed, name) == getattr(whole, name), name
    for name, tensor in resumed.ema.state_dict().items():
        torch.testing.assert_close(tensor, whole.ema.state_dict()[name], rtol=0, atol=0, msg=name)


class Held:
    """A tensor kept for the backward pass, counted while it lives."""

    now = most = 0

    def __init__(self, tensor):
        self.tensor = tensor
        Held.now += 1
        Held.most = max(Held.most, Held.now)

    def __del__(self):
        Held.now -= 1


def trained_on(dataset, folder, length, cut):
    """The gradients of a step on sequences of `length` frames, and how many tensors were kept for them at once."""
    changes = {"lengths": (length,), "frames_per_step": 16, "objective": ObjectiveConfig(cut_gradients=cut)}
    model = replace(model_config(dataset), block_frames=4)
    trainer = Trainer(config(folder, bf16=False, **changes), model, dataset)
    batch, rng = trainer._batch(range(trainer.cut), 1, length, 0)
    Held.now = Held.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        trainer._backward(batch, rng)
    gradients = {k: p.grad.clone() for k, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    _, same_noise = trainer._batch(range(trainer.cut), 1, length, 0)
    whole, _ = world_model_loss(trainer.model, batch, same_noise, trainer.config.objective)
    whole.backward()
    expected = {k: p.grad for k, p in trainer.model.named_parameters() if p.grad is not None}
    return gradients, expected, Held.most


def test_with_cut_gradients_what_a_step_keeps_does_not_grow_with_the_length(dataset, tmp_path):
    gradients, expected, most = trained_on(dataset, tmp_path / "8", 8, cut=True)
    *_, most_of_long = trained_on(dataset, tmp_path / "16", 16, cut=True)
    *_, most_uncut = trained_on(dataset, tmp_path / "uncut", 16, cut=False)
    assert most_of_long <= most and most_uncut > 3 * most
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_scans_can_begin_as_a_trained_mamba2(dataset, tmp_path):
    changes = {"pretrained_ssm": tmp_path / "mamba2.safetensors"}
    blocks = Trainer(config(tmp_path / "new"), model_config(dataset), dataset).model.network.blocks
    scans = [block.scan for block in blocks[1:]]  # block 0 is a map, and no Mamba-2 is one
    checkpoint = {
        f"backbone.layers.{i}.mixer.{name}": torch.full_like(scan.get_parameter(name), i + 0.5)
        for i, scan in enumerate(scans)
        for name in ("in_proj.weight", "dt_bias", "A_log", "D", "norm.weight", "out_proj.weight")
    }
    save_file(checkpoint, tmp_path / "mamba2.safetensors")
    trainer = Trainer(config(tmp_path / "run", **changes), model_config(dataset), dataset)
    for model in (trainer.model, trainer.ema):
        assert (model.network.blocks[1].scan.A_log == 0.5).all()
    trainer.train_step()
    trainer.checkpoint()
    trained = trainer.model.network.blocks[1].scan.A_log
    resumed = Trainer(config(tmp_path / "run", **changes), model_config(dataset), dataset)
    assert (trained != 0.5).any() and torch.equal(resumed.model.network.blocks[1].scan.A_log, trained)


def test_recall_is_refused_before_there_is_a_run(dataset, tmp_path):
    with pytest.raises(ValueError, match="recall=0.5"):
        Trainer(
            config(tmp_path / "run", objective=ObjectiveConfig(recall=0.5)),
            replace(model_config(dataset), view=None),
            dataset,
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"warmup": 0}, "warmup=0 must be at least 1"),
        ({"lr": float("nan")}, "lr=nan must be a finite number"),
        ({"cooldown": 1.5}, "cooldown=1.5 must be a share"),
        ({"lengths": ()}, r"lengths=\(\) must be one or more lengths of at least 2 frames"),
        ({"lengths": (4, 1)}, r"lengths=\(4, 1\)"),
        ({"lengths": (32,)}, "lengths has 32, more than"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_runs_from_before_muon_go_on_with_adamw_alone(dataset, tmp_path):
    whole = config(tmp_path / "old", optimizer="adamw")
    trainer = Trainer(whole, model_config(dataset), dataset)
    trainer.fit_odometry()
    trainer.train_step()
    trainer.checkpoint()
    settings = json.loads((tmp_path / "old" / "config.json").read_text())
    del settings["training"]["optimizer"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(settings))
    state = torch.load(tmp_path / "old" / "checkpoint.pt", weights_only=True)
    state["optimizer"] = state.pop("optimizers")[0]
    del state["sha256"]
    torch.save(state, tmp_path / "old" / "checkpoint.pt")

    with pytest.raises(ValueError, match="optimizer: adamw there, muon now"):
        Trainer(config(tmp_path / "old"), model_config(dataset), dataset)
    resumed = Trainer(whole, model_config(dataset), dataset)
    assert resumed.step == 1
    for again in (trainer, resumed):
        again.train_step()
    weights = zip(trainer.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def streams():
    """The global streams of chance."""
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


def test_training_neither_reads_nor_moves_the_global_streams(dataset, tmp_path):
    every = {
        "objective": ObjectiveConfig(context_noise=0.2, recall=0.1, truncation=0.5),
        "checkpoint_blocks": True,
        "steps": 2,
        "eval_every": 2,
        "lengths": (8,),
    }
    model = replace(model_config(dataset), block_frames=4)
    weights = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = streams()
            trainer = Trainer(config(tmp_path / str(seed), **every), model, dataset)
            assert streams() == before
            trained = trainer.run()
            assert streams() == before
            weights.append(trained.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_training_leaves_the_number_of_threads_to_the_commands(dataset, tmp_path):
    assert torch.get_num_threads() == 1  # of all tests
    Trainer(config(tmp_path, threads=2), model_config(dataset), dataset).train_step()
    assert torch.get_num_threads() == 1


def test_the_averaged_weights_are_those_of_every_step_with_a_short_memory_at_first(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, ema=0.2, lr=1e-2), model_config(dataset), dataset)
    name = "network.out.weight"
    expected = trainer.model.state_dict()[name].clone()
    for decay in (2 / 11, 0.2, 0.2):
        trainer.train_step()
        expected.lerp_(trainer.model.state_dict()[name], 1 - decay)
    torch.testing.assert_close(trainer.ema.state_dict()[name], expected)


def test_the_learning_rate_of_every_step_is_that_of_the_schedule(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, steps=4, warmup=2, cooldown=0.5, lr=0.1), model_config(dataset), dataset)
    rates = []
    for _ in range(4):
        logged = trainer.train_step()["lr"]
        assert trainer.optimizers[0].param_groups[0]["lr"] == logged
        rates.append(logged)
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.05])
