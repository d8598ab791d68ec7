"""Steps are taken and judged."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from lssvwm_env.simulator.simulator import Simulator


def lines(**changes: list[float]) -> list[dict[str, float]]:
    """Twenty sound lines, but for what changes."""
    sound = {"memory": [100.0] * 20, "unsound": [0] * 20, "illegal": [0.01, 0.02] * 10} | changes
    return [dict(zip(sound, values, strict=True)) for values in zip(*sound.values(), strict=True)]


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"memory": [10.0] + [100.0] * 19}, True),  # it warms up
        ({"memory": [100.0] * 19 + [102.1]}, False),
        ({"unsound": [0] * 19 + [1]}, False),
        ({"illegal": [0.01, 0.02] * 9 + [0.03, 0.04]}, False),
        ({"illegal": [0.01, 0.02] * 9 + [0.0, 0.01]}, True),
    ],
)
def test_growth_numbers_that_are_none_and_worlds_that_dissolve_fail(
    changes: dict[str, list[float]], passed: bool, program: Callable[[str], ModuleType]
) -> None:
    assert program("benchmarks/soak.py").verdict(lines(**changes))["passed"] == passed


@pytest.mark.parametrize("endless", [False, True])
def test_steps_are_recorded(
    endless: bool, toy_simulator: Simulator, program: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    module = program("benchmarks/soak.py")
    real = replace(toy_simulator.config, env_id="MiniGrid-MemoryS9-v0")
    Simulator(toy_simulator.model, real, toy_simulator.starts).save(tmp_path / "toy", "")
    args = module.Args(str(tmp_path / "toy"), steps=20, worlds=2, endless=endless, lines=5, out=tmp_path / "soak.json")
    module.main(args)
    record = json.loads((tmp_path / "soak.json").read_text())
    assert [line["steps"] for line in record["lines"]] == [4, 8, 12, 16, 20]
    assert record["unsound"] == 0 and 0 <= record["illegal_first_tenth"] <= 1
