"""The benchmark of forks runs, and finds every history as large as the others."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from lssvwm_env.simulator import Simulator

FILE = Path(__file__).parents[2] / "benchmarks" / "fork_cost.py"


def test_prints_costs_and_bytes(
    toy_simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("fork_cost", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fork_cost", module)
    spec.loader.exec_module(module)

    toy_simulator.save(tmp_path / "toy", "")
    module.main(module.Args(str(tmp_path / "toy"), histories=(2, 12), forks=5, rounds=1, threads=1))
    printed = capsys.readouterr().out
    assert printed.count(f"{toy_simulator.model.initial_state(1).nbytes:,}") == 2 and "fork" in printed
