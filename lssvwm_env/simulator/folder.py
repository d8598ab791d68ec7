"""The files of a simulator folder, and its `config.json` as plain JSON: cheap to read, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lssvwm_models.utils.json_files import MOST_BYTES, parse_json

FORMAT: Final = "lssvwm-simulator"
VERSION: Final = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
STARTS = "starts.npz"
CARD = "CARD.md"
CURVES = "curves.png"

_LFS: Final = b"version https://git-lfs.github.com/spec/"


class SimulatorError(ValueError):
    """A simulator that cannot be found, is damaged, or whose parts do not fit together."""


def read_file(path: Path, most: int = 2**40) -> bytes:
    """Read one of the files that a simulator needs, of at most so many bytes.

    Raises:
        SimulatorError: If it is not there, or larger.
    """
    if not path.is_file():
        raise SimulatorError(f"{path} is missing; a simulator has {CONFIG}, {WEIGHTS} and {STARTS}: copy all of it")
    if (size := path.stat().st_size) > most:
        raise SimulatorError(f"{path} has {size:,} bytes; expected at most {most:,}")
    data = path.read_bytes()
    if data.startswith(_LFS):
        raise SimulatorError(f"{path} only names a file that Git LFS keeps; fetch it with: git lfs pull")
    return data


def read_header(path: Path) -> dict[str, Any]:
    """Read the `config.json` of a simulator of whatever version.

    Raises:
        SimulatorError: If it is no simulator's.
    """
    try:
        content = parse_json(read_file(path, MOST_BYTES), str(path))
    except ValueError as error:
        raise SimulatorError(f"{error}; copy the simulator again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        inside = path.parent / "simulator"  # where a training run has it
        hint = f"; the simulator is in {inside}" if (inside / CONFIG).is_file() else ""
        raise SimulatorError(f"{path} is not the config of a simulator: its format is {found!r}, not {FORMAT!r}{hint}")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """Read the `config.json` of a simulator that this release can load.

    Raises:
        SimulatorError: If it is no simulator's, or of another version.
    """
    content = read_header(path)
    if content.get("version") != VERSION:
        raise SimulatorError(
            f"{path} has version {content.get('version')!r}; this release reads version {VERSION}: "
            f"install the release that wrote it ({content.get('versions')})"
        )
    return content
