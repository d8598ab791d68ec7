"""The step counts of time limits, which go back where a world goes back."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any
from weakref import ref

import gymnasium as gym
from gymnasium.wrappers import TimeLimit


def calling_limits(env: gym.Env[Any, Any]) -> list[ref[TimeLimit[Any, Any]]]:
    """The time limits around an environment, out of a call that came through them.

    Wrappers know what they wrap, and not the other way round: that they are around it shows on the stack alone.
    """
    limits: dict[int, TimeLimit[Any, Any]] = {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, TimeLimit) and caller.unwrapped is env:
            limits[id(caller)] = caller
        frame = frame.f_back
    return [ref(limit) for limit in limits.values()]


def set_elapsed(limits: list[ref[TimeLimit[Any, Any]]], steps: int) -> None:
    """Let time limits go on from a number of steps."""
    for limit in limits:
        if (wrapper := limit()) is not None:
            vars(wrapper)["_elapsed_steps"] = steps  # it offers no other way
