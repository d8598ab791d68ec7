from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lssvwm_env.utils.command import command, relative_paths


@dataclass(frozen=True)
class Config:
    out: Path
    files: tuple[Path, ...] = ()


def test_paths_are_told_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path.parent / "elsewhere"
    config = Config(tmp_path / "runs" / "a", (Path("b"), elsewhere))
    assert command("train", config) == f"lssvwm train --out runs/a --files b {elsewhere}"


def test_so_are_those_of_settings_inside_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"training": {"out": tmp_path / "runs"}, "steps": 3}
    assert relative_paths(settings) == {"training": {"out": "runs"}, "steps": 3}
