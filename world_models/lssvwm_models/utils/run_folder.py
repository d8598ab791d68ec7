"""The folder of a training run: configuration, metrics, pictures, and checkpoints that are whole or absent."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from lssvwm_models.utils.files import write_atomic, write_bytes


class RunFolder:
    """`config.json`, `metrics.jsonl`, TensorBoard events, `checkpoint.pt` and `dreams/*.gif` of one run.

    Opening the folder of an earlier run continues it, if its configuration is the same. An older version of this
    package may have made it: settings that it did not know have to be as in `defaults`.

    Raises:
        ValueError: If the folder holds a run with another configuration; the message lists what differs.
    """

    def __init__(self, folder: Path, config: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config, indent=2, default=str) + "\n"
        path = folder / "config.json"
        if path.exists():
            # Compared as they look in the file: there a tuple is a list, and a path a string.
            as_written = json.loads(json.dumps(defaults or {}, default=str))
            self._refuse_other(_flat(json.loads(path.read_text())), _flat(json.loads(text)), _flat(as_written))
        else:
            write_bytes(path, text.encode())
        self._events = SummaryWriter(str(folder / "tensorboard"))

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
        """Append a line of metrics to `metrics.jsonl` and to TensorBoard."""
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": step, "time": round(time.time(), 1), **metrics}) + "\n")
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def metrics(self) -> list[dict[str, float]]:
        """All lines of `metrics.jsonl`; of one that a kill cut off, nothing."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`, before the run that goes on from there logs it again."""
        text = "".join(json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step)
        write_bytes(self.folder / "metrics.jsonl", text.encode())

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the last checkpoint, whole or not at all."""
        write_atomic(self.folder / "checkpoint.pt", lambda file: torch.save(state, file))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint (tensors and plain values only), or None if there is none yet."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

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
