"""Which layouts a dataset shows: seeds of the splits are disjoint, so no layout is in two of them by seed."""

from __future__ import annotations

from typing import Final, Literal

Split = Literal["train", "validation", "test"]

# Episodes are reset with seeds from these ranges. `train` to learn from, `validation` to choose by, `test` to judge on.
SPLITS: Final[dict[Split, range]] = {
    "train": range(0, 2**30),
    "validation": range(2**31, 2**31 + 2**30),
    "test": range(2**30, 2**31),
}
