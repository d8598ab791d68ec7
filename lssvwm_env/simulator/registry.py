"""The simulators that have a Gymnasium id: bundled ones, the user's own, and those of installed packages.

Their `config.json` is all that is read, so importing this stays cheap. For the ways to get an id, see
docs/how-to/share.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import gymnasium as gym

from lssvwm_env.simulator.folder import CONFIG, STARTS, WEIGHTS, SimulatorError, read_config
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.json_files import from_json

NAMESPACE: Final = "LSSVWM"
VARIABLE: Final = "LSSVWM_SIMULATORS"
ENTRY_POINTS: Final = "lssvwm_env.simulators"
BUNDLED: Final = Path(__file__).parents[1].resolve() / "bundled"


@dataclass(frozen=True)
class RegisteredSimulator:
    """Where a registered simulator lies, and what its `config.json` says at a glance; see `SimulatorConfig`."""

    folder: Path
    env_id: str
    trained_length: int
    horizon: int

    def __post_init__(self) -> None:
        check_fields(self, trained_length=1, horizon=1)


SIMULATORS: Final[dict[str, RegisteredSimulator]] = {}
"""All registered simulators, by id."""


def register_envs() -> None:
    """Register with Gymnasium all simulators that are not yet. `import lssvwm_env` has done so already.

    These are, each as `LSSVWM/NAME`, and where names clash the first of them: the bundled ones; those in the folders
    that the environment variable `LSSVWM_SIMULATORS` lists, separated as in `PATH`; those of installed packages, by
    their entry points in the group `lssvwm_env.simulators`. What cannot be registered is warned of and left out.
    """
    for listed in (str(BUNDLED), *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))):
        with _warning(listed if listed == str(BUNDLED) else f"{listed}, listed in {VARIABLE},"):
            for name, folder in _simulators_in(Path(listed).expanduser().resolve()).items():
                with _warning(str(folder)):
                    _register(name, folder)
    for entry in entry_points(group=ENTRY_POINTS):
        with _warning(f"the entry point {entry.name} = {entry.value} in {ENTRY_POINTS}"):
            value = entry.load()
            _register(entry.name, Path(value() if callable(value) else value).resolve())


@contextmanager
def _warning(what: str) -> Iterator[None]:
    """Whatever is wrong with one simulator must not keep anyone from importing the package."""
    try:
        yield
    except Exception as error:
        gym.logger.warn("%s", f"{what} is not registered: {error}")  # "%s", as paths may contain one


def _simulators_in(folder: Path) -> dict[str, Path]:
    """Simulator folders by name: `folder` itself, or else those in it.

    A run folder of `lssvwm train` stands for the simulator inside, whose own name, `simulator`, says nothing.
    """

    def simulator(place: Path) -> Path | None:
        places = (place, place / "simulator")
        return next((p for p in places if (p / WEIGHTS).is_file() or (p / STARTS).is_file()), None)

    if not folder.is_dir():
        raise SimulatorError("there is no such folder")
    if found := simulator(folder):
        return {folder.name: found}
    places = {p.name: simulator(p) for p in sorted(folder.iterdir()) if not p.name.startswith(".")}
    simulators = {name: place for name, place in places.items() if place is not None}
    if not simulators:
        raise SimulatorError(f"it holds no simulator; that is a folder with {CONFIG}, {WEIGHTS} and {STARTS}")
    return simulators


def _register(name: str, folder: Path) -> None:
    env_id = f"{NAMESPACE}/{name}"
    if env_id in gym.registry:
        if env_id not in SIMULATORS or SIMULATORS[env_id].folder != folder:
            owner = SIMULATORS[env_id].folder if env_id in SIMULATORS else gym.registry[env_id].entry_point
            raise SimulatorError(f"{env_id} is already the id of {owner}; give {folder} another name")
        return
    content = read_config(folder / CONFIG)
    simulator = RegisteredSimulator(
        folder,
        env_id=from_json(str, content.get("env_id"), "config.env_id"),
        trained_length=from_json(int, content.get("trained_length"), "config.trained_length"),
        horizon=from_json(int, content.get("horizon"), "config.horizon"),
    )
    gym.register(
        env_id,
        entry_point="lssvwm_env.envs.env:LSSVWMEnv",
        vector_entry_point="lssvwm_env.envs.vector:LSSVWMVectorEnv",
        max_episode_steps=simulator.horizon,
        kwargs={"simulator": env_id},
    )
    SIMULATORS[env_id] = simulator
