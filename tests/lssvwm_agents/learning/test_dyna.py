"""The Dyna loop in a corridor: what it writes, what it costs, and that no kill changes what comes of it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import lssvwm_agents.learning.dyna as module
import lssvwm_agents.learning.transfer as translation
import lssvwm_env.datasets.collect as collecting
import lssvwm_env.train as training
import lssvwm_models.data.writing as writing
from lssvwm_agents.learning.dyna import DynaConfig, dyna, tokenizer_psnr
from lssvwm_agents.learning.dyna_config import RoundImagination, RoundTraining
from lssvwm_agents.learning.exploring import agent_player
from lssvwm_agents.learning.imagination import ImaginationTrainer
from lssvwm_agents.policies.actor_critic import ActorCritic, ActorCriticConfig
from lssvwm_env.cli import main
from lssvwm_env.datasets.collect import CollectConfig
from lssvwm_env.datasets.recording import record_episode
from lssvwm_env.real import make_real
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.data.splits import SPLITS
from lssvwm_models.training.trainer import Trainer

ROUNDS = 2
FRAMES = 120  # per round
LENGTH = 20  # of an episode


class Corridor(gym.Env[Any, Any]):
    """Eight cells; to come to the last one pays 1 and ends it. Counts the frames that it shows, by split."""

    observation_space = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)
    shown = dict.fromkeys(SPLITS, 0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cell = int(self.np_random.integers(6))
        (self.split,) = (name for name, seeds in SPLITS.items() if seed in seeds)
        return self._frame(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.cell = max(0, self.cell + 2 * int(action) - 1)
        return self._frame(), float(self.cell == 7), self.cell == 7, False, {}

    def _frame(self) -> NDArray[np.uint8]:
        self.shown[self.split] += 1
        frame = np.zeros((16, 16, 3), np.uint8)
        frame[:, 2 * self.cell : 2 * self.cell + 2] = 255
        return frame


gym.register("DynaCorridor-v0", entry_point=Corridor)


def config(out: Path, **changes: Any) -> DynaConfig:
    model = RoundTraining(
        steps=2, lengths=(4, 8), frames_per_step=16, head_steps=2, head_sequences=4, warmup=1, validation=0.1,
        log_every=1, eval_every=1, threads=1,
    )  # fmt: skip
    agent = RoundImagination(updates=2, num_dreams=4, refresh=2, horizon=3, width=16, log_every=1)
    values = {"rounds": ROUNDS, "frames_per_round": FRAMES, "episode_length": LENGTH, "explore": 0.3,
              "preset": "debug", "model": model, "agent": agent, "episodes": 3}  # fmt: skip
    return DynaConfig("DynaCorridor-v0", out, **(values | changes))


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Plots take longer than all the rest, and are looked at elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "SEQUENCES", 16)
        for name in ("curves_png", "state_png"):
            patch.setattr(training, name, lambda metrics: b"")
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], dict[str, int]]:
    """A run's folder, the reports that it returned, and the frames that the environment showed."""
    out, before = tmp_path_factory.mktemp("dyna") / "whole", dict(Corridor.shown)
    reports = dyna(config(out))
    return out, reports, {split: count - before[split] for split, count in Corridor.shown.items()}


def data(out: Path, number: int, name: str = "data") -> EpisodeDataset:
    return EpisodeDataset(out / f"round-{number:02d}" / name)


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key != "time" and not key.startswith("seconds")}


# --- what a run is ---


