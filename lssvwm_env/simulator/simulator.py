"""The checkpoint is the simulator: a folder with a trained world model and all that is needed to step in it.

| file                | content                                                                               |
|---------------------|---------------------------------------------------------------------------------------|
| `config.json`       | `SimulatorConfig`, and the SHA-256 of the weights and of the starts                   |
| `model.safetensors` | the weights of the `WorldModel`                                                       |
| `starts.npz`        | real contexts that dreams begin from: `obs` (S, T, H, W, C) and `act` (S, T) or (S, T, A) |
| `CARD.md`           | how it was trained and how faithful it is, for people                                 |

Nothing in it is pickled, and whatever does not fit is refused with what differs.
"""

from __future__ import annotations

import copy
import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import gymnasium as gym
import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_env.simulator import hub
from lssvwm_env.simulator.folder import (
    CARD,
    CONFIG,
    CURVES,
    FORMAT,
    STARTS,
    VERSION,
    WEIGHTS,
    SimulatorError,
    read_config,
    read_file,
    read_header,
)
from lssvwm_env.simulator.registry import NAMESPACE, SIMULATORS
from lssvwm_env.utils.json_types import ActionSpace, space_from_json
from lssvwm_env.utils.provenance import package_versions
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import WorldModelConfig
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.utils.checks import check_fields, shown
from lssvwm_models.utils.files import new_folder, write_bytes
from lssvwm_models.utils.json_files import from_json, write_json
from lssvwm_models.utils.npz_files import ArrayHeader, npz_array, npz_headers
from lssvwm_models.utils.tensor_files import NoLargerThan, tensor_bytes

MOST_DENOISING_STEPS: Final = 1024
MOST_START_BYTES: Final = 2**30  # of frames, unpacked


@dataclass(frozen=True)
class SimulatorConfig:
    """What a simulator is: the content of `config.json`.

    Attributes:
        env_id: Gymnasium id of the real environment it was trained on.
        model: What the world model is made of.
        observation_space: Of the environment, as in a dataset's `dataset.json`, e.g.
            `{"type": "Box", "low": 0, "high": 255, "shape": [64, 64, 3], "dtype": "uint8"}`.
        action_space: Likewise, e.g. `{"type": "Discrete", "n": 7}`.
        trained_length: Frames in the longest sequence it was trained on; longer contexts are unknown ground.
        horizon: Most steps in an episode.
        denoising_steps: Network passes per frame, >= 1, unless the user asks otherwise.
        data_hash: `EpisodeDataset.hash()` of the training data.
        env_kwargs: Keyword arguments that the real environment was made with.
        preprocessing: What was done to its frames, in words.
        versions: Versions of the packages it was made with.
    """

    env_id: str
    model: WorldModelConfig
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    trained_length: int
    horizon: int
    denoising_steps: int
    data_hash: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    preprocessing: str = "none"
    versions: dict[str, str] = field(default_factory=package_versions)

    def __post_init__(self) -> None:
        check_fields(self, trained_length=1, horizon=1, denoising_steps=(1, MOST_DENOISING_STEPS))


class Checksums(NamedTuple):
    """The SHA-256 of the files beside a `config.json`, in hexadecimal; older ones do not name that of the starts."""

    weights: str
    starts: str | None


@dataclass(frozen=True)
class Starts:
    """S real contexts of T frames; frame 0 of each is the first of an episode, or counts as one.

    Attributes:
        obs: uint8 (S, T, H, W, C).
        act: int64 (S, T) or float32 (S, T, A), the action that led to each frame; the first is ignored.
    """

    obs: NDArray[np.uint8]
    act: NDArray[np.int64] | NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_size(*self.headers)

    @property
    def headers(self) -> tuple[ArrayHeader, ArrayHeader]:
        """What `obs` and `act` are, without their content."""
        return ArrayHeader(self.obs.dtype, self.obs.shape), ArrayHeader(self.act.dtype, self.act.shape)

    def __len__(self) -> int:
        """S."""
        return len(self.obs)


