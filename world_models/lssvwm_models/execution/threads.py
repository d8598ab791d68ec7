"""Worlds that are dreamt on a CPU share its cores: every thread dreams some of them, from beginning to end.

A step of a world is some 2,000 small operations. To split each of them between threads costs more than it gains: the
threads have to be woken for every one. Worlds know nothing of each other, so they can be split instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar

import torch

ALONE: Final = 16  # worlds that one thread dreams sooner than it shares them with another
Result = TypeVar("Result")


def by_thread(dream: Callable[[slice], Result], worlds: int) -> list[Result]:
    """What `dream` makes of consecutive slices of so many worlds, each slice in a thread of its own.

    There are at most `torch.get_num_threads()` slices. Every one is computed by one thread, under the autocast of the
    caller; the number of threads is as it was afterwards.
    """
    threads = torch.get_num_threads()
    size = max(ALONE, -(-worlds // threads))
    parts = [slice(start, min(start + size, worlds)) for start in range(0, max(1, worlds), size)]
    autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def alone(part: slice) -> Result:
        torch.set_num_threads(1)
        with torch.no_grad(), torch.autocast("cpu", autocast[1], enabled=autocast[0]):
            return dream(part)

    try:
        if len(parts) == 1:
            return [alone(parts[0])]
        return list(_pool(os.getpid(), threads).map(alone, parts))
    finally:
        torch.set_num_threads(threads)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process: those of a parent do not outlive a fork."""
    return ThreadPoolExecutor(threads, f"dreams of {process}")
