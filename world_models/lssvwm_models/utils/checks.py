"""Checks of settings, each said once."""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

MOST: Final = 10**12  # of whatever number has no smaller bound: products of a few stay within 64 bits
SHARE: Final = (0, 1)
FOV: Final = (1.0, 179.0)  # degrees that a camera sees
AHEAD: Final = (-1e3, 1e3)  # of a pose, where its camera is
CELL: Final = (1e-6, 1e6)  # in the unit of poses

Bounds = float | tuple[float, float]


def check_fields(settings: Any, **bounds: Bounds) -> None:
    """Refuse a dataclass whose fields are not what their annotations say, or whose numbers are out of bounds.

    No bool is taken for a number, and no number is NaN or infinite. Every number of a tuple is bounded as its field
    is. What is a dataclass checks itself.

    Args:
        settings: The dataclass; called in its `__post_init__`.
        bounds: Of numbers, by field: the least, or (least, most). Where nothing is said, from 0 to `MOST`.

    Raises:
        ValueError: Naming the first field that is wrong, its value, and what was expected.
    """
    hints = field_types(settings.__class__)
    for field in fields(settings):
        value = getattr(settings, field.name)
        hint = hints[field.name]
        if not of_type(hint, value):
            raise ValueError(f"{field.name}={shown(value)} must be {in_words(hint)}")
        for number in _numbers(hint, value):
            _check_bounds(f"{field.name}={shown(value)}", number, bounds.get(field.name, 0))


def check_counts(settings: object, **least: int) -> None:
    """Refuse attributes that are no integers, or below their bounds; those that are None are not asked for.

    Args:
        settings: Anything with these attributes.
        least: The bound of each, by name.

    Raises:
        ValueError: If one is wrong; names the first, its value and what was expected.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is None:
            continue
        if not is_integer(value):
            raise ValueError(f"{name}={shown(value)} must be an integer, at least {bound}")
        _check_bounds(f"{name}={value!r}", value, bound)


def _check_bounds(what: str, number: float, bounds: Bounds) -> None:
    least, most = bounds if isinstance(bounds, tuple) else (bounds, MOST)
    if least <= number <= most:  # so put that NaN is refused, too
        return
    if (least, most) == SHARE:
        raise ValueError(f"{what} must be a share, from 0 to 1")
    raise ValueError(f"{what} must be at {f'most {most}' if number > most else f'least {least}'}")


@cache
def field_types(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, by name."""
    return get_type_hints(kind)


def of_type(hint: Any, value: Any) -> bool:
    """Whether a value is what an annotation says: exactly, as Python's own subclassing calls True a number."""
    origin = get_origin(hint)
    args = get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(of_type(option, value) for option in args)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in args)
    if origin is tuple:
        items = args[:1] * len(value) if isinstance(value, tuple) and args[-1] is Ellipsis else args
        return isinstance(value, tuple) and len(items) == len(value) and all(map(of_type, items, value))
    if origin is list:
        return isinstance(value, list) and all(of_type(args[0], item) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(of_type(args[0], k) and of_type(args[1], v) for k, v in value.items())
    if hint is float:
        return is_number(value) and abs(value) <= sys.float_info.max  # not so of NaN, or of integers beyond floats
    return isinstance(value, origin or hint) and not (hint is int and isinstance(value, bool))


def is_number(value: Any) -> bool:
    """Whether a value is an integer or a float; Python counts True and False among integers, which we do not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, NumPy's included; no bool is."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def _numbers(hint: Any, value: Any) -> Iterator[float]:
    """The numbers in a value; those in values of any type have no bounds that we know."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(hint, item)
    elif is_number(value) and hint is not Any:
        yield value


def in_words(hint: Any) -> str:
    """What an annotation asks for, for people."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(in_words, get_args(hint)))
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    words = {int: "an integer", float: "a finite number", bool: "true or false", str: "a text", types.NoneType: "None"}
    return words.get(hint, str(hint) if origin else f"of type {hint.__name__}")


def shown(value: Any, most: int = 80) -> str:
    """A value as an error shows it: not the whole of a long one."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
