"""Datasets from Minari and to Minari, the format of offline data beside Gymnasium.

Minari keeps T + 1 observations of an episode, and T actions, rewards and ends; here every one of T + 1 frames has the
action and the reward that led to it, and the first has none. Between the two nothing is lost.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lssvwm_env.real.contract import leaf
from lssvwm_env.real.flat_actions import FlatActions
from lssvwm_env.real.pixels import Framing, picture_space
from lssvwm_env.real.recorded import make_recorded, trusted_id
from lssvwm_env.utils.command import command
from lssvwm_env.utils.json_types import space_from_json, space_to_json
from lssvwm_env.utils.strangers import printable
from lssvwm_models.data import NO_SEED, DatasetOrigin, DatasetSpec, Episode, EpisodeDataset, write_dataset
from lssvwm_models.data.splits import Split
from lssvwm_models.utils.checks import check_fields, shown

ORIGIN: Final = "lssvwm_env"  # where an exported dataset says in its metadata what our own format knows beyond Minari
_ORIGINS: Final = ("env_id", "env_kwargs", "preprocessing", "policy", "seed", "split")


@dataclass(frozen=True)
class ImportMinariConfig:
    """What to import, and how.

    Attributes:
        dataset_id: Minari's id of a dataset on this machine, such as `atari/breakout/expert-v0`.
        out: Dataset folder to make.
        observation: The pictures' name, where observations are a dict; of dicts in it, as in "sensors/rgb".
        size: Pixels along each side of a frame; by default those of the pictures if they are square and a multiple of
            8, else 64.
        split: What to call it: "train", "validation" or "test"; by default what it was called before it was exported
            from here.
    """

    dataset_id: str
    out: Path
    observation: str | None = None
    size: int | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        check_fields(self, size=1)


@dataclass(frozen=True)
class ExportMinariConfig:
    """What to export, and under which name.

    Attributes:
        dataset: Dataset folder.
        dataset_id: Minari id of the dataset to make, such as `rooms/uniform-v0`. It comes to lie where Minari looks:
            in the folder that MINARI_DATASETS_PATH names, or in ~/.minari/datasets.
        env_id: The id of the environment, once more, if it names a module: its code runs, so only what is typed here is
            imported. Else Minari's dataset does not know how to make its environment.
    """

    dataset: Path
    dataset_id: str
    env_id: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def import_minari(config: ImportMinariConfig) -> EpisodeDataset:
    """Make a dataset folder of a Minari dataset.

    Raises:
        FileNotFoundError: If Minari has no such dataset on this machine.
        ValueError: If it has no pictures, or actions that a model cannot take, or the folder is not empty.
    """
    source = _opened(config.dataset_id)
    try:
        actions = FlatActions(source.action_space)
        framing = _framing(source, config)
        origin = _origin(source, config, actions)
    except ValueError as error:
        raise ValueError(f"{config.dataset_id} {error}") from error
    if config.split is not None:
        origin = replace(origin, split=config.split)
    if config.size is not None:
        origin = replace(origin, env_kwargs=origin.env_kwargs | {"frame_size": config.size})
    origin = replace(origin, preprocessing=", ".join(filter(None, (origin.preprocessing, framing.words))) or "none")
    dataset = write_dataset(config.out, _read(source, config, actions, framing), origin)
    print(f"{len(dataset):,} frames in {len(dataset.episode_starts):,} episodes are in {config.out}.")
    return dataset


def export_minari(config: ExportMinariConfig) -> None:
    """Make a Minari dataset of a dataset folder, whole or not at all.

    Frames are stored as they are: Minari's own default, JPEG, would blur them.

    Raises:
        DatasetError: If the dataset is incomplete or damaged.
        ValueError: If Minari takes no such id, has it already, an episode has no step, or another id was typed.
    """
    minari = _minari("minari")
    storage = _minari("minari.dataset.minari_storage")
    try:
        namespace, _, _ = _minari("minari.dataset.minari_dataset").parse_dataset_id(config.dataset_id)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"dataset_id={config.dataset_id!r} is none of Minari's: say NAME-v0 or SPACE/NAME-v0"
        ) from error
    paths = _minari("minari.storage")
    target = paths.get_dataset_path(config.dataset_id)
    new = paths.get_dataset_path(f".{uuid4().hex}.tmp")
    if target.exists():
        raise ValueError(f"dataset_id={config.dataset_id} is there already, at {target}: say another, or delete it")
    dataset = EpisodeDataset(config.dataset)
    spec = dataset.spec
    new.mkdir()
    try:
        written = storage.MinariStorage.new(
            new / "data",
            observation_space=space_from_json(spec.observation_space, "observation_space"),
            action_space=space_from_json(spec.action_space, "action_space"),
            env_spec=_env_spec(spec, config.env_id),
            jpeg_encoding=False,
        )
        written.update_metadata(
            {
                "dataset_id": config.dataset_id,
                "minari_version": minari.__version__,
                "algorithm_name": spec.policy,
                "description": f"{spec.env_id} as square RGB frames. Preprocessing: {spec.preprocessing}.",
                ORIGIN: {name: getattr(spec, name) for name in _ORIGINS},
            }
        )
        written.update_episodes(_buffers(dataset))
        spaces = _minari("minari.namespace")
        if namespace is not None and namespace not in spaces.list_local_namespaces():
            spaces.create_namespace(namespace)
        os.replace(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    print(
        f"{len(dataset.episode_starts):,} episodes are in {target}. Open them with:\n"
        f"  minari.load_dataset({config.dataset_id!r})"
    )


def _minari(module: str) -> Any:
    """A module of Minari, which not everyone needs."""
    try:
        import_module("h5py")
        return import_module(module)
    except ImportError as error:
        raise ValueError(f'Minari is not installed ({error}); get it with: pip install "lssvwm-env[data]"') from error


def _opened(dataset_id: str) -> Any:
    """A dataset of Minari's."""
    minari = _minari("minari")
    try:
        return minari.load_dataset(dataset_id)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Minari has no dataset {dataset_id} on this machine: see `minari list local`, or get it with:\n"
            f"  minari download {dataset_id}"
        ) from error
    except Exception as error:  # of whatever kind: the files are anyone's, and read by several libraries
        raise ValueError(f"Minari cannot open {dataset_id}: {error}") from error


