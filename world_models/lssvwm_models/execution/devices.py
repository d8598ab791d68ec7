"""Devices as users name them."""

from __future__ import annotations

import torch

from lssvwm_models.utils.checks import shown


def as_device(device: torch.device | str) -> torch.device:
    """The device of a name.

    Args:
        device: "auto", which is CUDA where there is some and else the CPU; or any of torch's: "cpu", "cuda", "cuda:1".

    Raises:
        ValueError: If torch knows no such device, or finds none here.
    """
    if not isinstance(device, str | torch.device):
        device = shown(device)  # which is no name of any
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()  # a name alone says nothing about this machine
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        here = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({reason}); there is {', '.join(here)}"
        ) from error
    return found
