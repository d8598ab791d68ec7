"""Files: whatever happened to one, it is refused by its name, or read as what was written."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, get_type_hints

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lssvwm_agents.policies.actor_critic import ActorCritic, ActorCriticConfig
from lssvwm_env.datasets.check import CheckConfig, check
from lssvwm_env.datasets.videos import ImportVideosConfig, import_videos
from lssvwm_env.envs.core import CoreState
from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data import DatasetSpec, Episode, EpisodeDataset, write_shard, write_spec
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.utils.run_folder import RunFolder
from lssvwm_models.utils.training_loop import Schedule, TrainingLoop
from tests.fuzz.junk import HOSTILE, either
from tests.fuzz.laws import Tally, attempt, fuzzed, is_thorough, same

Read = Callable[[Path], Any]

# Ways to damage a file.


class Mutation:
    """A change of a file, with a name to be shown."""

    def __init__(self, name: str, apply: Callable[[Path], object]) -> None:
        self.name = name
        self.apply = apply

    def __repr__(self) -> str:
        return self.name[:300]


def of_bytes(name: str, change: Callable[[bytes], bytes]) -> Mutation:
    return Mutation(name, lambda path: path.write_bytes(change(path.read_bytes())))


def flip(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


@st.composite
def damages(draw: st.DrawFn, size: int) -> Mutation:
    """Damage to the bytes of a file, whatever they mean."""
    at = draw(st.integers(0, size - 1))
    if draw(st.booleans()):
        at = at * 7919 % size  # small numbers are drawn often: elsewhere, too
    match draw(
        st.sampled_from(("flip",) * 6 + ("cut", "insert", "remove", "zero", "append", "empty", "folder", "gone"))
    ):
        case "flip":
            bit = 8 * at + draw(st.integers(0, 7))
            return of_bytes(f"bit {bit} of {8 * size} flipped", lambda data: flip(data, bit))
        case "cut":
            return of_bytes(f"cut at {at} of {size}", lambda data: data[:at])
        case "insert":
            new = draw(st.binary(min_size=1, max_size=9) | st.just(b"0") | st.just(b"\n"))
            return of_bytes(f"{new!r} inserted at {at}", lambda data: data[:at] + new + data[at:])
        case "remove":
            count = draw(st.integers(1, 64))
            return of_bytes(f"{count} bytes removed at {at}", lambda data: data[:at] + data[at + count :])
        case "zero":
            count = draw(st.integers(1, 64))
            return of_bytes(f"zeros at {at}", lambda data: data[:at] + bytes(count) + data[at + count :])
        case "append":
            new = draw(st.binary(min_size=1, max_size=9)) * draw(st.sampled_from((1, 100_000)))
            return of_bytes(f"{len(new)} bytes appended", lambda data: data + new)
        case "empty":
            return of_bytes("emptied", lambda data: b"")
        case "folder":
            return Mutation("a folder", lambda path: (path.unlink(), path.mkdir()))
    return Mutation("gone", lambda path: path.unlink())


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 40),
        st.sampled_from((2**31, 2**63, 10**12 + 1, 10**30, 20_000, 4096)),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from((0.5, 1.0, 20.0, 1e30, 1e308, -0.0)),
        st.sampled_from(HOSTILE),
        st.text(max_size=4),
    ),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from(HOSTILE) | st.text(max_size=3), parts),
    max_leaves=4,
)
TOKENS: Final = (
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "1" * 5000,
    "[" * 100_000,
    "01",
    "'x'",
    "",
    "1.",
    "\\ud800",
)
MARK: Final = "<mark>"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value in a JSON document."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


@st.composite
def edits(draw: st.DrawFn, document: Any) -> tuple[str, str]:
    """Another JSON text, or none any more, and what was done."""
    document = json.loads(json.dumps(document))
    path = draw(st.sampled_from([place for place in places(document) if place]))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    kind = draw(st.sampled_from(("value",) * 6 + ("token", "removed", "added", "twice", "moved")))
    shown = f"{'.'.join(map(str, path))} {kind}"
    if kind == "value":
        holder[key] = draw(plain)
        return json.dumps(document), f"{shown}: {holder[key]!r}"
    if kind == "token":
        holder[key] = MARK
        token = draw(st.sampled_from(TOKENS))
        return json.dumps(document).replace(json.dumps(MARK), token), f"{shown}: {token[:20]}"
    if kind == "removed":
        del holder[key]
    elif kind == "moved":
        holder[key] = draw(st.sampled_from([place for place in map(partial(part_at, document), places(document))]))
    elif isinstance(holder, dict):
        value = draw(plain)
        holder[MARK] = value
        new = key if kind == "twice" else draw(st.text(min_size=1, max_size=3))
        return json.dumps(document).replace(json.dumps(MARK), json.dumps(new)), f"{shown}: {new!r}: {value!r}"
    else:
        holder.insert(key, draw(plain))
    return json.dumps(document), shown


def part_at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return json.loads(json.dumps(document))


def json_edits(data: bytes) -> st.SearchStrategy[Mutation]:
    def mutation(edit: tuple[str, str]) -> Mutation:
        return Mutation(edit[1], lambda path: path.write_bytes(edit[0].encode()))

    huge = Mutation("a gigabyte", lambda path: path.open("r+b").truncate(2**30))
    return edits(json.loads(data)).map(mutation) | st.just(huge)


def header_edits(data: bytes) -> st.SearchStrategy[Mutation]:
    """Changes of the JSON that a safetensors file begins with."""
    size = int.from_bytes(data[:8], "little")

    def mutation(edit: tuple[str, str]) -> Mutation:
        text = edit[0].encode()
        return of_bytes(f"header: {edit[1]}", lambda data: len(text).to_bytes(8, "little") + text + data[8 + size :])

    return edits(json.loads(data[8 : 8 + size])).map(mutation)


def array_edits(data: bytes) -> st.SearchStrategy[Mutation]:
    """Archives whose arrays are other than they should be, and say so."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)

    def packed(name: str, **changes: Callable[[], Any]) -> Mutation:
        def write(path: Path) -> None:
            changed = arrays | {key: change() for key, change in changes.items()}
            np.savez_compressed(path, allow_pickle=True, **{k: v for k, v in changed.items() if v is not None})

        return Mutation(name, write)

    extra = 10**9 if is_thorough() else 10**6
    each = [packed("one more array", extra=lambda: np.zeros(extra, np.uint8)), packed("as it was")]
    for key, array in arrays.items():
        others: dict[str, Callable[[], Any]] = {
            "gone": lambda: None,
            "as objects": lambda: np.array([{}], object),
            "as complex": lambda array=array: array.astype(complex),
            "as texts": lambda array=array: array.astype(str),
            "longer": lambda array=array: np.concatenate([array, array]),
            "none": lambda array=array: array[:0],
            "of no dimension": lambda array=array: array.flat[0],
            "deeper": lambda array=array: array[None],
        }
        spoilers = {"f": (np.nan, np.inf, 3e38), "i": (-5, 2**62)[: {"act": 2, "episode_seed": 1}.get(key, 0)]}
        for number in spoilers.get(array.dtype.kind, ()):
            others[f"of {number}"] = lambda array=array, number=number: np.full_like(array, number)
        each += [packed(f"{key} {name}", **{key: change}) for name, change in others.items()]
    return st.sampled_from(each)


