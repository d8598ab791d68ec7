"""Files and folders written whole or not at all, and folders that one process at a time writes into.

What is being written has a temporary name and is locked. The lock ends with the process, however that ends: so what can
be locked was left by the dead, and the next to write the same name removes it. Windows has no such locks; there, what a
killed process left stays.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl


def write_atomic(path: str | Path, writer: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old content or all of the new one, never a part.

    The bytes go to `<name>.<random>.tmp` in the same folder, are flushed to the disk, and then take the
    file's name in one rename. A kill can only leave a `*.tmp` behind, which readers ignore.

    Args:
        path: The file to make or replace. Its folder must exist.
        writer: Called once with the open binary file.
    """
    path = Path(path)
    with _temporary(path.parent, f"{path.name}.", _make_file) as new:
        with open(new, "wb") as file:
            writer(file)
            file.flush()
            os.fsync(file.fileno())
        _give_rights(new, 0o666)
        new.replace(path)
    _sync_folder(path.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """`write_atomic` for what is in memory already."""
    write_atomic(path, lambda file: file.write(data))


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `folder` after the block, and is gone if that raises.

    What had the name before is kept until then, and comes back if that fails.
    """
    prefix = f".{folder.name}."
    with _temporary(folder.parent, prefix, _make_folder) as new:
        yield new
        _give_rights(new, 0o777)
        if folder.exists():
            old = new.with_suffix(".old")
            folder.rename(old)
            try:
                new.rename(folder)
            except BaseException:
                old.rename(folder)
                raise
        else:
            new.rename(folder)
    _remove_leftovers(folder.parent, prefix, ".old")  # only now is none of them the last copy


class FolderLock:
    """A folder that no other process may lock while this object lives; see `lock_folder`."""

    def __init__(self, folder: Path) -> None:
        descriptor = _lock(folder)
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)


_folder_locks: weakref.WeakValueDictionary[tuple[int, int], FolderLock] = weakref.WeakValueDictionary()


def lock_folder(folder: Path) -> FolderLock:
    """Let no other process lock a folder, for as long as the result lives; within this process, all share it.

    Raises:
        ValueError: If another process has locked it.
    """
    status = folder.stat()
    key = status.st_dev, status.st_ino
    lock = _folder_locks.get(key)
    if lock is None:
        try:
            lock = FolderLock(folder)
        except BlockingIOError:
            raise ValueError(
                f"another process is writing into {folder}: wait until it has ended, or choose another folder"
            ) from None
        _folder_locks[key] = lock
    return lock


def _lock(path: Path) -> int | None:
    """Lock a file or folder until the descriptor that is returned is closed; None where there are no locks.

    Raises:
        BlockingIOError: If it is locked already.
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


@contextmanager
def _temporary(folder: Path, prefix: str, make: Callable[[Path, str], Path]) -> Iterator[Path]:
    """What `make` makes, locked during a block and removed after it, if it still has its temporary name then."""
    _remove_leftovers(folder, prefix, ".tmp")
    while True:
        path = make(folder, prefix)
        try:
            descriptor = _lock(path)
        except (BlockingIOError, FileNotFoundError):  # another process was faster, and took it for left behind
            continue
        if path.exists():
            break
        if descriptor is not None:
            os.close(descriptor)
    try:
        yield path
    finally:
        _remove(path)
        if descriptor is not None:
            os.close(descriptor)


def _make_file(folder: Path, prefix: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=folder)
    os.close(descriptor)
    return Path(name)


def _make_folder(folder: Path, prefix: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=folder))


def _give_rights(path: Path, rights: int) -> None:
    """What is temporary is private to the user: give it the rights that open() or mkdir() would have given."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(rights & ~umask)


def _remove_leftovers(folder: Path, prefix: str, suffix: str) -> None:
    """Remove what killed processes left of the files or folders that they were to write."""
    temporary = re.compile(re.escape(prefix) + r"\w{8}" + re.escape(suffix))
    for name in filter(temporary.fullmatch, os.listdir(folder)):
        path = folder / name
        try:
            descriptor = _lock(path)
        except OSError:  # it is being written, was removed in this moment, or is another user's
            continue
        if descriptor is not None:
            _remove(path)
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut (Windows cannot open folders, and need not)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
