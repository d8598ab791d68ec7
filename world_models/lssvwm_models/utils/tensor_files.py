"""Tensors in files that say by a SHA-256 of their own what was written: what is read is that, or nothing is.

Files of older releases have no such sum; theirs is not checked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lssvwm_models.utils.files import write_atomic, write_bytes

SUM: Final = "sha256"

_CONSTRUCTORS: Final = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.eye)


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file as bytes, the same for the same content. (The library writes metadata in any order.)"""
    data = safetensors.torch.save({k: t.clone(memory_format=torch.contiguous_format) for k, t in tensors.items()})
    if not metadata:
        return data
    size = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # as the format asks for
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all, with the sum of its tensors and of its other metadata."""
    metadata = metadata or {}
    write_bytes(path, tensor_bytes(tensors, {**metadata, SUM: _sum({"tensors": tensors, "metadata": metadata})}))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of `save_tensors`: the tensors, and the metadata.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: Naming the file, if it is another one, or damaged, or a number in it is not finite.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing, or no file")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # mostly SafetensorError, but by damage anything
        raise ValueError(f"{path} is not a safetensors file ({error})") from error
    expected = metadata.pop(SUM, None)
    _check(path, {"tensors": tensors, "metadata": metadata}, expected)
    # What is got from a file lies in it, and would change with it.
    return {name: tensor.clone() for name, tensor in tensors.items()}, metadata


class NoLargerThan(TorchFunctionMode):
    """Inside, torch's constructors make no more numbers than modules need that have certain tensors.

    Modules are built as a stranger's file says. Built for the tensors that came with it, one that has others is refused
    before it takes memory. (The meta device would do, but takes seconds of imports.)
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        # Each is made once, some with another of its size to begin as; tables of places and the like are small.
        self._left = 2**22 + 4 * sum(tensor.numel() for tensor in tensors.values())

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count what a constructor is going to make."""
        if func in _CONSTRUCTORS:
            sizes = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
            self._left -= math.prod(sizes)
            if self._left < 0:
                raise ValueError("it asks for far more numbers than the tensors beside it have")
        return func(*args, **(kwargs or {}))


def save_tree(path: str | Path, tree: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values, nested at will, for `torch.load`, with its sum in it."""
    write_atomic(path, lambda file: torch.save({**tree, SUM: _sum(tree)}, file))


def load_tree(path: str | Path) -> dict[str, Any]:
    """Read a file of `save_tree`, onto the CPU. It cannot run code.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: Naming the file, if it is another one, or damaged, or a number in a tensor is not finite.
    """
    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # by damage, the readers of zip and pickle raise nearly anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ValueError(f"{path} is damaged ({reason})") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is damaged (it holds {type(tree).__name__}, not a dict)")
    expected = tree.pop(SUM, None)
    _check(path, tree, expected)
    return tree


def _check(path: str | Path, tree: Any, expected: Any) -> None:
    if expected is not None and (found := _sum(tree)) != expected:
        raise ValueError(f"{path} is damaged (its content has SHA-256 {found}, and {expected} was written)")
    if bad := [name for name, tensor in _tensors(tree) if not _is_sound(tensor)]:
        raise ValueError(f"{path} has numbers in {bad[0]} that are not finite, or no numbers")


def _is_sound(tensor: Tensor) -> bool:
    if tensor.dtype == torch.bool:
        return bool((tensor.contiguous().view(torch.uint8) <= 1).all())
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _tensors(tree: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """The tensors in a tree, by their dotted names."""
    if isinstance(tree, Tensor):
        return [(name, tree)]
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return [found for key, part in parts for found in _tensors(part, f"{name}.{key}" if name else str(key))]


def _sum(tree: Any) -> str:
    """SHA-256 of all that is in a tree: values and their types, names, order of lists but not of names, tensors."""
    digest = hashlib.sha256()
    _add(digest, tree)
    return digest.hexdigest()


def _add(digest: Any, tree: Any) -> None:
    if isinstance(tree, Tensor):
        digest.update(f"{tree.dtype} {tuple(tree.shape)} ".encode())
        # Not contiguous(): that leaves any stride to a single row, and bytes need 1.
        packed = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(packed.flatten().view(torch.uint8).numpy())
    elif isinstance(tree, Mapping):
        digest.update(f"dict {len(tree)} ".encode())
        for key in sorted(tree, key=repr):
            digest.update(f"{key!r} ".encode())
            _add(digest, tree[key])
    elif isinstance(tree, list | tuple):
        digest.update(f"{type(tree).__name__} {len(tree)} ".encode())
        for part in tree:
            _add(digest, part)
    else:
        digest.update(f"{tree!r} ".encode())
