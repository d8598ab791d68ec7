"""`lssvwm list`: the simulators that have an id."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.table import Table

from lssvwm_env.simulator.registry import SIMULATORS
from lssvwm_env.utils.strangers import Screen


@dataclass(frozen=True)
class ListConfig:
    """List the simulators that `gymnasium.make` knows.

    Beside the bundled ones, these are those in the folders that the environment variable LSSVWM_SIMULATORS lists
    (simulators, runs of `lssvwm train`, or folders of such), and those that installed packages bring.
    """


def list_simulators(config: ListConfig) -> None:
    """Print a table of the registered simulators."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("id", "real environment"):
        table.add_column(heading, overflow="fold")
    for heading in ("trained length", "horizon", "MB"):
        table.add_column(heading, justify="right")
    table.add_column("folder", overflow="fold")
    for env_id, simulator in SIMULATORS.items():
        size = sum(file.stat().st_size for file in simulator.folder.iterdir())
        numbers = (f"{simulator.trained_length}", f"{simulator.horizon}", f"{size / 1e6:.1f}")
        table.add_row(env_id, simulator.env_id, *numbers, str(simulator.folder))
    console = Screen()
    if not console.is_terminal:
        console.width = 1000  # for other programs, one line each
    console.print(table)