def test_it_leaves_what_it_says(unbroken: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out, reports, _ = unbroken
    assert dyna(config(out)) == reports  # there is nothing left to do
    assert "3 validation episodes after each round" in capsys.readouterr().out
    assert [r["round"] for r in reports] == [0, 1]
    for number, (report, line) in enumerate(zip(reports, lines(out), strict=True)):
        folder = out / f"round-{number:02d}"
        assert json.loads((folder / "report.json").read_text()) == report
        assert report["imagined_steps"] == (number + 1) * 2 * 4 * 3
        assert report["judged"]["success"]["n"] == 3 and report["judged"]["split"] == "validation"
        assert set(report["seconds"]) == {"collect", "model", "agent", "judge"}
        assert min(report["seconds"].values()) > 0
        assert line["step"] == report["real_frames"] and line["success_low"] <= line["success"] <= line["success_high"]
        simulator = Simulator.load(folder / "model" / "simulator")
        assert simulator.config.data_hash == data(out, number).hash()
        assert simulator.config.horizon == LENGTH - 1  # steps, of as many frames as an episode has
        assert ActorCritic.load(folder / "agent" / "policy.safetensors", simulator).config.width == 16
        story = json.loads((folder / "agent" / "policy.json").read_text())
        assert story["command"].startswith("lssvwm dyna --env-id DynaCorridor-v0")
        assert story["recorded_frames"] == report["real_frames"]
        assert story["imagined_steps"] == report["imagined_steps"]
        assert story["weights_sha256"] == simulator.weights_sha256


def test_real_frames_are_counted_and_kept_to(unbroken: Any) -> None:
    out, reports, shown = unbroken
    for number, report in enumerate(reports):
        assert 0 <= report["real_frames"] - (number + 1) * FRAMES < LENGTH
        assert report["real_frames"] == len(data(out, number))
        assert report["real_steps"] == report["real_frames"] - len(data(out, number).episode_starts)
    assert shown["train"] == reports[-1]["real_frames"]
    judged = [r["judged"]["real_steps"] for r in reports]
    assert shown["validation"] == sum(judged) + len(judged) * 3  # apart, with the first frame of every episode
    assert shown["test"] == 0  # kept for what is chosen by these


def test_a_round_knows_what_the_rounds_before_it_saw(unbroken: Any) -> None:
    out, _, _ = unbroken
    first, second, added = data(out, 0), data(out, 1), data(out, 1, "collected")
    for key in ("obs", "act", "rew", "is_first", "episode_seed"):
        joined = np.concatenate([getattr(first, key), getattr(added, key)])
        np.testing.assert_array_equal(getattr(second, key), joined)
    assert second.episode_seed.max() < SPLITS["test"].start
    assert len(set(second.episode_seed)) == len(second.episode_seed)
    agent = ActorCritic.load(out / "round-00" / "agent" / "policy.safetensors")
    assert first.spec.policy == "sticky" and added.spec.policy == f"actor-critic {agent.sha256()[:12]} exploring 30%"
    assert second.spec.policy == f"sticky, then {added.spec.policy}" and second.spec.command.startswith("lssvwm dyna")
    shards = [out / "round-01" / "data" / name for name in second.spec.shards]
    assert os.path.samefile(shards[0], out / "round-00" / "collected" / "shard-00000.npz")


def test_model_and_agent_go_on_from_where_they_were(unbroken: Any, tmp_path: Path) -> None:
    out, _, _ = unbroken
    model = json.loads((out / "round-01" / "model" / "config.json").read_text())
    assert model["training"]["init"] == str(out / "round-00" / "model" / "simulator" / "model.safetensors")
    assert model["training"]["seed"] != json.loads((out / "round-00/model/config.json").read_text())["training"]["seed"]
    begun = [json.loads((out / f"round-0{i}" / "agent" / "config.json").read_text())["initial"] for i in range(ROUNDS)]
    assert begun[0] is None and begun[1] is not None


def test_a_tokenizer_that_lacks_something_is_noticed(unbroken: Any) -> None:
    out, reports, _ = unbroken
    simulator = Simulator.load(out / "round-01" / "model" / "simulator")
    seen = data(out, 1)
    assert reports[-1]["tokenizer_psnr"] == tokenizer_psnr(simulator, seen) > 40
    seen.obs[-1, :, :, 0] = 0  # black and white until now
    assert tokenizer_psnr(simulator, seen) < 20


# --- kills ---


class Killed(BaseException):
    """What a kill looks like from inside."""


def kill_at(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """Let a function raise at its nth call, without doing anything."""
    calls, whole = iter(range(1000)), getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise Killed
        return whole(*args, **kwargs)

    patch.setattr(owner, name, killed)


def test_a_loop_that_is_killed_again_and_again_ends_as_if_unbroken(unbroken: Any, tmp_path: Path) -> None:
    out, reports, _ = unbroken
    kills: list[list[tuple[Any, str, int]]] = [  # per round: while collecting, training, dreaming, judging, reporting
        [
            (collecting, "write_shard", 0),
            (Trainer, "train_step", 1),
            (ImaginationTrainer, "train_step", 1),
            (module, "play_episodes", 0),
        ],
        [
            (collecting, "write_shard", 0),
            (writing, "write_spec", 0),
            (Trainer, "train_step", 1),
            (Trainer, "fit_heads", 0),
            (module, "transfer_policy", 0),
            (ImaginationTrainer, "train_step", 1),
            (
                module,
                "write_json",
                4,
            ),  # the seconds of four parts are written, and then the report
        ],
    ]
    for number, of_round in enumerate(kills):
        asked = config(tmp_path, rounds=number + 1)  # what was asked for at first is not all there can be
        for kill in of_round:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
                kill_at(patch, *kill)
                dyna(asked)
        resumed = dyna(asked)
    assert [timeless(r) for r in resumed] == [timeless(r) for r in reports]
    assert [timeless(line) for line in lines(tmp_path)] == [timeless(line) for line in lines(out)]
    for number in range(ROUNDS):
        assert data(tmp_path, number).hash() == data(out, number).hash()
        folders = [folder / f"round-{number:02d}" for folder in (tmp_path, out)]
        ours, theirs = (ActorCritic.load(folder / "agent" / "policy.safetensors").sha256() for folder in folders)
        assert ours == theirs
        ours, theirs = (Simulator.load(folder / "model" / "simulator").weights_sha256 for folder in folders)
        assert ours == theirs


# --- who collects ---


class Replay(gym.Env[Any, Any]):
    """Shows the frames of a recording, whatever is done, and has nothing else."""

    def __init__(self, frames: NDArray[np.uint8], space: gym.Space[Any]) -> None:
        self.frames, self.action_space = frames, space
        self.observation_space = gym.spaces.Box(0, 255, frames.shape[1:], np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.rest = iter(self.frames)
        return next(self.rest), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return next(self.rest), 0.0, False, False, {}


def actor(simulator: Simulator) -> ActorCritic:
    torch.manual_seed(0)
    about = simulator.config
    made = ActorCritic(ActorCriticConfig(about.model.feature_dim, about.action_space, 16, 1, simulator.weights_sha256))
    torch.nn.init.normal_(made.actor[-1].weight)
    return made


def test_the_agent_that_collects_sees_only_frames(toy_simulator: Simulator, tmp_path: Path) -> None:
    agent = actor(toy_simulator)
    asked = CollectConfig("MiniGrid-DoorKey-5x5-v0", tmp_path, 1)
    player = agent_player(agent, toy_simulator, asked, explore=0.0, command="")

    def episode(env: Any, seed: int = 0) -> Any:
        seen, policy = player.join(env)
        return record_episode(seen, policy, seed=seed, rng=np.random.default_rng(0), length=12)

    real = episode(make_real("MiniGrid-DoorKey-5x5-v0"))
    assert real.pose is not None and len(set(real.act.tolist())) > 2
    blind = episode(Replay(real.obs, toy_simulator.action_space))
    np.testing.assert_array_equal(blind.act, real.act)
    np.testing.assert_array_equal(blind.obs, real.obs)
    changed = real.obs.copy()
    changed[3:] = 255 - changed[3:]
    other = episode(Replay(changed, toy_simulator.action_space))
    assert other.act[:4].tolist() == real.act[:4].tolist() and other.act.tolist() != real.act.tolist()


def test_actions_may_be_vectors(toy_box_simulator: Simulator, tmp_path: Path) -> None:
    space = toy_box_simulator.action_space
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    asked = CollectConfig("Replay-v0", tmp_path, 1, policy="uniform")
    for share in (0.0, 1.0):
        player = agent_player(actor(toy_box_simulator), toy_box_simulator, asked, share, "")
        seen, policy = player.join(Replay(frames, space))
        episode = record_episode(seen, policy, seed=0, rng=np.random.default_rng(0), length=5)
        assert episode.act.shape == (5, 2) and all(act in space for act in episode.act[1:])


def test_some_episodes_are_left_to_exploration(toy_simulator: Simulator, tmp_path: Path) -> None:
    """The agent does nothing but turn to the left; whoever acts at random does otherwise sometimes."""
    agent = actor(toy_simulator)
    for parameter in agent.actor.parameters():
        torch.nn.init.zeros_(parameter)
    agent.actor[-1].bias.data[0] = 100
    asked = CollectConfig("Replay-v0", tmp_path, 1, policy="uniform")
    player = agent_player(agent, toy_simulator, asked, 0.25, "")
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    seen, policy = player.join(Replay(frames, toy_simulator.action_space))
    rng = np.random.default_rng(0)
    explored = [record_episode(seen, policy, seed=i, rng=rng, length=4).act.any() for i in range(24)]
    assert 2 <= sum(explored) <= 12


# --- errors ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"episodes": 0}, "episodes=0 must be at least 1"),
        ({"explore": 1.5}, "explore=1.5 must be a share"),
        ({"frames_per_round": 50}, "frames_per_round=50 must be at least 52, .* sequences of 16 frames"),
        (
            {"agent": RoundImagination(context=9)},
            "agent.context=9 must be at most 8, the longest",
        ),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_the_least_frames_are_enough_for_the_first_training(tmp_path: Path) -> None:
    config(tmp_path, frames_per_round=52)
    for held_out in (0.02, 0.5):
        for frames in range(52, 200, 7):
            try:
                config(tmp_path, frames_per_round=frames, model=replace(config(tmp_path).model, validation=held_out))
            except ValueError:
                continue
            last_start = max(range(0, frames, LENGTH))
            starts = range(0, last_start + 1, LENGTH)
            assert any(16 <= start <= min(frames * (1 - held_out), frames - 16) for start in starts)


def test_another_run_or_world_is_refused_before_anything_is_written(unbroken: Any, tmp_path: Path) -> None:
    out, _, _ = unbroken
    with pytest.raises(ValueError, match="episodes: 3 there, 4 now"):
        dyna(config(out, episodes=4))
    with pytest.raises(ValueError, match="Nope"):
        dyna(replace(config(tmp_path / "new"), env_id="Nope-v0"))
    assert not (tmp_path / "new").exists()


def test_the_command_line_reads_back_what_a_dataset_says(unbroken: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out, reports, _ = unbroken
    words = shlex.split(data(out, 1).spec.command)
    assert main(words[1:]) == 0  # finds all done
    assert f"{reports[-1]['real_frames']}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*words[1:], "--explore", "2"])
    assert "explore=2.0 must be a share" in capsys.readouterr().err
