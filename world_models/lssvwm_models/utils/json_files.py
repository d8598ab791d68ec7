"""Strict JSON: what is written any reader takes, and what is read may come from strangers."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin

from lssvwm_models.utils.checks import field_types, in_words, of_type, shown
from lssvwm_models.utils.files import write_bytes

MOST_BYTES: Final = 16_000_000
DEEPEST: Final = 32


def to_json(value: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """A value as strict JSON, which has no NaN and no infinity.

    Raises:
        ValueError: If a number is not finite.
    """
    return json.dumps(value, indent=indent, default=default, allow_nan=False)


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        ValueError: If a number is not finite.
    """
    try:
        text = to_json(value, indent)
    except ValueError as error:
        raise ValueError(f"{path} is not written, as JSON has no such number: {error}") from error
    write_bytes(path, (text + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        OSError: If it cannot be read.
        ValueError: Naming the file, if it is too large or no strict JSON.
    """
    path = Path(path)
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path} has {size:,} bytes; expected at most {MOST_BYTES:,}")
    return parse_json(path.read_bytes(), str(path))


def parse_json(data: str | bytes, name: str) -> Any:
    """What a JSON text says, where that is one thing: no key twice, no number beyond a float, no endless nesting.

    `Infinity`, which older releases wrote in the bounds of spaces, is read as the text "inf", as it is written now.

    Raises:
        ValueError: If it is no such text; `name` says which one it was.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        value = json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be shown or written
        _check_depth(value)
    except RecursionError:
        raise ValueError(f"{name} is not JSON that can be read: it is nested deeper than {DEEPEST}") from None
    except ValueError as error:
        raise ValueError(f"{name} is not JSON that can be read: {error}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} is there twice")
        found[key] = value
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {shown(digits)} is too large")
    return number


def _constant(name: str) -> str:
    if name == "NaN":
        raise ValueError("NaN is no JSON")
    return name.replace("Infinity", "inf")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        held = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [part for parts in held for part in parts]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEEPEST}")


def from_json(hint: Any, value: Any, name: str) -> Any:
    """Rebuild what `dataclasses.asdict` and JSON made of a value of type `hint`.

    A field that is missing gets its default, if it has one: options are added over time, with defaults that change
    nothing.

    Args:
        hint: A dataclass, tuple, dict, optional or plain type; dataclasses are rebuilt field by field.
        value: What JSON gave.
        name: What the value is called in errors.

    Raises:
        ValueError: If a field is unknown, missing, of another type, or refused by its dataclass.
    """
    origin = get_origin(hint)
    args = get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
        return _dataclass_from_json(hint, value, name)
    if origin in (Union, types.UnionType) and len(args) == 2 and args[1] is types.NoneType:
        return None if value is None else from_json(args[0], value, name)
    if origin in (Union, types.UnionType) and isinstance(value, dict):
        return from_json(_meant(args, value), value, name)
    if origin is tuple and isinstance(value, list):
        items = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(items) == len(value):
            return tuple(from_json(h, v, f"{name}[{i}]") for i, (h, v) in enumerate(zip(items, value, strict=True)))
    if not of_type(hint, value):
        raise ValueError(f"{name} is {shown(value)}; expected {in_words(hint)}")
    return float(value) if hint is float else value


def _meant(hints: tuple[Any, ...], value: dict[str, Any]) -> Any:
    """Which of several dataclasses it was: the one that knows most of the fields."""
    known = [hint for hint in hints if isinstance(hint, type) and is_dataclass(hint)]
    return max(known, key=lambda hint: len(value.keys() & field_types(hint).keys()), default=hints[0])


def _dataclass_from_json(hint: type, value: dict[str, Any], name: str) -> Any:
    hints = field_types(hint)
    needed = {f.name for f in fields(hint) if f.default is MISSING and f.default_factory is MISSING}
    lines = [f"{name} lacks {k}" for k in sorted(needed - value.keys())]
    lines += [f"{name} has the unknown field {shown(k)}" for k in sorted(value.keys() - hints.keys())]
    if lines:
        raise ValueError("; ".join(lines))
    rebuilt = {k: from_json(hints[k], v, f"{name}.{k}") for k, v in value.items()}
    try:
        return hint(**rebuilt)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
