"""Simulators are registered cheaply, are what their registration says, and break nothing if they are damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

import lssvwm_env
from lssvwm_env import SIMULATORS, Simulator, register_envs
from lssvwm_env.simulator.registry import BUNDLED as BUNDLED_FOLDER

BUNDLED = [f"LSSVWM/{config.parent.name}" for config in sorted(BUNDLED_FOLDER.glob("*/config.json"))]


@pytest.fixture
def registry() -> Iterator[dict[str, gym.envs.registration.EnvSpec]]:
    """Gymnasium's registry, for a test to add to."""
    before = dict(gym.registry), dict(SIMULATORS)
    yield gym.registry
    for registered, old in zip((gym.registry, SIMULATORS), before, strict=True):
        registered.clear()
        registered.update(old)


@pytest.fixture
def folder(toy_simulator: Simulator, tmp_path: Path, registry: object) -> Path:
    """A folder with the simulator `Toy-v3`."""
    toy_simulator.save(tmp_path / "mine" / "Toy-v3", "A toy.")
    return tmp_path / "mine"


def edit_config(simulator: Path, **changes: object) -> None:
    config = simulator / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


def test_importing_is_cheap(folder: Path):
    edit_config(folder / "Toy-v3", horizon="long")
    script = """
import sys, gymnasium, lssvwm_env
assert "LSSVWM/ObjectRooms-v0" in gymnasium.registry and "LSSVWM/Toy-v3" not in gymnasium.registry
sys.exit(' '.join({'torch', 'pygame', 'minigrid'} & sys.modules.keys()) or 0)
"""
    environ = os.environ | {"LSSVWM_SIMULATORS": str(folder)}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{folder / 'Toy-v3'} is not registered: config.horizon is 'long'; expected an integer" in done.stderr


def test_completion_finds_what_is_imported_late():
    assert set(lssvwm_env.__all__) <= set(dir(lssvwm_env))
    assert all(hasattr(lssvwm_env, name) for name in lssvwm_env.__all__)
    with pytest.raises(AttributeError, match="'lssvwm_env' has no attribute 'Simulatr'"):
        _ = lssvwm_env.Simulatr


def test_registering_again_changes_nothing(recwarn: pytest.WarningsRecorder):
    before = dict(gym.registry)
    register_envs()
    assert gym.registry == before and not recwarn.list


