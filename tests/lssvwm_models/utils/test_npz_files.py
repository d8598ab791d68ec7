"""Zips of arrays: what they are is known before they are unpacked, and what is no such zip is refused."""

import io
import random
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lssvwm_models.utils.npz_files import npz_array, npz_headers

ARRAYS = {"a": np.arange(12, dtype=np.int64).reshape(3, 4), "b": np.array([True, False]), "c": np.float32(2.5)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "x.npz", **ARRAYS)
    return tmp_path / "x.npz"


def npy(header: str, data: bytes = b"") -> bytes:
    """A .npy file whose header says anything."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def header(dtype: str = "'<i8'", shape: str = "(1,)", fortran: str = "False") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def test_headers_say_what_the_arrays_are(path: Path) -> None:
    headers = npz_headers(path)
    assert {name: (h.dtype, h.shape, h.nbytes) for name, h in headers.items()} == {
        name: (array.dtype, array.shape, array.nbytes) for name, array in ARRAYS.items()
    }
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(npz_array(path, name), array)


def test_an_array_in_another_order_comes_back(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=ARRAYS["a"].T)
    assert npz_headers(tmp_path / "x.npz")["a"].shape == (4, 3)
    np.testing.assert_array_equal(npz_array(tmp_path / "x.npz", "a"), ARRAYS["a"].T)


def test_what_is_not_there_is_said(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"y.npz is missing"):
        npz_headers(path.with_name("y.npz"))
    with pytest.raises(ValueError, match=r"x.npz is not a readable .npz .*nothing"):
        npz_array(path, "nothing")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.txt": npy(header(), bytes(8))}, "a.txt is not a stored"),
        ({"a.npy": npy(header(), bytes(7))}, "a has"),
        ({"a.npy": npy(header(), bytes(9))}, "a has"),
        ({"a.npy": npy(header(shape="(-1,)"), bytes(8))}, "a has|negative"),
        ({"a.npy": npy(header(shape="(-1, -1)"), bytes(8))}, "a has|negative"),
        ({"a.npy": npy(header(shape="(10**99,)"))}, "."),
        ({"a.npy": npy(header(shape=f"({10**99},)"))}, "a has"),
        ({"a.npy": npy(header(dtype="'|O'"), bytes(8))}, "a is object"),
        ({"a.npy": npy(header(dtype="'<U2'"), bytes(8))}, "a is <U2"),
        ({"a.npy": npy(header(dtype="[('x', '<i8')]"), bytes(8))}, r"a is \["),
        ({"a.npy": npy(header(dtype="3"), bytes(8))}, "."),
        ({"a.npy": npy("-" * 9000 + "1")}, "."),
        ({"a.npy": npy("(" * 9000)}, "."),
        ({"a.npy": npy("{'''")}, "."),
        ({"a.npy": npy("{}")}, "."),
        ({"a.npy": b""}, "."),
        ({"a.npy": b"\x93NUMPY\x02\x00"}, "version 1.0"),
        ({"a.npy": b"\x80\x04N."}, "."),
    ],
)
def test_anything_but_plain_arrays_is_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=rf"x.npz is not a readable .npz \((.|\n)*({message})"):
        npz_headers(zipped(tmp_path / "x.npz", members))


def test_an_array_given_twice_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", npy(header(), bytes(8)))
    with pytest.raises(ValueError, match="an array twice"):
        npz_headers(path)


def test_other_methods_of_compression_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a.npy is not a stored or deflated"):
        npz_headers(zipped(tmp_path / "x.npz", {"a.npy": npy(header(), bytes(8))}, zipfile.ZIP_LZMA))


@pytest.mark.parametrize(
    ("index_offset", "message"),
    [
        (24, "claims 2147483"),  # the size of what it unpacks to
        (20, "claims more bytes than it has"),  # the size of what is packed
    ],
)
def test_what_a_file_cannot_hold_is_refused_before_memory_is_asked_for(
    tmp_path: Path, index_offset: int, message: str
) -> None:
    inside = npy(header("'|u1'", f"({2**31},)"))
    path = zipped(tmp_path / "x.npz", {"a.npy": inside})
    data = bytearray(path.read_bytes())
    field = data.rindex(b"PK\x01\x02") + index_offset
    data[field : field + 4] = (len(inside) + 2**31).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        npz_headers(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_every_flipped_bit_is_refused_or_changes_nothing(path: Path) -> None:
    whole = path.read_bytes()
    refused = 0
    for position in random.Random(0).sample(range(8 * len(whole)), 300):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            headers = npz_headers(path)
            arrays = {name: npz_array(path, name) for name in headers}
        except ValueError as error:
            assert "x.npz is not a readable .npz" in str(error)
            refused += 1
            continue
        for name in arrays.keys() & ARRAYS.keys():  # a name may be another, which callers refuse
            np.testing.assert_array_equal(arrays[name], ARRAYS[name])
    assert refused > 200


def test_every_cut_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a readable .npz"):
            npz_headers(path)


def test_bytes_after_an_array_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    path = zipped(tmp_path / "x.npz", {"a.npy": file.getvalue() + b"more"})
    with pytest.raises(ValueError, match="a has more bytes than its header says"):
        npz_array(path, "a")
