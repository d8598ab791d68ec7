"""`lssvwm`: collect, train, compare, demo. The one place where everything is put together."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from itertools import chain
from typing import Any, Final

# Threads that spin while waiting slow down small operations 30-fold on shared machines; torch reads this on import.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_COMMANDS: Final = {  # name: (module, function, the class of its one argument, help)
    "collect": ("lssvwm_env.collect", "collect", "CollectConfig", "record episodes of a real environment"),
    "train": ("lssvwm_env.train", "train", "TrainConfig", "train a world model on episodes and make it a simulator"),
    "compare": ("lssvwm_env.compare", "compare", "CompareConfig", "measure a simulator against its real environment"),
    "demo": ("agents.demo", "demo", "DemoConfig", "dream, plan and compare with a bundled simulator"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; the others are not even imported. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print("usage: lssvwm COMMAND [--help] ...\n\n" + "\n".join(f"  {k:<10}{v[3]}" for k, v in _COMMANDS.items()))
        return 0
    if name not in _COMMANDS:
        print(f"lssvwm: no command {name!r}; choose from {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
    import tyro

    module, function, config, _ = _COMMANDS[name]
    part = import_module(module)
    try:
        getattr(part, function)(tyro.cli(getattr(part, config), prog=f"lssvwm {name}", args=arguments[1:]))
    except (ValueError, OSError) as error:
        print(f"lssvwm {name}: {error}", file=sys.stderr)
        return 1
    return 0


def command(name: str, config: Any) -> str:
    """The shell command that runs subcommand `name` with `config`, for records; what is as by default is left out."""
    return shlex.join(["lssvwm", name, *_words(config, "")])


def _words(config: Any, prefix: str) -> Iterator[str]:
    for field in fields(config):
        value, flag = getattr(config, field.name), prefix + field.name.replace("_", "-")
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if is_dataclass(value):  # "training" is spelled without a prefix, see TrainConfig
            yield from _words(value, "" if field.name == "training" else f"{flag}.")
        elif isinstance(value, bool):
            if value != default:
                yield f"--{flag}" if value else f"--{prefix}no-{field.name.replace('_', '-')}"
        elif value != default:
            items = chain(*value.items()) if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
            yield from (f"--{flag}", *map(str, items))


if __name__ == "__main__":
    sys.exit(main())
