"""Reading and writing records, the numbers that the pages in docs/ are made of.

    python benchmarks/records_io.py benchmarks/records/ObjectRooms-v0/memory.json

The rule: a record of more than 8 kB is gzipped and ends in `.json.gz`; a smaller one is plain JSON, to be read in
place. As a command, this gzips records that `lssvwm` left plain.
"""

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

from lssvwm_models.utils.files import write_bytes

Record = dict[str, Any]


def read(path: Path) -> Record:
    """A record, gzipped if its name ends in `.gz`."""
    data = path.read_bytes()
    record: Record = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return record


def write(path: Path, record: Record) -> None:
    """Write a record, gzipped if its name ends in `.gz`. The folder is made if need be.

    Raises:
        ValueError: If a number is not finite: JSON has none of these.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, allow_nan=False, default=str) + "\n"
    write_bytes(path, gzipped(text.encode()) if path.suffix == ".gz" else text.encode())


def gzipped(data: bytes) -> bytes:
    """Without a name and a time of day, so that the same record is the same file."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def main(paths: list[Path]) -> None:
    """Put a gzipped record in the place of each plain one."""
    for path in paths:
        write_bytes(path.with_name(f"{path.name}.gz"), gzipped(path.read_bytes()))
        path.unlink()


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
