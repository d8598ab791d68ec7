"""Files and folders are whole or not there, nothing stays of those who were killed, and one writes at a time."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lssvwm_models.utils.files import lock_folder, new_folder, write_atomic, write_bytes

IMPORT = "import os, sys; from pathlib import Path; from lssvwm_models.utils.files import *; here = Path(sys.argv[1]);"
DIES_IN_A_FILE = "write_atomic(here / 'x[1].bin', lambda file: (file.write(b'half'), file.flush(), os._exit(9)))"
DIES_IN_A_FOLDER = """
with new_folder(here / 'x') as new:
    (new / 'a').write_text('half')
    os._exit(9)
"""
DIES_BETWEEN_RENAMES = """
rename = Path.rename
def once(path, target):
    rename(path, target)
    os._exit(9)
Path.rename = once
with new_folder(here / 'x') as new:
    (new / 'a').write_text('second')
"""


def run(program: str, folder: Path) -> int:
    return subprocess.run([sys.executable, "-c", IMPORT + program, folder], check=False).returncode


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_the_next_write_of_a_file_removes_what_the_killed_left(tmp_path: Path) -> None:
    (tmp_path / "x[1].bin.notes.tmp").touch()  # the user's
    (tmp_path / "x1.bin.abcdefgh.tmp").touch()
    kept = names(tmp_path)
    assert run(DIES_IN_A_FILE, tmp_path) == 9 and len(names(tmp_path)) == 3
    write_bytes(tmp_path / "y.bin", b"other")
    assert len(names(tmp_path)) == 4
    write_bytes(tmp_path / "x[1].bin", b"whole")
    assert names(tmp_path) == sorted([*kept, "x[1].bin", "y.bin"])
    assert (tmp_path / "x[1].bin").read_bytes() == b"whole"


def test_the_next_write_of_a_folder_removes_what_the_killed_left(tmp_path: Path) -> None:
    assert run(DIES_IN_A_FOLDER, tmp_path) == 9 and len(names(tmp_path)) == 1
    with new_folder(tmp_path / "x") as new:
        (new / "a").write_text("whole")
    assert names(tmp_path) == ["x"] and (tmp_path / "x/a").read_text() == "whole"


def test_a_folder_whose_writer_died_between_two_renames_is_there_until_there_is_another(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a").write_text("first")
    assert run(DIES_BETWEEN_RENAMES, tmp_path) == 9
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "x"):
        raise ZeroDivisionError
    assert [path.read_text() for path in tmp_path.glob(".x.*.old/a")] == ["first"]
    with new_folder(tmp_path / "x") as new:
        (new / "a").write_text("third")
    assert names(tmp_path) == ["x"] and (tmp_path / "x/a").read_text() == "third"


def test_what_is_being_written_is_left_alone(tmp_path: Path) -> None:
    def writer(file):
        file.write(b"outer")
        write_bytes(tmp_path / "x", b"inner")
        assert (tmp_path / "x").read_bytes() == b"inner" and len(names(tmp_path)) == 2

    write_atomic(tmp_path / "x", writer)
    assert (tmp_path / "x").read_bytes() == b"outer" and names(tmp_path) == ["x"]
    with new_folder(tmp_path / "y") as outer:
        with new_folder(tmp_path / "y") as inner:
            (inner / "a").touch()
        assert outer.is_dir()
    assert names(tmp_path) == ["x", "y"] and names(tmp_path / "y") == []


def test_what_fails_leaves_the_old_and_nothing_else(tmp_path: Path) -> None:
    def writer(file):
        file.write(b"half")
        raise OSError("No space left on device")

    write_bytes(tmp_path / "x", b"old")
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "x", writer)
    assert (tmp_path / "x").read_bytes() == b"old" and names(tmp_path) == ["x"]


def test_a_folder_that_cannot_be_put_in_its_place_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").mkdir()
    rename = Path.rename

    def no_second(path: Path, target: Path) -> None:
        if path.suffix == ".tmp":
            raise OSError("Permission denied")
        rename(path, target)

    monkeypatch.setattr(Path, "rename", no_second)
    with pytest.raises(OSError, match="Permission denied"), new_folder(tmp_path / "x") as new:
        (new / "a").touch()
    assert names(tmp_path) == ["x"] and names(tmp_path / "x") == []


def test_files_and_folders_get_the_rights_of_any_others(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
        with new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode)[-3:] for path in sorted(tmp_path.iterdir())] == ["640", "750"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_a_folder_is_locked_for_other_processes_and_until_all_here_have_let_it_go(tmp_path: Path) -> None:
    first = lock_folder(tmp_path)
    second = lock_folder(tmp_path)
    refused = """
try:
    lock_folder(here)
except ValueError as error:
    assert str(error).startswith(f'another process is writing into {here}: wait'), error
    sys.exit(3)
"""
    assert run(refused, tmp_path) == 3
    del first
    gc.collect()
    assert run(refused, tmp_path) == 3
    del second
    gc.collect()
    assert run(refused, tmp_path) == 0
    assert run("lock = lock_folder(here); os._exit(9)", tmp_path) == 9
    lock_folder(tmp_path)
