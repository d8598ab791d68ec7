"""Records are read as they were written, gzipped or not."""

import gzip
import json
from pathlib import Path

import pytest

RECORDS = Path(__file__).parents[2] / "benchmarks" / "records"


@pytest.fixture
def records_io(program):
    return program("benchmarks/records_io.py")


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_record_is_read_as_it_was_written(records_io, tmp_path, name):
    record = {"value": 0.1, "none": None, "names": ["ä"]}
    records_io.write(tmp_path / "new" / name, record)
    assert records_io.read(tmp_path / "new" / name) == record
    data = (tmp_path / "new" / name).read_bytes()
    assert json.loads(gzip.decompress(data) if name.endswith("gz") else data) == record


def test_the_same_record_is_the_same_file_at_any_time_and_place(records_io, tmp_path, monkeypatch):
    records_io.write(tmp_path / "one.json.gz", {"a": 1})
    monkeypatch.setattr("time.time", lambda: 2e9)
    records_io.write(tmp_path / "two.json.gz", {"a": 1})
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()


def test_a_number_that_json_lacks_is_no_record(records_io, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        records_io.write(tmp_path / "a.json", {"a": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_the_command_puts_gzipped_records_in_the_place_of_plain_ones(records_io, tmp_path):
    plain = tmp_path / "memory.json"
    plain.write_text('{"a": 1}')
    records_io.main([plain])
    assert [path.name for path in tmp_path.iterdir()] == ["memory.json.gz"]
    assert records_io.read(tmp_path / "memory.json.gz") == {"a": 1}


def test_large_records_are_gzipped_and_small_ones_are_plain():
    for path in RECORDS.rglob("*.json*"):
        size = len(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path.stat().st_size
        assert (path.suffix == ".gz") == (size > 8000), path


def test_records_hold_no_pictures():
    assert {"".join(path.suffixes[-2:]) for path in RECORDS.rglob("*.*") if path.is_file()} == {".json", ".json.gz"}
