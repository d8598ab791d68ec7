"""Dreams are timed beside the real environment, simulator by simulator."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lssvwm_env.simulator.simulator import Simulator


def test_simulators_are_timed_beside_their_real_environments(toy_simulator, tmp_path, program, monkeypatch):
    beside = program("benchmarks/beside_the_real.py")
    started = []

    def pool(workers, mp_context):
        started.append(workers)
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(beside, "ProcessPoolExecutor", pool)
    real = replace(toy_simulator.config, env_id="MiniGrid-Empty-5x5-v0")
    Simulator(toy_simulator.model, real, toy_simulator.starts).save(tmp_path / "toy", "")
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"simulators": {"another": {"env_id": "x", "worlds": 1, "real": 8.0, "dreamt": 2.0}}}))
    beside.main(beside.Args((str(tmp_path / "toy"),), worlds=3, cores=2, seconds=0.05, rounds=2, record=record))
    simulators = json.loads(record.read_text())["simulators"]
    found = simulators[str(tmp_path / "toy")]
    assert started == [1, 1] and (found["worlds"], found["cores"]) == (3, 2)
    assert found["real"] > 0 and found["dreamt"] > 0 and found["hardware"]["torch_threads"] == 2
    lines = beside.speeds_table({"simulators": simulators}).splitlines()
    assert "| `another` | 1 | 2 | 8 | 0.25 |" in lines and len(lines) == 4


def test_steps_of_all_worlds_and_of_all_processes_count(toy_simulator, program, monkeypatch):
    beside = program("benchmarks/beside_the_real.py")
    core = beside.SimulatorCore(toy_simulator, 3)
    core.reset([0, 1, 2], [0, 1, 2])
    clock = iter(range(100))
    monkeypatch.setattr(beside.time, "perf_counter", lambda: float(next(clock)))
    assert beside.dreamt_steps(core, 5.0) == pytest.approx(3 * 4 / 5)  # a look at the clock, and four steps
    assert beside.real_steps("MiniGrid-Empty-5x5-v0", (), 0, 2.5) == 1.0
