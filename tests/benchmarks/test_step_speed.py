"""The benchmark of speed runs, and prints a row per batch size and a column per history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from lssvwm_env.simulator import Simulator


def test_prints_speeds_beside_the_real_environment(
    toy_simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], program: Callable[[str], ModuleType]
) -> None:
    module = program("benchmarks/step_speed.py")
    real = replace(toy_simulator.config, env_id="MiniGrid-MemoryS9-v0")
    Simulator(toy_simulator.model, real, toy_simulator.starts).save(tmp_path / "toy", "")
    args = module.Args(str(tmp_path / "toy"), envs=(1, 3), histories=(2, 12), rounds=1, steps=1, threads=1, seed=5)
    module.main(args)
    printed = capsys.readouterr().out
    assert "history 2" in printed and "history 12" in printed and "real environment" in printed
    rows = [line for line in printed.splitlines() if line.startswith(("│ 1 ", "│ 3 "))]
    assert len(rows) == 2
    assert all(float(cell) > 0 for row in rows for cell in row.strip("│").split("│"))
    assert f"{toy_simulator.model.initial_state(1).nbytes / 1e6:.2f} MB" in printed and "seed 5" in printed
