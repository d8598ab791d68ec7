"""From a real environment to a simulator: collect, train, step, judge; and the same again after a kill."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
import torch
import tyro
from gymnasium.utils.env_checker import check_env

import lssvwm_env
from lssvwm_env.cli import main
from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.train import TrainConfig, card, map_size, model_config, train
from lssvwm_models.data import DatasetOrigin, EpisodeDataset, write_dataset
from lssvwm_models.data.segments import motions
from lssvwm_models.data.spec import Camera
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.trainer import Trainer, TrainingConfig

ENV_ID = "MiniGrid-MemoryS9-v0"
TINY = (
    "--preset debug --odometry-steps 2 --render-steps 2 --head-steps 2 --head-sequences 4 --steps 4 --lengths 4 8 "
    "--frames-per-step 16 --warmup 1 --validation 0.1 --log-every 1 --eval-every 2 --threads 1 "
    "--starts 5 --start-frames 4 --horizon 30 --seed 3"
)


def lssvwm(*words: object) -> None:
    """Run a shell command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["lssvwm", *map(str, words)])
        assert main() == 0


def trained_by(folder: Path) -> TrainConfig:
    """What the command on a card does."""
    card = (folder / "CARD.md").read_text()
    (command,) = (line.split("`")[1] for line in card.splitlines() if line.startswith("| training |"))
    program, name, *words = shlex.split(command)
    assert (program, name) == ("lssvwm", "train")
    return tyro.cli(TrainConfig, args=words)


def config(dataset: EpisodeDataset, out: Path, **changes: object) -> TrainConfig:
    """What `TINY` says."""
    training = TrainingConfig(
        out, steps=4, lengths=(4, 8), frames_per_step=16, odometry_steps=2, render_steps=2, head_steps=2,
        head_sequences=4, warmup=1, validation=0.1, log_every=1, eval_every=2, threads=1, seed=3,
    )  # fmt: skip
    fields = {name for name in changes if hasattr(training, name)}
    training = replace(training, **{name: changes.pop(name) for name in fields})
    small = TrainConfig(dataset.folder, training, "debug", starts=5, start_frames=4, horizon=30)
    return replace(small, **changes)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    out = tmp_path_factory.mktemp("data") / "train"
    lssvwm("collect", "--env-id", ENV_ID, "--out", out, "--frames", 300, "--episode-length", 40, "--workers", 1)
    return EpisodeDataset(out)


