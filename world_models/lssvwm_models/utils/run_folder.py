"""The folder of a training run: configuration, metrics, pictures, and checkpoints that are whole or absent."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from lssvwm_models.utils.checks import of_type, shown
from lssvwm_models.utils.files import lock_folder, write_bytes
from lssvwm_models.utils.json_files import read_json, to_json
from lssvwm_models.utils.tensor_files import load_tree, save_tree


class RunFolder:
    """`config.json`, `metrics.jsonl`, TensorBoard events, `checkpoint.pt` and `dreams/*.gif` of one run.

    Opening the folder of an earlier run continues it, if its configuration is the same. An older version of this
    package may have made it: settings that it did not know have to be as in `defaults`.

    Raises:
        ValueError: If the folder holds a run with another configuration; the message lists what differs. Or if another
            process is at it.
    """

    def __init__(self, folder: Path, config: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(folder)
        text = to_json(config, indent=2, default=str) + "\n"
        path = folder / "config.json"
        if path.exists():
            # Compared as they look in the file: there a tuple is a list, and a path a string.
            as_written = json.loads(to_json(defaults or {}, default=str))
            self._refuse_other(_flat(read_json(path)), _flat(json.loads(text)), _flat(as_written))
        else:
            write_bytes(path, text.encode())
        self._purge_step: int | None = None
        self._events: SummaryWriter | None = None

    @property
    def checkpoint(self) -> Path:
        """The file of the last checkpoint."""
        return self.folder / "checkpoint.pt"

    def _refuse_other(self, before: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any]) -> None:
        before = {key: defaults[key] for key in now.keys() & defaults.keys()} | before
        differing = [
            f"  {key}: {before.get(key)} there, {now.get(key)} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if differing:
            raise ValueError(
                f"{self.folder} holds a run with another configuration:\n" + "\n".join(differing)
                + "\nRepeat the command of that run to resume it, or choose another folder with --out."
            )  # fmt: skip

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append a line of metrics to `metrics.jsonl` and to TensorBoard; there, `null` is what is not finite."""
        line = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(to_json({"step": step, "time": round(time.time(), 1), **line}) + "\n")
        if self._events is None:
            self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._purge_step)
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def metrics(self) -> list[dict[str, float]]:
        """All lines of `metrics.jsonl`, without what was not finite; of a line that a kill cut off, nothing."""
        return [{name: value for name, value in line.items() if value is not None} for line in self._lines()]

    def _lines(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        try:
            text = path.read_text() if path.exists() else ""
            whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
            lines = [json.loads(line, parse_constant=lambda _: None) for line in whole]  # older releases wrote NaN
            if wrong := [line for line in lines if not (isinstance(line, dict) and of_type(int, line.get("step")))]:
                raise ValueError(f"{shown(wrong[0])} are no metrics of a step")
            return lines
        except (RecursionError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): delete it, and the run goes on without it") from error

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`, before the run that goes on from there logs it again."""
        text = "".join(to_json(line) + "\n" for line in self._lines() if line["step"] <= step)
        write_bytes(self.folder / "metrics.jsonl", text.encode())
        self._purge_step = step + 1
        self._events = None

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the last checkpoint, whole or not at all."""
        save_tree(self.checkpoint, state)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint (tensors and plain values only), or None if there is none yet.

        Raises:
            ValueError: If it is damaged.
        """
        if not self.checkpoint.exists():
            return None
        try:
            return load_tree(self.checkpoint)
        except ValueError as error:
            raise ValueError(f"{error}: delete it to begin anew, or put back a copy of it") from error

    def save_gif(self, name: str, frames: NDArray[np.uint8], fps: int = 8) -> None:
        """Write frames (T, H, W, 3) as `dreams/<name>.gif`."""
        (self.folder / "dreams").mkdir(exist_ok=True)
        data = iio.imwrite("<bytes>", frames, extension=".gif", duration=1000 / fps, loop=0)
        write_bytes(self.folder / "dreams" / f"{name}.gif", data)


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
