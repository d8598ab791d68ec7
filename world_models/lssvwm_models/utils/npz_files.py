"""Arrays in `.npz` files of unknown origin: what they are is read, and can be judged, before anything is unpacked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SUFFIX: Final = ".npy"
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes
_DEFLATED_MOST: Final = 1032  # bytes that one byte of DEFLATE can become


class ArrayHeader(NamedTuple):
    """What an array is, as its header says."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        return self.dtype.itemsize * math.prod(self.shape)


def npz_headers(path: str | Path) -> dict[str, ArrayHeader]:
    """Look at the arrays of an `.npz` without unpacking them.

    No array takes more memory than its header says, and none says more than its bytes in the file can become: at most
    1,032 times as many. A caller who expects arrays of some size compares the headers with that before `npz_array`.

    Returns:
        dtype and shape by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `.npz`, or holds anything but plain arrays of numbers, each once.
    """
    with _opened(path) as archive:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it has an array twice")
        if sum(member.compress_size for member in members) > Path(path).stat().st_size:
            raise ValueError("it claims more bytes than it has")
        return {member.filename.removesuffix(SUFFIX): _header(archive, member) for member in members}


def npz_array(path: str | Path, name: str) -> NDArray[Any]:
    """Unpack one array of an `.npz`, after `npz_headers` was content with the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the array is not there, or is damaged: every byte counts in a checksum.
    """
    with _opened(path) as archive, archive.open(name + SUFFIX) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # which also brings the checksum of the whole
            raise ValueError(f"{name} has more bytes than its header says")
        return array


@contextmanager
def _opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """A zip; whatever goes wrong with its content is said with its path."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except Exception as error:  # zipfile, zlib, tokenize and numpy raise many kinds, even OSError for a wrong offset
        raise ValueError(f"{path} is not a readable .npz ({error})") from error


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayHeader:
    """The header of one array, if the file can hold what it says."""
    name = member.filename.removesuffix(SUFFIX)
    if not member.filename.endswith(SUFFIX) or member.compress_type not in _METHODS:
        raise ValueError(f"{member.filename} is not a stored or deflated {SUFFIX} file")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):  # numpy writes others only for headers above 64 KiB, which no plain array has
            raise ValueError(f"{member.filename} is not a {SUFFIX} file of version 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        before = file.tell()
    if dtype.kind not in "biufc":
        raise ValueError(f"{name} is {dtype}, expected numbers")
    header = ArrayHeader(dtype, shape)
    if min(shape, default=0) < 0 or before + header.nbytes != member.file_size:
        raise ValueError(f"{name} has {member.file_size} bytes, but its header says {dtype} {shape}")
    if member.file_size > _DEFLATED_MOST * member.compress_size:
        raise ValueError(f"{name} claims {member.file_size} bytes, more than the {member.compress_size} there can be")
    return header
