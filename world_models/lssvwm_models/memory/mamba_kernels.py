"""`frame_scan` by the Triton kernels of mamba-ssm: on CUDA, where they are installed (CONTRIBUTING.md says how).

Mamba-2's kernel knows tokens, not frames. So each frame becomes R reading tokens and then M writing ones; a read is a
token with `dt = 0`, which neither decays nor writes, and stands before the writes of its frame. A reset is the start
of another sequence (`seq_idx`): the kernel lets nothing over that border, the initial state included.

`choose` says, call by call, whether the kernels run, and logs it once. They do not where

- there is one frame only: that is two matrix products and no scan. (`selective_state_update`, the single step of
  mamba-ssm, does not fit: it takes one token where a frame writes several, and is read after it is written.)
- float32 is to be exact: the kernels multiply in TF32, and one scan shall give the numbers of many short ones.

Up to mamba-ssm 2.3.2.post1 the kernels count with 32 bits and are silently wrong where a tensor has 2^31 elements, and
CUDA takes no more than 65,535 blocks along an axis. Tubes do not know of each other: too many are scanned in parts.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import math
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

DEVICE = "cuda"  # tests put "cpu" here, for Triton's interpreter
CHUNK = 128  # tokens that the kernel takes together; a power of two
MAX_ELEMENTS = 2**31 - 1  # of any tensor inside the kernels
MAX_BLOCKS = 65_535  # tubes times chunks: an axis of the kernels' CUDA grids

_log = logging.getLogger(__name__)


def choose(C: Tensor, x: Tensor, B: Tensor) -> bool:
    """Whether the kernels run `frame_scan` for these arguments. What is chosen, and why, is logged once per process."""
    reason = reason_against(C, x, B)
    _say(reason)
    return reason is None


def reason_against(C: Tensor, x: Tensor, B: Tensor) -> str | None:
    """Why the kernels do not run `frame_scan` for these arguments; None if they do."""
    if x.device.type != DEVICE:
        return f"the kernels want {DEVICE}, the tensors are on {x.device.type}"
    if x.shape[1] == 1:
        return "one frame needs no scan"
    if (dtype := _dtype(C, x, B)) not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the kernels do not know {dtype}"
    if dtype == torch.float32 and not _tf32():
        return "the kernels would round float32 to TF32, which PyTorch is not allowed to (or compute in bfloat16)"
    if _most_tubes(C, x) == 0:
        return "a single tube is too large for the kernels"
    return available()


def available() -> str | None:
    """Why the kernels cannot be had; None if they can."""
    kernel = _load()
    return kernel if isinstance(kernel, str) else None


def chunk_scan(
    C: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor, is_first: Tensor
) -> tuple[Tensor, Tensor]:
    """`frame_scan` by the kernel: the same arguments, the same results. Raises if the kernel cannot be had."""
    scan = functools.partial(_chunk_scan, A=A)
    tubes = C, x, dt, B, state, is_first
    most = _most_tubes(C, x)
    if len(x) <= most:
        return scan(*tubes)
    parts = [scan(*part) for part in zip(*(v.split(most) for v in tubes), strict=True)]
    y, state = (torch.cat(v) for v in zip(*parts, strict=True))
    return y, state


def _chunk_scan(
    C: Tensor, x: Tensor, dt: Tensor, B: Tensor, state: Tensor, is_first: Tensor, A: Tensor
) -> tuple[Tensor, Tensor]:
    kernel = _load()
    if isinstance(kernel, str):
        raise RuntimeError(kernel)
    T, R = C.shape[1:3]
    M = x.shape[2]
    dtype = _dtype(C, x, B)
    y, state = kernel(
        _tokens(x.to(dtype), (0, 0, 0, 0, R, 0)),
        _tokens(dt.float(), (0, 0, R, 0)),
        A.float(),
        _tokens(B.to(dtype), (0, 0, R, 0)).unsqueeze(2),  # one group: the heads share B and C
        _tokens(C.to(dtype), (0, 0, 0, M)).unsqueeze(2),
        chunk_size=_chunk(T * (R + M)),
        initial_states=state.float().contiguous(),
        # The kernel's own count begins at 0: such tokens see the initial state.
        seq_idx=is_first.cumsum(1).int().repeat_interleave(R + M, 1),
        return_final_states=True,
    )
    return y.unflatten(1, (T, R + M))[:, :, :R], state


def _tokens(v: Tensor, pad: tuple[int, ...]) -> Tensor:
    """(G, T, R or M, ...) -> (G, T * (R + M), ...), the others zero. Contiguous: views have strides that overflow."""
    return F.pad(v, pad).flatten(1, 2).contiguous()


def _chunk(tokens: int) -> int:
    return min(CHUNK, max(16, 1 << (tokens - 1).bit_length()))  # 16 is the least side of a matrix in Triton


def _most_tubes(C: Tensor, x: Tensor) -> int:
    """How many tubes the kernels can take at once."""
    T, R, N = C.shape[1:]
    M, H, P = x.shape[2:]
    chunk = _chunk(T * (R + M))
    chunks = math.ceil(T * (R + M) / chunk)
    # Values; gradients of keys and scores, by head; states. All are padded to whole chunks.
    elements = chunks * H * max(chunk * P, chunk * N, chunk * chunk, P * N)
    return min(MAX_ELEMENTS // elements, MAX_BLOCKS // chunks)


def _dtype(C: Tensor, x: Tensor, B: Tensor) -> torch.dtype:
    """What the kernels multiply in: they know nothing of autocast, and want one type for all."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return functools.reduce(torch.promote_types, (C.dtype, x.dtype, B.dtype))


def _tf32() -> bool:
    """Whether PyTorch may multiply float32 in TF32."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # from torch 2.9 on; there the older switch raises once this one was used
        return matmul.fp32_precision == "tf32"
    return matmul.allow_tf32


@functools.cache
def _say(reason: str | None) -> None:
    if reason is None:
        _log.info("Scans run in the kernels of mamba-ssm %s, Triton %s.", version("mamba-ssm"), version("triton"))
    else:
        _log.info("Scans run in PyTorch: %s.", reason)


@functools.cache
def _load() -> Callable[..., tuple[Tensor, Tensor]] | str:
    """`mamba_chunk_scan_combined`, or why there is none.

    Importing `mamba_ssm` imports Mamba-1, which wants a compiled extension, and models, which want transformers. The
    kernels need neither: an empty package of that name stands in while they are imported, and goes again, so that
    others still get the real one. Whatever goes wrong in there shall not stop a program that can run without.
    """
    name = "mamba_ssm"
    stand_in = ModuleType(name)
    try:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            return "mamba-ssm is not installed"
        stand_in.__path__ = list(spec.submodule_search_locations)
        sys.modules.setdefault(name, stand_in)
        return importlib.import_module(f"{name}.ops.triton.ssd_combined").mamba_chunk_scan_combined
    except Exception as error:
        return f"mamba-ssm cannot be imported ({type(error).__name__}: {error})"
    finally:
        if sys.modules.get(name) is stand_in:
            for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[module]
