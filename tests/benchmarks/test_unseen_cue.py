"""The benchmark of unseen cues finds its starts, and counts what is dreamt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lssvwm_env.real import make_real, tile_palette
from lssvwm_env.simulator.simulator import Simulator


@pytest.mark.parametrize("walks_first", [False, True])
def test_the_actions_bring_the_cue_into_view(program: Callable[[str], ModuleType], walks_first: bool) -> None:
    module = program("benchmarks/unseen_cue.py")
    env = make_real("MiniGrid-MemoryS9-v0")
    found = list(module.looks(env, 4, walks_first=walks_first))
    assert len(found) == 4
    assert all(module.LEFT in look.actions for look in found)
    assert walks_first == any(look.actions[0] == module.FORWARD for look in found)


def test_what_is_dreamt_is_counted(
    toy_simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    program: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = program("benchmarks/unseen_cue.py")
    real = replace(toy_simulator.config, env_id="MiniGrid-MemoryS9-v0")
    Simulator(toy_simulator.model, real, toy_simulator.starts).save(tmp_path / "toy", "")
    assert module.dreamt(toy_simulator, next(module.looks(make_real("MiniGrid-MemoryS9-v0"), 1, walks_first=False)),
                         1, 3).shape == (3,)  # fmt: skip
    key, ball = np.flatnonzero(tile_palette().is_object(np.arange(len(tile_palette()))))[:2]
    monkeypatch.setattr(module, "dreamt", lambda *_: np.array([key, key, ball, 0]))
    module.main(module.Args(str(tmp_path / "toy"), denoising_steps=(2,), starts=2, dreams=4, threads=1))
    printed = capsys.readouterr().out
    assert printed.count("0.67") == 4 and printed.count("0.25") == 2
