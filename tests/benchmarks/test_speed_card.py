"""The speed card is measured, written and drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.execution.precision import supports_bf16


def test_a_card_is_made(
    toy_simulator: Simulator, tmp_path: Path, program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = program("benchmarks/speed_card.py")
    monkeypatch.setattr(module, "starting", lambda args: {"torch": 1.0, "library": 0.1, "first_frame": 0.5})
    real = replace(toy_simulator.config, env_id="MiniGrid-MemoryS9-v0")
    Simulator(toy_simulator.model, real, toy_simulator.starts).save(tmp_path / "toy", "")
    module.main(
        module.Args(
            str(tmp_path / "toy"), envs=(1, 3), denoising_steps=(1, 2), histories=(2, 12, 50), forks=5, rounds=1,
            threads=1, records=tmp_path, docs=tmp_path / "docs",
        )
    )  # fmt: skip
    record = json.loads((tmp_path / "speed-card.json").read_text())
    assert [(row["bf16"], row["steps"]) for row in record["dreaming"]["rows"]] == [
        (b, s) for b in module.precisions("cpu") for s in (1, 2)
    ]
    assert all(speed > 0 for row in record["dreaming"]["rows"] for speed in row["speed"].values())
    size = toy_simulator.model.initial_state(1).nbytes
    assert [(x["frames"], x["bytes"]) for x in record["remembering"]] == [(n, size) for n in (2, 12, 50)]
    one, three = (f for f in record["floors"] if not f["bf16"])
    assert [f["bf16"] for f in record["floors"][1:]] == list(module.precisions("cpu"))
    assert three["gflop"] == pytest.approx(3 * one["gflop"], rel=0.1)
    assert all(sum(f["parts"].values()) == pytest.approx(1) for f in record["floors"])
    text = (tmp_path / "docs" / "speed.md").read_text()
    assert f"| 50 | {size:,} |" in text and "| float32 | 2 |" in text
    assert ("| bfloat16 | 2 |" in text) == supports_bf16("cpu")
    assert (tmp_path / "docs" / "img" / "speed.png").read_bytes().startswith(b"\x89PNG")
