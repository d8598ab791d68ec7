"""Every example runs, shortened and on a toy simulator."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import imageio.v3 as iio
import pytest

from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.simulator.simulator import Simulator

FOLDER = Path(__file__).parents[2] / "examples"
TRIED = {
    "bring_your_own",
    "dyna",
    "go_back_to_a_picture",
    "plain_loop",
    "plan_in_a_dream",
    "ppo_in_a_dream",
    "record_video",
    "save_and_fork",
}


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == TRIED


@pytest.fixture
def toy_id(toy_simulator: Simulator, tmp_path: Path) -> Iterator[str]:
    """The id of a registered toy simulator whose episodes end after five steps."""
    toy_simulator.save(tmp_path / "toy", "")
    name = "Toy-v0"
    gym.register(name, LSSVWMEnv, max_episode_steps=5, kwargs={"simulator": tmp_path / "toy"})
    yield name
    del gym.registry[name]


def test_plain_loop(program: Callable[[str], ModuleType], toy_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = program("examples/plain_loop.py")
    module.main(module.Args(toy_id, steps=12))
    printed = capsys.readouterr().out
    assert "frames (64, 64, 3) uint8, actions Discrete(7)" in printed
    assert "episode 1: " in printed and "goes on after" in printed


def test_record_video(
    program: Callable[[str], ModuleType], toy_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = program("examples/record_video.py")
    film = tmp_path / "film.gif"
    module.main(module.Args(toy_id, max_steps=1, scale=2, out=film))
    assert f"wrote {film}: 2 frames of 128x128 pixels" in capsys.readouterr().out
    assert iio.imread(film).shape == (2, 128, 128, 3)


def test_save_and_fork(
    program: Callable[[str], ModuleType],
    toy_simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy_simulator.save(tmp_path / "toy", "")
    module = program("examples/save_and_fork.py")
    module.main(module.Args(str(tmp_path / "toy"), forks=3, steps=2))
    printed = capsys.readouterr().out
    assert "the same actions give the same frames: True" in printed
    assert [f"future {i}:" in printed for i in range(4)] == [True, True, True, False]


def test_bring_your_own(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("bring_your_own")
    monkeypatch.setattr(module, "TrainingConfig", partial(module.TrainingConfig, head_steps=2))
    module.main(module.Args(tmp_path, episodes=40, steps=2))
    printed = capsys.readouterr().out
    assert "terminated" in printed and "reward (F1)" in printed
    assert (tmp_path / "compare" / "dream_vs_real.gif").is_file()


def test_dyna(
    program: Callable[[str], ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = program("examples/dyna.py")
    short = {
        "lengths": (4, 8),
        "frames_per_step": 16,
        "head_sequences": 4,
        "head_steps": 2,
        "odometry_steps": 2,
        "render_steps": 2,
    }
    monkeypatch.setattr(module, "RoundTraining", partial(module.RoundTraining, **short, validation=0.1))
    monkeypatch.setattr(module, "RoundImagination", partial(module.RoundImagination, num_dreams=4, refresh=2))
    module.main(module.Args(out=tmp_path, rounds=1, frames=150, steps=2, updates=1, episodes=1))
    printed = capsys.readouterr().out
    assert printed.count("% of 1 episodes won") == 1 and f"wrote {tmp_path / 'last_agent.gif'}" in printed
    assert iio.imread(tmp_path / "last_agent.gif").shape[1:] == (4 * 64, 4 * 64, 3)


def test_plan_in_a_dream(
    program: Callable[[str], ModuleType],
    toy_simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = program("examples/plan_in_a_dream.py")
    args = module.Args(max_steps=3, horizon=2, imagined_steps=16, out=tmp_path / "film.gif")
    real = replace(toy_simulator.config, env_id=args.env)
    asked = []

    def load(name: str) -> Simulator:
        asked.append(name)
        return Simulator(toy_simulator.model, real, toy_simulator.starts)

    monkeypatch.setattr(module.Simulator, "load", load)
    module.main(args)
    assert asked == [f"LSSVWM/{args.env}"]
    printed = capsys.readouterr().out
    assert "in 3 real steps" in printed and f"wrote {args.out}" in printed
    assert iio.imread(args.out).shape[1:] == (4 * 64, 2 * 4 * 64, 3)


def test_go_back_to_a_picture(
    program: Callable[[str], ModuleType],
    toy_simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rooms = replace(toy_simulator.config, env_id="MiniGrid-ObjectRooms-v0")
    Simulator(toy_simulator.model, rooms, toy_simulator.starts).save(tmp_path / "toy", "")
    module = program("examples/go_back_to_a_picture.py")
    film = tmp_path / "film.gif"
    module.main(module.Args(str(tmp_path / "toy"), walk=6, max_steps=2, horizon=2, imagined_steps=4, out=film))
    assert "back after" in capsys.readouterr().out
    assert iio.imread(film).shape[-3:] == (4 * 64, 2 * 4 * 64, 3)


def test_ppo_in_a_dream(
    program: Callable[[str], ModuleType],
    toy_simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    memory = replace(toy_simulator.config, env_id="MiniGrid-MemoryS9-v0", horizon=3)
    Simulator(toy_simulator.model, memory, toy_simulator.starts).save(tmp_path / "toy", "")
    module = program("examples/ppo_in_a_dream.py")
    module.main(module.Args(str(tmp_path / "toy"), num_envs=4, timesteps=256, episodes=2))
    assert "in 2 real episodes" in capsys.readouterr().out
