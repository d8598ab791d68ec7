"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: str | Path, writer: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old content or all of the new one, never a part.

    The bytes go to `<name>.<random>.tmp` in the same folder, are flushed to the disk, and then take the
    file's name in one rename. A crash can only leave a `*.tmp` behind, which readers ignore.

    Args:
        path: The file to make or replace. Its folder must exist.
        writer: Called once with the open binary file.
    """
    path = Path(path)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            writer(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private to the user; give this one the rights that open() would have given.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """`write_atomic` for what is in memory already."""
    write_atomic(path, lambda file: file.write(data))


def _sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut (Windows cannot open folders, and need not)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
