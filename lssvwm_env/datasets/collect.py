"""Collect episodes of a real environment into a dataset folder.

Run it as `lssvwm collect`. The same command resumes what was interrupted: finished
shards are kept, missing ones are made, and the result is the same as if nothing had happened, whatever
the number of workers.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from lssvwm_env.datasets.acting import default_policy, make_policy
from lssvwm_env.datasets.recording import Recorded, record, with_common_facts
from lssvwm_env.real import PixelEnv, PixelMiniGrid, Policy, make_real
from lssvwm_env.real.contract import name_of
from lssvwm_env.utils.command import command
from lssvwm_env.utils.json_types import space_to_json
from lssvwm_env.utils.processes import CannotShare, in_processes
from lssvwm_models.data import DatasetError, DatasetSpec, EpisodeDataset, read_spec, write_shard, write_spec
from lssvwm_models.data.episodes import pose_kind, shard_header
from lssvwm_models.data.spec import SPEC_FILE, Camera, shard_name
from lssvwm_models.data.splits import SPLITS, Split
from lssvwm_models.data.values import pose_jump
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.files import lock_folder, write_atomic
from lssvwm_models.utils.json_files import from_json
from lssvwm_models.utils.progress import progress

_log = logging.getLogger(__name__)

_Made = tuple[int, dict[str, str]]  # a shard, and in words what infos said that is not in it


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        env_id: Gymnasium id of the real environment, "module:id" for one that a module registers, or "module:name" for
            a class or a function, annotated `-> gymnasium.Env`, that makes it. A simulator is an environment, too.
        out: Dataset folder to make, or to go on with.
        frames: Frames to collect; the last episode of each shard is finished, so it becomes a little more.
        split: Which layouts to see: the seeds of "train", "validation" and "test" are disjoint.
        policy: Who acts. "wander" (MiniGrid, and the default there) revisits places and ends episodes on purpose;
            "roam" does the first in mazes such as Memory Maze, and is the default there; "sticky", the default
            elsewhere, acts at random and goes on for a while; "uniform" draws every action. "module:Class" is a policy
            of your own, "PPO:agent.zip" an agent of Stable-Baselines3. Of several, as in "wander+sticky", one acts in
            each episode.
        seed: Base seed; everything in the dataset follows from it.
        episode_length: Most frames in one episode, the first included; longer ones are truncated there.
        workers: Processes to collect with. They do not change the data.
        shard_frames: Frames per shard file, and so per work item.
        env_kwargs: Keyword arguments for the environment, such as `size 17`.
        size: Pixels along each side of a frame; by default those of the environment if they are square and a multiple
            of 8, else 64.
        frame_skip: Times that each action is taken; rewards are summed.
        render: Record what the environment renders, not what it observes.
        observation: The pictures' name, where observations are a dict; of dicts in it, as in "sensors/rgb".
    """

    env_id: str
    out: Path
    frames: int
    split: Split = "train"
    policy: str | None = None
    seed: int = 0
    episode_length: int = 256
    workers: int = 2
    shard_frames: int = 8192
    env_kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    size: int | None = None
    frame_skip: int = 1
    render: bool = False
    observation: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, frames=1, episode_length=2, workers=1, shard_frames=1, size=1, frame_skip=1)

    def make_kwargs(self) -> dict[str, Any]:
        """What `make_real` needs beside the id to make the same environment again."""
        framing = {
            "frame_size": (self.size, None),
            "frame_skip": (self.frame_skip, 1),
            "render_frames": (self.render, False),
            "observation_key": (self.observation, None),
        }
        return self.env_kwargs | {name: value for name, (value, default) in framing.items() if value != default}


@dataclass(frozen=True)
class Player:
    """Who acts in the place of a policy, such as an agent that has learned since.

    Attributes:
        name: Says who it is, in `dataset.json`; a collection that another one began is not gone on with.
        command: The shell command that lets it collect.
        join: Given a new environment, returns it, perhaps wrapped so that there is more to see, and who acts in it.
    """

    name: str
    command: str
    join: Callable[[gym.Env[Any, Any]], tuple[gym.Env[Any, Any], Policy]]


