"""The benchmark of uncertainty runs, and tells a good one from a useless one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.simulator.simulator import Simulator


@pytest.fixture
def module(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("benchmarks/uncertainty_calibration.py")


def test_dreams_beside_real_episodes(
    module: ModuleType, toy_simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CollectConfig("MiniGrid-MemoryS9-v0", tmp_path / "data", 40, workers=1, episode_length=8)
    data = collect(config)
    real = replace(toy_simulator.config, env_id=config.env_id)
    Simulator(toy_simulator.model, real, toy_simulator.starts).save(tmp_path / "toy", "")
    picture = tmp_path / "new" / "picture.png"
    module.main(module.Args(data.folder, str(tmp_path / "toy"), 3, 3, 4, 2, threads=1, out=picture))
    assert "12 dreamt frames" in capsys.readouterr().out and picture.is_file()


def test_the_rank_correlation_is_one_of_ranks(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, args = np.random.default_rng(0), module.Args(tmp_path, out=tmp_path / "p.png")
    unsure = rng.random(500)
    for error, correlation in ((unsure**9, "1.00"), (-unsure + 1, "-1.00")):
        module.report(args, unsure, error)
        assert f"rank correlation {correlation}" in capsys.readouterr().out