@dataclass(frozen=True, eq=False)
class Simulator:
    """A trained world model with the spaces and the real contexts that make it an environment.

    Attributes:
        model: A copy of the given model, on the CPU, in eval mode and without gradients: training may go on.
        config: What it is.
        starts: Where dreams begin.
        folder: Where it was loaded from; None for one that was made in memory.

    Raises:
        SimulatorError: If the three do not fit together.
    """

    model: WorldModel
    config: SimulatorConfig
    starts: Starts
    folder: Path | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        try:
            _check(self)
        except ValueError as error:
            raise SimulatorError(f"model, config and starts do not fit together: {error}") from error
        object.__setattr__(self, "model", copy.deepcopy(self.model).cpu().eval().requires_grad_(False))

    @property
    def observation_space(self) -> gym.spaces.Box:
        """A new space of the frames, uint8 (H, W, C)."""
        return gym.spaces.Box(0, 255, _frame_shape(self.config.model), np.uint8)

    @property
    def action_space(self) -> ActionSpace:
        """A new space of the actions, integers or vectors."""
        return space_from_json(self.config.action_space, "action_space")

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of `model.safetensors`, in hexadecimal."""
        return _sha256(self._weights())

    def save(self, folder: str | Path, card: str) -> None:
        """Write the simulator's folder, whole or not at all.

        Args:
            folder: A folder to make, or an older simulator to replace.
            card: The text of `CARD.md`.

        Raises:
            SimulatorError: If `folder` is there already, and is neither a simulator nor empty.
        """
        folder = Path(folder).resolve()
        if folder.exists() and not _may_replace(folder):
            raise SimulatorError(f"{folder} is not a simulator folder and will not be overwritten; choose another name")
        starts = io.BytesIO()
        np.savez_compressed(starts, **vars(self.starts))
        sums = {"weights_sha256": self.weights_sha256, "starts_sha256": _sha256(starts.getvalue())}
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as new:
            write_json(new / CONFIG, {"format": FORMAT, "version": VERSION, **sums, **asdict(self.config)})
            write_bytes(new / WEIGHTS, self._weights())
            write_bytes(new / STARTS, starts.getvalue())
            write_bytes(new / CARD, card.encode())

    @staticmethod
    def load(path_or_id: str | Path) -> Simulator:
        """Read a simulator.

        Args:
            path_or_id: Its folder; or the id or name of a registered one, such as "LSSVWM/ObjectRooms-v0" or
                "ObjectRooms-v0". `lssvwm_env.SIMULATORS` has them all.

        Raises:
            SimulatorError: If there is none, or it is damaged or of another version.
        """
        return _load(_find(path_or_id))

    @staticmethod
    def from_pretrained(repo_id_or_path: str | Path, revision: str | None = None) -> Simulator:
        """Read a simulator from the Hugging Face Hub; what is in its cache is not downloaded again.

        Only the files of a simulator are fetched. None of them can run code.

        Args:
            repo_id_or_path: A repository, "owner/name"; or a folder, which is loaded as it is.
            revision: A branch, tag or commit of the repository.

        Raises:
            DependencyNotInstalled: If it is no folder and huggingface_hub is not installed.
            SimulatorError: If there is none, or it is damaged or of another version.
        """
        folder = Path(repo_id_or_path)
        return _load(folder if folder.is_dir() else hub.fetch(str(repo_id_or_path), revision))

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, commit_message: str = "Upload a simulator of lssvwm-env"
    ) -> str:
        """Share this simulator, with the card and the curves in its folder, on the Hugging Face Hub.

        Log in first: `hf auth login`, or the environment variable `HF_TOKEN`.

        Args:
            repo_id: The repository, "owner/name"; made if there is none, else a commit is added to it.
            private: Whether a new repository can be seen by its owner only.
            commit_message: The first line of the commit.

        Returns:
            The address of the repository.

        Raises:
            DependencyNotInstalled: Without huggingface_hub.
            SimulatorError: If this simulator was not loaded from a folder.
            OSError: If the Hub cannot be reached, or refuses.
        """
        if self.folder is None:
            raise SimulatorError(
                "this simulator was never on disk, so it has no card; push Simulator.load(folder) instead"
            )
        hub.require()
        with TemporaryDirectory() as temporary:
            staged = Path(temporary) / "simulator"
            self.save(staged, hub.readme(self.folder, self.config.env_id))
            if (self.folder / CURVES).is_file():
                shutil.copyfile(self.folder / CURVES, staged / CURVES)
            return hub.push(staged, repo_id, private, commit_message)

    def _weights(self) -> bytes:
        return tensor_bytes(self.model.state_dict())


def open_simulator(simulator: str | Path | Simulator) -> Simulator:
    """A simulator as it is, or loaded by `Simulator.load`."""
    return simulator if isinstance(simulator, Simulator) else Simulator.load(simulator)


def tensor_differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], most: int = 8) -> str:
    """Say line by line how the names, shapes and dtypes of tensors differ; an empty string if they do not."""

    def describe(tensors: Mapping[str, Tensor], name: str) -> str:
        return f"{tensors[name].dtype} {tuple(tensors[name].shape)}" if name in tensors else "nothing"

    pairs = ((name, describe(found, name), describe(wanted, name)) for name in sorted(found.keys() | wanted.keys()))
    lines = [f"  {name}: found {have}, expected {want}" for name, have, want in pairs if have != want]
    return "\n".join(lines[:most] + ([f"  and {len(lines) - most} more"] if len(lines) > most else []))


def _find(path_or_id: str | Path) -> Path:
    if not isinstance(path_or_id, str | Path):
        raise SimulatorError(f"simulator is {shown(path_or_id)}; expected a folder, or the id or name of a simulator")
    name = str(path_or_id)
    if name in SIMULATORS:  # before folders: an id means the same simulator wherever it is used
        return SIMULATORS[name].folder
    if Path(name).is_dir():
        return Path(name)
    if (env_id := f"{NAMESPACE}/{name}") in SIMULATORS:
        return SIMULATORS[env_id].folder
    names = ", ".join(SIMULATORS) or "none"
    raise SimulatorError(f"{name} is neither a folder nor a registered simulator; registered are: {names}")


def _load(folder: Path) -> Simulator:
    sums, config = read_simulator_config(folder / CONFIG)
    model = _read_model(folder / WEIGHTS, config.model, sums.weights)
    starts = _read_starts(folder / STARTS, config, sums.starts)
    try:
        simulator = Simulator(model, config, starts)
    except SimulatorError as error:
        raise SimulatorError(f"{folder} is damaged: {error}") from error
    object.__setattr__(simulator, "folder", folder.resolve())
    return simulator


def read_simulator_config(path: Path) -> tuple[Checksums, SimulatorConfig]:
    """Read a `config.json`: the checksums of the files beside it, and the rest.

    Raises:
        SimulatorError: If it is no simulator's, damaged, or of another version.
    """
    content = read_config(path)
    header = {key: content.pop(key, None) for key in ("format", "version", "weights_sha256", "starts_sha256")}
    try:
        sums = Checksums(
            from_json(str, header["weights_sha256"], "config.weights_sha256"),
            from_json(str | None, header["starts_sha256"], "config.starts_sha256"),
        )
        return sums, from_json(SimulatorConfig, content, "config")
    except ValueError as error:
        raise SimulatorError(f"{path} is damaged, or of another release: {error}") from error


def _read_model(path: Path, config: WorldModelConfig, sha256: str) -> WorldModel:
    data = _read_checked(path, sha256)
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise SimulatorError(f"{path} is not a safetensors file ({error})") from error
    try:
        # The weights drawn here are replaced: leave the global stream alone.
        with torch.random.fork_rng(devices=[]), NoLargerThan(tensors):
            model = WorldModel(config)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise SimulatorError(f"{path.with_name(CONFIG)} describes no world model: {error}") from error
    if differences := tensor_differences(tensors, model.state_dict()):
        raise SimulatorError(
            f"{path} does not fit the model that this release makes of {CONFIG}; "
            f"one of them was edited, or another release wrote both:\n{differences}"
        )
    model.load_state_dict(tensors)
    return model


def _read_checked(path: Path, sha256: str | None) -> bytes:
    data = read_file(path)
    if sha256 is not None and (found := _sha256(data)) != sha256:
        raise SimulatorError(f"{path} has SHA-256 {found}, but {CONFIG} names {sha256}: copy the simulator again")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_starts(path: Path, config: SimulatorConfig, sha256: str | None) -> Starts:
    _read_checked(path, sha256)
    try:
        headers = npz_headers(path)
        if headers.keys() != {"obs", "act"}:
            raise ValueError(f"it has the arrays {sorted(headers)}; expected obs and act")
        _check_size(headers["obs"], headers["act"])
        _check_starts(headers["obs"], headers["act"], config)
        return Starts(**{name: npz_array(path, name) for name in headers})
    except ValueError as error:
        raise SimulatorError(f"{path} is damaged, or another one's ({error}); copy the simulator again") from error


def _check(simulator: Simulator) -> None:
    """Raise a ValueError unless model, config and starts belong to one another."""
    config = simulator.config
    action = simulator.config.model.action
    if differences := list(_differences(asdict(config.model), asdict(simulator.model.config), "config.model")):
        raise ValueError("; ".join(differences))
    space = space_from_json(config.observation_space, "observation_space")
    if space != simulator.observation_space:
        raise ValueError(f"observation_space is {space}, but the model makes {simulator.observation_space}")
    if (spec := action_spec(simulator.action_space)) != action:
        raise ValueError(f"action_space is {simulator.action_space}, that is {spec}, but the model takes {action}")

    _check_starts(*simulator.starts.headers, config)
    action.check(torch.from_numpy(np.ascontiguousarray(simulator.starts.act)))


def _check_size(obs: ArrayHeader, act: ArrayHeader) -> None:
    if (size := obs.nbytes + act.nbytes) > MOST_START_BYTES:
        raise ValueError(
            f"starts.obs is {obs.dtype} {obs.shape} and starts.act {act.dtype} {act.shape}, {size:,} bytes in all; "
            f"expected at most {MOST_START_BYTES:,}: take fewer starts, or fewer frames of each"
        )


def _check_starts(obs: ArrayHeader, act: ArrayHeader, config: SimulatorConfig) -> None:
    """Raise a ValueError unless starts are of the shapes and types that a config asks for."""
    action = config.model.action
    frame = _frame_shape(config.model)
    if obs.dtype != np.uint8 or len(obs.shape) != 5 or obs.shape[2:] != frame or not obs.nbytes:
        sizes = ", ".join(map(str, ("S", "T", *frame)))
        raise ValueError(f"starts.obs is {obs.dtype} {obs.shape}; expected uint8 ({sizes}), none of them 0")
    if obs.shape[1] > config.trained_length:
        raise ValueError(f"starts.obs has {obs.shape[1]} frames each, but trained_length is {config.trained_length}")
    dtype = np.dtype(np.int64 if action.kind == "discrete" else np.float32)
    shape = obs.shape[:2] if action.kind == "discrete" else (*obs.shape[:2], action.size)
    if act.dtype != dtype or act.shape != shape:
        raise ValueError(f"starts.act is {act.dtype} {act.shape}; expected {dtype} {shape}")


def _differences(stated: Any, built: Any, name: str) -> Iterator[str]:
    if isinstance(stated, dict) and isinstance(built, dict):
        for key in stated:
            yield from _differences(stated[key], built[key], f"{name}.{key}")
    elif stated != built:
        yield f"{name} is {stated}, but the model was built with {built}"


def _frame_shape(model: WorldModelConfig) -> tuple[int, int, int]:
    return model.frame_size, model.frame_size, model.channels


def action_spec(space: ActionSpace) -> ActionSpec:
    """The actions of a space as a model sees them."""
    if isinstance(space, gym.spaces.Discrete):
        return ActionSpec("discrete", int(space.n))
    if space.dtype != np.float32 or len(space.shape) != 1:
        raise ValueError(f"action_space is {space}; expected Discrete, or Box of float32 vectors")
    return ActionSpec("box", space.shape[0])


def _may_replace(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        return not any(folder.iterdir()) or bool(read_header(folder / CONFIG))
    except SimulatorError:
        return False
