"""Commands as text, so that what was made can say how to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any


def command(name: str, config: Any) -> str:
    """The shell command that runs subcommand `name` with `config`; what is as by default is left out."""
    return shlex.join(["lssvwm", name, *_words(config, "")])


def _words(config: Any, prefix: str) -> Iterator[str]:
    for field in fields(config):
        value = getattr(config, field.name)
        flag = prefix + field.name.replace("_", "-")
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if is_dataclass(value):  # these two are spelled without a prefix, see TrainConfig and ImagineConfig
            yield from _words(value, "" if field.name in ("training", "imagination") else f"{flag}.")
        elif isinstance(value, bool):
            if value != default:
                yield f"--{flag}" if value else f"--{prefix}no-{field.name.replace('_', '-')}"
        elif value != default:
            items = chain(*value.items()) if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
            yield from (f"--{flag}", *(str(relative_paths(x)) for x in items))


def relative_paths(value: Any) -> Any:
    """A setting, or a dictionary of some, with paths as seen from here: where here is, is nobody's business."""
    if isinstance(value, dict):
        return {name: relative_paths(part) for name, part in value.items()}
    if not isinstance(value, Path):
        return value
    return str(value.relative_to(Path.cwd()) if value.is_relative_to(Path.cwd()) else value)
