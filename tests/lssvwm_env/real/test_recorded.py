"""What files say of real environments imports nothing, unless the user has typed it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_env.real import make_recorded, trusted_id

MODULE = """
import pathlib
import gymnasium
import numpy
pathlib.Path("ran").touch()

class World(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), numpy.uint8)
    action_space = gymnasium.spaces.Discrete(2)
"""


@dataclass(frozen=True)
class Told:
    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)


class Opener(gym.Env[Any, Any]):
    """As compatibility wrappers do, it makes the environment whose id it is given."""

    def __init__(self, name: str) -> None:
        self.inner = gym.make(name)
        self.observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
        self.action_space = gym.spaces.Discrete(2)


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the working directory; what it leaves if it runs."""
    (tmp_path / "theirs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    return tmp_path / "ran"


@pytest.mark.parametrize(
    "told",
    [
        Told("theirs:World"),
        Told("theirs:World-v0"),
        Told("theirs:"),
        Told("test_recorded/Opener-v0", {"name": "theirs:World-v0"}),
        Told("test_recorded/Opener-v0", {"name": {"deep": [["theirs:World-v0"]]}}),
        Told("test_recorded/Opener-v0", {"theirs:World-v0": 1}),
    ],
)
def test_no_module_is_imported_that_only_a_file_names(
    told: Told, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    gym.register("test_recorded/Opener-v0", entry_point=Opener)
    with pytest.raises(ValueError, match=f"If you trust it, say so: --env-id '{told.env_id}'"):
        make_recorded(told)
    assert not stranger.exists() and "theirs" not in sys.modules


def test_what_the_user_types_is_made(stranger: Path) -> None:
    env = make_recorded(Told("theirs:World"), "theirs:World")
    assert stranger.exists() and env.action_space == gym.spaces.Discrete(2)


def test_only_the_same_can_be_typed(stranger: Path) -> None:
    with pytest.raises(ValueError, match="env_id='theirs:Other', but the file is of 'theirs:World'"):
        trusted_id(Told("theirs:World"), "theirs:Other")
    assert not stranger.exists()


def test_what_is_registered_needs_no_word() -> None:
    assert trusted_id(Told("MiniGrid-MemoryS9-v0", {"size": 9})) == "MiniGrid-MemoryS9-v0"
    make_recorded(Told("MiniGrid-MemoryS9-v0")).close()


@pytest.mark.parametrize("kwargs", [{"env_id": "x"}, {"size": "nine"}, {"no": 1}, {"size": [9]}, {"frame_size": "8"}])
def test_arguments_that_do_not_fit_are_named(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="MiniGrid-MemoryS9-v0"):
        make_recorded(Told("MiniGrid-MemoryS9-v0", kwargs))
