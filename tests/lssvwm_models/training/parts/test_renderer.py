"""What renders keyframes learns from frames of anywhere in the training episodes, and from nothing else."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from lssvwm_models.data import Episode, EpisodeDataset
from lssvwm_models.data.spec import DatasetOrigin
from lssvwm_models.data.writing import write_dataset
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import NetworkConfig, WorldModelConfig
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.parts import renderer as parts
from lssvwm_models.training.parts.renderer import train_renderer
from lssvwm_models.training.trainer import Trainer

SIZE = 16
EDGE = slice(2, -2)
NETWORK = NetworkConfig(
    16, merge=1, block_sizes=(4,), map_layers=(0,), d_inner=16, headdim=8, map_size=8, keyframes=64, voxels=24
)
CONFIG = WorldModelConfig(
    ActionSpec("discrete", 2), SIZE, patch=4, latent_dim=24, network=NETWORK, view=FirstPersonView(90.0, None)
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Someone turns on the spot, in front of stripes, and sees them through a window with a white frame."""
    rng = np.random.default_rng(0)
    slope = (2 * np.arange(SIZE) + 1) / SIZE - 1
    episodes = []
    for seed in range(6):
        heading = np.cumsum(rng.choice([-0.2, 0.2], 60))
        bearing = heading[:, None] + np.arctan(slope)
        stripes = 127 * (1 + np.sin(4 * bearing + rng.uniform(0, 6)))
        obs = np.full((60, SIZE, SIZE, 3), 255, np.uint8)
        obs[:, EDGE, EDGE] = stripes.astype(np.uint8)[:, None, EDGE, None]
        pose = np.stack([0 * heading, 0 * heading, heading], 1).astype(np.float32)
        act = np.r_[0, (np.diff(heading) > 0).astype(int)]
        nothing = np.zeros(60, bool)
        episodes.append(Episode(obs, act, np.zeros(60, np.float32), nothing, nothing, seed=seed, pose=pose))
    space = {"type": "Discrete", "n": 2}
    return write_dataset(tmp_path_factory.mktemp("data"), episodes, DatasetOrigin("Turns-v0", space))


