"""Devices are named by users, and refused by name."""

from __future__ import annotations

import re

import pytest
import torch

from lssvwm_models.execution.devices import as_device


@pytest.mark.parametrize("cuda", [True, False])
def test_auto_is_cuda_where_there_is_some(cuda: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert as_device("auto") == torch.device("cuda" if cuda else "cpu")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_names_of_torch_are_taken_as_they_are(device: torch.device | str):
    assert as_device(device) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "[]", "cpu:cpu", "meta", 3.5, 2**64, torch.zeros(2)])
def test_a_device_that_is_not_there_is_named(device: str):
    with pytest.raises(
        ValueError,
        match=rf"^device='{re.escape(str(device))}' cannot be used here \(.+\); there is auto, cpu(, cuda:\d+)*$",
    ):
        as_device(device)