def collect(config: CollectConfig, player: Player | None = None) -> EpisodeDataset:
    """Collect a dataset, or finish one begun with the same config.

    Args:
        config: What to collect.
        player: Who acts; None: `config.policy`, which counts for nothing otherwise.

    Returns:
        The finished dataset.

    Raises:
        DatasetError: If the folder holds a dataset of another config, or shards of unknown origin.
        ValueError: If the environment's spaces cannot be recorded, it breaks its promises, or another process collects
            into the same folder.
    """
    spec = _describe(config, player)
    config.out.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(config.out)  # until the end of this function
    _check_same(config.out, spec)

    missing = [shard for shard, name in enumerate(spec.shards) if not _is_written(config.out / name)]
    if missing:
        write_spec(config.out, spec)
        _collect_missing(config, missing, player)
    _agree_on_facts(config.out, spec.shards)
    pose = pose_kind(shard_header(config.out / spec.shards[0]))
    write_spec(config.out, replace(spec, complete=True, pose=pose))
    del lock
    dataset = EpisodeDataset(config.out)
    if (jump := pose_jump(dataset.pose, dataset.is_first)) is not None:
        _log.warning("%s: %s", config.env_id, jump)
    return dataset


def _collect_missing(config: CollectConfig, missing: list[int], player: Player | None) -> None:
    """Make shards that are not there, and show how far it is; what is not recorded is said once."""
    starts = range(0, config.frames, config.shard_frames)
    sizes = {shard: min(config.shard_frames, config.frames - starts[shard]) for shard in missing}
    kept = config.frames - sum(sizes.values())
    done = kept
    began = time.monotonic()
    said: dict[str, str] = {}
    with (
        progress(config.env_id, config.frames, kept) as report,
        closing(_collect_shards(config, sizes, player)) as made,
    ):
        for shard, refused in made:
            done += sizes[shard]
            report(done, f"{(done - kept) / (time.monotonic() - began):,.0f} frames/s")
            for name in refused.keys() - said.keys():
                _log.warning("%s: %s is not recorded: %s", config.env_id, name, refused[name])
            said |= refused


def _collect_shards(
    config: CollectConfig, sizes: dict[int, int], player: Player | None
) -> Generator[_Made, None, None]:
    """Make shards with at least the given numbers of frames, and give each as soon as it is written."""
    make = _ShardMaker(config, sizes, player)
    shards = list(sizes)
    if min(config.workers, len(shards)) > 1:
        try:
            yield from in_processes(make, shards, config.workers)
            return
        except CannotShare as error:
            _log.warning("%s is collected in one process, as it cannot be taken to others: %s", config.env_id, error)
    for shard in shards:
        yield shard, make(shard)


