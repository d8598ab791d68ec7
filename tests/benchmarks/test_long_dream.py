import dataclasses

import numpy as np
import pytest
import torch

from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel


@pytest.fixture(scope="module")
def first_person_simulator(toy_simulator):
    """The toy simulator, with a model that sees in first person."""
    torch.manual_seed(0)
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=FirstPersonView(90.0, None))).eval()
    config = dataclasses.replace(toy_simulator.config, model=model.config)
    return Simulator(model, config, toy_simulator.starts)


def dreamt(program, simulator, tmp_path, **changes):
    long_dream = program("benchmarks/long_dream.py")
    simulator.save(tmp_path / "toy", "")
    args = long_dream.Args(str(tmp_path / "toy"), 12, 2, 4, threads=1, name="a-dream", out=tmp_path)
    long_dream.main(dataclasses.replace(args, **changes))
    assert (tmp_path / "docs" / "img" / "a_dream.png").read_bytes().startswith(b"\x89PNG")
    return long_dream.records_io.read(tmp_path / "benchmarks" / "records" / "a-dream.json.gz")


def test_a_dream_is_recorded(program, toy_simulator, tmp_path, capsys):
    report = dreamt(program, toy_simulator, tmp_path)
    assert [line["frame"] for line in report["lines"]] == [1, 4, 8, 10, 12]
    assert all(rms > 0 for line in report["lines"] for rms in line["rms"])
    assert all(0 <= line["illegal"] <= 1 for line in report["lines"])
    assert "in the last" in capsys.readouterr().out


def test_in_first_person_nothing_is_read_as_tiles(program, first_person_simulator, tmp_path):
    report = dreamt(program, first_person_simulator, tmp_path)
    assert {key for line in report["lines"] for key in line} == {"frame", "rms", "contrast", "edges"}
    core = program("benchmarks/long_dream.py").SimulatorCore(first_person_simulator, 1)
    core.reset([0], [0])
    striped = np.tile(np.array([0, 255], np.uint8)[:, None], (1, 64, 32, 3))
    found = program("benchmarks/long_dream.py").line(1, core, striped)
    assert (found["contrast"], found["edges"]) == (127.5, 255)


def test_actions_in_first_person_are_held_and_differ_between_worlds(program, first_person_simulator):
    long_dream = program("benchmarks/long_dream.py")
    drawn = long_dream.actions(first_person_simulator, 2, 0)
    taken = np.array([next(drawn) for _ in range(400)])
    count = int(first_person_simulator.action_space.n)
    assert taken.min() == 0 and taken.max() == count - 1
    assert not np.array_equal(*taken.T)
    changes = (np.diff(taken, axis=0) != 0).mean()
    assert 0.05 < changes < 0.2  # every 5.5 frames, and to another action in most cases