# What files say.


def strict(data: bytes) -> Any:
    """What a JSON text says, where that is one thing.

    Raises:
        ValueError: If it says none.
    """

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(found)) < len(found):
            raise ValueError("twice")
        return dict(found)

    def constant(name: str) -> str:
        if name == "NaN":
            raise ValueError(name)
        return name.replace("Infinity", "inf")

    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise ValueError("deep") from None


def says(document: Any, value: Any, hint: Any = None) -> bool:
    """Whether a value is what a JSON document says; what it leaves out may be by default."""
    if is_dataclass(value):
        if not isinstance(document, dict):
            return False
        hints = get_type_hints(type(value))
        for field in fields(value):
            own = getattr(value, field.name)
            if field.name in document:
                if not says(document[field.name], own, hints[field.name]):
                    return False
            elif field.default is not MISSING:
                if own != field.default:
                    return False
            elif field.default_factory is MISSING:
                return False
        return document.keys() <= {field.name for field in fields(value)}
    if isinstance(value, tuple | list):
        return isinstance(document, list) and len(document) == len(value) and all(map(says, document, value))
    if isinstance(value, dict):
        return (
            isinstance(document, dict)
            and document.keys() == value.keys()
            and all(says(document[key], part) for key, part in value.items())
        )
    if hint is float and type(document) is int:
        return type(value) is float and value == document
    return type(document) is type(value) and document == value


