"""One thread at a time: a world that two threads move at once would lose steps of both."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Turn:
    """Held by the thread that uses some worlds; another one is refused meanwhile. Those of copies are free."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        return Turn, ()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "another thread is using this environment at the moment; give each thread an environment of its own, "
                "by fork() or copy.deepcopy(), or wait for it with a lock"
            )

    def __exit__(self, *error: object) -> None:
        self._lock.release()


class _HasTurn(Protocol):
    @property
    def turn(self) -> Turn: ...


S = TypeVar("S", bound=_HasTurn)


def in_turn(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that raises `RuntimeError` if another thread is in one of the same worlds."""

    @functools.wraps(method)
    def alone(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.turn:
            return method(self, *args, **kwargs)

    return alone
