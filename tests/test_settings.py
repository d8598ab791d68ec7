"""Every command refuses numbers that are none, by name."""

from __future__ import annotations

import typing
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lssvwm_agents.learning.imagination import ImaginationConfig
from lssvwm_agents.policies.actor_critic import ActorCriticConfig
from lssvwm_env.cli import _COMMANDS
from lssvwm_env.simulator.simulator import SimulatorConfig
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import NetworkConfig, WorldModelConfig
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.utils.checks import field_types

FRAMES = {"type": "Box", "low": 0, "high": 255, "shape": [64, 64, 3], "dtype": "uint8"}
ACTIONS = {"type": "Discrete", "n": 7}
# What has no default, by name.
GIVEN: dict[str, Any] = {
    "out": Path("x"),
    "dataset": Path("x"),
    "simulator": "x",
    "env_id": "x",
    "training": TrainingConfig(Path("x")),
    "imagination": ImaginationConfig(Path("x")),
    "kind": "discrete",
    "size": 7,
    "action": ActionSpec("discrete", 7),
    "cell": 8,
    "row": 6,
    "col": 3,
    "motions": ((0, 0, 1),),
    "model": WorldModelConfig(ActionSpec("discrete", 7)),
    "observation_space": FRAMES,
    "action_space": ACTIONS,
    "trained_length": 8,
    "horizon": 20,
    "denoising_steps": 1,
    "data_hash": "x",
    "feature_dim": 8,
    "dataset_id": "x",
    "folder": Path("x"),
    "frames": 1,
    "protocol": "retrieval",
}
OF_COMMANDS = [
    getattr(import_module(module), config) for module, _, config, _ in _COMMANDS.values() if config != "ListConfig"
]
MAY_BE_NEGATIVE = {
    ("EgoView", "motions"): "an agent may step back",
}
NO_NUMBERS = [float("nan"), float("inf"), -float("inf"), -1, True, "3", [], 10**400, -(10**13), 10**13]


def all_of(kinds: list[type]) -> list[type]:
    """These dataclasses, and those in their fields."""
    found: list[type] = []
    for kind in kinds:
        inner = [hint for hint in field_types(kind).values() if is_dataclass(hint)]
        found += [other for other in (kind, *all_of(inner)) if other not in found]
    return sorted(set(found), key=lambda kind: kind.__name__)


def numeric(hint: Any) -> bool:
    return hint in (int, float) or any(map(numeric, typing.get_args(hint)))


CONFIGS = all_of([*OF_COMMANDS, SimulatorConfig, NetworkConfig, EgoView, ActorCriticConfig])
NUMBERS = [
    (config, name)
    for config in CONFIGS
    for name, hint in field_types(config).items()
    if numeric(hint) and typing.get_origin(hint) is not dict
]
WITH_DEVICES = [config for config in CONFIGS if "device" in field_types(config)]


def arguments(config: type) -> dict[str, Any]:
    """What the fields have to be given that have no default."""
    missing = [f.name for f in fields(config) if f.default is MISSING and f.default_factory is MISSING]
    return {name: GIVEN[name] for name in missing}


def test_what_is_walked_are_all_settings_of_all_commands() -> None:
    names = {config.__name__ for config in CONFIGS}
    assert names >= {"TrainConfig", "TrainingConfig", "ObjectiveConfig", "ImaginationConfig", "RoundTraining"}
    assert names >= {"JudgeConfig", "DynaConfig", "CompareConfig", "EvalMemoryConfig", "WorldModelConfig"}
    assert len(NUMBERS) > 120


@pytest.mark.parametrize(("config", "name"), NUMBERS, ids=lambda x: getattr(x, "__name__", x))
def test_no_setting_takes_a_number_that_is_none(config: type, name: str) -> None:
    given = arguments(config)
    in_a_tuple = "tuple" in str(field_types(config)[name])
    for value in NO_NUMBERS:
        if value == -1 and (config.__name__, name) in MAY_BE_NEGATIVE:
            continue
        for wrong in (value, (value,), (value, value), ((value, 0, 0),)) if in_a_tuple else (value,):
            with pytest.raises(ValueError, match=rf"{name}\b"):
                config(**given | {name: wrong})


@pytest.mark.parametrize("device", ["[]", "gpu", "cuda:99"])
@pytest.mark.parametrize(
    "config", [c for c in CONFIGS if "device" in field_types(c)], ids=lambda config: config.__name__
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(config: type, device: str) -> None:
    with pytest.raises(ValueError, match=r"device='.*' cannot be used here .*; there is auto, cpu"):
        config(**arguments(config) | {"device": device})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_settings_are_of_the_types_that_they_say(config: type) -> None:
    given = arguments(config)
    for name, hint in field_types(config).items():
        if hint is not Any and "dict" not in str(hint):
            with pytest.raises(ValueError, match=rf"{name}\b"):
                config(**given | {name: object()})
