"""The demo writes what it promises, and what it plans stays on the test split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import pytest
from gymnasium.wrappers import TimeLimit

import lssvwm_agents.demo as module
from lssvwm_agents.demo import DemoConfig, demo
from lssvwm_agents.planning.protocols import Budget
from lssvwm_env.simulator.simulator import Simulator


def folder_of(simulator: Simulator, env_id: str, folder: Path) -> str:
    """A simulator folder for a real environment; what it dreams is random."""
    Simulator(simulator.model, replace(simulator.config, env_id=env_id), simulator.starts).save(folder, "a toy")
    return str(folder)


def test_everything_is_written(
    toy_simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = folder_of(toy_simulator, "MiniGrid-ObjectRooms-v0", tmp_path / "rooms")
    memory = folder_of(toy_simulator, "MiniGrid-MemoryS9-v0", tmp_path / "memory")
    monkeypatch.setattr(module, "Budget", lambda imagined_steps: Budget(imagined_steps=20))
    monkeypatch.setattr(module, "TimeLimit", lambda real, steps: TimeLimit(real, steps // 5))
    seeds = []
    play = module.run_episode
    monkeypatch.setattr(module, "run_episode", lambda *a, seed: (seeds.append(seed), play(*a, seed=seed))[1])

    demo(DemoConfig(tmp_path / "out", rooms, memory, sequences=1, episodes=2))

    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"dream_vs_real.gif", "fidelity.png", "plan.gif", "report.json", "episodes"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["sequences"] == 1 and report["split"] == "test" and report["demo_seconds"] > 0
    assert seeds == [2**30, 2**30 + 1]  # layouts that no training data were collected in
    assert len(report["plans"]) == 2
    for episode in report["plans"]:
        assert episode["terminated"] or episode["steps"] == 12
        assert 0 < episode["imagined_steps"] <= 20 * episode["steps"]
    film = iio.imread(tmp_path / "out" / "plan.gif")
    assert film.shape[1:] == (4 * 64, 4 * (64 + 2 + 64), 3)
    assert len(film) >= 2  # equal pictures may be merged
    assert iio.imread(tmp_path / "out" / "dream_vs_real.gif").ndim == 4
    printed = capsys.readouterr().out
    assert "Planned in a dream" in printed and "plan.gif" in printed
