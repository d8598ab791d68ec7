"""`lssvwm`: collect, train, compare, imagine, judge, and the rest. The one place where everything is put together."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

from lssvwm_env.utils.interrupts import Interrupted, interruptible
from lssvwm_env.version import __version__

# Threads that spin while waiting slow down small operations 30-fold on shared machines; torch reads this on import.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_COMMANDS: Final = {  # name: (module, function, the class of its one argument, help)
    "make": (
        "lssvwm_env.making.make",
        "make",
        "MakeConfig",
        "make a simulator of a world, or of recorded episodes, in the minutes that you have",
    ),
    "collect": ("lssvwm_env.datasets.collect", "collect", "CollectConfig", "record episodes of a real environment"),
    "import-videos": (
        "lssvwm_env.datasets.videos",
        "import_videos",
        "ImportVideosConfig",
        "make a dataset of videos and actions",
    ),
    "import-minari": (
        "lssvwm_env.datasets.minari",
        "import_minari",
        "ImportMinariConfig",
        "make a dataset of Minari's",
    ),
    "export-minari": ("lssvwm_env.datasets.minari", "export_minari", "ExportMinariConfig", "make a Minari dataset"),
    "check": (
        "lssvwm_env.datasets.check",
        "check",
        "CheckConfig",
        "show what a dataset holds, and what is wrong with it",
    ),
    "train": ("lssvwm_env.train", "train", "TrainConfig", "train a world model on episodes and make it a simulator"),
    "compare": (
        "lssvwm_env.evaluation.compare",
        "compare",
        "CompareConfig",
        "measure a simulator against its real environment",
    ),
    "eval memory": (
        "lssvwm_env.evaluation.memory.report",
        "eval_memory",
        "EvalMemoryConfig",
        "examine what a simulator remembers",
    ),
    "eval recall": (
        "lssvwm_env.evaluation.recall",
        "recall",
        "RecallConfig",
        "ask whether dreams come back to what was seen",
    ),
    "imagine": (
        "lssvwm_agents.learning.imagine",
        "imagine",
        "ImagineConfig",
        "teach a policy in the dreams of a simulator",
    ),
    "judge": (
        "lssvwm_agents.judging.judge",
        "judge",
        "JudgeConfig",
        "let an agent play in the real environment, and count",
    ),
    "dyna": (
        "lssvwm_agents.learning.dyna",
        "dyna",
        "DynaConfig",
        "collect, train and imagine by turns, and get better at a world",
    ),
    "list": ("lssvwm_env.simulator.listing", "list_simulators", "ListConfig", "show the simulators that have an id"),
    "demo": ("lssvwm_agents.demo", "demo", "DemoConfig", "dream, plan and compare with a bundled simulator"),
}

_RESUMING: Final = ("make", "collect", "train", "imagine", "dyna")


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; the others are not even imported. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    words = 2 if " ".join(arguments[:2]) in _COMMANDS else 1
    name = " ".join(arguments[:words]) or "--help"
    if name in ("-h", "--help"):
        lines = [f"  {command:<15}{row[3]}" for command, row in _COMMANDS.items()]
        print("\n".join(["usage: lssvwm COMMAND [--help] ...", "       lssvwm --version", "", *lines]))
        return 0
    if name == "--version":
        print(f"lssvwm-env {__version__}")
        return 0
    if name not in _COMMANDS:
        print(f"lssvwm: no command {name!r}; choose from {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
    try:
        with interruptible():
            _run(name, arguments[words:])
    except (ValueError, OSError) as error:
        from lssvwm_env.utils.strangers import printable  # errors quote names and files, which may be anyone's

        print(f"lssvwm {name}: {printable(error)}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        advice = "; the same command goes on from the last checkpoint" if name in _RESUMING else ""
        print(f"lssvwm {name}: interrupted{advice}", file=sys.stderr)
        return interrupted.status
    return 0


def _run(name: str, arguments: list[str]) -> None:
    import tyro

    if "" not in sys.path:  # console scripts do not look where they are run, where the user's own environments may be
        sys.path.append("")
    module, function, config, _ = _COMMANDS[name]
    part = import_module(module)
    getattr(part, function)(tyro.cli(getattr(part, config), prog=f"lssvwm {name}", args=arguments))


if __name__ == "__main__":
    sys.exit(main())
