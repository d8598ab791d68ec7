"""Shared fixtures: a toy world model and simulator, random but for their shapes."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

# Before torch is imported: spinning threads make small operations 30 times slower on busy machines.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import numpy as np
import pytest
import torch

from lssvwm_env.simulator.simulator import Simulator, SimulatorConfig, Starts
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel

torch.set_num_threads(1)

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Commands set how many threads torch takes, for the whole process: back to one after each test."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def plain_plots() -> Iterator[None]:
    """Plots are drawn without ticks and with the margins they have: these two take longer than all else about them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.axis.Axis.draw", lambda axis, renderer: None)
        patch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", lambda engine, figure: None)
        yield


FRAMES = {"type": "Box", "low": 0, "high": 255, "shape": [64, 64, 3], "dtype": "uint8"}
MOTIONS = ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3))


def random_world_model(action: ActionSpec, view: EgoView | FirstPersonView | None) -> WorldModel:
    """A `debug` model whose every layer does something: those that begin at zero are made random too."""
    config = preset("debug", action, view=view)
    if isinstance(view, FirstPersonView):
        config = replace(config, network=replace(config.network, keyframes=8, voxels=24))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WorldModel(config)
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a program of this repository by its path, such as "benchmarks/speed_card.py"; it finds its neighbours."""

    def load(path: str) -> ModuleType:
        file = Path(__file__).parents[1] / path
        monkeypatch.syspath_prepend(file.parent)
        spec = importlib.util.spec_from_file_location(f"program_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def toy_world_model() -> WorldModel:
    """64x64 frames, seven actions, dead reckoning."""
    return random_world_model(ActionSpec("discrete", 7), EgoView(cell=8, row=6, col=3, motions=MOTIONS))


@pytest.fixture(scope="session")
def toy_simulator(toy_world_model: WorldModel) -> Simulator:
    """Five starts of three random frames; trained on eight frames, episodes of twenty steps."""
    return simulator_of(toy_world_model)


@pytest.fixture(scope="session")
def toy_first_person_simulator() -> Simulator:
    """Like `toy_simulator`, but seen in first person, from poses in the plane."""
    return simulator_of(random_world_model(ActionSpec("discrete", 7), FirstPersonView(90.0, None)))


def simulator_of(model: WorldModel) -> Simulator:
    """A simulator with seven actions, and random starts."""
    rng = np.random.default_rng(0)
    starts = Starts(rng.integers(0, 256, (5, 3, 64, 64, 3), np.uint8), rng.integers(0, 7, (5, 3)))
    config = SimulatorConfig(
        env_id="Toy-v0",
        model=model.config,
        observation_space=FRAMES,
        action_space={"type": "Discrete", "n": 7},
        trained_length=8,
        horizon=20,
        denoising_steps=1,
        data_hash="none",
    )
    return Simulator(model, config, starts)


@pytest.fixture(scope="session")
def toy_box_simulator() -> Simulator:
    """One start; actions are vectors of two numbers in [-1, 1]; the camera stands still."""
    rng = np.random.default_rng(0)
    model = random_world_model(ActionSpec("box", 2), view=None)
    starts = Starts(rng.integers(0, 256, (1, 2, 64, 64, 3), np.uint8), np.zeros((1, 2, 2), np.float32))
    config = SimulatorConfig(
        env_id="ToyBox-v0",
        model=model.config,
        observation_space=FRAMES,
        action_space={"type": "Box", "low": -1.0, "high": 1.0, "shape": [2], "dtype": "float32"},
        trained_length=8,
        horizon=20,
        denoising_steps=2,
        data_hash="none",
    )
    return Simulator(model, config, starts)