def config(out, **changes):
    values = {"steps": 2, "lengths": (8,), "frames_per_step": 16, "log_every": 1, "threads": 1, "validation": 0.2,
              "odometry_steps": 1, "render_steps": 60, "head_steps": 1, "head_sequences": 2}  # fmt: skip
    return TrainingConfig(out, **(values | changes))


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Batches of a size that is tested in seconds."""
    monkeypatch.setattr(parts, "MAPS", 3)
    monkeypatch.setattr(parts, "MAPPED", 2)
    monkeypatch.setattr(parts, "VIEWS", 5)
    monkeypatch.setattr(parts, "LENGTH", 40)
    monkeypatch.setattr(parts, "SEQUENCES", 4)


def test_it_learns_and_nothing_else_does(dataset: EpisodeDataset, tmp_path):
    trainer = Trainer(config(tmp_path), CONFIG, dataset)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    with torch.no_grad():
        untrained = np.mean(
            [float(loss) for loss in islice(parts._losses(trainer.model, dataset, 240, config(tmp_path)), 8)]
        )
    trainer.fit_renderer()
    after = trainer.model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {k for k in before if k.startswith("renderer.")}
    assert all(torch.equal(v, after[f"renderer.{k}"]) for k, v in trainer.ema.renderer.state_dict().items())
    assert trainer.folder.metrics()[-1]["render_loss"] < 0.7 * untrained


def test_it_sees_no_frames_that_are_held_out(dataset: EpisodeDataset, tmp_path):
    spoiled = replace_frames(dataset, 240)
    for cut, same in ((240, True), (300, False)):
        weights = []
        for data in (dataset, spoiled):
            trainer = Trainer(config(tmp_path / f"{cut}"), CONFIG, dataset)
            train_renderer(trainer.model, data, cut, config(tmp_path, render_steps=6))
            weights.append(trainer.model.renderer.guess.weight)
        assert torch.equal(*weights) == same


def test_what_is_mapped_and_shown_came_before(tmp_path, monkeypatch):
    """Every frame is of two colours: its number, and that of its episode."""
    episodes = []
    for seed in range(5):
        obs = np.zeros((40, SIZE, SIZE, 3), np.uint8)
        obs[..., 0] = 6 * np.arange(40)[:, None, None]
        obs[..., 1] = 50 * seed
        pose = np.random.default_rng(seed).normal(size=(40, 3)).astype(np.float32)
        nothing = np.zeros(40, bool)
        episodes.append(
            Episode(obs, np.zeros(40, int), np.zeros(40, np.float32), nothing, nothing, seed=seed, pose=pose)
        )
    dataset = write_dataset(tmp_path / "data", episodes, DatasetOrigin("Numbers-v0", {"type": "Discrete", "n": 2}))
    exact = config(tmp_path, render_steps=12, objective=ObjectiveConfig(context_noise=0.0))
    trainer = Trainer(exact, CONFIG, dataset)
    model = trainer.model
    told = {}

    def number(frames):
        """(..., 2): numbers of frames (..., 3, S, S) and of their episodes."""
        colours = (frames[..., :2, 4:-4, 4:-4].mean((-1, -2)) + 1) * 127.5
        return (colours / torch.tensor([6.0, 50.0])).round()

    def noted(name, original, chosen):
        def call(*args):
            told.setdefault(name, []).append(chosen(*args))
            return original(*args)

        return call

    voxels = model.renderer.voxels
    drawn = model.renderer.forward
    error = parts.frame_error
    monkeypatch.setattr(voxels, "lifted", noted("mapped", voxels.lifted, number))
    monkeypatch.setattr(voxels, "written", noted("there", voxels.written, lambda *args: args[3]))
    monkeypatch.setattr(model.renderer, "forward", noted("shown", drawn, lambda *a: (number(a[0]), a[1], a[4])))
    monkeypatch.setattr(
        parts, "frame_error", noted("target", error, lambda *a: number(model.tokenizer.decode(a[2][0])))
    )
    for _ in parts._losses(model, dataset, 200, exact):
        pass
    mapped = torch.stack(told["mapped"]).view(12, 1, parts.MAPS, parts.MAPPED, 2)
    there = torch.stack(told["there"]).view(12, 1, parts.MAPPED, parts.MAPS).mT
    target = torch.stack(told["target"])[::2].view(12, parts.VIEWS, parts.MAPS, 1, 2)
    earlier = (mapped[..., 0] < target[..., 0]) & (mapped[..., 1] == target[..., 1])
    assert there.any() and (earlier | ~there).all()
    ahead = (target[..., 0] - mapped[..., 0])[there.expand(earlier.shape)]
    assert ahead.min() == 1 and ahead.max() > 10
    frames, is_shown, age = (torch.stack(parts_) for parts_ in zip(*told["shown"], strict=True))
    target = target.view(12, -1, 1, 2)
    right = (frames[..., 0] == target[..., 0] - age) & (frames[..., 1] == target[..., 1])
    assert is_shown.any() and (right | ~is_shown).all()


def test_voxels_are_told_of_their_own_errors(dataset: EpisodeDataset, tmp_path, monkeypatch):
    trainer = Trainer(config(tmp_path), CONFIG, dataset)
    errors = iter([torch.tensor(1.0), torch.tensor(10.0)])
    monkeypatch.setattr(parts, "frame_error", lambda *_: next(errors))
    assert float(next(parts._losses(trainer.model, dataset, 240, config(tmp_path)))) == pytest.approx(4.0)


def replace_frames(dataset, since):
    """The same dataset, with other frames from a number on."""
    copy = EpisodeDataset(dataset.folder)
    copy.obs = np.concatenate([dataset.obs[:since], 255 - dataset.obs[since:]])
    return copy


def test_it_is_trained_once_and_not_at_all_where_none_is_kept(dataset: EpisodeDataset, tmp_path, monkeypatch):
    trainer = Trainer(config(tmp_path, render_steps=2), CONFIG, dataset)
    trained = trainer.run().renderer.guess.bias
    again = Trainer(config(tmp_path, render_steps=2), CONFIG, dataset)
    monkeypatch.setattr(again, "fit_renderer", lambda: pytest.fail("it was trained already"))
    assert torch.equal(again.run().renderer.guess.bias, trained)
    without = replace(CONFIG, network=replace(NETWORK, keyframes=0))
    plain = Trainer(config(tmp_path / "without"), without, dataset)
    assert plain.renderer_trained and plain.model.renderer is None