class _ShardMaker:
    """Collects and writes shards, also in a process that knows nothing of this program.

    All of a shard follows from the base seed, the split, the shard's number and who acts.
    """

    def __init__(self, config: CollectConfig, sizes: dict[int, int], player: Player | None) -> None:
        self._config = config
        self._sizes = sizes
        self._player = player

    def __getstate__(self) -> dict[str, Any]:
        name = self._config.env_id.rpartition(":")[2]
        registered = {id: spec for id, spec in gym.registry.items() if id == name or _goes_along(spec)}
        named = [self._config.env_id, *(self._config.policy or "").split("+")]
        names = [name for module, _, name in (one.rpartition(":") for one in named) if module == "__main__"]
        of_program = {name: getattr(sys.modules["__main__"], name, None) for name in names}
        return vars(self) | {"registered": registered, "of_program": of_program}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come to another process; refused where the environment cannot be made."""
        for name, spec in state.pop("registered").items():
            gym.registry.setdefault(name, spec)
        vars(sys.modules["__main__"]).update(state.pop("of_program"))
        vars(self).update(state)
        self._make_real().close()

    def __call__(self, shard: int) -> dict[str, str]:
        """Make one; returns in words what infos said that is not recorded, by name."""
        config = self._config
        seeds = SPLITS[config.split]
        rng = np.random.default_rng([config.seed, seeds.start, shard])
        env, policy = self._who_acts(self._make_real())
        recorded: list[Recorded] = []
        while sum(len(one.episode) for one in recorded) < self._sizes[shard]:
            seed = int(rng.integers(seeds.start, seeds.stop))
            recorded.append(record(env, policy, seed, rng, config.episode_length))
        env.close()
        episodes, refused = with_common_facts(recorded)
        write_shard(config.out / shard_name(shard), episodes)
        return refused

    def _make_real(self) -> PixelEnv | PixelMiniGrid:
        return make_real(self._config.env_id, **self._config.make_kwargs())

    def _who_acts(self, real: PixelEnv | PixelMiniGrid) -> tuple[gym.Env[Any, Any], Policy]:
        if self._player is not None:
            return self._player.join(real)
        return real, make_policy(self._config.policy, real)


def _goes_along(spec: EnvSpec) -> bool:
    """Whether an environment that has been registered may be needed elsewhere, and is found without more imports."""
    return isinstance(spec.entry_point, str) or getattr(spec.entry_point, "__module__", None) == "__main__"


def _agree_on_facts(folder: Path, shards: list[str]) -> None:
    """Leave poses and tiles out of all shards that have them, if there is one that does not, or has others."""
    headers = {shard: shard_header(folder / shard) for shard in shards}
    common = {key for key, _ in set.intersection(*({(k, h.dtype) for k, h in x.items()} for x in headers.values()))}
    for shard in [shard for shard, header in headers.items() if header.keys() - common]:
        with np.load(folder / shard) as arrays:
            kept: dict[str, Any] = {key: arrays[key] for key in common}
        write_atomic(folder / shard, partial(np.savez_compressed, **kept))


def _is_written(path: Path) -> bool:
    try:
        shard_header(path)
    except (FileNotFoundError, DatasetError):
        return False
    return True


def _describe(config: CollectConfig, player: Player | None) -> DatasetSpec:
    """The dataset.json of a collection that has just begun."""
    env = make_real(config.env_id, **config.make_kwargs())
    who = config.policy or default_policy(env) if player is None else player.name
    if player is None:
        make_policy(who, env)  # refused before anything is written
    spec = DatasetSpec(
        env_id=config.env_id,
        env_kwargs=config.make_kwargs(),
        observation_space=space_to_json(env.observation_space),
        action_space=space_to_json(env.action_space),
        preprocessing=_simulated(env) or env.preprocessing,
        policy=who,
        seed=config.seed,
        split=config.split,
        episode_length=config.episode_length,
        frames=config.frames,
        shard_frames=config.shard_frames,
        command=command("collect", config) if player is None else player.command,
        complete=False,
        shards=[shard_name(shard) for shard in range(-(-config.frames // config.shard_frames))],
        camera=_camera(env),
    )
    env.close()
    return spec


def _camera(env: gym.Env[Any, Any]) -> Camera | None:
    """What the metadata of an environment say of its camera."""
    said = env.metadata.get("camera")
    return None if said is None else from_json(Camera, said, f"metadata['camera'] of {name_of(env)}")


def _simulated(env: PixelEnv | PixelMiniGrid) -> str | None:
    """That a simulator made the frames, and which one; None if the environment is none."""
    module = sys.modules.get("lssvwm_env.envs.env")  # there if the environment is one; importing it would import torch
    if module is None or not isinstance(env.unwrapped, module.LSSVWMEnv):
        return None
    simulator = env.unwrapped.simulator
    return f"dreamed by a model of {simulator.config.env_id}, weights {simulator.weights_sha256[:12]}"


def _check_same(folder: Path, spec: DatasetSpec) -> None:
    """Refuse to mix two collections in one folder."""
    if not (folder / SPEC_FILE).exists():
        if any(folder.glob("shard-*.npz")):
            raise DatasetError(f"{folder} holds shards but no {SPEC_FILE}: collect into a new folder.")
        return
    there = read_spec(folder)
    found = asdict(there)
    expected = asdict(spec)
    # Where it lies, who collected it and how far it got do not change what it is.
    compared = expected.keys() - {"command", "complete", "shards", "pose"}
    differing = [key for key in expected if key in compared and found[key] != expected[key]]
    if differing:
        lines = "\n".join(f"  {key}: {found[key]!r} there, {expected[key]!r} asked for" for key in differing)
        raise DatasetError(
            f"{folder} holds another dataset:\n{lines}\nCollect into a new folder, or delete this one; "
            f"{there.made_by()}"
        )
