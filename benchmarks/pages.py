"""What the programs that make pages share: templates, tables, and estimates with their bounds."""

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lssvwm_models.evaluation.tally import least_share
from lssvwm_models.utils.files import write_bytes

ROOT: Final = Path(__file__).parents[1]

Estimate = Mapping[str, Any]


def bounds(estimate: Estimate, sequences: int | None = None) -> tuple[float, float]:
    """The 95 % interval of an estimate.

    Where all outcomes are alike, a bootstrap draws the same outcome for ever, and its interval has no width. Records
    made before `Tally.estimate` knew of this hold such intervals. They are replaced by the exact one (Clopper &
    Pearson 1934): m right of m are at least 0.025 ** (1 / m).

    Args:
        estimate: `value`, `low`, `high`, and `n`, the number of outcomes.
        sequences: Independent ones that the outcomes come from; all outcomes if None.
    """
    low, high = float(estimate["low"]), float(estimate["high"])
    if low != high or low not in (0.0, 1.0):
        return low, high
    trials = estimate["n"] if sequences is None else min(sequences, estimate["n"])
    least = least_share(trials)
    return (least, 1.0) if low == 1.0 else (0.0, 1 - least)


def show(
    estimate: Estimate,
    unit: float = 100.0,
    *,
    digits: int = 1,
    interval: bool = True,
    count: bool = False,
    sequences: int | None = None,
) -> str:
    """An estimate in a table, with its interval and the number of outcomes if asked for; see `bounds`."""
    if estimate["value"] is None:
        return "-"
    text = f"{unit * estimate['value']:.{digits}f}"
    if interval:
        low, high = bounds(estimate, sequences)
        text += f" [{unit * low:.{digits}f}, {unit * high:.{digits}f}]"
    return text + (f" n={estimate['n']}" if count else "")


def over_seeds(found: list[Estimate], unit: float = 100.0, **shown: Any) -> str:
    """The mean of an estimate over seeds, with the value of each; of a single seed as `show` has it; "-" of none."""
    if not found:
        return "-"
    if len(found) == 1:
        return show(found[0], unit, **shown)
    each = ", ".join(f"{unit * estimate['value']:.1f}" for estimate in found)
    return f"{unit * mean(estimate['value'] for estimate in found):.1f} ({each})"


def averaged(values: list[float], width: int, apart: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the middles of stretches of `width` values are, which are so many frames apart, and their means."""
    points = np.array(values[: len(values) // width * width], float).reshape(-1, width)
    return apart * width * (np.arange(len(points)) + 0.5), np.nanmean(points, 1)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(template: str, parts: dict[str, str]) -> str:
    """The template with its parts; sections that lack one are left out."""
    wanted = re.compile(r"\{([\w-]+)\}")
    head, *sections = re.split(r"(?m)^(?=## )", template)
    kept = [section for section in sections if set(wanted.findall(section)) <= parts.keys()]
    return wanted.sub(lambda found: parts[found[1]], "".join([head, *kept])).rstrip() + "\n"


def tables_page(title: str, command: str, sections: dict[str, str]) -> str:
    """A page of tables that another page links to."""
    head = f"# {title}\n\nMade of the records in `benchmarks/records/` by `{command}`.\n"
    return "\n".join([head, *(f"## {name}\n\n{text}\n" for name, text in sections.items())])


def write_pages(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write pages and pictures by their path in a folder, and name the pages."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data.encode() if isinstance(data, str) else data)
        if isinstance(data, str):
            print(f"{path} is written")
