"""The benchmark of forks runs, and finds every history as large as the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lssvwm_env.simulator import Simulator


def test_prints_costs_and_bytes(
    toy_simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], program: Callable[[str], ModuleType]
) -> None:
    module = program("benchmarks/fork_cost.py")
    toy_simulator.save(tmp_path / "toy", "")
    module.main(module.Args(str(tmp_path / "toy"), histories=(2, 12), forks=5, rounds=1, threads=1))
    printed = capsys.readouterr().out
    assert printed.count(f"{toy_simulator.model.initial_state(1).nbytes:,}") == 2 and "fork" in printed
