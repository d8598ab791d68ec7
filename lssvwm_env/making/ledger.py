"""What a making has chosen, and the time that it has taken: kept in its folder, so that it can be gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from lssvwm_env.utils.strangers import printable
from lssvwm_models.utils.json_files import read_json, write_json

FILE: Final = "make.json"


class Ledger:
    """Choices, each with its reason, and seconds by stage.

    Args:
        folder: Of the making.
        asked: What makes it the one it is.
        seconds: That it may take.

    Raises:
        ValueError: If the folder holds another making.
    """

    def __init__(self, folder: Path, asked: dict[str, Any], seconds: float) -> None:
        self.path = folder / FILE
        self.seconds = seconds
        self.choices: dict[str, dict[str, Any]] = {}
        self.spent: dict[str, float] = {}
        if self.path.is_file():
            kept = read_json(self.path)
            if different := [name for name in asked if kept["asked"].get(name) != asked[name]]:
                lines = "\n".join(f"  {n}: {kept['asked'].get(n)!r} there, {asked[n]!r} asked for" for n in different)
                raise ValueError(
                    f"{folder} holds another making:\n{lines}\nMake it in a new folder, or delete this one"
                )
            self.choices = kept["choices"]
            self.spent = kept["spent"]
        elif folder.exists() and any(folder.iterdir()):
            raise ValueError(f"out={folder} holds something else; make it in a new folder")
        self.asked = asked

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - sum(self.spent.values())

    def choose(self, name: str, choice: Callable[[], tuple[Any, str]], asked: Any = None) -> Any:
        """What was asked for, or chosen before, or is chosen now, by a function that also says why."""
        if name not in self.choices:
            value, why = (asked, "as you asked") if asked is not None else choice()
            self.choices[name] = {"value": value, "why": why}
            self.write()
            Console().print(printable(f"{name}: {value} ({why})"), markup=False, highlight=False, soft_wrap=True)
        return self.choices[name]["value"]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a stage, also if it is cut off."""
        began = time.monotonic()
        minutes = self.left / 60
        Console().print(
            printable(f"== {name}: {minutes:.1f} minutes are left"), markup=False, highlight=False, soft_wrap=True
        )
        try:
            yield
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + time.monotonic() - began
            self.write()

    def write(self) -> None:
        """Keep it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"asked": self.asked, "choices": self.choices, "spent": self.spent})
