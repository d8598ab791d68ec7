"""`CoreState`: simulated worlds at one moment, as a value and as a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from lssvwm_env.envs.arguments import LONG, as_file, as_integer
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.utils.checks import shown

STATE_FORMAT: Final = "lssvwm-state"


@dataclass(frozen=True)
class CoreState:
    """B worlds at one moment, as a value whose size does not depend on their history.

    Attributes:
        memory: What the worlds remember.
        keys: (B,) long, their random streams; None where these were left out.
        weights_sha256: The weights they were dreamed with.
        elapsed: (B,) long, steps since their episodes began; None where that is not known, as in files of 0.1.
    """

    memory: WorldModelState
    keys: Tensor | None
    weights_sha256: str
    elapsed: Tensor | None = None

    def __getitem__(self, ids: Tensor | slice | list[int]) -> CoreState:
        """Some of the worlds; ids as for a tensor's first dimension, which is kept."""
        keys, elapsed = (None if numbers is None else numbers[ids] for numbers in (self.keys, self.elapsed))
        return CoreState(self.memory[ids], keys, self.weights_sha256, elapsed)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, whole or not at all.

        Raises:
            ValueError: If `path` is no path.
            OSError: If it cannot be written.
        """
        file = as_file(path, "path")
        keys, elapsed = (None if numbers is None else numbers.tolist() for numbers in (self.keys, self.elapsed))
        metadata = {"format": STATE_FORMAT, "weights_sha256": self.weights_sha256}
        try:
            self.memory.save(file, metadata | {"keys": json.dumps(keys), "elapsed": json.dumps(elapsed)})
        except OSError as error:
            message = f"{file} cannot be written ({error.strerror}); save the state to another place"
            raise OSError(error.errno, message) from error

    @staticmethod
    def load(path: str | Path) -> CoreState:
        """Read a file of `save`.

        Raises:
            TypeError: If `path` is no path.
            FileNotFoundError: If there is none.
            ValueError: If it is another file.
        """
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"state is {shown(path)}; expected a CoreState, or the path of a file that holds one")
        file = as_file(path, "state")
        memory, metadata = WorldModelState.load(file)
        if metadata.get("format") != STATE_FORMAT:
            raise ValueError(f"{file} holds a memory, but not of simulated worlds; save it with save_state()")
        try:
            keys = _numbers(metadata["keys"], memory.batch_size, -LONG - 1)
            elapsed = _numbers(metadata.get("elapsed", "null"), memory.batch_size, 0)
            return CoreState(memory, keys, metadata["weights_sha256"], elapsed)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{file} is damaged ({error}); save it anew with save_state()") from error


def _numbers(text: str, worlds: int, least: int) -> Tensor | None:
    """One integer per world, of JSON; None of its null."""
    numbers = json.loads(text)
    if numbers is None:
        return None
    if not isinstance(numbers, list) or len(numbers) != worlds:
        raise ValueError(f"it says {shown(text)}; expected {worlds} integers")
    return torch.tensor([as_integer(number, "a number of it", least) for number in numbers])
