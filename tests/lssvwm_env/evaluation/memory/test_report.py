"""The command writes numbers and a picture, and takes its recordings from a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import pytest

from lssvwm_env.evaluation.memory.report import EvalMemoryConfig, eval_memory
from lssvwm_env.simulator.simulator import Simulator


@pytest.fixture
def config(toy_simulator: Simulator, tmp_path: Path) -> EvalMemoryConfig:
    config = replace(toy_simulator.config, env_id="MiniGrid-MemoryS9-v0")
    Simulator(toy_simulator.model, config, toy_simulator.starts).save(tmp_path / "toy", "untrained")
    return EvalMemoryConfig(
        str(tmp_path / "toy"), tmp_path / "out", 2, walks=(3,), gaps=(8, 9), recordings=tmp_path / "kept" / "r.npz"
    )


def test_everything_is_written(config: EvalMemoryConfig, capsys: pytest.CaptureFixture[str]) -> None:
    report = eval_memory(config)
    assert json.loads((config.out / "memory.json").read_text()) == json.loads(json.dumps(report))
    assert iio.imread(config.out / "memory.png").ndim == 3
    assert report["worlds"]["MemoryS9-v0"]["gaps"]["9"]["first"]["objects"]["n"] == 2
    assert report["settings"]["steps"] == 1 and report["hardware"]["device"] == "cpu"
    printed = capsys.readouterr().out
    assert "MemoryS9-v0 out 3" in printed and "cues after a gap" in printed

    assert config.recordings is not None
    made = config.recordings.stat().st_mtime_ns
    again = eval_memory(config)
    assert again["worlds"] == report["worlds"] and config.recordings.stat().st_mtime_ns == made
    with pytest.raises(ValueError, match=r"made with sequences=2, not 3"):
        eval_memory(replace(config, sequences=3))


def test_no_module_of_a_strangers_file_is_imported(config: EvalMemoryConfig, toy_simulator: Simulator) -> None:
    told = replace(toy_simulator.config, env_id="no_such_module:World")
    Simulator(toy_simulator.model, told, toy_simulator.starts).save(config.simulator, "")
    with pytest.raises(ValueError, match="If you trust it, say so: --env-id 'no_such_module:World'"):
        eval_memory(config)
    with pytest.raises(ValueError, match="No module named 'no_such_module'"):
        eval_memory(replace(config, env_id="no_such_module:World"))


def test_a_small_evaluation_is_one_of_fewer_frames(tmp_path: Path) -> None:
    settings = EvalMemoryConfig("x", tmp_path, small=True).settings(steps=3)
    assert (settings.sequences, settings.walks, settings.gaps, settings.steps) == (8, (50, 150), (8, 32, 128), 3)


def test_bad_arguments_are_refused(config: EvalMemoryConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        replace(config, denoising_steps=0)
    with pytest.raises(ValueError, match="nowhere.pt cannot be read as a TorchScript file"):
        eval_memory(replace(config, i3d=tmp_path / "nowhere.pt"))
