"""What every malformed call, file and option must come to: a refusal that names it, and nothing else.

A case is refused by an error that a caller can expect and that names what was wrong, or it is accepted and was right. A
crash, a hang, a refusal without a name, and an acceptance of what is wrong fail the test, and are counted.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import gymnasium as gym
import numpy as np
import torch
from hypothesis import HealthCheck, settings

REFUSALS: Final = (TypeError, ValueError, OSError, gym.error.Error)
MOST_SECONDS: Final = 2.0  # of CPU time; others may have the processor meanwhile
HANG: Final = 60  # seconds
MOST_BYTES: Final = 500_000_000  # that the largest memory of this process may grow by
OUTCOMES: Final = ("refused", "accepted", "crashes", "hangs", "silent acceptances", "unnamed refusals")
MORE: Final = 50  # times as many cases by `make fuzz`

Tally = dict[str, int]


class Hang(BaseException):
    """A case that did not come to an end; no handler of the library's takes it for its own."""


def is_thorough() -> bool:
    """Whether this is `make fuzz`. (Known only once all files of fixtures were read.)"""
    return settings.get_current_profile_name() == "fuzz"


def fuzzed(cases: int) -> settings:
    """Settings for so many examples as a part of all tests, always the same ones, and many more by `make fuzz`."""
    return settings(
        max_examples=cases * MORE if is_thorough() else cases,
        derandomize=not is_thorough(),  # there `--hypothesis-seed` says which
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def attempt(tally: Tally, case: Callable[[], Any], names: Sequence[str], legal: bool | Callable[[Any], bool]) -> bool:
    """Try a case, count what came of it, and fail unless the law is kept.

    Args:
        tally: Where it is counted.
        case: What to try.
        names: One of these must be in the message of a refusal.
        legal: Whether it may be accepted, perhaps seen from what it gave.

    Returns:
        Whether it was accepted.
    """
    try:
        with limited():
            result = case()
    except REFUSALS as error:
        named = any(name.lower() in str(error).lower() for name in names)
        tally["refused" if named else "unnamed refusals"] += 1
        assert named, f"the refusal names none of {names}: {type(error).__name__}: {error}"
        return False
    except Hang:
        tally["hangs"] += 1
        raise
    except (Exception, SystemExit):
        tally["crashes"] += 1
        raise
    accepted = legal(result) if callable(legal) else legal
    tally["accepted" if accepted else "silent acceptances"] += 1
    assert accepted, f"what is wrong in {names} was accepted without a word"
    return True


@contextmanager
def limited() -> Iterator[None]:
    """Bounds on what a case may take of time and memory."""

    def ring(*_: object) -> None:
        raise Hang(f"no end after {HANG} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG)
    seconds = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    seconds = time.process_time() - seconds
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024
    if seconds > MOST_SECONDS:
        raise Hang(f"it took {seconds:.1f} s")
    assert grown < MOST_BYTES, f"it took {grown / 1e6:,.0f} MB"


def same(one: Any, other: Any) -> bool:
    """Whether two values, nested at will, are equal to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | torch.Tensor):
        alike = type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
        return alike and bool((one == other).all())
    return type(one) is type(other) and bool(one == other)
