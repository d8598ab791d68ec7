"""bfloat16 only where it is not emulated."""

import logging
from collections.abc import Iterator

import pytest
import torch

from lssvwm_models.execution import precision
from lssvwm_models.execution.precision import autocast, in_float32, supports_bf16


@pytest.fixture(autouse=True)
def unknown_hardware() -> Iterator[None]:
    supports_bf16.cache_clear()
    yield
    supports_bf16.cache_clear()


def product(bf16: bool) -> torch.dtype:
    with autocast("cpu", bf16):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize("known", [True, False])
def test_products_are_in_bfloat16_where_asked_for_and_known(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "supports_bf16", lambda kind: known)
    assert product(True) == (torch.bfloat16 if known else torch.float32)
    assert product(False) == torch.float32


def test_a_cpu_without_it_is_told_of_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with caplog.at_level(logging.INFO):
        assert product(True) == product(True) == torch.float32
    assert len(caplog.records) == 1
    assert "cpu would emulate bfloat16" in caplog.text


def test_what_makes_models_makes_them_of_float32_and_leaves_the_default_alone() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with in_float32():
            assert torch.ones(1).dtype == torch.float32
        with pytest.raises(KeyError), in_float32():
            raise KeyError
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
