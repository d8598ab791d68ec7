"""Calls: every face of a simulator refuses what is malformed by its name, and a refused call changes nothing."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from lssvwm_env.envs.core import CoreState, SimulatorCore
from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.sb3 import LSSVWMVecEnv
from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.simulator.simulator import Simulator
from tests.fuzz.junk import (
    HUGE,
    Nothing,
    are_actions,
    are_frames,
    arrays,
    as_numbers,
    either,
    integers,
    is_integer,
    scalars,
    texts,
    values,
)
from tests.fuzz.laws import Tally, attempt, fuzzed, same

B: Final = 2  # worlds
FEWEST: Final = 4  # calls between two looks at what comes next
TRAINED: Final = 8  # frames, as the toys say
KINDS: Final = {"discrete": (7, 0, 5), "box": (0, 2, 1)}  # actions, components and starts of the toys
Kind = tuple[int, int, int]


@dataclass(frozen=True)
class Call:
    """A call, what it may be refused for, and whether it may be accepted."""

    method: str
    arguments: dict[str, Any]
    names: tuple[str, ...]
    legal: bool
    changes: bool = True
    note: str = ""

    def __repr__(self) -> str:
        if self.note:
            return f"{self.method}({self.note})"
        said = ", ".join(f"{name}={_short(value)}" for name, value in self.arguments.items())
        return f"{self.method}({said})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray | torch.Tensor) and len(value.shape) > 2:
        return f"{type(value).__name__}({value.dtype}, {tuple(value.shape)})"
    if isinstance(value, list | tuple) and value and value[0] is not value:
        return f"{type(value).__name__}({', '.join(map(_short, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_short(part)}' for key, part in value.items())}}}"
    return repr(value)[:200]


# What arguments are tried with, and which of it is right.


def actions(kind: Kind, lead: tuple[int, ...]) -> st.SearchStrategy[Any]:
    right = (*lead, kind[1]) if kind[1] else lead
    near = arrays("float32" if kind[1] else "int64", right)
    return either(values, near, arrays(shape=right), near.map(lambda array: array.tolist()))


@st.composite
def frames(draw: st.DrawFn, lead: tuple[int, ...]) -> Any:
    """Frames that are right, or nearly so."""
    shape = draw(st.sampled_from(((64, 64, 3),) * 6 + ((3, 64, 64), (64, 64), (64, 64, 4), (32, 32, 3))))
    length = draw(st.sampled_from((*([()] * len(lead)), (0,), (1,), (2,), (3,), (TRAINED + 1,))))
    batch = draw(st.sampled_from((lead, lead, lead, (), (1, *lead), (3,))))
    dtype = draw(st.sampled_from(("uint8",) * 6 + ("float32", "int64", "bool", ">u2", "object")))
    array = np.zeros((*batch, *length, *shape), dtype)
    form = draw(st.sampled_from(("plain", "plain", "flipped", "fortran", "read-only", "tensor", "list")))
    if form == "tensor" and array.dtype == np.uint8:
        return torch.from_numpy(array)
    if form == "list":
        return array[..., :2, :2, :].tolist()
    if form == "flipped":
        return array[..., ::-1, :]
    return np.asfortranarray(array) if form == "fortran" else array


def length_of(obs: Any, lead: tuple[int, ...]) -> int:
    """T of frames (*lead, T, H, W, C); 0 if these are none."""
    shape = tuple(getattr(obs, "shape", ()))
    length = shape[len(lead)] if len(shape) == len(lead) + 4 else 0
    return length if are_frames(obs, (*lead, length)) else 0


@st.composite
def contexts(draw: st.DrawFn, kind: Kind) -> Any:
    """A context, mostly a wrong one."""
    form = draw(st.sampled_from(("junk", "obs", "act", "both", "three")))
    if form == "junk":
        return draw(values)
    length = draw(st.integers(1, 3))
    obs: Any = np.zeros((length, 64, 64, 3), np.uint8)
    act: Any = np.zeros((length, kind[1]), np.float32) if kind[1] else np.zeros(length, np.int64)
    if form in ("obs", "both"):
        obs = draw(either(frames(()), values))
    if form in ("act", "both"):
        act = draw(actions(kind, (length,)))
    pair = (obs, act, act)[: 3 if form == "three" else 2]
    return draw(st.sampled_from((tuple, list)))(pair)


def is_context(value: Any, kind: Kind, allow_long: bool) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    length = length_of(value[0], ())
    act = as_numbers(value[1])
    if not 1 <= length <= (length if allow_long else TRAINED) or act is None or act.shape[:1] != (length,):
        return False
    shape_fits = act.shape[1:] == ((kind[1],) if kind[1] else ())
    return shape_fits and are_actions(act[1:], (length - 1,), kind[0], kind[1])


def is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


WORLD_OPTIONS: Final = ("context", "start", "allow_long_context")


def world_options(kind: Kind) -> st.SearchStrategy[Any]:
    parts = {
        "context": contexts(kind),
        "start": either(values, integers, st.just("nothing")),
        "allow_long_context": scalars,
    }
    one = either(*(st.fixed_dictionaries({name: part}) for name, part in parts.items()))
    several = st.fixed_dictionaries({}, optional=parts)
    return either(values, one, one, several, st.dictionaries(texts | integers, scalars))


def are_world_options(options: Any, kind: Kind) -> bool:
    if options is None:
        return True
    if not isinstance(options, dict) or not options.keys() <= set(WORLD_OPTIONS):
        return False
    context, start, allow = (options.get(name) for name in WORLD_OPTIONS)
    if not (allow is None or is_flag(allow)) or (context is not None and start is not None):
        return False
    if context is not None:
        return is_context(context, kind, allow is not None and bool(allow))
    return start is None or (isinstance(start, str) and start == "nothing") or is_integer(start, 0, kind[2] - 1)


def option_names(options: Any) -> tuple[str, ...]:
    """What a refusal has to name: the option, where there is one; else that, or `options`."""
    dicts = [each for each in (options if isinstance(options, list | tuple) else [options]) if isinstance(each, dict)]
    known = [name for name in (*WORLD_OPTIONS, "reset_mask") if any(name in each for each in dicts)]
    return tuple(known) if isinstance(options, dict) and len(options) == len(known) == 1 else ("options", *known)


def is_seed(value: Any) -> bool:
    return value is None or is_integer(value, 0)


def items_of(value: Any) -> list[Any] | None:
    """What is in a sequence; None if it is none."""
    if isinstance(value, torch.Tensor):
        value = as_numbers(value)
    if isinstance(value, np.ndarray):
        return value.tolist() if value.ndim == 1 else None
    return list(value) if isinstance(value, list | tuple | range) else None


def each(value: Any, count: int, legal: Callable[[Any], bool]) -> bool:
    items = items_of(value)
    return items is not None and len(items) == count and all(map(legal, items))


PATHS: Final = ("", ".", "/", "\0", "\ud800", "a" * 5000, "missing/x", "here.safetensors", Path(""), Path("x"), b"x", 0)
paths = st.sampled_from(PATHS) | scalars.filter(lambda value: not isinstance(value, str | Path))


def names_of(path: Any, *names: str) -> tuple[str, ...]:
    """These names; and a path itself, with what follows if it is so short that it may stand anywhere."""
    if not isinstance(path, str | Path) or not str(path):
        return names
    return (*names, str(path) if len(str(path)) > 2 else f"{path} is ")


def is_new_file(path: Any) -> bool:
    return path is None or (isinstance(path, str | Path) and str(path) in ("here.safetensors", "x"))


def tampered(state: CoreState, other: CoreState, junk: Any) -> list[tuple[str, Any, bool]]:
    """States, what they are, and whether they fit where `state` was saved."""
    memory = state.memory
    fewer = state[[0]] if memory.batch_size > 1 else replace(state, memory=memory.repeat_interleave(2))
    return [
        ("as it was", state, True),
        ("without keys", replace(state, keys=None), True),
        ("of another simulator", other, False),
        ("of another number of worlds", fewer, False),
        ("keys as floats", replace(state, keys=other.keys.float()), False),
        ("five keys", replace(state, keys=torch.zeros(5, dtype=torch.long)), False),
        (f"keys {junk!r}", replace(state, keys=junk), junk is None),
        (f"weights_sha256 {junk!r}", replace(state, weights_sha256=junk), False),
        (f"memory {junk!r}", replace(state, memory=junk), False),
        ("latents as doubles", replace(state, memory=replace(memory, latents=memory.latents.double())), False),
        ("kv of one more layer", replace(state, memory=replace(memory, kv=(*memory.kv, memory.age))), False),
        (f"age {junk!r}", replace(state, memory=replace(memory, age=junk)), False),
        (f"ssm {junk!r}", replace(state, memory=replace(memory, ssm=junk)), False),
        ("a memory", memory, False),
    ]


# The faces, each with its calls.


class Face(ABC):
    """A face of a simulator, brought to one moment again and again, and asked for its future.

    Args:
        simulator: What is simulated.
        kind: Its actions and starts.
        other: A simulator with other weights.
    """

    changing: tuple[str, ...] = ("reset", "step", "observe", "load_state")

    def __init__(self, simulator: Simulator, kind: Kind, other: Simulator) -> None:
        self.simulator = simulator
        self.kind = kind
        self.env = self.make()
        self.begin()
        self.state: CoreState = self.core().save_state()
        core = SimulatorCore(other, len(self.state.keys))
        core.reset(range(core.num_envs), [1] * core.num_envs)
        self.other = core.save_state()
        self.expected = self.future()  # of a twin that was never called otherwise

    @abstractmethod
    def make(self) -> Any: ...

    def core(self) -> SimulatorCore:
        return self.env.core

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def next(self) -> Any:
        """What one more step gives."""

    @abstractmethod
    def again(self) -> Any:
        """What the next reset gives."""

    @abstractmethod
    def calls(self) -> st.SearchStrategy[Call]: ...

    def call(self, call: Call) -> Any:
        return getattr(self.env, call.method)(**call.arguments)

    def future(self) -> list[Any]:
        """Five frames, the next reset, and a frame after it."""
        return [*(self.next() for _ in range(5)), self.again(), self.next()]

    def action(self, lead: tuple[int, ...]) -> Any:
        return np.full((*lead, self.kind[1]), 0.5, np.float32) if self.kind[1] else np.ones(lead, np.int64)

    def observed(self, lead: tuple[int, ...], obs_name: str, act_name: str) -> st.SearchStrategy[Call]:
        """Calls of `observe`, with one wrong argument or two."""

        def call(obs: Any, act: Any) -> Call:
            length = length_of(obs, lead)
            legal = bool(length) and are_actions(act, (*lead, length), *self.kind[:2])
            wrong_act = not any(are_actions(act, (*lead, n), *self.kind[:2]) for n in (2, length))
            names = ((obs_name,) if not length else ()) + ((act_name,) if length or wrong_act else ())
            return Call("observe", {obs_name: obs, act_name: act}, names, legal)

        right = np.zeros((*lead, 2, 64, 64, 3), np.uint8)
        acts = actions(self.kind, (*lead, 2))
        return either(
            st.builds(call, either(frames(lead), values), st.just(self.action((*lead, 2)))),
            acts.map(lambda act: call(right, act)),
            st.builds(call, frames(lead), acts),
        )

    def forked(self) -> st.SearchStrategy[Call]:
        def call(n: Any) -> Call:
            return Call("fork", {"n": n}, ("n=", "n is"), is_integer(n, 1, 12), changes=False)

        return either(integers, values).map(call)

    def saved(self) -> st.SearchStrategy[Call]:
        return scalars.map(
            lambda value: Call("save_state", {"include_rng": value}, ("include_rng",), is_flag(value), changes=False)
        )

    def loaded(self) -> st.SearchStrategy[Call]:
        """Calls of `load_state` with states, and with anything else."""

        def call(junk: Any, number: int) -> Call:
            note, state, legal = tampered(self.state, self.other, junk)[number]
            return Call("load_state", {"state": state}, ("state",), legal, note=note)

        numbers = st.integers(0, len(tampered(self.state, self.other, None)) - 1)
        none = values.map(lambda junk: Call("load_state", {"state": junk}, names_of(junk, "state"), False))
        return either(st.builds(call, scalars, numbers), none)


class One(Face):
    """`LSSVWMEnv`."""

    def make(self) -> LSSVWMEnv:
        return LSSVWMEnv(self.simulator)

    def begin(self) -> None:
        self.env.reset(seed=7)
        self.env.step(self.action(()))

    def next(self) -> Any:
        return self.env.step(self.action(()))

    def again(self) -> Any:
        return self.env.reset()

    def calls(self) -> st.SearchStrategy[Call]:
        kind = self.kind

        def options(given: Any) -> Call:
            return Call("reset", {"seed": 3, "options": given}, option_names(given), are_world_options(given, kind))

        def save(path: Any, include_rng: Any) -> Call:
            legal = is_new_file(path) and is_flag(include_rng)
            names = names_of(path, "path") if is_flag(include_rng) else ("include_rng",)
            return Call("save_state", {"path": path, "include_rng": include_rng}, names, legal, changes=False)

        return either(
            values.map(lambda seed: Call("reset", {"seed": seed}, ("seed",), is_seed(seed))),
            world_options(kind).map(options),
            actions(kind, ()).map(lambda a: Call("step", {"action": a}, ("action",), are_actions(a, (), *kind[:2]))),
            self.observed((), "obs", "act"),
            self.forked(),
            st.builds(save, paths, st.just(True)),
            st.builds(save, st.none(), scalars),
            self.loaded(),
            paths.map(lambda path: Call("load_state", {"state": path}, names_of(path, "state", "path"), False)),
        )


class Many(Face):
    """`LSSVWMVectorEnv`."""

    def make(self) -> Any:
        return LSSVWMVectorEnv(self.simulator, B)

    def begin(self) -> None:
        self.env.reset(seed=7)
        self.env.step(self.action((B,)))

    def next(self) -> Any:
        return self.env.step(self.action((B,)))

    def again(self) -> Any:
        return self.env.reset()

    def seeds(self) -> st.SearchStrategy[Call]:
        several = st.lists(integers | st.none() | scalars, min_size=B, max_size=B)
        return either(values, several, several.map(tuple)).map(
            lambda seed: Call("reset", {"seed": seed}, ("seed",), is_seed(seed) or each(seed, B, is_seed))
        )

    def options(self) -> st.SearchStrategy[Call]:
        kind = self.kind
        mask = either(arrays("bool", (B,)), arrays(shape=(B,)), values)
        masked = st.builds(lambda mask, rest: {**rest, "reset_mask": mask}, mask, st.just({}) | st.just({"start": 0}))
        several = st.lists(world_options(kind), min_size=B, max_size=B)

        def is_mask(value: Any) -> bool:
            return value is None or (
                isinstance(value, np.ndarray) and value.dtype == bool and value.shape == (B,) and bool(value.any())
            )

        def legal(given: Any) -> bool:
            if isinstance(given, dict):
                rest = {key: value for key, value in given.items() if key != "reset_mask"}
                return is_mask(given.get("reset_mask")) and are_world_options(rest, kind)
            return given is None or each(given, B, lambda options: are_world_options(options, kind))

        def call(given: Any) -> Call:
            return Call("reset", {"seed": 3, "options": given}, option_names(given), legal(given))

        return either(world_options(kind), masked, several, several.map(tuple), st.lists(masked, max_size=3)).map(call)

    def acted(self) -> st.SearchStrategy[Call]:
        def call(given: Any) -> Call:
            return Call("step", {"actions": given}, ("actions",), are_actions(given, (B,), *self.kind[:2]))

        return actions(self.kind, (B,)).map(call)

    def calls(self) -> st.SearchStrategy[Call]:
        return either(
            self.seeds(),
            self.options(),
            self.acted(),
            self.observed((B,), "obs", "actions"),
            self.loaded(),
            self.saved(),
        )


class Baselines(Many):
    """`LSSVWMVecEnv`, whose `reset` takes what `seed` and `set_options` were given."""

    def make(self) -> LSSVWMVecEnv:
        return LSSVWMVecEnv(self.simulator, B)

    def core(self) -> SimulatorCore:
        return self.env.env.core

    def begin(self) -> None:
        self.env.seed(7)
        self.env.reset()
        self.env.step(self.action((B,)))

    def call(self, call: Call) -> Any:
        if call.method != "reset":
            return super().call(call)
        if "options" in call.arguments:
            self.env.set_options(call.arguments["options"])
        self.env.seed(call.arguments["seed"])
        return self.env.reset()

    def calls(self) -> st.SearchStrategy[Call]:
        seeds = values.map(lambda seed: Call("reset", {"seed": seed}, ("seed",), is_seed(seed)))
        return either(seeds, self.options(), self.acted())


class Core(Face):
    """`SimulatorCore`."""

    def make(self) -> SimulatorCore:
        return SimulatorCore(self.simulator, B)

    def core(self) -> SimulatorCore:
        return self.env

    def begin(self) -> None:
        self.env.reset(range(B), [7, 8])
        self.env.step(self.action((B,)))

    def next(self) -> Any:
        return self.env.step(self.action((B,)))

    def again(self) -> Any:
        return self.env.reset(range(B), [9, 10])

    def resets(self) -> st.SearchStrategy[Call]:
        kind = self.kind

        def call(name: str, value: Any) -> Call:
            arguments = {"ids": [1, 0], "seeds": [3, 4], name: value}
            return Call("reset", arguments, ("context",) if name == "contexts" else (name,), legal(name, value))

        def legal(name: str, value: Any) -> bool:
            match name:
                case "ids":
                    items = items_of(value)
                    return each(value, B, lambda i: is_integer(i, 0, B - 1)) and len(set(items or ())) == B
                case "seeds":
                    return each(value, B, lambda seed: is_integer(seed, -(2**63), 2**63 - 1))
                case "contexts":
                    return value is None or each(value, B, lambda c: c is None or is_context(c, kind, False))
            return is_flag(value) or each(value, B, is_flag)

        pairs = st.lists(either(contexts(kind), st.none()), min_size=B, max_size=B)
        listed = st.lists(either(integers, st.floats(width=16), st.booleans()), min_size=B, max_size=B)
        numbers = either(listed, arrays(shape=(B,)), arrays("int64", (B,)))
        flags = st.lists(scalars, min_size=B, max_size=B)
        return either(
            st.builds(call, st.just("ids"), either(values, numbers)),
            st.builds(call, st.just("seeds"), either(values, numbers)),
            st.builds(call, st.just("contexts"), either(values, pairs)),
            st.builds(call, st.just("allow_long_context"), either(values, flags)),
        )

    def observed(self, lead: tuple[int, ...], obs_name: str, act_name: str) -> st.SearchStrategy[Call]:
        def ids(value: Any) -> Call:
            items = items_of(value)
            legal = value is None or (each(value, B, lambda i: is_integer(i, 0, B - 1)) and len(set(items or ())) == B)
            arguments = {"obs": np.zeros((B, 2, 64, 64, 3), np.uint8), "act": self.action((B, 2)), "ids": value}
            # Other numbers of right worlds leave it to `obs` not to fit.
            fewer = items is not None and 0 < len(items) != B
            return Call("observe", arguments, ("ids", "obs") if fewer else ("ids",), legal)

        observed = super().observed(lead, obs_name, act_name)
        return either(observed, observed, either(values, st.lists(scalars, max_size=3)).map(ids))

    def calls(self) -> st.SearchStrategy[Call]:
        kind = self.kind

        def start(seed: Any) -> Call:
            return Call("start", {"seed": seed}, ("seed",), is_integer(seed, -(2**63), 2**63 - 1), changes=False)

        def initial(count: Any) -> Call:
            legal = is_integer(count, 1, 12)
            return Call("initial_memory", {"num_worlds": count}, ("num_worlds",), legal, changes=False)

        return either(
            self.resets(),
            actions(kind, (B,)).map(lambda a: Call("step", {"act": a}, ("act",), are_actions(a, (B,), *kind[:2]))),
            self.observed((B,), "obs", "act"),
            self.forked(),
            self.loaded(),
            (integers | scalars).map(start),
            (integers | scalars).map(initial),
            self.saved(),
        )


FACES: Final[dict[str, type[Face]]] = {"env": One, "vector env": Many, "sb3 vec env": Baselines, "core": Core}


@pytest.fixture(scope="module", params=[(face, kind) for face in FACES for kind in KINDS], ids="-".join)
def face(request: pytest.FixtureRequest, toy_simulator: Simulator, toy_box_simulator: Simulator) -> Face:
    name, kind = request.param
    toys = {"discrete": toy_simulator, "box": toy_box_simulator}
    (other,) = (toy for key, toy in toys.items() if key != kind)
    return FACES[name](toys[kind], KINDS[kind], other)


@pytest.fixture(autouse=True, scope="module")
def somewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Files are written here and nowhere else."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("fuzz"))
    yield
    os.chdir(before)


def test_malformed_calls_are_refused_by_name_and_change_nothing(face: Face, tally: Tally) -> None:
    @fuzzed(2)
    @given(st.lists(face.calls(), min_size=FEWEST, max_size=3 * FEWEST))
    def obeys(calls: Sequence[Call]) -> None:
        try:
            face.begin()
            for call in calls:
                if attempt(tally, lambda call=call: face.call(call), call.names, call.legal) and call.changes:
                    face.begin()
            assert same(face.future(), face.expected), "a refused call has changed what comes next"
        except BaseException:
            face.env = face.make()
            raise

    obeys()


def constructors() -> st.SearchStrategy[tuple[str, str, Any]]:
    """A face, an argument of it, and a value."""
    names = ("", "x", ".", "a" * 5000, "\0", "LSSVWM/", "\ud800", "owner/name", "/", "..", Path("x"), b"x")
    tried = {
        "simulator": either(st.sampled_from(names), values),
        "num_envs": either(integers, values),
        "denoising_steps": either(integers, values),
        "device": either(texts, values, st.sampled_from((torch.device("meta"), "cpu:0", "CPU", "auto"))),
        "uncertainty_samples": either(integers, values),
        "bf16": values,
        "render_mode": either(texts, values, st.sampled_from(("rgb_array", "ansi"))),
        "observation": either(texts, values, st.sampled_from(("frames", "both", "FRAMES"))),
        "max_episode_steps": either(integers, values),
        "autoreset_mode": either(values, st.sampled_from((AutoresetMode.DISABLED, "NextStep", "DISABLED"))),
        "to_numpy": values,
        "unknown": values,
    }
    shared = ("simulator", "denoising_steps", "device", "uncertainty_samples", "bf16", "unknown")
    seen = ("render_mode", "observation")
    several = ("num_envs", "max_episode_steps")
    of_face = {
        "env": (*shared, *seen),
        "vector env": (*shared, *seen, *several, "autoreset_mode", "to_numpy"),
        "sb3 vec env": (*shared, *seen, *several),
        "core": (*(name for name in shared if name != "simulator"), "num_envs"),
    }
    pairs = [(face, name) for face, names in of_face.items() for name in names]
    return st.sampled_from(pairs).flatmap(lambda pair: tried[pair[1]].map(lambda value: (*pair, value)))


def may_be_made_with(name: str, value: Any) -> bool:
    match name:
        case "num_envs":
            return is_integer(value, 1, 12)
        case "denoising_steps" | "max_episode_steps":
            return value is None or is_integer(value, 1, 1024 if name == "denoising_steps" else 2**63 - 1)
        case "uncertainty_samples":
            return is_integer(value, 0, 2**16) and value != 1
        case "bf16" | "to_numpy":
            return is_flag(value)
        case "device":
            return str(value) in ("cpu", "cpu:0", "auto") and isinstance(value, str | torch.device)
        case "render_mode":
            return value is None or (isinstance(value, str) and value in ("rgb_array", "human"))
        case "observation":
            return isinstance(value, str) and value in ("frames", "features", "both")
        case "autoreset_mode":
            return isinstance(value, AutoresetMode) or (
                isinstance(value, str) and value in {m.value for m in AutoresetMode}
            )
    return False


def test_malformed_arguments_of_constructors_are_refused_by_name(toy_simulator: Simulator, tally: Tally) -> None:
    made = {"env": LSSVWMEnv, "vector env": LSSVWMVectorEnv, "sb3 vec env": LSSVWMVecEnv, "core": SimulatorCore}

    @fuzzed(40)
    @given(constructors())
    def obeys(case: tuple[str, str, Any]) -> None:
        face, name, value = case
        arguments = {"simulator": toy_simulator, **({"num_envs": 1} if face == "core" else {}), name: value}
        names = names_of(value, name) if name == "simulator" else (name,)
        attempt(tally, lambda: made[face](**arguments), names, may_be_made_with(name, value))

    obeys()


def test_every_kind_of_junk_is_itself() -> None:
    """The oracle knows bools, texts and objects from numbers."""
    assert not any(is_integer(value) for value in (True, np.True_, 1.0, "1", None, Nothing()))
    assert all(is_integer(value) for value in (1, np.int64(1), *HUGE))
    assert are_actions(np.int64(6), (), 7) and not are_actions(np.int64(7), (), 7)
    assert not are_actions([0, True], (2,), 7) and not are_actions([0.0, 1.0], (2,), 7)
    assert are_actions([[0.5, 1]], (1,), 0, 2) and not are_actions([[0.5, np.nan]], (1,), 0, 2)
