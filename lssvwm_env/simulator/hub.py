"""Simulators on the Hugging Face Hub: a repository is a simulator folder whose card is called README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import gymnasium as gym

from lssvwm_env.simulator.folder import CARD, CONFIG, CURVES, STARTS, WEIGHTS, SimulatorError

README: Final = "README.md"
FILES: Final = [CONFIG, WEIGHTS, STARTS, README, CURVES]  # all that is ever fetched; none of it is pickled


def push(folder: Path, repo_id: str, private: bool, commit_message: str) -> str:
    """Upload a simulator folder, whose card becomes the README; see `Simulator.push_to_hub`."""
    hub = require()
    (folder / CARD).rename(folder / README)
    api = hub.HfApi()
    repository = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message=commit_message)
    return str(repository)


def fetch(repo_id: str, revision: str | None) -> Path:
    """Download a repository's simulator, or find it in the Hub's cache; returns its folder.

    Raises:
        DependencyNotInstalled: Without huggingface_hub.
        SimulatorError: If the Hub does not give it.
    """
    hub = require(f"{repo_id} is no folder; to look for it on the Hugging Face Hub, ")
    try:
        return Path(hub.snapshot_download(repo_id, revision=revision, allow_patterns=FILES))
    except (OSError, ValueError) as error:  # all errors of the library are one of these
        version = f" (revision {revision})" if revision else ""
        raise SimulatorError(
            f"{repo_id}{version} is no folder, and the Hugging Face Hub does not give it: {error}"
        ) from error


def readme(folder: Path, env_id: str) -> str:
    """The simulator's card, under the metadata by which the Hub finds it."""
    card = next((folder / name for name in (CARD, README) if (folder / name).is_file()), None)
    text = card.read_text(encoding="utf-8") if card else ""
    if text.startswith("---\n"):  # it has metadata already: by its author, or as it came from the Hub
        return text
    tags = "".join(f"- {tag}\n" for tag in ("world-model", "gymnasium", "reinforcement-learning", json.dumps(env_id)))
    return f"---\nlibrary_name: lssvwm-env\ntags:\n{tags}---\n\n{text}"


def require(purpose: str = "") -> Any:
    """The library of the Hub.

    Raises:
        DependencyNotInstalled: If it is not there.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        install = 'install huggingface_hub with: pip install "lssvwm-env[hub]"'
        raise gym.error.DependencyNotInstalled(purpose + install) from error
    return huggingface_hub
