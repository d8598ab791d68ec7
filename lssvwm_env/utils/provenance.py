"""Where a measurement comes from, in words that JSON knows."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import torch

from lssvwm_env.utils.command import told
from lssvwm_env.version import __version__


def package_versions() -> dict[str, str]:
    """Versions of what a simulator's numbers depend on."""
    return {
        "lssvwm-env": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gymnasium": gym.__version__,
    }


def provenance(config: Any, device: torch.device) -> dict[str, Any]:
    """What was asked for (`config`, a dataclass), by which `versions`, and on what `hardware`."""
    return {
        "config": told(asdict(config)),
        "versions": package_versions(),
        "hardware": {
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "device": str(device),
        },
    }
