"""Every command and every block of Python on README.md and on the pages of the site runs, shortened, or is parsed.

A new block runs by default. `SHORTER` and `ADDED` shorten commands, `TEXT` shortens Python, and `NOT_RUN` lists what
cannot run here, with the reason.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import tyro

from lssvwm_env import cli

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "lssvwm_env" / "bundled").glob("*/CARD.md"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
])  # fmt: skip
RECIPES: Final = sorted((ROOT / "recipes").glob("*.sh"))
FENCED: Final = re.compile(r"^```(?P<language>[^\s`]*)(?P<more>[^\n]*)\n(?P<body>.*?)^```$", re.M | re.S)
INLINE: Final = re.compile(r"`(?P<line>(?:lssvwm|python) [^`]* --[^`]*)`")

# Options of `lssvwm` that cost time, and what they become; None: they are left out.
SHORTER: Final[dict[str, str | None]] = {
    "--frames": "80",
    "--frames-per-round": "80",
    "--rounds": "1",
    "--steps": "2",
    "--head-sequences": "4",
    "--preset": "debug",
    "--threads": "1",
    "--updates": "1",
    "--sequences": "2",
    "--imagined-steps": "60",
    "--num-envs": "2",
    "--max-steps": "3",
    "--minutes": "1",
    "--card": None,  # wants a simulator of this very machine
}
# What commands get besides, where the page does not say otherwise.
ADDED: Final = {
    "make": "--frames 80 --preset debug --steps 2 --threads 1",
    "collect": "--workers 1 --episode-length 20",
    "train": "--preset debug --steps 2 --lengths 8 --frames-per-step 32 --odometry-steps 2 --render-steps 2 "
    "--head-sequences 4 --head-steps 2 --eval-every 2 --validation 0.3 --start-frames 2 --threads 1",
    "compare": "--sequences 2 --context 4 --horizon 4",
    "eval memory": "--sequences 1 --walks 4 --context 8 --horizon 4 --continuation 4 --opening 4 --gaps 20 "
    "--questions 0",
    "imagine": "--num-dreams 4 --horizon 2 --refresh 2 --minibatches 2 --passes 1 --threads 1",
    "judge": "--episodes 1 --max-steps 3 --horizon 2 --dreams 2 --films 0 --threads 1",
    "dyna": "--episode-length 20 --episodes 1 --model.steps 2 --model.lengths 8 --model.frames-per-step 32 "
    "--model.odometry-steps 2 --model.render-steps 2 --model.head-sequences 4 --model.head-steps 2 "
    "--model.validation 0.3 --model.eval-every 2 --model.threads 1 "
    "--agent.updates 1 --agent.num-dreams 4 --agent.refresh 2 --agent.horizon 2",
}
# Numbers in Python that cost time.
TEXT: Final = {
    "range(100)": "range(5)",
    "range(30)": "range(3)",
    "fork(16)": "fork(2)",
    "total_timesteps=20_000": "total_timesteps=32",
    "total_timesteps=200_000": "total_timesteps=32",
    '"MlpPolicy", worlds': '"MlpPolicy", worlds, n_steps=2, batch_size=32',
    '"CnnPolicy", worlds': '"CnnPolicy", worlds, n_steps=2, batch_size=32',
    "n_steps=64, batch_size=256": "n_steps=2, batch_size=64",
    "n_eval_episodes=20": "n_eval_episodes=1",
    "max_episode_steps=100": "max_episode_steps=3",
    "max_episode_steps=60": "max_episode_steps=3",
    "imagined_steps=300": "imagined_steps=60",
    "size=(256, 12)": "size=(16, 3)",
}
# Lines of shell, and blocks of Python by a line of them, that cannot run in a test, and why.
NOT_RUN: Final = {
    ". .venv/bin/activate": "changes the reader's shell",
    "pip install": "would change this environment",
    "hf auth login": "wants an account",
    "gymnasium.utils.play": "waits for a player",
    "push_to_hub": "wants an account",
    "from_pretrained": "wants the network",
    "ale_py": "ale-py is no dependency of the tests",
    "runs/pong": "what ale-py would have recorded",
}
# Pages whose commands take hours and build on each other's results: their arguments are parsed, nothing runs.
PARSED: Final = {"results.md", "agents.md", "speed.md", "CARD.md"}
OTHER_OPTIONS: Final = {"--help", "--version", "--no-deps"}  # of everything, of lssvwm, of pip
OTHER_LANGUAGES: Final = {"", "bibtex", "toml"}  # drawings, citations, configuration


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, what follows it on its line, and text of the fenced blocks."""
    for found in FENCED.finditer(page.read_text()):
        yield found["language"], found["more"].strip(), found["body"]


def lines_of(script: str) -> list[str]:
    """The commands of a shell script, without comments; `\\` joins lines."""
    joined = script.replace("\\\n", " ").splitlines()
    bare = (line if line.startswith("#!") else re.sub(r"(^|\s)#.*", "", line) for line in joined)
    return [line.strip() for line in bare if line.strip() and not line.startswith(("#!", "set -"))]


def excused(text: str) -> bool:
    return any(pattern in text for pattern in NOT_RUN)


