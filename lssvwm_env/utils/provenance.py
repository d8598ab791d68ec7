"""Where a measurement comes from, in words that JSON knows."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import torch

from lssvwm_env.utils.command import relative_paths
from lssvwm_env.version import __version__


def package_versions() -> dict[str, str]:
    """Versions of what a simulator's numbers depend on."""
    return {
        "lssvwm-env": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gymnasium": gym.__version__,
    }


def hardware(device: torch.device | str) -> str:
    """What computes, in words: the name of a GPU, or what kind of CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"a CPU ({platform.machine()}, {os.cpu_count()} cores)"


def provenance(config: Any, device: torch.device) -> dict[str, Any]:
    """What was asked for (`config`, a dataclass), by which `versions`, and on what `hardware`."""
    return {
        "config": relative_paths(asdict(config)),
        "versions": package_versions(),
        "hardware": {
            "name": hardware(device),
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "device": str(device),
        },
    }
