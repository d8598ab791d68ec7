"""Sharing on the Hugging Face Hub, with a library that keeps its repositories in a folder in place of the real one."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import lssvwm_env
from lssvwm_env.simulator.simulator import Simulator, SimulatorError

HUB_FILES = {"README.md", "config.json", "model.safetensors", "starts.npz"}


class RepoUrl(str):
    """As the library's: an address that knows the full name of its repository."""

    repo_id: str


class FakeHub:
    """What of `huggingface_hub` is used, under its own names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def HfApi(self) -> FakeHub:
        return self

    def create_repo(self, repo_id: str, **options: Any) -> RepoUrl:
        self.calls.append(("create_repo", options))
        url = RepoUrl(f"https://huggingface.co/me/{repo_id.removeprefix('me/')}")
        url.repo_id = f"me/{repo_id.removeprefix('me/')}"  # the user's own namespace is the default
        (self.root / url.repo_id).mkdir(parents=True, exist_ok=options["exist_ok"])
        return url

    def upload_folder(self, *, repo_id: str, folder_path: str | Path, **options: Any) -> None:
        self.calls.append(("upload_folder", options))
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.calls.append(("snapshot_download", {"revision": revision}))
        if not (self.root / repo_id).is_dir():
            raise OSError("404 Client Error. Repository Not Found")
        cache = self.root / "cache" / repo_id
        for file in (self.root / repo_id).iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                cache.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, cache / file.name)
        return str(cache)  # the real one does not make the folder either, if nothing matches


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setitem(
        sys.modules, "huggingface_hub", SimpleNamespace(HfApi=fake.HfApi, snapshot_download=fake.snapshot_download)
    )
    return fake


@pytest.fixture
def local(toy_simulator: Simulator, tmp_path: Path) -> Simulator:
    toy_simulator.save(tmp_path / "toy", "# A toy\n\nÜ.\n")
    return Simulator.load(tmp_path / "toy")


def test_what_was_pushed_comes_back(hub: FakeHub, local: Simulator):
    assert local.push_to_hub("me/toy") == "https://huggingface.co/me/toy"
    back = Simulator.from_pretrained("me/toy")
    assert back.weights_sha256 == local.weights_sha256 and back.config == local.config
    assert np.array_equal(back.starts.obs, local.starts.obs) and np.array_equal(back.starts.act, local.starts.act)
    env = lssvwm_env.load(back)
    assert env.reset(seed=0)[0] in env.observation_space


def test_the_hub_gets_these_files_and_no_others(hub: FakeHub, local: Simulator, tmp_path: Path):
    (tmp_path / "toy" / "notes.txt").write_text("private")
    local.push_to_hub("me/toy")
    assert {file.name for file in (hub.root / "me" / "toy").iterdir()} == HUB_FILES
    (tmp_path / "toy" / "curves.png").write_bytes(b"picture")
    local.push_to_hub("me/toy")
    assert (hub.root / "me" / "toy" / "curves.png").read_bytes() == b"picture"


def test_the_card_becomes_a_readme_that_the_hub_understands(hub: FakeHub, local: Simulator):
    local.push_to_hub("me/toy")
    assert (hub.root / "me" / "toy" / "README.md").read_text(encoding="utf-8") == (
        "---\nlibrary_name: lssvwm-env\ntags:\n"
        '- world-model\n- gymnasium\n- reinforcement-learning\n- "Toy-v0"\n---\n\n# A toy\n\nÜ.\n'
    )


def test_metadata_that_a_card_has_already_are_kept(hub: FakeHub, local: Simulator, tmp_path: Path):
    card = "---\nlicense: mit\n---\nMine.\n"
    (tmp_path / "toy" / "CARD.md").write_text(card)
    local.push_to_hub("me/toy")
    Simulator.from_pretrained("me/toy").push_to_hub("me/copy")  # its card is called README.md by now
    assert (hub.root / "me" / "copy" / "README.md").read_text() == card


def test_a_simulator_without_a_card_can_be_pushed(hub: FakeHub, local: Simulator, tmp_path: Path):
    (tmp_path / "toy" / "CARD.md").unlink()
    local.push_to_hub("me/toy")
    assert (hub.root / "me" / "toy" / "README.md").read_text().endswith("---\n\n")


def test_what_is_pushed_is_what_was_loaded(
    hub: FakeHub, local: Simulator, toy_box_simulator: Simulator, tmp_path: Path
):
    toy_box_simulator.save(tmp_path / "toy", "Another one.")
    local.push_to_hub("me/toy")
    assert Simulator.from_pretrained("me/toy").weights_sha256 == local.weights_sha256


def test_options_reach_the_hub(hub: FakeHub, local: Simulator):
    local.push_to_hub("toy", private=True, commit_message="Better.")
    Simulator.from_pretrained("me/toy", revision="v2")
    assert hub.calls == [
        ("create_repo", {"private": True, "exist_ok": True}),
        ("upload_folder", {"commit_message": "Better."}),
        ("snapshot_download", {"revision": "v2"}),
    ]


def test_only_what_cannot_run_code_is_fetched(hub: FakeHub, local: Simulator):
    local.push_to_hub("me/toy")
    for name in ("pytorch_model.bin", "starts.pkl", "modeling.py", "other.npz", "other.safetensors"):
        (hub.root / "me" / "toy" / name).write_bytes(b"code")
    folder = Simulator.from_pretrained("me/toy").folder
    assert folder is not None and {file.name for file in folder.iterdir()} == HUB_FILES


def test_damage_on_the_hub_is_refused(hub: FakeHub, local: Simulator):
    local.push_to_hub("me/toy")
    (hub.root / "me" / "toy" / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(SimulatorError, match="has SHA-256"):
        Simulator.from_pretrained("me/toy")
    (hub.root / "me" / "bare").mkdir()
    with pytest.raises(SimulatorError, match=r"bare.config.json is missing; a simulator has"):
        Simulator.from_pretrained("me/bare")


def test_what_the_hub_has_not_is_said(hub: FakeHub):
    with pytest.raises(SimulatorError, match="^me/none is no folder, and the Hugging Face Hub .*: 404"):
        Simulator.from_pretrained("me/none")
    with pytest.raises(SimulatorError, match=r"^me/none \(revision v2\) is no folder"):
        Simulator.from_pretrained("me/none", revision="v2")


def test_a_folder_needs_no_hub(local: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert Simulator.from_pretrained(tmp_path / "toy").config == local.config
    assert Simulator.from_pretrained(str(tmp_path / "toy")).folder == tmp_path / "toy"


def test_a_simulator_of_memory_has_no_card_to_push(hub: FakeHub, local: Simulator, toy_simulator: Simulator):
    for simulator in (toy_simulator, replace(local)):  # the folder of the original holds other weights, perhaps
        with pytest.raises(SimulatorError, match=r"push Simulator.load\(folder\) instead"):
            simulator.push_to_hub("me/toy")
    assert not hub.calls


def test_without_the_library_it_says_how_to_get_it(local: Simulator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r'pip install "lssvwm-env\[hub\]"'):
        local.push_to_hub("me/toy")
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"^me/toy is no folder; .*lssvwm-env\[hub\]"):
        Simulator.from_pretrained("me/toy")
