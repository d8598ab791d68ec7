"""How far something is: a bar on a terminal, and elsewhere, in logs and pipes, a line every so often."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY: Final = 10.0  # seconds between lines


class Report(Protocol):
    """What is told how far it is."""

    def __call__(self, done: int, status: str | None = None) -> None:
        """So much is done, and goes like this; without a status, only the bar moves."""


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Report]:
    """Show how far something is, of which some may be done already."""
    console = Console()
    if not (console.is_terminal or console.is_jupyter):
        yield _Lines(title, total, done)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    ) as bar:
        task = bar.add_task(title, total=total, completed=done, status="")

        def report(done: int, status: str | None = None) -> None:
            bar.update(task, completed=done)
            if status is not None:
                bar.update(task, status=status)

        yield report


class _Lines:
    """Prints the first status, the last, and between them one every `EVERY` seconds."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self._title = title
        self._total = total
        self._began_with = done
        self._began = time.monotonic()
        self._next = 0.0
        self._status = ""

    def __call__(self, done: int, status: str | None = None) -> None:
        self._status = self._status if status is None else status
        now = time.monotonic()
        if status is None or (now < self._next and done < self._total):
            return
        self._next = now + EVERY
        seconds = (now - self._began) / max(1, done - self._began_with) * (self._total - done)
        left = timedelta(seconds=round(seconds))
        print(f"{self._title} {done:,} of {self._total:,}  {self._status}  {left} left", flush=True)
