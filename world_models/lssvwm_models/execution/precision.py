"""The type of numbers: float32, whatever the caller's default is, and bfloat16 where the hardware multiplies it.

Elsewhere bfloat16 is emulated: training takes several times as long.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_log = logging.getLogger(__name__)


def autocast(device: torch.device | str, bf16: bool) -> torch.autocast:
    """Matrix products in bfloat16, if that is asked for and the device supports it; in float32 otherwise."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=bf16 and supports_bf16(kind))


@functools.cache
def supports_bf16(kind: str) -> bool:
    """Whether devices of this type ("cpu", "cuda") multiply bfloat16 at least as fast as float32.

    What was found is logged once, at level INFO, if it is that they do not.
    """
    if kind == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    elif kind == "cpu":
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # AVX-512 or better, or an ARM that has it
    else:
        supported = True
    if not supported:
        _log.info("this %s would emulate bfloat16: matrices are multiplied in float32", kind)
    return supported


@contextmanager
def in_float32() -> Iterator[None]:
    """Make new tensors of numbers float32 in a block, or in a function that this decorates.

    For making and training models: the default belongs to all threads of the process. So what may run beside others, as
    dreams do, says the type with every tensor that it makes.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
