"""A log gets lines, and a terminal a bar."""

import pytest

from lssvwm_models.utils import progress as module
from lssvwm_models.utils.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed, to be set."""
    seconds = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def test_without_a_terminal_there_is_a_line_at_first_every_ten_seconds_and_at_last(clock, capsys):
    with progress("train", 2000, 1000) as report:
        for done in range(1001, 2001):
            clock[0] += 0.0625
            report(done, f"loss {done}" if done % 10 == 0 else None)
    assert capsys.readouterr().out.splitlines() == [
        "train 1,010 of 2,000  loss 1010  0:01:02 left",
        "train 1,170 of 2,000  loss 1170  0:00:52 left",
        "train 1,330 of 2,000  loss 1330  0:00:42 left",
        "train 1,490 of 2,000  loss 1490  0:00:32 left",
        "train 1,650 of 2,000  loss 1650  0:00:22 left",
        "train 1,810 of 2,000  loss 1810  0:00:12 left",
        "train 1,970 of 2,000  loss 1970  0:00:02 left",
        "train 2,000 of 2,000  loss 2000  0:00:00 left",
    ]


def test_on_a_terminal_there_is_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("train", 4) as report:
        report(1, "loss 3")
        report(4)
    text = capsys.readouterr().out
    assert "4/4" in text and "loss 3" in text and " of 4" not in text
