"""Worlds that are dreamt on a CPU share its cores: every thread dreams some of them, from beginning to end.

A step of a world is some 2,000 small operations. To split each of them between threads costs more than it gains: the
threads have to be woken for every one. Worlds know nothing of each other, so they can be split instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import Final, TypeVar

import torch

from lssvwm_models.execution import forks

ALONE: Final = 16  # worlds that one thread dreams sooner than it shares them with another
Result = TypeVar("Result")


def set_threads(threads: int) -> None:
    """Let PyTorch compute with so many threads; with one in a forked process, which would wait for more for ever."""
    torch.set_num_threads(1 if forks.forked else threads)


def by_thread(dream: Callable[[slice], Result], worlds: int) -> list[Result]:
    """What `dream` makes of consecutive slices of so many worlds, each slice in a thread of its own.

    There are at most `torch.get_num_threads()` slices; a single one stays in the caller's thread. Several run without
    gradients, and under the autocast of the caller, whose own number of threads is left alone.
    """
    threads = torch.get_num_threads()
    size = max(ALONE, -(-worlds // threads))
    slices = [slice(start, min(start + size, worlds)) for start in range(0, max(1, worlds), size)]
    if len(slices) == 1:
        return [dream(slices[0])]
    dtype = torch.get_autocast_dtype("cpu")
    enabled = torch.is_autocast_enabled("cpu")

    def in_thread(part: slice) -> Result:
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=enabled):
            return dream(part)

    return list(_pool(os.getpid(), threads).map(in_thread, slices))


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process (those of a parent do not outlive a fork), each of which computes by itself.

    How many threads an operation is split between belongs to the thread that asks for it, but setting it also sets
    what threads that begin later start with, and so it is put back, once all of the pool have begun.
    """
    pool = ThreadPoolExecutor(threads, f"dreams of {process}", _compute_alone)
    begun = Barrier(threads)
    list(pool.map(lambda _: begun.wait(), range(threads)))
    torch.set_num_threads(threads)
    return pool


def _compute_alone() -> None:
    torch.get_num_threads()  # PyTorch sets up a thread when it first asks, which would undo the next line later
    torch.set_num_threads(1)
