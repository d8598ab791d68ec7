"""The house stands: imports go one way, no folder is too full, and what is said in two places is the same."""

from __future__ import annotations

import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

import lssvwm_env

REPOSITORY = Path(__file__).parents[1]
PACKAGES = {
    "lssvwm_agents": REPOSITORY / "agents/lssvwm_agents",
    "lssvwm_env": REPOSITORY / "lssvwm_env",
    "lssvwm_models": REPOSITORY / "world_models/lssvwm_models",
}
MOST_FILES = 12


def circle(*packages: str) -> list[str] | None:
    """Modules that import each other in a ring, where there are any."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    try:
        TopologicalSorter({m: graph.find_modules_directly_imported_by(m) for m in graph.modules}).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_imports_go_from_floor_to_floor_and_from_room_to_room_in_one_direction() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache", "--no-logo"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(*PACKAGES) is None


def test_a_circle_that_only_type_checking_closes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ring_of_two").mkdir()
    (tmp_path / "ring_of_two/__init__.py").touch()
    (tmp_path / "ring_of_two/one.py").write_text("from ring_of_two import two")
    (tmp_path / "ring_of_two/two.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ring_of_two.one"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert set(circle("ring_of_two") or []) == {"ring_of_two.one", "ring_of_two.two"}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_has_more_files_than_one_can_overlook(package: str) -> None:
    folders = [PACKAGES[package], *(path for path in PACKAGES[package].rglob("*") if path.is_dir())]
    counts = {
        folder.relative_to(REPOSITORY).as_posix(): sum(path.is_file() for path in folder.iterdir())
        for folder in folders
        if folder.name != "__pycache__"
    }
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_the_citation_names_the_version_of_the_library() -> None:
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {lssvwm_env.__version__}\n" in citation


def test_pre_commit_runs_the_ruff_of_continuous_integration() -> None:
    pinned = re.search(r"^ruff==(.+)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned and f"rev: v{pinned[1]} " in (REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8")
