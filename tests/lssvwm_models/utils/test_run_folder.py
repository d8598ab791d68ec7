"""What a run writes is whole, strict, of one process, and said once."""

import json
import subprocess
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lssvwm_models.utils.run_folder import RunFolder


def test_tensorboard_shows_no_step_twice_after_a_resume(tmp_path):
    killed = RunFolder(tmp_path, {})
    killed.rewind(0)
    for step in range(1, 6):
        killed.log(step, {"loss": float(step)})
    resumed = RunFolder(tmp_path, {})
    resumed.rewind(3)
    for step in range(4, 8):
        resumed.log(step, {"loss": 10.0 * step})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [
        *((step, step) for step in (1, 2, 3)),
        *((step, 10 * step) for step in (4, 5, 6, 7)),
    ]


def test_what_is_not_finite_is_null_in_the_file_and_not_there_when_read(tmp_path):
    run = RunFolder(tmp_path, {})
    run.log(1, {"loss": float("nan"), "psnr": float("inf"), "good": 1.5})
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert line["loss"] is None and line["psnr"] is None and line["good"] == 1.5
    assert {k: v for k, v in run.metrics()[0].items() if k != "time"} == {"step": 1, "good": 1.5}
    run.rewind(1)
    assert (tmp_path / "metrics.jsonl").read_text() == text


def test_metrics_of_older_releases_become_strict(tmp_path):
    run = RunFolder(tmp_path, {})
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": -Infinity}\n{"step": 3, "lo')
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    run.rewind(1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": null}\n'


@pytest.mark.parametrize("line", [b'{"step', b'{"s": 1}', b'{"step": "1"}', b"[1]", b"\xff", b"[" * 100_000])
def test_damaged_metrics_are_named(tmp_path, line):
    run = RunFolder(tmp_path, {})
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged .*: delete it"):
        run.rewind(1)


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not JSON that can be read"):
        RunFolder(tmp_path, {})


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: data.replace(b"\0\0\x80?", b"\0\0\x81?")])
def test_a_damaged_checkpoint_is_named_and_what_to_do_is_said(tmp_path, damage):
    run = RunFolder(tmp_path, {})
    run.save_checkpoint({"step": 1, "weights": torch.ones(3)})
    assert run.load_checkpoint().keys() == {"step", "weights"}
    run.checkpoint.write_bytes(damage(run.checkpoint.read_bytes()))
    with pytest.raises(ValueError, match=r"checkpoint.pt is damaged .*: delete it to begin anew, or put back a copy"):
        run.load_checkpoint()


def test_another_process_is_refused_until_this_one_has_ended(tmp_path):
    program = """
import sys
from pathlib import Path
from lssvwm_models.utils.files import lock_folder
lock = lock_folder(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=f"^another process is writing into {tmp_path}: wait until it has ended"):
            RunFolder(tmp_path, {"seed": 0})
        assert sorted(tmp_path.rglob("*")) == before
        other.kill()
    RunFolder(tmp_path, {"seed": 0})
    RunFolder(tmp_path, {"seed": 0})
