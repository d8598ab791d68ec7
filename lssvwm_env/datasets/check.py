"""What a dataset holds, and what is wrong with it, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.table import Table

from lssvwm_env.real.pixels import MULTIPLE
from lssvwm_env.real.policies import policy_words
from lssvwm_env.utils.strangers import Screen
from lssvwm_models.data import NO_SEED, DatasetError, DatasetSpec, EpisodeDataset, read_spec
from lssvwm_models.data.episodes import shard_header
from lssvwm_models.data.spaces import action_bounds, frame_shape
from lssvwm_models.data.values import Fault, value_faults
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.npz_files import npz_array

START_FRAMES: Final = 16  # as by default in `TrainConfig`, whose import would bring torch
MOST_ACTIONS: Final = 12  # lines of a histogram
MOST_LEARNED: Final = 147  # reward: where the last bin of `RewardHead` lies, whose import would bring torch, too


@dataclass(frozen=True)
class CheckConfig:
    """What to check.

    Attributes:
        dataset: Dataset folder.
        test: A second one, to test on what was trained on the first. It is checked too, and that they go together
            without sharing an episode.
    """

    dataset: Path
    test: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def check(config: CheckConfig) -> None:
    """Print what datasets hold.

    Raises:
        DatasetError: If something is wrong with them; it says what.
    """
    folders = [config.dataset, *([config.test] if config.test else [])]
    problems = [f"{folder}: {problem}" for folder in folders for problem in check_dataset(folder)]
    if not problems and config.test:
        problems = check_pair(config.dataset, config.test)
    for folder in folders:
        try:
            _print(EpisodeDataset(folder))
        except (OSError, ValueError):  # what cannot be opened is among the problems
            continue
    if problems:
        raise DatasetError("\n  ".join([f"{len(problems)} problem(s)", *problems]))


def check_dataset(folder: str | Path) -> list[str]:
    """Say what is wrong with a dataset; an empty list if nothing is.

    Shards are read one by one. What is wrong with several of them is said once, with the first place.
    """
    folder = Path(folder)
    try:
        spec = read_spec(folder)
    except (OSError, ValueError) as error:
        return [str(error)]
    problems = [] if spec.complete else [f"it is incomplete: finish it, or collect it anew; {spec.made_by()}"]
    shape = frame_shape(spec.observation_space)
    if shape[0] != shape[1] or shape[0] % MULTIPLE:
        problems.append(f"its frames are {shape}; expected squares with a side that is a multiple of {MULTIPLE}")
    first_places: dict[str, str] = {}
    count: Counter[str] = Counter()
    lengths = [0]
    frame = None
    varied = False
    for name in spec.shards:
        if not spec.complete and not (folder / name).exists():
            continue  # it is yet to come
        try:
            arrays = _arrays(folder / name, spec)
        except (OSError, ValueError) as error:
            problems.append(f"{error}; make it again: {spec.made_by()}")
            continue
        obs = arrays["obs"]
        starts = np.flatnonzero(arrays["is_first"])
        lengths += np.diff([*starts, len(obs)]).tolist()
        frame = obs[0] if frame is None else frame
        varied = varied or bool((obs != frame).any())
        for what, wrong in _faults(arrays, spec):
            first_places.setdefault(what, f"{name}, frame {int(wrong.argmax())}")
            count[what] += int(wrong.sum())
    problems += [f"{what}: {count[what]:,} time(s), first in {place}" for what, place in first_places.items()]
    if frame is not None and not varied:
        problems.append("all frames look alike")
    if not problems:
        problems += _contradictions(folder, spec, lengths)
    if max(lengths) <= START_FRAMES:
        problems.append(
            f"its longest episode has {max(lengths)} frames, but `lssvwm train` begins dreams from {START_FRAMES} of a "
            "longer one: collect longer episodes, or train with a lower --start-frames"
        )
    return problems


def _contradictions(folder: Path, spec: DatasetSpec, lengths: list[int]) -> Iterator[str]:
    """Where sound shards are not what `dataset.json` says of them, or do not go together."""
    if sum(lengths) < spec.frames:
        yield f"it has {sum(lengths):,} frames, but dataset.json says at least {spec.frames:,}"
    if max(lengths) > spec.episode_length:
        yield f"an episode has {max(lengths):,} frames, but dataset.json says at most {spec.episode_length:,}"
    try:
        EpisodeDataset(folder)
    except (OSError, ValueError) as error:
        yield str(error)


def check_pair(train: str | Path, test: str | Path) -> list[str]:
    """Say why one dataset cannot test what was trained on another; an empty list if it can."""
    one = EpisodeDataset(train)
    other = EpisodeDataset(test)
    problems = [
        f"{key} is {getattr(one.spec, key)} in {train}, but {getattr(other.spec, key)} in {test}"
        for key in ("env_id", "env_kwargs", "observation_space", "action_space")
        if getattr(one.spec, key) != getattr(other.spec, key)
    ]
    shared = set(one.episode_seed.tolist()) & set(other.episode_seed.tolist()) - {NO_SEED}
    if shared:
        problems.append(
            f"{len(shared):,} episode seed(s) are in both {train} and {test}, the first {min(shared)}: such episodes "
            "test what was learned by heart; collect one of them with --split test"
        )
    return problems


def _arrays(path: Path, spec: DatasetSpec) -> dict[str, NDArray[Any]]:
    arrays = {key: npz_array(path, key) for key in shard_header(path, spec)}
    is_first = arrays["is_first"]
    if not is_first[0] or is_first.sum() != len(arrays["episode_seed"]):
        raise DatasetError(f"{path}: is_first must mark frame 0 and one frame per episode_seed")
    return arrays


def _faults(arrays: dict[str, NDArray[Any]], spec: DatasetSpec) -> Iterator[Fault]:
    """What can be wrong with the frames of a shard, and those (N,) with which it is, if there are any."""
    act = arrays["act"]
    rew = arrays["rew"]
    first = arrays["is_first"]
    last = np.append(first[1:], True)
    no_seed = np.zeros_like(first)
    no_seed[first] = arrays["episode_seed"] < NO_SEED
    faults = {
        "an episode begins with an action, but none led there": first & act.reshape(len(act), -1).any(1),
        "an episode begins with a reward, but nothing led there": first & (rew != 0),
        "an episode has one frame only": first & last,
        "an episode goes on after its end": (arrays["terminated"] | arrays["truncated"]) & ~last,
        f"an episode seed is below {NO_SEED}, which is where none is known": no_seed,
    }
    yield from ((what, wrong) for what, wrong in faults.items() if wrong.any())
    for key, array in arrays.items():
        yield from value_faults(key, array, first, action_bounds(spec.action_space))


def _print(dataset: EpisodeDataset) -> None:
    spec = dataset.spec
    first = dataset.is_first
    lengths = np.diff([*dataset.episode_starts, len(dataset)])
    quartiles = np.percentile(lengths, [0, 25, 50, 75, 100], method="nearest")
    rewarded = dataset.rew != 0
    ends = np.count_nonzero(dataset.terminated)
    table = Table(title=str(dataset.folder), box=SIMPLE, show_header=False, pad_edge=False)
    rows = {
        "environment": f"{spec.env_id} {spec.env_kwargs or ''}",
        "made by": f"{policy_words(spec.policy)}, {spec.split} split, seed {spec.seed}",
        "frames": f"{len(dataset):,} of {spec.observation_space['shape']}; preprocessing: {spec.preprocessing}",
        "episodes": f"{len(lengths):,}: {ends:,} terminated, {np.count_nonzero(dataset.truncated):,} truncated",
        "their frames": "{:,} {:,} {:,} {:,} {:,} (least, quartiles, most)".format(*quartiles),
        "rewards": f"{np.count_nonzero(rewarded):,} not 0, {dataset.rew.sum() / len(lengths):.3g} per episode",
    }
    if (largest := float(np.abs(dataset.rew).max())) > MOST_LEARNED:
        rows["their size"] = f"up to {largest:.3g}, of which a model learns {MOST_LEARNED}: scale them down"
    taken = dataset.act[~first]
    if taken.ndim == 1 and len(taken):
        for action, count in sorted(Counter(taken.tolist()).most_common(MOST_ACTIONS)):
            rows[f"action {action}"] = f"{count / len(taken):6.1%} {'#' * round(40 * count / len(taken))}"
    elif len(taken):
        for i, column in enumerate(taken.T[:MOST_ACTIONS]):
            rows[f"action[{i}]"] = f"{column.min():.3g} to {column.max():.3g}, mean {column.mean():.3g}"
    for row in rows.items():
        table.add_row(*row)
    Screen().print(table)
