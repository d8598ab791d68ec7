"""The command line: help, and errors as one message on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lssvwm_env
from lssvwm_env.cli import main
from lssvwm_models.data import EpisodeDataset

COMMANDS = (
    "make",
    "collect",
    "import-videos",
    "import-minari",
    "export-minari",
    "check",
    "train",
    "compare",
    "eval memory",
    "eval recall",
    "imagine",
    "judge",
    "dyna",
    "list",
    "demo",
)


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_help_lists_the_commands(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    printed = capsys.readouterr()
    assert all(f"\n  {name} " in printed.out for name in COMMANDS) and not printed.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="^0$"):
        main([*name.split(), "--help"])
    assert f"usage: lssvwm {name}" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lssvwm-env {lssvwm_env.__version__}\n"


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dance"]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"lssvwm: no command 'dance'; choose from {', '.join(COMMANDS)}\n" and not printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("collect --out x --frames many --env-id Any-v0", "many"),
        ("collect --out x --frames 0 --env-id Any-v0", "frames=0 must be at least 1"),
        ("train --out x", "--dataset"),
        ("train --out x --dataset y --steps 0", "steps=0"),
        ("compare --simulator x --out y --card", "card=True needs a simulator folder"),
        ("eval memory --simulator x --out y --sequences 0", "sequences=0 must be at least 1"),
        (
            "eval recall --simulator x --dataset y --out z --protocol retrieval --context 9 --horizon 9",
            "horizon=9, but the way back",
        ),
        ("dyna --out x --env-id Any-v0 --rounds 0", "rounds=0 must be at least 1"),
        ("demo --nonsense 1", "--nonsense"),
    ],
)
def test_arguments_that_cannot_be_are_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = main(words.split())
    except SystemExit as end:  # from the parser
        status = end.code
    assert status in (1, 2)
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and not printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("collect --out x --frames 9 --env-id CartPole-v1", "expected pictures"),
        ("train --out x --dataset nowhere", "No dataset at nowhere"),
        ("import-videos --folder nowhere --out x", "nowhere holds no videos"),
        ("export-minari --dataset nowhere --dataset-id x-v0", "No dataset at nowhere"),
        ("compare --simulator nowhere --out x", "nowhere is neither a folder nor a registered simulator"),
        ("eval memory --simulator nowhere --out x", "nowhere is neither a folder nor a registered simulator"),
        ("dyna --out x --env-id CartPole-v1", "expected pictures"),
        ("demo --rooms nowhere --out x", "nowhere is neither a folder nor a registered simulator"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"lssvwm {words.split(' --')[0]}: ") and message in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("collect --out x --frames 9 --env-id Nope-v0", "Nope"),
        ("collect --out x --frames 9 --env-id nomodule:Nope-v0", "nomodule"),
        ("collect --out a-file --frames 9 --env-id MiniGrid-MemoryS9-v0", "a-file"),
        ("collect --out x --frames 9 --env-id MiniGrid-MemoryS9-v0 --env-kwargs sise 9", "sise"),
    ],
)
def test_faults_of_the_environment_and_of_files_are_said_too(
    words: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("")
    assert main(words.split()) == 1
    assert message in capsys.readouterr().err


def test_an_error_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--dataset", "no\x1b[2J\x07\u202ewhere"]) == 1
    printed = capsys.readouterr().err
    assert r"No dataset at no\x1b[2J\x07\u202ewhere" in printed and printed.replace("\n", "").isprintable()


def test_environments_are_found_where_the_program_is_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import gymnasium as gym\n\ndef cart(**kwargs) -> gym.Env:\n    return gym.make('CartPole-v1', **kwargs)\n"
    )
    script = "import sys; sys.path.remove(''); from lssvwm_env.cli import main; sys.exit(main(sys.argv[1:]))"
    words = "collect --env-id mine:cart --render --out x --frames 9 --episode-length 9 --workers 1"
    subprocess.run([sys.executable, "-c", script, *words.split()], check=True, capture_output=True, cwd=tmp_path)
    assert (tmp_path / "x" / "dataset.json").is_file()


def test_looking_for_help_is_cheap() -> None:
    script = "import sys; from lssvwm_env.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_failure_is_the_exit_status_of_the_program(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "lssvwm_env.cli", "dance"]
    assert subprocess.run(words, capture_output=True, cwd=tmp_path).returncode == 2


SLOW = """
import os, time
import gymnasium as gym
import numpy as np

class Slow(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gym.spaces.Discrete(9)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if os.path.exists("shard-00000.npz") and not os.path.exists("go"):
            open("waiting", "a").write(f"{os.getpid()}\\n")
            time.sleep(60)
        return self.np_random.integers(0, 255, (8, 8, 3), np.uint8), {}

    def step(self, action):
        time.sleep(0.01)  # so that the first shard is there when one of the later episodes begins
        return np.full((8, 8, 3), action, np.uint8), 0.0, False, False, {}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="which has no such signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_command_says_so_in_one_line_and_goes_on_when_it_is_repeated(
    number: int, status: int, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW.replace("shard-", "x/shard-"))
    options = "--out x --frames 200 --shard-frames 20 --episode-length 20 --workers 2"
    words = [sys.executable, "-m", "lssvwm_env.cli", *f"collect --env-id slow:Slow {options}".split()]
    pipes = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    program = subprocess.Popen(words, start_new_session=True, **pipes)
    waiting = tmp_path / "waiting"
    deadline = time.monotonic() + 120
    while not (waiting.exists() and waiting.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(program.pid, number) if number == signal.SIGINT else program.send_signal(number)
    _, errors = program.communicate(timeout=30)
    assert errors == "lssvwm collect: interrupted; the same command goes on from the last checkpoint\n"
    assert program.returncode == status
    for process in waiting.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)
    kept = (tmp_path / "x/shard-00000.npz").stat().st_mtime_ns
    (tmp_path / "go").touch()
    subprocess.run([*words[:-1], "1"], check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "x/shard-00000.npz").stat().st_mtime_ns == kept and len(EpisodeDataset(tmp_path / "x")) == 200
    assert len(list((tmp_path / "x").iterdir())) == 11  # no temporary file is left


@pytest.mark.parametrize("name", ["compare", "list"])
def test_what_cannot_go_on_is_said_to_be_interrupted_alone(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str, arguments: list[str]) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("lssvwm_env.cli._run", interrupted)
    assert main([name]) == 143 and capsys.readouterr().err == f"lssvwm {name}: interrupted\n"