@dataclass
class Target:
    """A file, and who reads it.

    Attributes:
        name: of this target.
        file: what is damaged.
        read: gives what was read, of its folder.
        other: the same file of something else.
        mutations: beside damages of its bytes.
        right: whether what was read is what the file says, where this need not be what was there before.
        names: that a refusal may give, beside the file and its folder.
    """

    name: str
    file: Path
    read: Read
    other: bytes | None = None
    mutations: Callable[[bytes], st.SearchStrategy[Mutation]] | None = None
    right: Callable[[Any, Any], bool] | None = None
    names: tuple[str, ...] = ()


def simulator_parts(folder: Path) -> dict[str, Any]:
    simulator = Simulator.load(folder)
    return {"config": simulator.config, "starts": vars(simulator.starts), "weights": dict(simulator.model.state_dict())}


def simulator_targets(folder: Path, toy: Simulator, other: Simulator) -> Iterator[Target]:
    toy.save(folder / "simulator", "")
    other.save(folder / "other", "")
    parts = simulator_parts(folder / "simulator")
    text = (folder / "simulator/config.json").read_bytes()
    header = json.loads(text).keys() - asdict(parts["config"]).keys()

    def config_right(data: bytes, read: dict[str, Any]) -> bool:
        document = strict(data)
        config = {key: value for key, value in document.items() if key not in header}
        heads = all(same(document[key], json.loads(text)[key]) for key in header & document.keys())
        rest = all(same(read[key], parts[key]) for key in ("starts", "weights"))
        return heads and rest and says({"versions": read["config"].versions, **config}, read["config"])

    edits_of = {"config.json": json_edits, "model.safetensors": header_edits, "starts.npz": array_edits}
    for name, mutations in edits_of.items():
        yield Target(
            f"simulator {name}",
            folder / "simulator" / name,
            lambda file: simulator_parts(file.parent),
            (folder / "other" / name).read_bytes(),
            mutations,
            config_right if name == "config.json" else None,
        )


def state_targets(folder: Path, toy: Simulator, other: Simulator) -> Iterator[Target]:
    for name, simulator in {"state": toy, "other": other}.items():
        env = LSSVWMEnv(simulator)
        env.reset(seed=1)
        env.save_state(folder / f"{name}.safetensors")
    env = LSSVWMEnv(toy)
    env.reset(seed=0)

    def load(file: Path) -> Any:
        env.load_state(file)
        state = env.save_state()
        return state.memory.tensors(), state.keys, state.weights_sha256

    def memory(file: Path) -> Any:
        return WorldModelState.load(file)[0].tensors()

    swapped = (folder / "other.safetensors").read_bytes()
    yield Target(
        "state by env.load_state", folder / "state.safetensors", load, swapped, header_edits, names=("state was",)
    )
    yield Target("state by WorldModelState.load", folder / "state.safetensors", memory, None, header_edits)
    CoreState.load(folder / "state.safetensors")[[0]].memory.compact(0.01).save(folder / "compact.safetensors")
    yield Target("compact state", folder / "compact.safetensors", memory, None, header_edits)


def policy_targets(folder: Path, toy: Simulator, other: Simulator) -> Iterator[Target]:
    for name, simulator in {"policy": toy, "other": other}.items():
        config = ActorCriticConfig(
            simulator.config.model.feature_dim, simulator.config.action_space, 8, 1, simulator.weights_sha256
        )
        ActorCritic(config).save(folder / f"{name}.safetensors")

    def load(file: Path) -> Any:
        policy = ActorCritic.load(file, toy)
        return asdict(policy.config), dict(policy.state_dict())

    swapped = (folder / "other.safetensors").read_bytes()
    yield Target("policy", folder / "policy.safetensors", load, swapped, header_edits)


