"""`lssvwm list`: one line for each registered simulator, without importing torch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from lssvwm_env.simulator.simulator import Simulator


def test_lists_what_is_registered(toy_simulator: Simulator, tmp_path: Path):
    name = "A-rather-long-name-that-must-not-be-cut-v12"
    config = replace(toy_simulator.config, env_id="[red]Toy-v0\x1b[2J")  # anyone may have written it
    Simulator(toy_simulator.model, config, toy_simulator.starts).save(tmp_path / name, "A toy.")
    size = sum(file.stat().st_size for file in (tmp_path / name).iterdir()) / 1e6
    script = "import sys; from lssvwm_env.cli import main; main(['list']); sys.exit('torch' in sys.modules)"
    environ = os.environ | {"LSSVWM_SIMULATORS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if "LSSVWM/" in line}
    assert rows[f"LSSVWM/{name}"] == [r"[red]Toy-v0\x1b[2J", "8", "20", f"{size:.1f}", str(tmp_path / name)]
    assert rows["LSSVWM/ObjectRooms-v0"][0] == "MiniGrid-ObjectRooms-v0"
