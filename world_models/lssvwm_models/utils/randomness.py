"""Chance that its user owns: what is drawn here leaves the global streams of torch as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The stream of one step of a training: a function of (seed, step), so that a resumed run draws the same."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + step)


@contextmanager
def modules_drawn_from(rng: torch.Generator) -> Iterator[None]:
    """Let modules that are made inside draw their weights from `rng`, on the CPU, and so move it on.

    The initialisers of `torch.nn` know the global stream alone: it is lent the state of `rng`, and then put back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(rng.get_state())
        yield
        rng.set_state(torch.get_rng_state())


def normal_like(x: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, type and device of `x`; torch 2.8 has no `randn_like` with a generator."""
    return torch.empty_like(x).normal_(generator=rng)
