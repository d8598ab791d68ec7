"""Signals that ask a program to end are exceptions while it works, and what they were before and after."""

from __future__ import annotations

import signal
import threading

import pytest

from lssvwm_env.utils.interrupts import Interrupted, interruptible

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_block_and_a_second_one_would_end_the_process(number: int) -> None:
    before = [signal.getsignal(other) for other in SIGNALS]
    within = []
    with pytest.raises(Interrupted) as error, interruptible():
        try:
            signal.raise_signal(number)
        finally:
            within = [signal.getsignal(other) for other in SIGNALS]
    assert error.value.status == 128 + number and not isinstance(error.value, Exception)
    assert within == [signal.SIG_DFL] * 2 and [signal.getsignal(other) for other in SIGNALS] == before


def test_signals_that_are_ignored_stay_so_and_others_are_put_back() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(Interrupted):
                signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, mine)


def test_other_threads_are_left_alone() -> None:
    done = []

    def work() -> None:
        with interruptible():
            done.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]
