"""Work in other processes: what comes back, what goes wrong, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lssvwm_env.utils.processes import in_processes

# What is tried is a program, as each test of its own would start processes of its own.
WORKING = """
import os, sys, threading
import numpy as np
from lssvwm_env.utils.processes import CannotShare, in_processes

class Odd(ValueError):
    pass

class Stuck(Exception):
    def __reduce__(self):
        raise TypeError

class Foreign:  # as the task of a module that is not there
    def __setstate__(self, state):
        raise ImportError("nobody knows me")

    def __getstate__(self):
        return {"a": 1}

    def __call__(self, i):
        return i

def task(i):
    print("printed by the task")
    if i == 7:
        raise Odd("seven is odd")
    if i == 8:
        raise Stuck("as it is")
    return i * i, os.getpid(), os.environ["OMP_NUM_THREADS"]

done = list(in_processes(task, [1, 2, 3], 2))
assert sorted((i, made[0]) for i, made in done) == [(1, 1), (2, 4), (3, 9)], done
assert os.getpid() not in {made[1] for _, made in done} and len({made[1] for _, made in done}) <= 2
assert {made[2] for _, made in done} == {"1"}
try:
    list(in_processes(task, [7], 1))
except Odd as error:
    assert str(error) == "seven is odd" and "in task" in "".join(error.__notes__)
else:
    raise AssertionError
try:
    list(in_processes(task, [8], 1))
except RuntimeError as error:
    assert str(error) == "Stuck: as it is"
lock = threading.Lock()
for wrong, why in ((lambda i: lock, "lock"), (Foreign(), "nobody knows me")):
    try:
        list(in_processes(wrong, [1, 2], 2))
    except CannotShare as error:
        assert why in str(error), error
    else:
        raise AssertionError
print("all is well")
"""


def test_a_program_from_standard_input_without_a_main_guard_can_have_work_done() -> None:
    many = os.environ | {"OMP_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-"], input=WORKING, capture_output=True, text=True, timeout=60, env=many)
    assert done.stdout == "all is well\n", done.stderr
    assert done.stderr.count("printed by the task") == 5


DYING = """
import os, signal, sys, time
from pathlib import Path
from lssvwm_env.utils.processes import in_processes

def task(i):
    if i == "die":
        while not (Path("one.tmp").exists() and Path("one.tmp").read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    file = Path(f"{i}.tmp")
    try:
        file.touch()
        os.write(1, b"%d\\n" % os.getpid())  # in one piece: two processes say it
        file.write_text("said so")
        time.sleep(60)
    finally:
        file.unlink()

list(in_processes(task, sys.argv[1:], 2))
"""


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_program_however_it_ends_and_leave_no_file(number: int, tmp_path: Path) -> None:
    words = [sys.executable, "-c", DYING, "one", "two"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    program = subprocess.Popen(words, cwd=tmp_path, start_new_session=True, **pipes)
    workers = [int(program.stderr.readline()) for _ in range(2)]
    assert all(map(is_running, workers)) and len(list(tmp_path.iterdir())) == 2
    if number == signal.SIGINT:  # a terminal sends it to all of them
        os.killpg(program.pid, number)
    else:
        program.send_signal(number)
    _, errors = program.communicate(timeout=30)  # returns when nobody holds its output
    # Python may be interrupted as it waits for a lock, and then fails to let go of it: one traceback in two parts.
    errors = errors.replace("During handling of the above exception, another exception occurred:\n\nTraceback", "")
    assert errors.count("Traceback") == (number == signal.SIGINT)
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_running, workers)) and list(tmp_path.iterdir()) == []


def test_a_process_that_dies_is_an_error_and_takes_the_others_along(tmp_path: Path) -> None:
    words = [sys.executable, "-c", DYING, "one", "die"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    worker = int(done.stderr.splitlines()[0])
    assert "ChildProcessError: a worker process has died" in done.stderr and list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_an_interrupt_between_two_items_ends_those_that_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = ThreadPoolExecutor.submit

    def interrupted(self: ThreadPoolExecutor, call: object, item: int) -> object:
        if item == 61:
            time.sleep(0.5)  # so that the first has begun
            raise KeyboardInterrupt
        return submit(self, call, item)  # type: ignore[arg-type]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(in_processes(time.sleep, [60, 61], 2))
    assert time.monotonic() - began < 30