def _framing(source: Any, config: ImportMinariConfig) -> Framing:
    """How the pictures of a Minari dataset become frames."""
    try:
        pictures = picture_space(source.observation_space, config.observation)
    except ValueError as error:
        raise ValueError(f"{error}. What a dataset does not hold is to be recorded anew, by lssvwm collect") from error
    return Framing(pictures.shape, config.size)


def _origin(source: Any, config: ImportMinariConfig, actions: FlatActions) -> DatasetOrigin:
    """What a Minari dataset says of itself, or, if it comes from here, what it was before.

    Raises:
        ValueError: If that cannot be.
    """
    env_spec = source.env_spec
    stored = source.storage
    found = {
        "env_id": env_spec.id if env_spec else config.dataset_id,
        "env_kwargs": dict(env_spec.kwargs) if env_spec else {},
        "preprocessing": "stored as JPEG" if getattr(stored, "jpeg_encoding", True) else "",
        "policy": stored.metadata.get("algorithm_name", "unknown"),
    }
    if env_spec and config.observation is not None:
        found["env_kwargs"]["observation_key"] = config.observation
    own = stored.metadata.get(ORIGIN, {})
    if not isinstance(own, dict):
        raise ValueError(f"says in its metadata that {ORIGIN} is {shown(own)}, expected a dictionary")
    return DatasetOrigin(
        action_space=space_to_json(actions.flat),
        command=command("import-minari", config),
        **found | {name: own[name] for name in _ORIGINS if name in own},
    )


def _read(source: Any, config: ImportMinariConfig, actions: FlatActions, framing: Framing) -> Iterator[Episode]:
    """The episodes of a Minari dataset; poses and tiles in their infos are ours, if the dataset is."""
    own = ORIGIN in source.storage.metadata
    facts = source.storage.get_episode_metadata(source.episode_indices)
    for number, (data, fact) in enumerate(zip(source.iterate_episodes(), facts, strict=True)):
        try:
            yield _episode(data, fact.get("seed"), config, actions, framing, own)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{config.dataset_id}, episode {number}: {error}") from error


def _episode(
    data: Any, seed: Any, config: ImportMinariConfig, actions: FlatActions, framing: Framing, own: bool
) -> Episode:
    pictures = leaf(data.observations, config.observation or "")
    act = actions.from_env(data.actions)
    with np.errstate(over="ignore"):  # which an episode refuses, by its frame
        rew = _shifted(data.rewards, np.dtype(np.float32))
    return Episode(
        obs=np.stack([framing.frame(picture) for picture in pictures]) if framing.words else pictures,
        act=_shifted(act, act.dtype),
        rew=rew,
        terminated=_shifted(data.terminations, np.dtype(np.bool_)),
        truncated=_shifted(data.truncations, np.dtype(np.bool_)),
        seed=NO_SEED if seed is None else int(seed),
        **{name: data.infos[name] for name in ("pose", "tiles") if own and name in (data.infos or {})},
    )


def _shifted(steps: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """What came with T steps, beside the T + 1 frames: nothing led to the first."""
    return np.concatenate([np.zeros((1, *steps.shape[1:]), steps.dtype), steps]).astype(dtype)


def _buffers(dataset: EpisodeDataset) -> Iterator[Any]:
    """The episodes as Minari wants them."""
    buffer = _minari("minari.data_collector").EpisodeBuffer
    for number, episode in enumerate(dataset.episodes()):
        if len(episode) < 2:
            raise ValueError(f"{dataset.folder}, episode {number} has one frame only; Minari wants a step in each")
        yield buffer(
            seed=None if episode.seed == NO_SEED else episode.seed,
            observations=episode.obs,
            actions=episode.act[1:],
            rewards=episode.rew[1:],
            terminations=episode.terminated[1:],
            truncations=episode.truncated[1:],
            infos={key: array for key, array in episode.arrays().items() if key in ("pose", "tiles")},
        )


def _env_spec(spec: DatasetSpec, typed: str | None) -> gym.envs.registration.EnvSpec | None:
    """What lets `recover_environment` of Minari make the environment, our wrapper included; None if nothing does."""
    if typed is not None:
        trusted_id(spec, typed)
    try:
        env = make_recorded(spec, typed)
        env.close()
        if env.spec is not None:
            env.spec.to_json()
        return env.spec
    except (ValueError, TypeError) as error:  # not trusted, not installed here, or only Python can tell how
        print(f"Minari's dataset will not say how its environment is made: {printable(error)}")
        return None
