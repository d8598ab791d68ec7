"""Work in several processes, from any program, and none of them outlives it.

A process of `multiprocessing` imports the program that started it: that needs a main guard and a file, and what the
program made while it ran is not there. These import nothing of it. What they need comes with the task, by value where
it is of the program itself. They end when their standard input does: with the work, or with the program, however that
ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from queue import SimpleQueue
from threading import Thread, main_thread
from typing import Any, BinaryIO, Final, NoReturn, TypeVar

from gymnasium.vector.utils import CloudpickleWrapper

GRACE: Final = 5.0  # seconds to remove temporary files in, once there is nobody to work for

Item = TypeVar("Item")
Result = TypeVar("Result")


class CannotShare(Exception):  # noqa: N818 (nothing is wrong: the work can be done in this process)
    """A task that no other process can take; says why."""


def in_processes(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Do a task for every item, in other processes, each of which computes with one thread.

    What the task prints goes to standard error.

    Args:
        task: It and all that it refers to must survive pickling, as `cloudpickle` does it.
        items: Values that survive pickling.
        workers: Processes, at most one for each item.

    Yields:
        An item and what was made of it, as soon as it is done. No process is left when the iterator is closed.

    Raises:
        CannotShare: If the task cannot be taken to another process; nothing was done then.
        ChildProcessError: If a process dies.
        Exception: Whatever the task raised.
    """
    with ExitStack() as stack:
        idle: SimpleQueue[_Worker] = SimpleQueue()
        count = min(workers, len(items))
        # Left last, whenever the program is interrupted: threads wait for answers until their workers have ended.
        threads = stack.enter_context(ThreadPoolExecutor(count))
        try:
            pickled = _pickled(task)
            started = [stack.enter_context(_Worker()) for _ in range(count)]
            for worker in started:
                worker.send(pickled)
            for worker in started:
                worker.receive()
                idle.put(worker)
        except Exception as error:
            raise CannotShare(f"{type(error).__name__}: {error}") from error

        def done(item: Item) -> Result:
            worker = idle.get()
            try:
                worker.send(_pickled(item))
                result: Result = worker.receive()
            finally:
                idle.put(worker)
            return result

        futures = {threads.submit(done, item): item for item in items}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


class _Worker:
    """A process that does what it is sent."""

    def __init__(self) -> None:
        # Ctrl-C reaches all processes of a terminal: it is for the program alone, which ends the others.
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
            f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        )
        # More threads would fight over the cores with other workers.
        surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-c", program]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=surroundings, bufsize=-1
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._answers: BinaryIO = self._process.stdout  # type: ignore[assignment]

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send(self, pickled: bytes) -> None:
        """Ask for something; the first time, the task itself is given."""
        try:
            pickle.dump(pickled, self._requests)
            self._requests.flush()
        except (OSError, ValueError):  # it is dead, or stopped: there will be no answer, and that is said
            return

    def receive(self) -> Any:
        """The answer; raises what the process has raised."""
        try:
            fine, answer = pickle.load(self._answers).fn
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise ChildProcessError(
                "a worker process has died, perhaps for want of memory: try again, with fewer workers"
            ) from error
        if fine:
            return answer
        raise answer

    def stop(self) -> None:
        """End the process, and wait until it has ended."""
        with suppress(OSError):  # it has died with something unread
            self._requests.close()
        try:
            self._process.wait(2 * GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._answers.close()


def serve() -> NoReturn:
    """Be a process of `in_processes`, until standard input ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that temporary files are removed on the way out
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed shall not be taken for an answer
    requests: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(requests,), daemon=True).start()
    task: Callable[[Any], Any] | None = None
    while True:
        request = requests.get()
        try:
            given = pickle.loads(request).fn
            answer = None if task is None else task(given)
            task = task or given
            pickled = _pickled((True, answer))
        except Exception as error:
            pickled = _pickled_error(error)
        answers.write(pickled)
        answers.flush()


def _listen(requests: SimpleQueue[bytes]) -> None:
    """Take in requests while the process works; with the last, it ends."""
    try:
        while True:
            requests.put(pickle.load(sys.stdin.buffer))
    except (EOFError, OSError, pickle.UnpicklingError):
        if sys.platform != "win32":  # to the thread that works: it may wait, and another's signal does not wake it
            signal.pthread_kill(main_thread().ident or 0, signal.SIGTERM)
            time.sleep(GRACE)
        os._exit(1)


def _pickled(value: Any) -> bytes:
    """A value for another process; what the program itself defines is in it."""
    return pickle.dumps(CloudpickleWrapper(value))


def _pickled_error(error: Exception) -> bytes:
    """An error for another process, with where it was raised; in words, if it cannot go there."""
    error.add_note(f"in a worker process:\n{traceback.format_exc()}")
    try:
        pickled = _pickled((False, error))
        pickle.loads(pickled)
    except Exception:
        return _pickled((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return pickled
