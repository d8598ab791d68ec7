"""Simulators are judged and timed beside one another, and shown beside the speed card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from lssvwm_env.evaluation.compare import CompareConfig
from lssvwm_env.simulator.simulator import Simulator

ROOT = Path(__file__).parents[2]


def test_all_are_judged_on_the_same_episodes_and_timed_in_one_run(
    toy_simulator: Simulator, tmp_path: Path, program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = program("benchmarks/trade_off.py")
    asked: list[CompareConfig] = []
    found = {"value": 0.99, "low": 0.98, "high": 1.0}
    judged = {"tiles_seen": found, "objects_seen": found | {"value": None}, "psnr": found}
    monkeypatch.setattr(
        module, "compare", lambda config: asked.append(config) or {"next_frame": judged, "dream": judged}
    )
    real = replace(toy_simulator.config, env_id="MiniGrid-MemoryS9-v0")
    for name in ("one", "two"):
        Simulator(toy_simulator.model, real, toy_simulator.starts).save(tmp_path / name, "")
    records = ROOT / "benchmarks" / "records"
    (tmp_path / "speed-card.json").write_text((records / "speed-card.json").read_text())
    simulators = str(tmp_path / "one"), str(tmp_path / "two")
    module.main(
        module.Args(
            simulators, denoising_steps=(1, 2), envs=3, rounds=1, threads=1, records=tmp_path, docs=tmp_path / "docs"
        )
    )
    assert [(c.simulator, c.denoising_steps) for c in asked] == [(s, n) for s in simulators for n in (1, 2)]
    assert asked[0].dataset is None and {c.dataset for c in asked[1:]} == {asked[0].out / "episodes"}
    record = json.loads((tmp_path / "trade-off.json").read_text())
    assert list(record["real"]) == ["MiniGrid-MemoryS9-v0"] and all(row["speed"] > 0 for row in record["rows"])
    text = (tmp_path / "docs" / "speed.md").read_text()
    assert text.count("99.00 [98.00, 100.00] | - |") == 8
    assert text.index("## How good, how fast") < text.index("## To remember")
    assert (tmp_path / "docs" / "img" / "trade_off.png").read_bytes().startswith(b"\x89PNG")
