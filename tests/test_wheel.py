"""What people install clashes with nothing of theirs, and works beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
THEIRS = ("world_models", "agents", "data", "utils")
PROGRAM = """
import gymnasium as gym
import agents, data, utils, world_models
import lssvwm_env
from lssvwm_env.cli import main

WORLD = "LSSVWM/MiniGrid-DoorKey-6x6-v0"
COMMANDS = (
    "demo --out out/demo --rooms LSSVWM/MiniGrid-MemoryS13-v0 --sequences 1 --episodes 1 --seed 3",
    "collect --env-id MiniGrid-DoorKey-6x6-v0 --out out/frames --frames 200 --workers 1",
    f"imagine --simulator {WORLD} --dataset out/frames --out out/policy --updates 1 --num-dreams 2 --refresh 2"
    " --minibatches 1 --horizon 2 --threads 1",
    f"judge --simulator {WORLD} --policy out/policy/policy.safetensors --out out/judge --episodes 1 --max-steps 3"
    " --dreams 1 --threads 1",
)

if __name__ == "__main__":
    assert all(package.MINE for package in (agents, data, utils, world_models))
    for name in lssvwm_env.SIMULATORS:
        env = gym.make(name)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
        print("made", name)
    for command in COMMANDS:
        assert main(command.split()) == 0, command
        print("ran", command)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_every_import_name_is_ours(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"lssvwm_agents", "lssvwm_env", "lssvwm_models"} < names
    assert all(name.startswith("lssvwm_") for name in names), names


def test_models_policies_and_types_are_in_it(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in ("lssvwm_agents", "lssvwm_env", "lssvwm_models")} <= names
    for folder, source in (
        ("lssvwm_env/bundled", REPOSITORY / "lssvwm_env/bundled"),
        ("lssvwm_agents/bundled", REPOSITORY / "agents/lssvwm_agents/bundled"),
    ):
        bundled = {f"{folder}/{path.relative_to(source).as_posix()}" for path in source.rglob("*") if path.is_file()}
        assert len(bundled) >= 10 and bundled <= names


def test_a_project_with_folders_of_the_same_names_makes_demonstrates_imagines_and_judges(
    wheel: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    for name in THEIRS:
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("MINE = True\n")
    (project / "program.py").write_text(PROGRAM)
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)

    variables = {"PYTHONPATH": os.pathsep.join([str(project), str(installed)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=project, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("made LSSVWM/") >= 6
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ran ")] == [
        "demo",
        "collect",
        "imagine",
        "judge",
    ]
    assert {path.name for path in (project / "out").iterdir()} == {"demo", "frames", "policy", "judge"}
