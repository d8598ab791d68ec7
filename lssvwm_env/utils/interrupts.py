"""Ctrl-C, and the signal that asks a program to end, as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


class Interrupted(KeyboardInterrupt):
    """The user, or the system, wants the program to end.

    Attributes:
        status: What the program exits with, as shells do.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"by {signal.Signals(number).name}")
        self.status = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in this block when it is asked for; afterwards such signals do again what they did before.

    A second signal ends the process at once. Signals reach the main thread alone: in others this does nothing. It does
    nothing, either, about signals that are ignored, as scripts ignore Ctrl-C in the background.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    taken = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]

    def interrupt(number: int, _: Any) -> NoReturn:
        for other in taken:
            signal.signal(other, signal.SIG_DFL)
        raise Interrupted(number)

    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
