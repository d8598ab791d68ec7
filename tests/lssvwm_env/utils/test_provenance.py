"""A measurement says what was asked for, by what, and on what it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lssvwm_env import __version__
from lssvwm_env.utils.provenance import hardware, provenance


@dataclass
class Config:
    out: Path
    steps: int = 3


def test_it_says_what_was_asked_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    found = provenance(Config(tmp_path / "runs"), torch.device("cpu"))
    assert found["config"] == {"out": "runs", "steps": 3}
    assert found["versions"]["lssvwm-env"] == __version__
    assert found["hardware"]["device"] == "cpu" and found["hardware"]["name"] == hardware("cpu")
    assert found["hardware"]["torch_threads"] == torch.get_num_threads()


def test_a_gpu_goes_by_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"H200 ({device})")
    assert hardware("cuda:0") == "H200 (cuda:0)"
    assert hardware("cpu").startswith("a CPU (")
