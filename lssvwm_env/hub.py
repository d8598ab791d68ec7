"""Simulators on the Hugging Face Hub: a repository is a simulator folder whose card is called README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import gymnasium as gym

from lssvwm_env.simulator_folder import CARD, CONFIG, CURVES, STARTS, WEIGHTS, SimulatorError

if TYPE_CHECKING:
    from lssvwm_env.simulator import Simulator

README: Final = "README.md"
FILES: Final = [CONFIG, WEIGHTS, STARTS, README, CURVES]  # all that is ever fetched; none of it is pickled


def push(simulator: Simulator, repo_id: str, private: bool, commit_message: str) -> str:
    """See `Simulator.push_to_hub`."""
    if simulator.folder is None:
        raise SimulatorError("this simulator was never on disk, so it has no card; push Simulator.load(folder) instead")
    hub = _library()
    with TemporaryDirectory() as temporary:
        staged = Path(temporary) / "simulator"
        simulator.save(staged, _readme(simulator.folder, simulator.config.env_id))
        (staged / CARD).rename(staged / README)
        if (simulator.folder / CURVES).is_file():
            shutil.copyfile(simulator.folder / CURVES, staged / CURVES)
        api = hub.HfApi()
        repository = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository.repo_id, folder_path=staged, commit_message=commit_message)
    return str(repository)


def fetch(repo_id: str, revision: str | None) -> Path:
    """Download a repository's simulator, or find it in the Hub's cache; returns its folder.

    Raises:
        DependencyNotInstalled: Without huggingface_hub.
        SimulatorError: If the Hub does not give it.
    """
    hub = _library(f"{repo_id} is no folder; to look for it on the Hugging Face Hub, ")
    try:
        return Path(hub.snapshot_download(repo_id, revision=revision, allow_patterns=FILES))
    except (OSError, ValueError) as error:  # all errors of the library are one of these
        version = f" (revision {revision})" if revision else ""
        raise SimulatorError(
            f"{repo_id}{version} is no folder, and the Hugging Face Hub does not give it: {error}"
        ) from error


def _readme(folder: Path, env_id: str) -> str:
    """The simulator's card, under the metadata by which the Hub finds it."""
    card = next((folder / name for name in (CARD, README) if (folder / name).is_file()), None)
    text = card.read_text(encoding="utf-8") if card else ""
    if text.startswith("---\n"):  # it has metadata already: by its author, or as it came from the Hub
        return text
    tags = "".join(f"- {tag}\n" for tag in ("world-model", "gymnasium", "reinforcement-learning", json.dumps(env_id)))
    return f"---\nlibrary_name: lssvwm-env\ntags:\n{tags}---\n\n{text}"


def _library(purpose: str = "") -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        install = 'install huggingface_hub with: pip install "lssvwm-env[hub]"'
        raise gym.error.DependencyNotInstalled(purpose + install) from error
    return huggingface_hub
