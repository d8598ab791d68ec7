"""`lssvwm imagine` and `lssvwm judge`: from dreams to a policy, and from a policy to what it earns."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import imageio.v3 as iio
import pytest

import lssvwm_agents.judging.judge as module
from lssvwm_agents.judging.judge import JudgeConfig, judge
from lssvwm_agents.judging.outcomes import Outcome
from lssvwm_agents.learning.imagination import ImaginationConfig
from lssvwm_agents.learning.imagine import ImagineConfig, imagine
from lssvwm_agents.planning.mpc import EpisodeRecord
from lssvwm_agents.policies.actor_critic import ActorCritic, ActorCriticConfig, bundled_policy
from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data.splits import SPLITS

WORLD = "MiniGrid-MemoryS9-v0"


@pytest.fixture
def folder(toy_simulator: Simulator, tmp_path: Path) -> str:
    """A simulator of a real environment; what it dreams is random."""
    config = replace(toy_simulator.config, env_id=WORLD)
    Simulator(toy_simulator.model, config, toy_simulator.starts).save(tmp_path / "toy", "")
    return str(tmp_path / "toy")


def test_no_module_of_a_strangers_file_is_imported(toy_simulator: Simulator, tmp_path: Path) -> None:
    config = replace(toy_simulator.config, env_id="no_such_module:World")
    Simulator(toy_simulator.model, config, toy_simulator.starts).save(tmp_path / "toy", "")
    asked = JudgeConfig(str(tmp_path / "toy"), tmp_path / "out", "uniform", episodes=1, threads=1)
    with pytest.raises(ValueError, match="If you trust it, say so: --env-id 'no_such_module:World'"):
        judge(asked)
    with pytest.raises(ValueError, match="No module named 'no_such_module'"):
        judge(replace(asked, env_id="no_such_module:World"))


def test_from_recorded_episodes_to_a_policy_that_is_judged(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = collect(CollectConfig(WORLD, tmp_path / "data", frames=60, workers=1))
    training = ImaginationConfig(
        tmp_path / "run", updates=2, num_dreams=4, refresh=2, horizon=2, width=8, minibatches=1
    )
    policy = imagine(ImagineConfig(folder, data.folder, training, bf16=False, threads=1))
    file = tmp_path / "run" / "policy.safetensors"
    assert policy.config == ActorCritic.load(file, Simulator.load(folder)).config

    config = JudgeConfig(folder, tmp_path / "out", policy=file, episodes=3, max_steps=4, horizon=2, films=1, threads=1)
    report = judge(config)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["episodes"] == 3 and report["env_id"] == WORLD and report["decision_seconds"]["mean"] > 0
    assert "--policy" in report["command"] and len(report["lengths"]["won"]) + len(report["lengths"]["lost"]) == 3
    assert report["training"]["imagined_steps"] == 2 * 4 * 2 and report["training"]["recorded_frames"] == len(data)
    assert report["training"]["command"].startswith("lssvwm imagine")
    assert report["training"]["recorded_by"] == "wander policy (wander is a script that knows the map)"
    assert "wander is a script that knows the map" in " ".join(capsys.readouterr().out.split())
    assert iio.imread(tmp_path / "out" / "promises.png").ndim == 3
    films = list((tmp_path / "out").glob("overpromised-*.gif"))
    assert len(films) == min(1, len(report["overpromised"]))


@pytest.mark.parametrize("agent", ["shooting", "cem", "mppi", "mcts"])
def test_every_planner_may_ask_a_critic_and_be_curious(agent: str, folder: str, tmp_path: Path) -> None:
    simulator = Simulator.load(folder)
    about = simulator.config
    critic = ActorCritic(ActorCriticConfig(about.model.feature_dim, about.action_space, 8, 1, simulator.weights_sha256))
    critic.save(tmp_path / "critic.safetensors")
    config = JudgeConfig(
        folder, tmp_path / "out", agent, tmp_path / "critic.safetensors", episodes=1, max_steps=2, horizon=2,
        imagined_steps=8, curiosity=0.5, denoising_steps=2, threads=1,
    )  # fmt: skip
    assert judge(config)["steps"]["value"] <= 2


def test_who_dreams_with_one_step_has_nothing_to_find_out(folder: str, tmp_path: Path) -> None:
    config = JudgeConfig(folder, tmp_path / "out", "mcts", imagined_steps=8, curiosity=0.5, denoising_steps=1)
    with pytest.raises(ValueError, match="curiosity is 0.5 and denoising_steps is 1; expected at least 2"):
        judge(config)


def test_a_film_shows_the_very_episode_whose_promise_was_broken(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = []
    filmed = list[EpisodeRecord]()
    play = module.play_episodes
    run_episode = module.run_episode
    monkeypatch.setattr(module, "play_episodes", lambda *a: played.extend(new := play(*a)) or new)
    monkeypatch.setattr(module, "run_episode", lambda *a: filmed.append(run_episode(*a)) or filmed[-1])
    real_summary = module.summary

    def summary(outcomes, gamma):
        return real_summary(outcomes, gamma) | {"overpromised": [o.seed for o in outcomes[1:3]]}

    monkeypatch.setattr(module, "summary", summary)
    judge(
        JudgeConfig(
            folder, tmp_path / "out", "shooting", episodes=3, max_steps=4, horizon=2, imagined_steps=8, num_envs=2,
            bf16=False, threads=1,
        )
    )  # fmt: skip
    assert [r.values.tolist() for r in filmed] == [pytest.approx(o.promised.tolist(), abs=1e-4) for o in played[1:3]]
    assert len(list((tmp_path / "out").glob("*.gif"))) == 2


def test_an_episode_is_the_same_whoever_plays_beside_it(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = list[Outcome]()
    play = module.play_episodes
    monkeypatch.setattr(module, "play_episodes", lambda *a: played.extend(new := play(*a)) or new)
    for num_envs in (1, 2, 3):
        judge(
            JudgeConfig(
                folder, tmp_path / "out", "shooting", episodes=3, max_steps=4, horizon=2, imagined_steps=8,
                num_envs=num_envs, films=0, bf16=False, threads=1,
            )
        )  # fmt: skip
    promised = [o.promised.tolist() for o in played]
    for i in range(3):
        assert promised[i] == pytest.approx(promised[3 + i], abs=1e-4)
        assert promised[i] == pytest.approx(promised[6 + i], abs=1e-4)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_agent_is_chosen_on_other_layouts_than_it_is_judged_on(
    split: Literal["validation", "test"], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = list[Outcome]()
    play = module.play_episodes
    monkeypatch.setattr(module, "play_episodes", lambda *a: played.extend(new := play(*a)) or new)
    judge(JudgeConfig(folder, tmp_path / "out", "uniform", episodes=2, split=split, max_steps=2, threads=1))
    assert [o.seed for o in played] == list(SPLITS[split][:2])


def test_luck_is_an_agent_without_promises(folder: str, tmp_path: Path) -> None:
    report = judge(JudgeConfig(folder, tmp_path / "out", "uniform", episodes=4, max_steps=5, threads=1))
    assert report["episodes"] == 4 and "decision_seconds" not in report
    assert Counter(p.name for p in (tmp_path / "out").iterdir()) == {"report.json": 1}


def test_the_bundled_policy_is_followed_unless_another_is_named(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def bundled(env_id: str) -> Path:
        asked.append(env_id)
        return tmp_path / "policy.safetensors"

    simulator = Simulator.load(folder)
    about = simulator.config
    settings = ActorCriticConfig(about.model.feature_dim, about.action_space, 8, 1, simulator.weights_sha256)
    ActorCritic(settings).save(tmp_path / "policy.safetensors")
    monkeypatch.setattr(module, "bundled_policy", bundled)
    judge(JudgeConfig(folder, tmp_path / "out", episodes=1, max_steps=2, horizon=1, threads=1))
    assert asked == [WORLD]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no policy comes with this library for Chess-v0"):
        bundled_policy("Chess-v0")
    with pytest.raises(ValueError, match="episodes=0 must be at least 1"):
        JudgeConfig("toy", Path("out"), "cem", episodes=0)
    with pytest.raises(ValueError, match="there are 1073741824 seeds in the validation split"):
        JudgeConfig("toy", Path("out"), "cem", episodes=2**30 + 1, split="validation")
