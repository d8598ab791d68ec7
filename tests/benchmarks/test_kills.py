"""What differs after kills, or is left over, is found."""

import random
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import tyro

from lssvwm_env.cli import _COMMANDS


def test_its_commands_are_those_of_the_command_line(program: Callable[[str], ModuleType]) -> None:
    for line in program("benchmarks/kills.py").COMMANDS.values():
        name, *words = shlex.split(line)
        module, _, config, _ = _COMMANDS[name]
        tyro.cli(getattr(import_module(module), config), args=words)


@pytest.mark.parametrize(("after", "differing", "left"), [("1", [], []), ("2", ["x.npz"], []), ("", [], ["y.tmp"])])
def test_what_a_killed_run_changes_or_leaves_is_found(
    after: str,
    differing: list[str],
    left: list[str],
    program: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = program("benchmarks/kills.py")
    ends = iter([True, False, True, False, True])  # unbroken; killed; ended too soon, so anew; killed; ended

    def run(command: str, folder: Path, seconds: float | None = None) -> bool:
        ended = next(ends)
        (folder / "x.npz").write_text(after or "1" if ended and (folder / "begun").exists() else "1")
        (folder / "begun").touch()
        if not (ended or after):
            (folder / "y.tmp").touch()
        return ended

    monkeypatch.setattr(module, "run", run)
    for name in ("unbroken", "broken"):
        (tmp_path / name).mkdir()
    found = module.ends_as_if_unbroken("collect", 2, random.Random(0), tmp_path / "unbroken", tmp_path / "broken")
    assert (found["kills"], found["files"]) == (2, 1)
    assert (found["differing"], found["left"]) == (differing, left)