def test_public_names_exist():
    for name in lssvwm_env.__all__:
        assert getattr(lssvwm_env, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lssvwm_env.nothing  # noqa: B018 (the access is the test)


def test_six_worlds_are_bundled():
    names = "DoorKey-6x6", "Dynamic-Obstacles-6x6", "LavaCrossingS9N1", "MemoryS9", "MemoryS13"
    minigrid = {f"LSSVWM/MiniGrid-{name}-v0" for name in names}
    assert minigrid | {"LSSVWM/ObjectRooms-v0"} <= set(BUNDLED) <= SIMULATORS.keys()


@pytest.mark.parametrize("env_id", BUNDLED)
def test_bundled_simulators_run(env_id: str):
    env = gym.make(env_id)
    config = env.unwrapped.simulator.config
    registered = SIMULATORS[env_id]
    assert config.horizon == registered.horizon == env.spec.max_episode_steps
    assert (config.env_id, config.trained_length) == (registered.env_id, registered.trained_length)
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    obs, _, _, truncated, _ = env.step(env.action_space.sample())
    assert obs in env.observation_space and not truncated


@pytest.mark.parametrize("env_id", BUNDLED)
def test_bundled_simulators_load_by_name(env_id: str):
    env = lssvwm_env.load(env_id.removeprefix("LSSVWM/"))
    assert env.unwrapped.simulator.config.horizon == SIMULATORS[env_id].horizon


@pytest.mark.parametrize("listed", ["mine", "mine/Toy-v3"])
def test_folders_of_the_variable_get_ids(
    listed: str, folder: Path, toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("LSSVWM_SIMULATORS", listed + os.pathsep)
    register_envs()
    monkeypatch.chdir("/")  # what was relative then is known for good
    env = gym.make("LSSVWM/Toy-v3")
    assert env.unwrapped.simulator.weights_sha256 == toy_simulator.weights_sha256
    assert env.spec.max_episode_steps == toy_simulator.config.horizon
    assert gym.make_vec("LSSVWM/Toy-v3", num_envs=2).reset(seed=0)[0].shape == (2, 64, 64, 3)
    for name in ("LSSVWM/Toy-v3", "Toy-v3"):
        assert Simulator.load(name).folder == folder / "Toy-v3"


def test_several_folders_can_be_listed(folder: Path, toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch):
    toy_simulator.save(folder.parent / "100%s", "Its name is no format.")
    toy_simulator.save(folder.parent / "Other", "Another toy.")
    others = [folder.parent / "100%s", folder.parent / "Other"]
    monkeypatch.setenv("LSSVWM_SIMULATORS", os.pathsep.join(map(str, [*others, folder])))
    with pytest.warns(UserWarning, match="100%s is not registered: Malformed"):
        register_envs()
    assert {"LSSVWM/Other", "LSSVWM/Toy-v3"} <= SIMULATORS.keys() and "LSSVWM/100%s" not in SIMULATORS


def test_a_training_run_stands_for_its_simulator(
    toy_simulator: Simulator, tmp_path: Path, registry: object, monkeypatch: pytest.MonkeyPatch
):
    for run in ("a-run", "unfinished", ".hidden"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "config.json").write_text("{}")
    for run in ("a-run", ".hidden"):
        toy_simulator.save(tmp_path / run / "simulator", "As `lssvwm train` leaves it.")
    before = set(SIMULATORS)
    for listed in (tmp_path, tmp_path / "a-run"):  # all runs, or one
        monkeypatch.setenv("LSSVWM_SIMULATORS", str(listed))
        register_envs()
        assert SIMULATORS.keys() - before == {"LSSVWM/a-run"}
    assert SIMULATORS["LSSVWM/a-run"].folder == tmp_path / "a-run" / "simulator"


def test_the_bundled_one_wins(folder: Path, monkeypatch: pytest.MonkeyPatch):
    bundled = SIMULATORS["LSSVWM/ObjectRooms-v0"]
    (folder / "Toy-v3").rename(folder / "ObjectRooms-v0")
    monkeypatch.setenv("LSSVWM_SIMULATORS", str(folder))
    with pytest.warns(UserWarning, match=f"LSSVWM/ObjectRooms-v0 is already the id of {bundled.folder}; give {folder}"):
        register_envs()
    assert SIMULATORS["LSSVWM/ObjectRooms-v0"] == bundled


def test_an_id_means_the_same_in_every_folder(
    folder: Path, toy_box_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LSSVWM_SIMULATORS", str(folder))
    register_envs()
    toy_box_simulator.save(folder / "LSSVWM" / "Toy-v3", "Another one.")
    monkeypatch.chdir(folder)
    assert Simulator.load("LSSVWM/Toy-v3").config.env_id == "Toy-v0"
    assert Simulator.load("./LSSVWM/Toy-v3").config.env_id == "ToyBox-v0"


def test_ids_of_others_are_left_to_them(
    folder: Path, registry: dict[str, gym.envs.registration.EnvSpec], monkeypatch: pytest.MonkeyPatch
):
    gym.register("LSSVWM/Toy-v3", entry_point="theirs:Env")
    monkeypatch.setenv("LSSVWM_SIMULATORS", str(folder))
    with pytest.warns(UserWarning, match="LSSVWM/Toy-v3 is already the id of theirs:Env"):
        register_envs()
    assert registry["LSSVWM/Toy-v3"].entry_point == "theirs:Env" and "LSSVWM/Toy-v3" not in SIMULATORS


def test_damage_is_warned_of_and_the_rest_registered(
    folder: Path, toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
):
    toy_simulator.save(folder / "Bad-v0", "Newer.")
    toy_simulator.save(folder / "Worse-v0", "Without a config.")
    edit_config(folder / "Bad-v0", version=2)
    (folder / "Worse-v0" / "config.json").unlink()
    (folder.parent / "empty").mkdir()
    listed = [folder.parent / "nowhere", folder.parent / "empty", folder]
    monkeypatch.setenv("LSSVWM_SIMULATORS", os.pathsep.join(map(str, listed)))
    with pytest.warns(UserWarning) as warned:
        register_envs()
    messages = [str(warning.message) for warning in warned]
    expected = (
        "nowhere, listed in LSSVWM_SIMULATORS, is not registered: there is no such folder",
        "empty, listed in LSSVWM_SIMULATORS, is not registered: it holds no simulator",
        f"{folder / 'Bad-v0'} is not registered: {folder / 'Bad-v0' / 'config.json'} has version 2",
        f"{folder / 'Worse-v0'} is not registered: {folder / 'Worse-v0' / 'config.json'} is missing",
    )
    assert len(messages) == len(expected)
    for part, message in zip(expected, messages, strict=True):
        assert part in message
    assert "LSSVWM/Toy-v3" in gym.registry and not {"LSSVWM/Bad-v0", "LSSVWM/Worse-v0"} & gym.registry.keys()


def test_packages_bring_simulators_by_entry_points(folder: Path, monkeypatch: pytest.MonkeyPatch):
    site = folder.parent / "site"
    (site / "toys-1.0.dist-info").mkdir(parents=True)
    (site / "toys-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (site / "toys-1.0.dist-info" / "entry_points.txt").write_text(
        "[lssvwm_env.simulators]\nByName-v0 = toys:FOLDER\nByCall-v1 = toys:folder\nBroken-v0 = toys:broken\n"
        "Missing-v0 = nomodule:x\n"
    )
    (site / "toys.py").write_text(
        f"FOLDER = {str(folder / 'Toy-v3')!r}\n\ndef folder():\n    return FOLDER\n\n"
        "def broken():\n    raise RuntimeError('not today')\n"
    )
    monkeypatch.syspath_prepend(site)
    with pytest.warns(UserWarning) as warned:
        register_envs()
    monkeypatch.delitem(sys.modules, "toys")
    for name in ("ByName-v0", "ByCall-v1"):
        assert SIMULATORS[f"LSSVWM/{name}"].folder == folder / "Toy-v3"
    assert gym.make("LSSVWM/ByCall-v1").unwrapped.simulator.config.env_id == "Toy-v0"
    broken, missing = (str(warning.message) for warning in warned)
    assert "Broken-v0 = toys:broken in lssvwm_env.simulators is not registered: not today" in broken
    assert "Missing-v0 = nomodule:x" in missing and "No module named 'nomodule'" in missing
