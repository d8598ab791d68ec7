"""Values that calls, files and options are tried with: junk of every kind, and near misses of what is right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st

HUGE: Final = (2**31, 2**32 + 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400)
HOSTILE: Final = (
    "",
    " ",
    "\0",
    "nan",
    "-1",
    "None",
    ".",
    "..",
    "../../etc",
    "/",
    "cuda",
    "meta",
    "[red]x[/blink]",
    "\x1b[2J",
    "\ud800",
    "<script>",
    "%s%n{0}",
    "\uff11",  # a digit, elsewhere
    "a" * 5000,
)
DTYPES: Final = ("bool", "uint8", "int8", "int64", "uint64", "float16", "float32", "float64", "complex64", ">i8", ">f4")
STRANGE: Final = (
    np.array(["a", "b"]),
    np.array([None, 1], object),
    np.array(["2020-01-01"], "datetime64[D]"),
    np.zeros(2, [("x", "i4")]),
    np.array(b"x"),
    torch.zeros(2, dtype=torch.complex64),
    torch.zeros(2, 2).to_sparse(),
    torch.zeros(1, device="meta"),
    torch.zeros(2, requires_grad=True),
)


class Nothing:
    """An object with no ability."""

    def __repr__(self) -> str:
        return "Nothing()"


def loop() -> list[Any]:
    """A list that holds itself."""
    items: list[Any] = []
    items.append(items)
    return items


def either(*strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of these, each as likely as the others; `one_of` would prefer those that are made of many."""
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


integers = st.integers(-3, 12) | st.sampled_from(HUGE)
floats = st.floats(-3, 12, width=16) | st.sampled_from((math.nan, math.inf, -math.inf, 1e308, -0.0, 5e-324, 0.5, 3.0))
numpy_scalars = st.sampled_from(
    (np.int64(1), np.uint8(3), np.float32(1), np.float64("nan"), np.bool_(True), np.str_("x"), np.datetime64("NaT"))
)
texts = st.sampled_from(HOSTILE) | st.text(max_size=4)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    floats,
    numpy_scalars,
    texts,
    st.binary(max_size=4),
    st.sampled_from((1 + 2j, Nothing(), ..., int, len, Path("nowhere"), range(2), slice(2))),
)
hashable = st.none() | st.booleans() | integers | floats | texts | st.tuples(integers)


@st.composite
def arrays(draw: st.DrawFn, dtype: str | None = None, shape: tuple[int, ...] | None = None) -> Any:
    """An array, or a tensor, of any kind: small numbers, and perhaps one that is none."""
    if shape is None:
        shape = draw(st.sampled_from(((), (0,), (1,), (2,), (3,), (1, 1), (2, 2), (2, 3), (0, 2), (1, 2, 3), (1,) * 6)))
    dtype = dtype or draw(st.sampled_from(DTYPES))
    array = (np.arange(math.prod(shape)) % 2).astype(dtype).reshape(shape)
    if array.size and draw(st.booleans()):
        spoiler = draw(st.sampled_from((-1, 7, 200, math.nan, math.inf, -1e30)))
        with np.errstate(all="ignore"):
            array.flat[draw(st.integers(0, array.size - 1))] = np.array(spoiler).astype(dtype)
    form = draw(st.sampled_from(("plain", "plain", "fortran", "flipped", "read-only", "tensor")))
    if form == "tensor" and array.dtype.isnative:
        return torch.from_numpy(array)
    if form == "fortran":
        return np.asfortranarray(array)
    if form == "flipped" and array.ndim:
        return array[::-1]
    array.flags.writeable = form != "read-only"
    return array


values = st.one_of(
    scalars,
    arrays(),
    st.sampled_from(STRANGE),
    st.builds(loop),
    st.builds(lambda: (i for i in range(2))),
    st.lists(scalars, max_size=3),
    st.lists(st.lists(integers | floats, max_size=3), max_size=3),
    st.lists(scalars, max_size=3).map(tuple),
    st.sets(hashable, max_size=3),
    st.dictionaries(hashable, scalars, max_size=2),
)
"""Anything."""


def is_integer(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether this is an integer within bounds; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= int(value) <= most


def has_flags(value: Any) -> bool:
    """Whether there are bools in a value, where numpy would count them as numbers."""
    items = value if isinstance(value, list | tuple) else ()
    return any(isinstance(item, bool | np.bool_) or has_flags(item) for item in items)


def as_numbers(value: Any) -> np.ndarray | None:
    """A value as an array of integers or floats, if that is what it is; no bools, texts or objects."""
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        array = np.asarray(value)
    except Exception:  # whatever numpy makes of junk
        return None
    if array.dtype.kind not in "iuf" or (not isinstance(value, np.ndarray) and has_flags(value)):
        return None
    return array


def are_actions(value: Any, lead: tuple[int, ...], count: int, components: int = 0) -> bool:
    """Whether these are actions of shape `lead`: below `count`, or vectors in [-1, 1] if there are components."""
    array = as_numbers(value)
    if array is None:
        return False
    if components:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        return array.shape == (*lead, components) and bool((np.abs(array) <= 1).all())  # not so of NaN
    return array.dtype.kind in "iu" and array.shape == lead and bool(((array >= 0) & (array < count)).all())


def are_frames(value: Any, lead: tuple[int, ...]) -> bool:
    """Whether these are frames of shape `lead`, of which the last is at least 1."""
    try:
        array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    except Exception:
        return False
    return array.dtype == np.uint8 and array.ndim == len(lead) + 3 and array.shape == (*lead, 64, 64, 3)
