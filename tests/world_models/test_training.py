import json

import numpy as np
import pytest
import torch

from world_models.actions import ActionSpec
from world_models.data import DatasetSpec, Episode, EpisodeDataset, write_shard, write_spec
from world_models.data.segments import motions, random_segments, segments, to_frames, to_uint8
from world_models.geometry import EgoView
from world_models.network import NetworkConfig
from world_models.training import Trainer, TrainingConfig
from world_models.world_model import WorldModelConfig

SMALL = NetworkConfig(
    d_model=16, block_sizes=(2, 1), map_layers=(0,), window=1, state_per_token=4, d_inner=16, headdim=8, head_dim=8
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Episodes of a dot on a ring of 16 pixels' width: action 1 moves it right, 0 leaves it. Frames show the dot."""
    folder, rng = tmp_path_factory.mktemp("dots"), np.random.default_rng(0)
    episodes = []
    for seed in range(12):
        act = rng.integers(0, 2, 20)
        act[0] = 0
        x = (rng.integers(16) + act.cumsum()) % 16
        obs = np.zeros((20, 16, 16, 3), np.uint8)
        obs[np.arange(20), :, x] = 255
        pose = np.stack([act.cumsum(), 0 * act, 0 * act], 1).astype(np.int32)
        end = np.arange(20) == 19
        rew = np.where(np.arange(20) > 0, x == 0, 0).astype(np.float32)
        episodes.append(Episode(obs, act, rew, end & (seed % 2 == 0), end & (seed % 2 == 1), seed, pose))
    write_shard(folder / "shard-00000.npz", episodes)
    space = {"type": "Box", "low": 0, "high": 255, "shape": [16, 16, 3], "dtype": "uint8"}
    spec = DatasetSpec("Dots-v0", {}, space, {"type": "Discrete", "n": 2}, "none", "uniform", 0, "train", 20, 240, 8192,
                       "make dots", True, ["shard-00000.npz"])  # fmt: skip
    write_spec(folder, spec)
    return EpisodeDataset(folder)


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


def test_segments_follow_the_convention(dataset):
    batch = segments(dataset, np.array([3, 15]), 8)
    assert batch.obs.shape == (2, 8, 3, 16, 16) and batch.act.shape == (2, 8)
    assert batch.is_first[0].tolist() == [True] + [False] * 7
    assert batch.is_first[1].tolist() == [True] + [False] * 4 + [True, False, False]  # runs into the next episode
    x = batch.obs[0, :, 0, 0].argmax(-1)
    assert torch.equal((x[1:] - x[:-1]) % 16, batch.act[0, 1:])  # act[t] led to frame t
    assert torch.equal(batch.pose[0, :, 0], batch.act[0].cumsum(0) - batch.act[0, 0])  # from (0, 0, 0)
    assert batch.pose[1, 5].tolist() == [0, 0, 0]


def test_events_are_drawn_as_often_as_asked(dataset):
    rng = np.random.default_rng(0)
    for length in (5, 20):
        batch = random_segments(dataset, range(40, 200), 32, length, rng, event_share=0.5)
        event = batch.terminated | (batch.rew != 0)
        assert event[:16, -max(1, length // 4) :].any(1).all()  # in their last quarter
        assert not event[16:, -1].all()
    late = random_segments(dataset, range(40, 200), 64, 5, rng, event_share=1.0)
    assert late.obs.shape[0] == 64 and (late.terminated | (late.rew != 0))[:, -1:].any(1).all()


def test_without_events_sequences_are_drawn_uniformly(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "events", np.array([], np.int64))
    one, other = (random_segments(dataset, range(40, 200), 8, 5, np.random.default_rng(0), s) for s in (0.5, 0.0))
    assert torch.equal(one.obs, other.obs)


def test_frames_survive_the_round_trip():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(to_uint8(to_frames(frames)), frames)


def test_motions_are_read_off_the_poses(dataset):
    assert set(motions(dataset)) == {(0, 0, 0), (1, 0, 0)}


def test_too_little_data_is_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match="sequences of 9 frames were asked of 8 frames"):
        random_segments(dataset, range(8), 1, 9, np.random.default_rng(0))
    with pytest.raises(ValueError, match="too few to train and validate on sequences of 200 frames"):
        Trainer(config(tmp_path, lengths=(200,), frames_per_step=200), model_config(dataset), dataset)


def test_training_learns_and_leaves_its_records(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, steps=120, eval_every=60, lr=1e-2), model_config(dataset), dataset)
    trainer.run()
    lines = trainer.folder.metrics()
    losses = [line["frame_loss"] for line in lines if "frame_loss" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert {line["length"] for line in lines if "length" in line} == {4, 8}
    assert sorted(p.name for p in (tmp_path / "dreams").iterdir()) == ["000060.gif", "000120.gif"]
    assert list((tmp_path / "tensorboard").iterdir())
    assert json.loads((tmp_path / "config.json").read_text())["data"] == dataset.hash()
    quality = [line["validation/dream_psnr"] for line in lines if "validation/frame_loss" in line]
    assert len(quality) == 2 and np.isfinite(quality).all()


def test_dreams_of_short_episodes_are_judged_too(dataset, tmp_path):
    trainer = Trainer(config(tmp_path, lengths=(40,), frames_per_step=40), model_config(dataset), dataset)
    trainer.train_step()  # twice as long as an episode
    assert np.isfinite(trainer.evaluate()["validation/dream_psnr"])


def test_a_killed_run_resumes_as_if_it_had_never_stopped(dataset, tmp_path):
    whole = Trainer(config(tmp_path / "whole"), model_config(dataset), dataset).run()
    killed = Trainer(config(tmp_path / "killed"), model_config(dataset), dataset)
    for _ in range(3):
        killed.train_step()
    killed.checkpoint()
    killed.train_step()  # lost with the kill
    resumed = Trainer(config(tmp_path / "killed"), model_config(dataset), dataset)
    assert resumed.step == 3
    for name, tensor in resumed.run().state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=0, atol=0, msg=name)


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
    changes = {"head_steps": 300, "head_sequences": 300, "lr": 1e-2}
    trainer = Trainer(config(tmp_path, **changes), model_config(dataset), dataset)
    before = {name: tensor.clone() for name, tensor in trainer.ema.state_dict().items()}
    trainer.fit_heads()
    heads = ("features", "reward", "termination")
    for name, tensor in trainer.ema.state_dict().items():
        assert name.startswith(heads) or torch.equal(tensor, before[name]), name
    assert not any(parameter.requires_grad for parameter in trainer.ema.parameters())
    batch = random_segments(dataset, range(trainer.cut), 64, 8, np.random.default_rng(0), event_share=1.0)
    _, feats = trainer.ema.observe(trainer.ema.initial_state(64), batch.obs, batch.act, batch.is_first)
    told = trainer.ema.reward(feats)[:, 4:]  # the dot at the left border pays
    paid = batch.rew[:, 4:] > 0
    assert told[paid].mean() > 0.3 and told[~paid].mean() < 0.05


def test_a_run_killed_while_its_heads_are_trained_finishes_as_if_it_had_not_been(dataset, tmp_path, monkeypatch):
    whole = Trainer(config(tmp_path / "whole"), model_config(dataset), dataset).run()
    killed = Trainer(config(tmp_path / "killed"), model_config(dataset), dataset)
    loss, calls = killed.ema.head_loss, iter([False, True])

    def until_killed(*args):
        if next(calls):
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(killed.ema, "head_loss", until_killed)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    resumed = Trainer(config(tmp_path / "killed"), model_config(dataset), dataset)
    assert resumed.step == 6 and not resumed.judges
    for name, tensor in resumed.run().state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=0, atol=0, msg=name)


def test_another_configuration_in_the_same_folder_is_refused(dataset, tmp_path):
    Trainer(config(tmp_path), model_config(dataset), dataset)
    with pytest.raises(ValueError, match="'lr': 0.5"):
        Trainer(config(tmp_path, lr=0.5), model_config(dataset), dataset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"lengths": (1,)}, r"lengths=\(1,\)"),
        ({"lengths": (32,)}, "lengths has 32, more than"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)
