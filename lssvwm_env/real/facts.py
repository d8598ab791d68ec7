"""What an environment says of its frames in `info`: where the eye is, and what the cells in view are.

Others give their infos such names, too, and mean something else: only what has the documented form is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from numpy.typing import NDArray

from lssvwm_env.real.minigrid import VIEW
from lssvwm_models.data.values import FULL_TURN, MOST

PREFIX: Final = "lssvwm/"
"""Says before a name that the documented form is meant: `info["lssvwm/pose"]` goes before `info["pose"]`."""

Info = Mapping[str, NDArray[Any]]
_CODES: Final = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))


class _Form(NamedTuple):
    """What a fact of T frames looks like: words, dtype as it is recorded, kinds of dtype as it may be given, shape with
    one frame, and which of the T can be."""

    words: str
    dtype: type[np.generic]
    kinds: str
    shape: tuple[int, ...]
    can_be: Callable[[NDArray[np.float64]], NDArray[np.bool_]]


FORMS: Final = {
    "pose": (
        _Form(
            "integers (3,): x, y, and the heading in quarter turns, 0 to 3",
            np.int32,
            "iu",
            (3,),
            lambda poses: (np.abs(poses) < 2**31).all(1) & (poses[:, 2] >= 0) & (poses[:, 2] <= 3),
        ),
        _Form(
            "floats (3,): x, y, and the angle in radians, a full turn either way at most",
            np.float32,
            "fiu",
            (3,),
            lambda poses: np.all(np.abs(poses) <= (MOST, MOST, FULL_TURN), axis=1),  # NaN is not
        ),
    ),
    "tiles": (
        _Form(
            f"uint8 ({VIEW}, {VIEW}, 3): MiniGrid's codes of object, colour and state",
            np.uint8,
            "u",
            (VIEW, VIEW, 3),
            lambda tiles: np.all(tiles < _CODES, axis=(1, 2, 3)),
        ),
    ),
}
"""What facts look like. A pose is on a grid, or anywhere in the plane; either way y points down, and turns are
clockwise from east, as on a map."""


def facts_of(info: Mapping[str, Any]) -> Info:
    """A copy of what may be facts in an info, which the environment may write over with the next frame."""
    return {key: _array(info[key]) for name in FORMS for key in (PREFIX + name, name) if key in info}


def read_facts(infos: Sequence[Info]) -> tuple[dict[str, Any], dict[str, str]]:
    """What T frames in a row have in the documented form, each of them.

    Args:
        infos: Of every frame, by `facts_of`.

    Returns:
        Arrays (T, ...) by name; and names of what came in another form or not with every frame, each with words that
        say what came.
    """
    arrays = {}
    refused = {}
    for name, forms in FORMS.items():
        key = PREFIX + name if any(PREFIX + name in info for info in infos) else name
        given = [info.get(key) for info in infos]
        kinds = {x.dtype.kind for x in given if x is not None and x.dtype.kind in forms[-1].kinds}
        form = next((form for form in forms if kinds <= set(form.kinds)), forms[0])
        alike = [x is not None and x.dtype.kind in form.kinds and x.shape == form.shape for x in given]
        if all(alike):
            alike = list(form.can_be(np.stack(given).astype(np.float64)))  # type: ignore[arg-type]
        if all(alike):
            arrays[name] = np.stack(given).astype(form.dtype)  # type: ignore[arg-type]
        elif any(x is not None for x in given):
            frame = alike.index(False)
            words = form.words if kinds else " or ".join(form.words for form in forms)
            refused[name] = f"info[{key!r}] is {_words(given[frame])} with frame {frame}, expected {words}"
    return arrays, refused


def _array(value: Any) -> NDArray[Any]:
    try:
        return np.array(value)
    except ValueError:  # lists of different lengths
        return np.array(None)


def _words(given: NDArray[Any] | None) -> str:
    """What came: a few numbers say more than their kind."""
    if given is None:
        return "missing"
    return f"{given.dtype} {given.shape}" + (f" {given.tolist()}" if given.size <= 3 else "")