class Loop(TrainingLoop):
    """A training that learns nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(RunFolder(folder, {"lr": 0.1, "sizes": (1, 2)}), Schedule("none", 9, 1, 1, 1))
        self.held: dict[str, Any] = {}

    def train_step(self) -> dict[str, float]:
        raise NotImplementedError

    def status(self, metrics: dict[str, float]) -> str:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        return self.held

    def load_state(self, state: dict[str, Any]) -> None:
        self.held = {name: state[name] for name in ("model", "optimizer", "rng", "done")}


def run_targets(folder: Path, toy: Simulator) -> Iterator[Target]:
    loop = Loop(folder)
    loop.step = 4
    loop.seconds = 2.5
    weights = dict(list(toy.model.state_dict().items())[:4])
    moments = {
        "state": {0: {"step": torch.tensor(4.0), "exp_avg": torch.ones(3)}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0]}],
    }
    loop.held = {"model": weights, "optimizer": moments, "rng": torch.arange(16, dtype=torch.uint8), "done": True}
    loop.checkpoint()
    for step in (2, 4):
        loop.folder.log(step, {"loss": 0.5 * step, "psnr": float("nan")})

    def resume(file: Path) -> Any:
        loop = Loop(file.parent)
        loop.resume()
        return loop.step, loop.seconds, loop.held, loop.folder.metrics()

    def metrics_right(data: bytes, read: Any) -> bool:
        lines = [strict(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
        kept = [{name: value for name, value in line.items() if value is not None} for line in lines]
        return says([line for line in kept if line["step"] <= 4], read[-1])

    def checkpoint_right(data: bytes | None, read: Any) -> bool:
        return data is None and same(read, (0, 0.0, {}, []))  # without a checkpoint, it begins anew

    yield Target("checkpoint of a training", folder / "checkpoint.pt", resume, right=checkpoint_right)
    yield Target("config of a run", folder / "config.json", resume, b'{"lr": 0.2}', json_edits)
    yield Target("metrics of a run", folder / "metrics.jsonl", resume, right=metrics_right)


def write_episodes(folder: Path, size: int, box: bool) -> None:
    """A dataset of two shards."""
    folder.mkdir()
    rng = np.random.default_rng(size)
    space = (
        {"type": "Box", "low": -1.0, "high": 1.0, "shape": [2], "dtype": "float32"}
        if box
        else {"type": "Discrete", "n": 3}
    )
    for shard in range(2):
        end = np.arange(20) == 19
        act = rng.random((20, 2), np.float32) if box else rng.integers(0, 3, 20)
        act[0] = 0
        rew = np.where(np.arange(20) > 0, act.reshape(20, -1).sum(1), 0).astype(np.float32)
        obs = rng.integers(0, 256, (20, size, size, 3), np.uint8)
        pose = np.zeros((20, 3), np.int32)
        write_shard(folder / f"shard-{shard:05d}.npz", [Episode(obs, act, rew, end, end & False, shard, pose)])
    frames = {"type": "Box", "low": 0, "high": 255, "shape": [size, size, 3], "dtype": "uint8"}
    names = [f"shard-{shard:05d}.npz" for shard in range(2)]
    write_spec(
        folder,
        DatasetSpec(
            "Toy-v0", {"size": 3}, frames, space, "none", "uniform", 0, "train", 20, 40, 20, "toy", True, names
        ),
    )


ARRAYS: Final = ("obs", "act", "rew", "terminated", "truncated", "is_first", "pose", "tiles", "episode_seed")


def dataset_targets(folder: Path) -> Iterator[Target]:
    write_episodes(folder / "dataset", 8, False)
    write_episodes(folder / "other", 16, True)
    of_shard: dict[str, dict[str, Any]] = {}
    for name in ("shard-00000.npz", "shard-00001.npz"):
        with np.load(folder / "dataset" / name) as archive:
            of_shard[name] = {"tiles": None, **archive}

    def load(file: Path) -> Any:
        dataset = EpisodeDataset(file.parent)
        return {"spec": dataset.spec, **{key: getattr(dataset, key) for key in ARRAYS}}

    def checked(file: Path) -> Any:
        with redirect_stdout(io.StringIO()):
            check(CheckConfig(file.parent))
        return load(file)

    def spec_right(data: bytes, read: dict[str, Any]) -> bool:
        document = strict(data)
        heads = document.pop("format"), document.pop("version")
        parts = [of_shard[name] for name in document["shards"]]
        wanted = {key: np.concatenate([part[key] for part in parts]) for key in ARRAYS if parts[0][key] is not None}
        arrays = all(same(read[key], array) for key, array in wanted.items())
        return same(heads, ("lssvwm-episodes", 1)) and arrays and says(document, read["spec"])

    for how, read in {"EpisodeDataset": load, "check": checked}.items():
        for name, mutations in {"dataset.json": json_edits, "shard-00001.npz": array_edits}.items():
            yield Target(
                f"{name} by {how}",
                folder / "dataset" / name,
                read,
                (folder / "other" / name).read_bytes(),
                mutations,
                spec_right if name == "dataset.json" else None,
            )


def video_targets(folder: Path) -> Iterator[Target]:
    (folder / "films").mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    iio.imwrite(folder / "films/film.gif", frames, duration=100, loop=0)
    np.save(folder / "films/film.npy", np.array([0, 1, 2, 0, 1, 2]))
    np.save(folder / "films/film.rewards.npy", np.array([0, 0, 0.5, 0, 0, 1], np.float32))

    def load(file: Path) -> Any:
        shutil.rmtree(folder / "imported", ignore_errors=True)
        with redirect_stdout(io.StringIO()):
            dataset = import_videos(ImportVideosConfig(file.parent, folder / "imported"))
        return {key: getattr(dataset, key) for key in ("obs", "act", "rew")}

    def as_given(key: str, data: bytes | None, read: dict[str, Any]) -> bool:
        if data is None:  # rewards may be left out
            return key == "rew" and not read[key].any()
        given = np.load(io.BytesIO(data), allow_pickle=False)
        return given.ndim == read[key].ndim and np.array_equal(given[-5:].astype(read[key].dtype), read[key][1:])

    yield Target(
        "video", folder / "films/film.gif", load, right=lambda _, read: len(read["obs"]) == 6
    )  # it has no checksum
    for name, key in {"film.npy": "act", "film.rewards.npy": "rew"}.items():
        yield Target(f"{key} of a video", folder / "films" / name, load, right=partial(as_given, key))


TARGETS: Final = (
    *(f"simulator {name}" for name in ("config.json", "model.safetensors", "starts.npz")),
    *("state by env.load_state", "state by WorldModelState.load", "compact state", "policy"),
    *("checkpoint of a training", "config of a run", "metrics of a run"),
    *(f"{name} by {how}" for how in ("EpisodeDataset", "check") for name in ("dataset.json", "shard-00001.npz")),
    *("video", "act of a video", "rew of a video"),
)


@pytest.fixture(scope="module")
def targets(
    tmp_path_factory: pytest.TempPathFactory, toy_simulator: Simulator, toy_box_simulator: Simulator
) -> dict[str, Target]:
    def folder() -> Path:
        return tmp_path_factory.mktemp("fuzz")

    toys = toy_simulator, toy_box_simulator
    found = [
        *simulator_targets(folder(), *toys),
        *state_targets(folder(), *toys),
        *policy_targets(folder(), *toys),
        *run_targets(folder(), toy_simulator),
        *dataset_targets(folder()),
        *video_targets(folder()),
    ]
    return {target.name: target for target in found}


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_refused_by_name_or_read_as_they_were(
    name: str, targets: dict[str, Target], tally: Tally
) -> None:
    target = targets[name]
    file = target.file
    data = file.read_bytes()
    before = target.read(file)
    snapshot = {path: path.read_bytes() for path in file.parent.iterdir() if path.is_file()}
    kinds = [damages(len(data))]
    if target.mutations is not None:
        kinds.append(target.mutations(data))
    if target.other is not None:
        kinds.append(st.just(of_bytes("swapped", lambda _: target.other)))

    def right(read: Any) -> bool:
        if same(read, before):
            return True
        try:
            now = file.read_bytes() if file.is_file() else None
            return target.right is not None and target.right(now, read)
        except (KeyError, ValueError):
            return False

    @fuzzed(8)
    @given(either(*kinds))
    def obeys(mutation: Mutation) -> None:
        mutation.apply(file)
        try:
            attempt(tally, lambda: target.read(file), (file.name, str(file.parent), *target.names), right)
        finally:
            if file.is_dir():
                shutil.rmtree(file)
            for path, content in snapshot.items():  # who reads a run folder also writes there
                path.write_bytes(content)

    obeys()
