"""A refused call names what is wrong and changes nothing: the worlds go on, and begin anew, as if it was never made."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.core_state import CoreState
from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.sb3 import LSSVWMVecEnv
from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.simulator.simulator import Simulator

FACES = (LSSVWMEnv, LSSVWMVectorEnv, LSSVWMVecEnv, SimulatorCore)
OBS = np.zeros((2, 64, 64, 3), np.uint8)
ACT = np.zeros(2, int)
RAGGED = [[1], [1, 2]]


def made(face: Any, simulator: Simulator, worlds: int = 2) -> Any:
    """Begun worlds of any face, with their own generators seeded."""
    env = face(simulator) if face is LSSVWMEnv else face(simulator, worlds)
    if face is LSSVWMVecEnv:
        env.seed(3)
        env.reset()
    elif face is SimulatorCore:
        env.reset(list(range(worlds)), list(range(worlds)))
    else:
        env.reset(seed=3)
    return env


def future(env: Any, steps: int = 5) -> list[Any]:
    """What the worlds show in their next steps, and where they begin anew."""
    worlds = getattr(env, "num_envs", None)
    action = 2 if worlds is None else np.full(worlds, 2)
    seen = [env.step(action)[0] for _ in range(steps)]
    if isinstance(env, SimulatorCore):
        return [np.asarray(frames) for frames in seen]
    begun = env.reset()
    return [*seen, begun if isinstance(env, LSSVWMVecEnv) else begun[0]]


OPTIONS: list[Any] = [
    {"start": 999}, {"start": -1}, {"start": "somewhere"}, {"start": [1]}, {"start": np.zeros(3)},
    {"start": float("nan")}, {"context": (OBS[:0], ACT)},
    {"context": 5}, {"context": "ab"}, {"context": (OBS, RAGGED)}, {"context": (RAGGED, ACT)},
    {"context": (OBS / 2, ACT)}, {"context": (OBS, ACT + 9)}, {"context": (OBS, ["a", "b"])}, {"context": (None, None)},
    {"context": (OBS, ACT), "start": 1}, {"allow_long_context": "no"}, {"allow_long_context": 1}, {1: 2, "x": 3},
    {"context": (np.zeros((9, 64, 64, 3), np.uint8), np.zeros(9, int))},
]  # fmt: skip
SEEDS: list[Any] = [-1, 1.0, float("nan"), "3", True, {}, object(), np.float64(3)]
STATES: list[Any] = [123, None, b"x", "", "nowhere", "\0", ".", [1], {}, True, OBS]
NUMBERS: list[Any] = [float("nan"), float("inf"), "2", 0, -5, True, None, [7], 2.0, 10**30, np.float32(2)]
ACTIONS: list[Any] = [7, -1, 1.5, float("nan"), "left", None, True, [[0]], RAGGED, object(), b"0", 10**30]
BAD = [action for action in ACTIONS if action is not True]  # which NumPy takes for a 1 in a list

CALLS: dict[type, list[tuple[str, Callable[[Any], Any]]]] = {
    LSSVWMEnv: [
        *((f"options {o!r:.40}", lambda env, o=o: env.reset(seed=99, options=o)) for o in [*OPTIONS, 5, "ab", [{}]]),
        *((f"seed {s!r:.40}", lambda env, s=s: env.reset(seed=s)) for s in [*SEEDS, [1]]),
        *((f"action {a!r:.40}", lambda env, a=a: env.step(a)) for a in ACTIONS),
        *((f"state {s!r:.40}", lambda env, s=s: env.load_state(s)) for s in STATES),
        *((f"path {s!r:.40}", lambda env, s=s: env.save_state(s)) for s in [123, b"x", "", "\0", ".", [1], True]),
        *((f"fork {n!r:.40}", lambda env, n=n: env.fork(n)) for n in NUMBERS),
        *((f"obs {o!r:.40}", lambda env, o=o: env.observe(o, ACT)) for o in [5, "x", RAGGED, OBS / 2, OBS[:1], None]),
        *((f"act {a!r:.40}", lambda env, a=a: env.observe(OBS, a)) for a in ACTIONS),
        ("include_rng", lambda env: env.save_state(include_rng="no")),
    ],
    LSSVWMVectorEnv: [
        *((f"options {o!r:.40}", lambda env, o=o: env.reset(seed=99, options=o)) for o in [*OPTIONS, 5, "ab", [{}]]),
        *((f"each {o!r:.40}", lambda env, o=o: env.reset(seed=99, options=[None, o])) for o in [*OPTIONS, 5, "ab"]),
        *((f"seed {s!r:.40}", lambda env, s=s: env.reset(seed=s)) for s in [*SEEDS, [1], [1, -1], [1, True], [1, "2"]]),
        *((f"action {a!r:.40}", lambda env, a=a: env.step([0, a])) for a in BAD),
        *((f"actions {a!r:.40}", lambda env, a=a: env.step(a)) for a in ACTIONS),
        *((f"state {s!r:.40}", lambda env, s=s: env.load_state(s)) for s in STATES),
        *((f"obs {o!r:.40}", lambda env, o=o: env.observe(o, ACT)) for o in [5, "x", RAGGED, OBS / 2, OBS, None]),
        ("mask of each", lambda env: env.reset(options=[{"reset_mask": np.array([True, False])}] * 2)),
        ("mask", lambda env: env.reset(seed=9, options={"reset_mask": "x"})),
    ],
    LSSVWMVecEnv: [
        *((f"options {o!r:.40}", lambda env, o=o: env.set_options(o)) for o in [*OPTIONS, 5, "ab", [{}]]),
        *((f"each {o!r:.40}", lambda env, o=o: env.set_options([{}, o])) for o in [*OPTIONS, 5, "ab"]),
        *((f"seed {s!r:.40}", lambda env, s=s: env.seed(s)) for s in [*SEEDS, [1]]),
        *((f"action {a!r:.40}", lambda env, a=a: env.step([0, a])) for a in BAD),
        ("mask", lambda env: env.set_options({"reset_mask": np.array([True, False])})),
        ("wait", lambda env: env.step_wait()),
    ],
    SimulatorCore: [
        *((f"ids {i!r:.40}", lambda core, i=i: core.reset(i, [1])) for i in [5, None, "0", [0.0], [True], [[0]]]),
        *((f"seeds {s!r:.40}", lambda core, s=s: core.reset([0], s)) for s in [*SEEDS, None, [1.0], ["1"], [10**30]]),
        *((f"contexts {c!r:.40}", lambda core, c=c: core.reset([0], [1], c)) for c in [5, "x", [5], [OBS], [(OBS,)]]),
        *((f"long {a!r:.40}", lambda core, a=a: core.reset([0], [1], None, a)) for a in [None, 1, "x", [1], ["no"]]),
        *((f"act {a!r:.40}", lambda core, a=a: core.step([0, a])) for a in BAD),
        *((f"state {s!r:.40}", lambda core, s=s: core.load_state(s)) for s in STATES),
        *((f"fork {n!r:.40}", lambda core, n=n: core.fork(n)) for n in NUMBERS),
        *((f"observe {i!r:.40}", lambda core, i=i: core.observe(OBS[None], ACT[None], i)) for i in [0, "0", [2]]),
    ],
}  # fmt: skip


NAMED = re.compile(
    r"^(TypeError|ValueError|OSError|IsADirectoryError|FileNotFoundError|RuntimeError): "
    r"(options|context|allow_long_context|seeds?|actions?|act|state|path|nowhere|n|obs|include_rng|ids|contexts|step_wait"
    r"|step_async)\b.*(expected|must be|known are|give|is missing|first|entries)",
    re.DOTALL,
)


def answer(call: Callable[[Any], Any], env: Any) -> str:
    """How a call is refused."""
    try:
        call(env)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "taken"


@pytest.mark.parametrize("face", FACES)
def test_refused_calls_change_nothing(
    toy_simulator: Simulator, face: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    env, twin = made(face, toy_simulator), made(face, toy_simulator)
    answers = {name: answer(call, env) for name, call in CALLS[face]}
    assert {name: said for name, said in answers.items() if not NAMED.search(said) or len(said) > 600} == {}
    assert not list(tmp_path.iterdir())
    assert all(np.array_equal(a, b) for a, b in zip(future(env), future(twin), strict=True))


@pytest.mark.parametrize("face", [LSSVWMEnv, LSSVWMVectorEnv, LSSVWMVecEnv])
@pytest.mark.parametrize("seed", [None, 99])
def test_a_refused_reset_leaves_the_next_one_as_it_was(toy_simulator: Simulator, face: Any, seed: int | None):
    env, twin = made(face, toy_simulator), made(face, toy_simulator)
    with pytest.raises(ValueError, match=r"options\['start'\] is 999"):
        if face is LSSVWMVecEnv:
            env.set_options({"start": 999})
        else:
            env.reset(seed=seed, options={"start": 999})
    assert all(np.array_equal(a, b) for a, b in zip(future(env, 1), future(twin, 1), strict=True))


@pytest.mark.parametrize("face", [LSSVWMVectorEnv, LSSVWMVecEnv, SimulatorCore])
@pytest.mark.parametrize("number", [-5, True, 0.5, float("nan"), [7], "3", 0, 10**30])
def test_numbers_of_worlds_steps_and_samples_are_integers(toy_simulator: Simulator, face: Any, number: Any):
    names = ["num_envs", "denoising_steps"] + ([] if face is SimulatorCore else ["max_episode_steps"])
    for name in names:
        with pytest.raises(ValueError, match=f"^{name}="):
            face(toy_simulator, **{"num_envs": 1, name: number})


@pytest.mark.parametrize("number", [3.0, 2.5, True, "3", [3], float("nan"), np.float32(3), None])
def test_samples_are_checked_before_worlds_move(toy_simulator: Simulator, number: Any):
    for face in FACES:
        with pytest.raises(ValueError, match=r"^uncertainty_samples is .*; expected 0 for none, or at least 2"):
            face(toy_simulator, **({} if face is LSSVWMEnv else {"num_envs": 1}), uncertainty_samples=number)


def test_numbers_of_numpy_are_numbers(toy_simulator: Simulator):
    env = LSSVWMVectorEnv(toy_simulator, np.int64(2), np.int16(7), uncertainty_samples=np.int64(2))
    assert (env.num_envs, env.max_episode_steps, env.core.uncertainty_samples) == (2, 7, 2)
    first = env.reset(seed=np.int64(1))[0]
    assert np.array_equal(first, env.reset(seed=np.array([1, 2]))[0])
    assert LSSVWMEnv(toy_simulator).reset(seed=np.int32(1))[0].shape == (64, 64, 3)


@pytest.mark.parametrize("option", ["bf16", "to_numpy"])
def test_switches_are_true_or_false(toy_simulator: Simulator, option: str):
    with pytest.raises(ValueError, match=f"^{option}='no' must be True or False"):
        LSSVWMVectorEnv(toy_simulator, **{option: "no"})


def test_autoreset_modes_are_named(toy_simulator: Simulator):
    with pytest.raises(ValueError, match="^autoreset_mode is 'never'; expected one of"):
        LSSVWMVectorEnv(toy_simulator, autoreset_mode="never")


def test_what_interrupts_a_reset_leaves_worlds_and_generators(
    toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
):
    env, twin = made(LSSVWMVectorEnv, toy_simulator), made(LSSVWMVectorEnv, toy_simulator)
    with monkeypatch.context() as patch:
        patch.setattr(env.core.model, "observe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            env.reset()
    assert all(np.array_equal(a, b) for a, b in zip(future(env, 1), future(twin, 1), strict=True))


def test_what_interrupts_a_step_leaves_the_worlds(toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch):
    core = SimulatorCore(toy_simulator, 1, uncertainty_samples=2)
    core.reset([0], [0])
    before = core.memory
    monkeypatch.setattr(core.model, "uncertainty", interrupt)
    with pytest.raises(KeyboardInterrupt):
        core.step([0])
    assert core.memory is before and core.elapsed.tolist() == [0]


def interrupt(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_is_named(toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    env = made(LSSVWMEnv, toy_simulator)
    monkeypatch.setattr("lssvwm_models.memory.state.save_tensors", full)
    with pytest.raises(OSError, match=r"moment cannot be written \(No space left on device\)") as error:
        env.save_state(tmp_path / "moment")
    assert error.value.errno == errno.ENOSPC


def test_files_and_folders_are_told_apart(toy_simulator: Simulator, tmp_path: Path):
    env = made(LSSVWMEnv, toy_simulator)
    for use in (env.save_state, env.load_state):
        with pytest.raises(IsADirectoryError, match="a folder; expected the path of a file"):
            use(tmp_path)
    with pytest.raises(OSError, match="nowhere/moment cannot be written"):
        env.save_state(tmp_path / "nowhere/moment")


@pytest.mark.parametrize("face", [LSSVWMVectorEnv])
def test_the_first_reset_is_of_all_worlds(toy_simulator: Simulator, face: Any):
    env = face(toy_simulator, 2)
    with pytest.raises(gym.error.ResetNeeded, match=r"worlds \[1\] have not begun"):
        env.reset(options={"reset_mask": np.array([True, False])})
    assert not env.core.memory.age.any()


FLIPPED = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.mark.parametrize("view", [FLIPPED[:, ::-1], FLIPPED[::-1], FLIPPED[:, :, ::-1], FLIPPED.swapaxes(1, 2)])
def test_views_of_any_strides_are_frames(toy_simulator: Simulator, view: np.ndarray):
    env, twin = LSSVWMEnv(toy_simulator), LSSVWMEnv(toy_simulator)
    actions = np.array([3, 2, 1])[::-1]
    shown, _ = env.reset(seed=0, options={"context": (view, actions)})
    expected, _ = twin.reset(seed=0, options={"context": (view.copy("C"), actions.copy())})
    env.observe(view, actions.astype(">i8"))
    twin.observe(view.copy("C"), actions)
    assert np.array_equal(shown, expected) and np.array_equal(env.step(np.array([2, 1])[::-1][0])[0], twin.step(1)[0])


@pytest.mark.parametrize(
    ("keys", "elapsed"),
    [("[1]", "[-1]"), ("[1.5]", "[0]"), ("[1, 2]", "[0]"), ("{}", "[0]"), ("[", "[0]"), ("[1]", "7")],
)
def test_states_whose_numbers_are_none_are_refused(toy_simulator: Simulator, tmp_path: Path, keys: str, elapsed: str):
    env = made(LSSVWMEnv, toy_simulator)
    said = {"format": "lssvwm-state", "weights_sha256": toy_simulator.weights_sha256, "keys": keys, "elapsed": elapsed}
    env.core.memory.save(tmp_path / "moment", said)
    with pytest.raises(ValueError, match="moment is damaged"):
        CoreState.load(tmp_path / "moment")
