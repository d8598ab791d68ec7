"""Forked processes compute with one thread: the threads of their parent do not come along.

Whoever has split an operation between threads has a pool of them, and a child a pool of threads that are not there: it
waits for them for ever. This is imported with the package, and does not import torch, which may come in later.
"""

from __future__ import annotations

import os
import sys

forked = False
"""Whether this process is a forked one."""


def _compute_alone() -> None:
    global forked
    forked = True
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):  # there, and not in the middle of being imported
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # nothing forks on Windows
    os.register_at_fork(after_in_child=_compute_alone)
