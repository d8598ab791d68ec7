"""Settings that cannot be are refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from lssvwm_models.utils.checks import MOST, SHARE, check_counts, check_fields


@dataclass(frozen=True)
class Settings:
    steps: int = 1
    lr: float = 0.5
    ema: float = 0.5
    context: int | None = None
    lengths: tuple[int, ...] = (2, 3)
    pair: tuple[float, float] = (0.1, 1)
    on: bool = False
    name: str = "x"
    out: Path = Path("x")
    kind: Literal["a", "b"] = "a"
    policy: Literal["bundled"] | Path | None = None
    kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    anything: Any = -1

    def __post_init__(self) -> None:
        check_fields(self, steps=1, lr=(0, 10), ema=SHARE, context=1, lengths=2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"steps": MOST, "lr": 0, "ema": 1, "context": 1, "lengths": (), "pair": (0, MOST)},
        {"lr": np.float64(10), "ema": 0},
        {"policy": Path("x"), "kind": "b", "on": True},
        {"policy": "bundled", "kwargs": {"a": -1, "b": 0.5, "c": True, "d": "e"}, "anything": float("nan")},
    ],
)
def test_bounds_themselves_are_enough_and_what_is_none_is_not_asked_for(changes: dict[str, Any]) -> None:
    Settings(**changes)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", 0, "at least 1"),
        ("steps", MOST + 1, f"at most {MOST}"),
        ("steps", True, "an integer"),
        ("steps", 1.0, "an integer"),
        ("steps", "1", "an integer"),
        ("steps", None, "an integer"),
        ("steps", [], "an integer"),
        ("steps", np.int64(1), "an integer"),
        ("lr", float("nan"), "a finite number"),
        ("lr", float("inf"), "a finite number"),
        ("lr", -float("inf"), "a finite number"),
        ("lr", 10**400, "a finite number"),
        ("lr", True, "a finite number"),
        ("lr", "0.1", "a finite number"),
        ("lr", -0.001, "at least 0"),
        ("lr", 10.001, "at most 10"),
        ("ema", 1.001, "a share, from 0 to 1"),
        ("ema", -0.001, "a share, from 0 to 1"),
        ("context", 0, "at least 1"),
        ("context", True, "an integer or None"),
        ("lengths", (2, 1), "at least 2"),
        ("lengths", (2, True), "tuple"),
        ("lengths", [2, 3], "tuple"),
        ("lengths", 2, "tuple"),
        ("pair", (0.1,), "tuple"),
        ("pair", (0.1, -1.0), "at least 0"),
        ("pair", (0.1, float("nan")), "tuple"),
        ("on", 1, "true or false"),
        ("name", None, "a text"),
        ("name", b"x", "a text"),
        ("out", "x", "of type Path"),
        ("kind", "c", "one of a, b"),
        ("kind", ["a"], "one of a, b"),
        ("kind", np.array(["a", "b"]), "one of a, b"),
        ("policy", "other", "one of bundled or of type Path or None"),
        ("kwargs", {"a": float("inf")}, "dict"),
        ("kwargs", {"a": None}, "dict"),
        ("kwargs", {1: 1}, "dict"),
        ("kwargs", [], "dict"),
    ],
)
def test_what_cannot_be_is_named_with_its_value_and_what_was_expected(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as error:
        Settings(**{name: value})
    assert str(error.value).startswith(f"{name}={value!r}"[:80])
    assert f"must be {expected}" in str(error.value)


def test_attributes_that_are_no_fields_have_bounds_too() -> None:
    check_counts(SimpleNamespace(steps=1, layers=np.int64(0), context=None), steps=1, layers=0, context=1)
    for value in (0, -1):
        with pytest.raises(ValueError, match=f"^second={value} must be at least 1$"):
            check_counts(SimpleNamespace(first=1, second=value), first=1, second=1)
    for value in (True, 1.0, float("nan"), "1", np.True_, np.float32(2)):
        with pytest.raises(ValueError, match=r"^second=.* must be an integer, at least 1$"):
            check_counts(SimpleNamespace(first=1, second=value), first=1, second=1)
