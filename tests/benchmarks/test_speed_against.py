"""Speeds of two checkouts are measured in turns and compared."""

import pytest

from lssvwm_models.execution.precision import supports_bf16


def test_a_checkout_is_timed_by_its_own_packages_and_compared(program):
    against = program("benchmarks/speed_against.py")
    args = against.Args(worlds=(1,), lengths=(4,), repeats=1, threads=1)
    speeds = against.speeds(against.ROOT, args)
    precisions = ("float32", "bfloat16")[: 1 + supports_bf16("cpu")]
    assert set(speeds) == {*(f"dreams, 1 side by side, {p}" for p in precisions), "training, sequences of 4"}
    assert all(v > 0 for v in speeds.values())
    twice = {k: 2 * v for k, v in speeds.items()}
    lines = against.compared({"args": {"commit": "abc"}, "speeds": {"before": speeds, "now": twice}}).splitlines()
    assert "abc" in lines[0] and all(line.endswith("| 2.00 |") for line in lines[2:])


def test_packages_of_another_checkout_are_not_this_ones(program, tmp_path):
    against = program("benchmarks/speed_against.py")
    (tmp_path / "world_models").mkdir()
    (tmp_path / "world_models" / "__init__.py").write_text("raise SystemExit('I am another')")
    with pytest.raises(Exception, match="non-zero exit status 1"):
        against.speeds(tmp_path, against.Args(repeats=1, threads=1))


def test_a_renamed_checkout_is_timed_by_its_own_packages_too(program, tmp_path):
    against = program("benchmarks/speed_against.py")
    (tmp_path / "world_models" / "lssvwm_models").mkdir(parents=True)
    (tmp_path / "world_models" / "lssvwm_models" / "__init__.py").write_text("raise SystemExit('I am another')")
    with pytest.raises(Exception, match="non-zero exit status 1"):
        against.speeds(tmp_path, against.Args(repeats=1, threads=1))