@pytest.fixture(scope="module")
def trained(dataset: EpisodeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the command line; its name has to be quoted."""
    out = tmp_path_factory.mktemp("my runs") / "whole"
    lssvwm("train", "--dataset", dataset.folder, "--out", out, *TINY.split())
    return out


def test_the_default_dtype_of_the_program_changes_no_weight(
    dataset: EpisodeDataset, trained: Path, tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        made = train(config(dataset, tmp_path / "x"))
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert made.weights_sha256 == Simulator.load(trained / "simulator").weights_sha256


@pytest.mark.parametrize(("longest", "told"), [(8, False), (48, True)])
def test_memory_is_trained_for_no_longer_than_an_episode_and_that_is_said(
    dataset: EpisodeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], longest: int, told: bool
) -> None:
    train(config(dataset, tmp_path / "run", steps=1, lengths=(longest,), frames_per_step=longest, validation=0.3))
    assert ("Sequences of 48 frames" in (said := capsys.readouterr().out)) == told
    assert ("has 40: nothing is remembered" in said) == told


def test_a_trained_simulator_is_a_gymnasium_environment(trained: Path, dataset: EpisodeDataset) -> None:
    folder = trained / "simulator"
    env = lssvwm_env.load(folder)
    check_env(env.unwrapped)
    assert env.unwrapped.simulator.config.model.network.memory_frames == 30  # longer dreams forget
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space and obs.shape == dataset.obs.shape[1:]
    for step in range(30):
        obs, reward, _, truncated, info = env.step(env.action_space.sample())
        assert obs in env.observation_space and np.isfinite(reward) and 0 <= info["term_prob"] <= 1
        assert truncated == (step == 29)  # --horizon


def test_a_simulator_says_what_it_was_trained_on(trained: Path, dataset: EpisodeDataset) -> None:
    simulator = Simulator.load(trained / "simulator")
    assert simulator.config.env_id == ENV_ID
    assert simulator.config.data_hash == dataset.hash()
    assert simulator.config.trained_length == 8
    assert simulator.starts.obs.shape == (5, 4, 64, 64, 3)
    first = np.array([frame[0] for frame in simulator.starts.obs])
    begins = dataset.obs[dataset.episode_starts]
    assert all((frame == begins).all((1, 2, 3)).any() for frame in first)


@pytest.mark.parametrize("field", ["env_id", "env_kwargs", "policy", "command"])
def test_what_strangers_wrote_does_nothing_on_the_card(
    toy_simulator: Simulator, dataset: EpisodeDataset, tmp_path: Path, field: str
) -> None:
    hostile = "<img src=x onerror=a()>\n# h | [a](b) `c` \x1b[2J"
    data = EpisodeDataset(dataset.folder)
    data.spec = replace(data.spec, **{field: {hostile: 1} if field == "env_kwargs" else hostile})
    trainer = Mock(dataset=data, frames=9, seconds=1.0)
    trainer.lengths.return_value = (4,)
    text = card(toy_simulator, trainer, config(dataset, tmp_path))
    assert "<img" not in text and "\x1b" not in text and "\n# h" not in text
    assert r"&lt;img src=x onerror=a()&gt;" in text and r" \| \[a\](b) \`c\`" in text


def test_the_card_says_how_it_was_made(trained: Path, dataset: EpisodeDataset) -> None:
    folder = trained / "simulator"
    assert trained_by(folder) == config(dataset, trained)
    card = (folder / "CARD.md").read_text()
    for fact in (f"`{dataset.spec.command}`", dataset.hash(), "| seed | 3 |", "1 thread(s)", "cores)", "torch "):
        assert fact in card
    assert f"{len(dataset):,} frames in {len(dataset.episode_starts)} episodes" in card
    assert "4 (64 frames seen), sequences of 4, then 8 frames" in card
    picture = iio.imread(folder / "curves.png")
    assert picture.ndim == 3 and picture.std() > 0 and "](curves.png)" in card


def test_fidelity_stands_on_the_card_once(trained: Path, tmp_path: Path) -> None:
    test = collect(CollectConfig(ENV_ID, tmp_path / "test", 80, "test", workers=1, episode_length=30))
    path = trained / "simulator" / "CARD.md"
    before = path.read_text()
    for sequences in (1, 2):
        lssvwm("compare", "--simulator", path.parent, "--out", tmp_path / "out", "--dataset", test.folder, "--card",
               "--sequences", sequences, "--context", 4, "--horizon", 3)  # fmt: skip
    card = path.read_text()
    assert card.startswith(before.rstrip()) and card.count("## Fidelity") == 1
    assert "2 episodes of the test split" in card and " 1 episodes" not in card
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert f"{report['next_frame']['psnr']['value']:.1f}" in card
    Simulator.load(path.parent)  # still whole


def test_a_killed_run_resumes_with_the_same_command(
    trained: Path, dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.train_step

    def killed(trainer: Trainer) -> dict[str, float]:
        if trainer.step == 3:  # one step after the checkpoint
            raise KeyboardInterrupt
        return step(trainer)

    command = ("train", "--dataset", dataset.folder, "--out", tmp_path, *TINY.split())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_step", killed)
        lssvwm(*command)
    assert not (tmp_path / "simulator").exists()
    lssvwm(*command)
    whole, resumed = (Simulator.load(run / "simulator") for run in (trained, tmp_path))
    assert resumed.weights_sha256 == whole.weights_sha256
    np.testing.assert_array_equal(resumed.starts.obs, whole.starts.obs)
    steps = [line["step"] for line in map(json.loads, (tmp_path / "metrics.jsonl").open())]
    assert set(steps) >= {1, 2, 3, 4}


def test_a_run_killed_before_its_curves_are_drawn_is_finished_by_the_same_command(
    dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lssvwm_env.train.curves_png", killed := Mock(side_effect=KeyboardInterrupt))
        train(config(dataset, tmp_path))
    assert killed.called and not (tmp_path / "simulator" / "curves.png").exists()
    weights = Simulator.load(tmp_path / "simulator").weights_sha256
    assert train(config(dataset, tmp_path)).weights_sha256 == weights
    assert (tmp_path / "simulator" / "curves.png").is_file()


def test_a_run_with_other_settings_is_refused(trained: Path, dataset: EpisodeDataset) -> None:
    with pytest.raises(ValueError, match=r"holds a run with another configuration[\s\S]*Repeat the command"):
        train(config(dataset, trained, lr=0.5))


def test_too_short_episodes_are_refused(dataset: EpisodeDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="start_frames=45; lower it"):
        train(config(dataset, tmp_path, start_frames=45, steps=1, lengths=(4, 48), frames_per_step=48))


class Drift(gym.Env):
    """Not a grid world: the action, a velocity, moves a bright square, and reaching the right border ends it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.observation_space = gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(0.2, 0.6, 2)
        return self._frame(), {}

    def step(self, action):
        assert action in self.action_space
        self.place = np.clip(self.place + 0.1 * action, 0, 0.9)
        end = bool(self.place[1] >= 0.9)
        return self._frame(), float(end), end, False, {}

    def _frame(self):
        frame = np.zeros(self.observation_space.shape, np.uint8)
        row, column = (self.place * self.size).astype(int)
        frame[row : row + 3, column : column + 3] = (250, 120, 20)
        return frame


@pytest.mark.parametrize("size", [64, 32])
def test_any_environment_of_square_frames_and_box_actions(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gym.registry, "Drift-v0", gym.envs.registration.EnvSpec("Drift-v0", lambda: Drift(size)))
    data = collect(CollectConfig("Drift-v0", tmp_path / "data", 200, policy="uniform", workers=1, episode_length=20))
    assert data.spec.action_space["type"] == "Box" and data.act.dtype == np.float32 and data.pose is None
    train(config(data, tmp_path / "run"))
    env = lssvwm_env.load(tmp_path / "run" / "simulator")
    check_env(env.unwrapped)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (size, size, 3)
    obs, reward, terminated, _, _ = env.step(np.array([0.5, -0.5], np.float32))
    assert obs in env.observation_space and isinstance(reward, float) and isinstance(terminated, bool)
    with pytest.raises(ValueError, match="action has the values"):
        env.step(np.array([2.0, 0.0], np.float32))


class Tall(Drift):
    """The same in a shape that fits nothing, moved by two switches."""

    def __init__(self) -> None:
        super().__init__(210)
        self.observation_space = gym.spaces.Box(0, 255, (210, 160, 3), np.uint8)
        self.action_space = gym.spaces.MultiDiscrete([3, 3])

    def step(self, action):
        self.place = np.clip(self.place + 0.1 * (action - 1), 0, [0.9, 0.7])
        return self._frame(), 1.0, False, False, {}


def test_any_environment_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gym.registry, "Tall-v0", gym.envs.registration.EnvSpec("Tall-v0", Tall))
    for split in ("train", "test"):
        lssvwm("collect", "--env-id", "Tall-v0", "--out", tmp_path / split, "--split", split, "--frames", 120,
               "--episode-length", 20, "--workers", 1, "--frame-skip", 2)  # fmt: skip
    train(config(EpisodeDataset(tmp_path / "train"), tmp_path / "run", steps=2))
    folder = tmp_path / "run" / "simulator"
    env = lssvwm_env.load(folder)
    assert env.observation_space.shape == (64, 64, 3) and env.action_space == gym.spaces.Discrete(9)
    env.reset(seed=0)
    assert env.step(8)[0] in env.observation_space
    lssvwm("compare", "--simulator", folder, "--out", tmp_path / "out", "--dataset", tmp_path / "test",
           "--sequences", 2, "--context", 4, "--horizon", 3)  # fmt: skip
    real = json.loads((tmp_path / "out" / "report.json").read_text())
    assert real["env_kwargs"] == {"frame_skip": 2} and real["dream"]["psnr"]["n"] == 6


