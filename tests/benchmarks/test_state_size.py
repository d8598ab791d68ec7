"""The benchmark of state sizes runs, finds smaller states at higher tolerances, and a whole one at none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.evaluation.dreams import dream
from lssvwm_models.execution.noise import fold


@pytest.fixture
def module(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("benchmarks/state_size.py")


def test_recall_against_bytes(
    module: ModuleType, toy_simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kwargs = {"size": 9, "num_objects": 5, "rooms": 2}
    config = replace(toy_simulator.config, env_id="MiniGrid-ObjectRooms-v0", env_kwargs=kwargs)
    simulator = Simulator(toy_simulator.model, config, toy_simulator.starts)
    simulator.save(tmp_path / "toy", "")
    record, picture = tmp_path / "new" / "record.json", tmp_path / "new" / "picture.png"
    args = module.Args(
        str(tmp_path / "toy"), walk=6, horizon=3, sequences=3, tolerances=(0, 0.1, 0.9), channels=(0, 4, 16), batch=2,
        threads=1, record=record, picture=picture,
    )  # fmt: skip
    module.main(args)
    assert "tolerance 0.1" in capsys.readouterr().out and picture.stat().st_size > 1000
    report = json.loads(record.read_text())
    for name, rising in (("tolerance", False), ("channels", True)):
        sizes = [line["state_bytes"] for line in report["lines"][name]]
        assert sizes == sorted(sizes, reverse=not rising) and sizes[0] != sizes[-1]
    whole, everything = report["lines"]["tolerance"][0], report["lines"]["channels"][-1]
    for line in (whole, everything):
        assert line["kept"] == [{"least": 16.0, "mean": 16.0, "most": 16.0}] * 2
        assert line["state_bytes"] == report["whole_bytes"] + 16 + 16 * 4  # a byte per channel and tube says it is kept
        assert line["objects_seen"] == whole["objects_seen"] and line["tiles_seen"]["n"] > 0
    walks = module.recorded(args, simulator)
    frames = dream(simulator.model, walks.frames, walks.act, 11, 3, fold(torch.arange(3), 0)).obs
    again = module.judged(walks, 11, frames)  # nothing dropped is the dream as it always was
    np.testing.assert_allclose(again["tiles_seen"]["value"], whole["tiles_seen"]["value"], atol=0.01)


def test_the_way_back_is_as_long_as_the_way_out(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="horizon=32 must be from 1 to 14, .* walk=10"):
        module.Args(walk=10)