def shortened(words: list[str]) -> list[str]:
    """The words after `lssvwm`, with what costs time replaced."""
    command = 2 if words[0] == "eval" else 1
    options = groups(words[command:])
    for option, values in options.items():
        if option in SHORTER and values:
            options[option] = [SHORTER[option]]
    options = {option: values for option, values in options.items() if SHORTER.get(option, "") is not None}
    for option, values in groups(shlex.split(ADDED.get(" ".join(words[:command]), ""))).items():
        if option not in options or option in ("--lengths", "--model.lengths"):
            options[option] = values
    return [*words[:command], *(word for option, values in options.items() for word in (option, *values))]


def groups(words: list[str]) -> dict[str, list[str]]:
    """Options with the words that follow them."""
    options = dict[str, list[str]]()
    for word in words:
        if word.startswith("--"):
            options[word] = []
        elif options:
            options[next(reversed(options))].append(word)
        else:
            raise AssertionError(f"{word!r} is no option")
    return options


def parse(line: str, program: Callable[[str], ModuleType]) -> None:
    """Let a command's own parser read its arguments."""
    words = shlex.split(line)
    if words[0] == "lssvwm":
        command = 2 if words[1] == "eval" else 1
        room, _, config, _ = cli._COMMANDS[" ".join(words[1 : command + 1])]
        kind, arguments = getattr(import_module(room), config), words[command + 1 :]
    else:
        assert words[0] == "python", f"{line}: neither a command of lssvwm nor a Python program"
        module = program(words[1])
        if not hasattr(module, "Args"):  # it takes files
            return
        kind, arguments = module.Args, words[2:]
    arguments = [word for word in arguments if SHORTER.get(word, "") is not None]
    tyro.cli(kind, args=arguments)


def run_line(line: str, program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a line of shell, or what can be run of it here."""
    words = shlex.split(line)
    if words[0] == "lssvwm":
        arguments = words[1:] if "--help" in words or len(words) < 3 else shortened(words[1:])
        try:
            status = cli.main(arguments)
        except SystemExit as stop:  # --help, and arguments that do not parse
            status = stop.code
        assert status == 0, f"{line}\nran as: lssvwm {shlex.join(arguments)}"
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        targets = [word for word in words[1:] if "=" not in word]
        assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets), f"{line}: no such target"
        assert all(f"$({word.split('=')[0]})" in makefile for word in words[1:] if "=" in word), line
    elif words[0] == "export":
        variable, value = words[1].split("=")
        monkeypatch.setenv(variable, value.replace("$PWD", str(Path.cwd())))
    elif words[0] == "python" and words[1:3] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:]), line
    else:
        parse(line, program)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_says_works(
    page: Path,
    program: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # or processes that commands start do not find the modules of a page
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    names: dict[str, Any] = {"__name__": "page"}
    for language, more, body in blocks(page):
        if language == "sh":
            for line in filter(lambda line: not excused(line), lines_of(body)):
                if page.name in PARSED:
                    parse(line, program)
                else:
                    run_line(line, program, monkeypatch)
        elif language == "python" and more.startswith("title="):
            file = tmp_path / more.removeprefix("title=").strip('"')
            file.write_text(body)
            monkeypatch.setitem(sys.modules, file.stem, ModuleType(file.stem))
            monkeypatch.delitem(sys.modules, file.stem)  # and so it is forgotten after the test
        elif language == "python" and not excused(body):
            for long, short in TEXT.items():
                body = body.replace(long, short)
            exec(compile(body, f"{name_of(page)}: {body.splitlines()[0]}", "exec"), names)
        else:
            assert language in OTHER_LANGUAGES | {"python"}, f"{language!r}: say sh or python, so that it is tested"
    capsys.readouterr()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_commands_in_the_text_of_a_page_can_be_parsed(page: Path, program: Callable[[str], ModuleType]) -> None:
    """A command in a sentence stands there without options, or with all that it needs."""
    for found in INLINE.finditer(FENCED.sub("", page.read_text())):
        line = " ".join(found["line"].split())
        if "--help" not in line and "..." not in line and not excused(line):
            parse(re.sub(r"\[(.*?)\]", r"\1", line).replace(" N", " 1"), program)


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_the_commands_of_a_recipe_can_be_parsed(recipe: Path, program: Callable[[str], ModuleType]) -> None:
    for line in lines_of(recipe.read_text()):
        parse(line, program)


def test_options_that_pages_name_alone_are_options_of_a_command(
    program: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = [getattr(import_module(room), config) for room, _, config, _ in cli._COMMANDS.values()]
    for folder in ("benchmarks", "examples"):
        modules = (program(name_of(path)) for path in sorted((ROOT / folder).glob("*.py")))
        kinds += [module.Args for module in modules if hasattr(module, "Args")]
    for kind in kinds:
        with pytest.raises(SystemExit):
            tyro.cli(kind, args=["--help"])
    known = set(re.findall(r"--\w[\w.-]*", capsys.readouterr().out)) | OTHER_OPTIONS
    for page in PAGES:
        named = re.findall(r"`(--\w[\w.-]*)", FENCED.sub("", page.read_text()))
        assert set(named) <= known, name_of(page)


def test_nothing_is_excused_or_shortened_in_vain() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert [entry for entry in (*NOT_RUN, *TEXT) if entry not in text] == []