def test_the_card_of_a_run_from_python_names_a_command_that_repeats_it(dataset: EpisodeDataset, tmp_path: Path) -> None:
    small = config(dataset, tmp_path, steps=1)
    train(small)
    assert trained_by(tmp_path / "simulator") == small


def test_a_kill_amid_a_line_of_metrics_is_survived(dataset: EpisodeDataset, tmp_path: Path) -> None:
    Trainer(config(dataset, tmp_path).training, model_config(dataset, "debug"), dataset).train_step()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "frame_loss": 0.5}\n{"step": 2, "fra')
    train(config(dataset, tmp_path))
    assert (tmp_path / "simulator" / "curves.png").is_file()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) > 4


def test_settings_that_make_no_simulator_are_refused_before_training(dataset: EpisodeDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="start"):
        train(config(dataset, tmp_path, steps=1, start_frames=9))  # trained on 8 at most
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_refused_run_can_be_corrected_in_the_same_folder(dataset: EpisodeDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few to train"):
        train(config(dataset, tmp_path, lengths=(280,), frames_per_step=280))
    train(config(dataset, tmp_path, steps=1))


def test_repeating_a_finished_command_keeps_what_was_measured(dataset: EpisodeDataset, tmp_path: Path) -> None:
    train(config(dataset, tmp_path, steps=1))
    path = tmp_path / "simulator" / "CARD.md"
    path.write_text(path.read_text() + "\n## Fidelity\n\nmeasured\n")
    train(config(dataset, tmp_path, steps=1))
    assert "measured" in path.read_text()


@pytest.mark.parametrize("changes", [{"warmup": 0}, {"log_every": 0}, {"eval_every": 0}, {"ema": 2.0}])
def test_impossible_numbers_are_refused(tmp_path: Path, changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainingConfig(tmp_path, **changes)


def test_a_simulator_of_any_size_can_be_gone_on_with_and_learn_to_reckon_alone(
    trained: Path, dataset: EpisodeDataset, tmp_path: Path
) -> None:
    weights = trained / "simulator" / "model.safetensors"
    again = train(config(dataset, tmp_path, preset="tiny", init=weights, steps=0, odometry_steps=3)).model
    before = Simulator.load(trained / "simulator").model
    assert again.config == before.config
    theirs = before.state_dict()
    changed = {name for name, tensor in again.state_dict().items() if not tensor.equal(theirs[name])}
    assert any(name.startswith("odometry.") for name in changed)
    assert all(name.startswith(("odometry.", "features.", "reward.", "termination.")) for name in changed)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_poses_that_no_model_can_use_are_left_out_and_that_is_said(
    dtype: type, dataset: EpisodeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes = [replace(e, pose=e.pose.astype(dtype), tiles=None) for e in dataset.episodes()]
    roams = write_dataset(tmp_path, episodes, DatasetOrigin("Roams-v0", dataset.spec.action_space))
    assert model_config(roams, "debug").view is None
    said = capsys.readouterr().out
    assert f"The poses of {tmp_path} are not used" in said and "metadata['camera'] = {'fov': degrees}" in said
    assert model_config(dataset, "debug").view is not None and capsys.readouterr().out == ""


def test_in_first_person_maps_are_along_rays_and_keyframes_are_kept(dataset: EpisodeDataset, tmp_path: Path) -> None:
    episodes = [replace(e, tiles=None) for e in dataset.episodes()]
    origin = DatasetOrigin("Eye-v0", dataset.spec.action_space, camera=Camera(75.0, -0.4))
    seen = write_dataset(tmp_path, episodes, origin)
    tiny = model_config(seen, "tiny")
    assert isinstance(tiny.view, FirstPersonView) and (tiny.view.fov, tiny.view.ahead) == (75.0, -0.4)
    network = tiny.network
    assert (network.block_sizes, network.map_layers, network.keyframes) == ((4, 2), (0,), 512)
    assert (network.merge, network.d_model, network.d_inner, network.window) == (2, 128, 64, 1)
    assert tiny.latent_dim == 96 and tiny.view.motions == motions(dataset) and not tiny.in_plane
    for size in ("debug", "micro", "tiny", "small"):
        WorldModel(replace(model_config(seen, size), latent_dim=4))


def test_in_first_person_poses_may_be_in_the_plane(dataset: EpisodeDataset, tmp_path: Path) -> None:
    assert dataset.pose is not None
    plane = [replace(e, pose=(e.pose * [2, 2, np.pi / 2]).astype(np.float32), tiles=None) for e in dataset.episodes()]
    origin = DatasetOrigin("Eye-v0", dataset.spec.action_space, camera=Camera(75.0, 0.1, 2.0))
    seen = write_dataset(tmp_path / "data", plane, origin)
    sizes = model_config(seen, "debug")
    assert isinstance(sizes.view, FirstPersonView) and sizes.in_plane
    assert (sizes.view.motions, sizes.view.ahead, sizes.view.cell) == (None, 0.1, 2.0)
    train(config(seen, tmp_path / "run", steps=2, odometry_steps=3))
    env = lssvwm_env.LSSVWMEnv(tmp_path / "run" / "simulator")
    env.reset(seed=0)
    env.save_state(tmp_path / "state.safetensors")
    action = env.action_space.sample()
    frame, *_ = env.step(action)
    memory = env.core.memory
    assert memory.pose.dtype == torch.float32 and memory.motions is not None
    env.load_state(tmp_path / "state.safetensors")
    assert np.array_equal(env.step(action)[0], frame)


@pytest.mark.parametrize(
    ("cells", "size"), [(5.0, 8), (16.0, 20), (16.5, 20), (17.0, 20), (17.1, 22), (37.0, 40), (90.0, 40)]
)
def test_the_map_is_as_large_as_the_world(
    dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, cells: float, size: int
) -> None:
    monkeypatch.setattr("lssvwm_env.train.extent", lambda data: cells)
    assert model_config(dataset, "debug").network.map_size == size
    said = capsys.readouterr().out
    assert (f"reach over {cells:.0f} cells" in said) == (cells > 37)
    metres = FirstPersonView(90.0, None, cell=2.0)
    assert map_size(dataset, metres, 4) == max(4, min(40, 2 * -(-(cells / 2 + 3) // 2)))
