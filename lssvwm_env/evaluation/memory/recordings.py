"""What the memory suite asks of a world model: the worlds, the tasks, and their real episodes.

`record_suite` plays the tasks in real MiniGrid worlds, once; `suite.run_suite` scores any number of models on what it
recorded. Layouts are of the test split, except for what probes are fitted on; no task ends by itself.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from minigrid.envs.memory import MemoryEnv
from numpy.typing import NDArray

from lssvwm_env.real import ObjectRoomsEnv, PixelMiniGrid, WanderPolicy, make_real, tile_palette
from lssvwm_env.real.walks import LookAgain, OutAndBack
from lssvwm_models.data.splits import SPLITS, Split
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.files import write_atomic

Task = Literal["out_and_back", "wander", "gaps"]
_ENDLESS: Final = 10**6  # steps


@dataclass(frozen=True)
class World:
    """A real MiniGrid world to be tested in.

    Attributes:
        name: What it is called in reports.
        env_id, env_kwargs: As for `make_real`.
        tasks: What is done there; "wander" is for `revisit`, `continuation` and `questions`, and only for worlds that
            do not end by themselves.
    """

    name: str
    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ("out_and_back", "wander")

    def make(self) -> PixelMiniGrid:
        """The environment, without a limit of steps."""
        env = make_real(self.env_id, **(self.env_kwargs | {"max_steps": _ENDLESS}))
        if not isinstance(env, PixelMiniGrid):
            raise ValueError(f"env_id={self.env_id} is no MiniGrid world seen as 7x7 tiles: it cannot be judged.")
        return env


ROOMS: Final = tuple(
    World(f"rooms-{size}", "MiniGrid-ObjectRooms-v0", {"size": size, "num_objects": objects, "rooms": 2})
    for size, objects in ((9, 5), (13, 12), (17, 22))  # about as many objects per cell in each
)


def worlds_of(env_id: str, env_kwargs: dict[str, Any]) -> tuple[World, ...]:
    """The worlds in which a simulator of some environment is tested: smaller and larger ones too, where there are."""
    world = World(env_id.removeprefix("MiniGrid-"), env_id, env_kwargs, ("out_and_back",))
    kind = world.make().unwrapped
    if isinstance(kind, ObjectRoomsEnv):
        same = {"size": kind.width, "num_objects": kind.num_objects, "rooms": kind.rooms}
        in_suite = any(room.env_kwargs == same for room in ROOMS)
        return ROOMS if in_suite else (replace(world, tasks=("out_and_back", "wander")), *ROOMS)
    return (replace(world, tasks=("out_and_back", "gaps")),) if isinstance(kind, MemoryEnv) else (world,)


@dataclass(frozen=True)
class SuiteSettings:
    """What to record, and how to judge.

    Attributes:
        worlds: Where.
        sequences: Episodes per task, world and seed.
        seeds: Of the episodes and of the models' noise; those of all seeds are judged together.
        walks: Actions out of `out_and_back`.
        context, horizon: Frames of `revisit`.
        continuation: Frames to dream in `continuation`, ascending; the last number decides what is dreamt.
        opening: Real frames before.
        gaps: Frames since the cue was seen.
        questions: Episodes per seed to fit the probes on, of the train split; 0 asks no questions.
        probe_frames: Most frames of an episode in `questions`.
        following: Whether `revisit` also asks for every next frame after the real ones before it, which takes as long
            as all else.
        steps: Denoising steps per frame.
        pose_given: Whether the recorded poses say where the agent is, as in the paper (section 5.1), in contexts and in
            dreams, and not the model's odometry. This separates what is forgotten from what is looked for in the wrong
            place.
        batch: Episodes side by side; changes the memory needed, and no more than rounding in the numbers.
        bf16: Compute matrix products in bfloat16.
    """

    worlds: tuple[World, ...] = ROOMS
    sequences: int = 32
    seeds: tuple[int, ...] = (0,)
    walks: tuple[int, ...] = (50, 150, 400)
    context: int = 512
    horizon: int = 64
    continuation: tuple[int, ...] = (64, 256)
    opening: int = 64
    gaps: tuple[int, ...] = (8, 32, 128, 512)
    questions: int = 32
    probe_frames: int = 256
    following: bool = False
    steps: int = 1
    pose_given: bool = False
    batch: int = 8
    bf16: bool = False

    def __post_init__(self) -> None:
        ones = dict.fromkeys(("sequences", "walks", "context", "horizon", "opening", "steps", "batch"), 1)
        check_fields(self, **ones, gaps=7, probe_frames=2)  # 7: what `LookAgain` needs to go and come back
        for name in ("seeds", "worlds"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: name at least one.")
        if min((0, *self.seeds)) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds} must be different and at least 0.")
        if min((1, *self.continuation)) < 1 or list(self.continuation) != sorted(set(self.continuation)):
            raise ValueError(f"continuation={self.continuation} must be numbers of frames, at least 1 and ascending.")

    @property
    def recorded(self) -> dict[str, Any]:
        """What the recordings depend on, as JSON has it."""
        settings = asdict(self)
        names = ("worlds", "sequences", "seeds", "walks", "gaps", "questions")
        used = {name: settings[name] for name in names}
        # In files of recordings `probe_frames` has always been called "asked".
        return dict(json.loads(json.dumps(used | {"asked": self.probe_frames, "wander": self.wander})))

    @property
    def wander(self) -> int:
        """Frames of each wander."""
        return max(self.context + self.horizon, *(self.opening + dreamt for dreamt in (0, *self.continuation)))

    def small(self) -> SuiteSettings:
        """The same with fewer and shorter episodes, in a tenth of the time; intervals are wider."""
        return replace(
            self,
            sequences=min(self.sequences, 8),
            questions=min(self.questions, 8),
            context=min(self.context, 256),
            walks=tuple(n for n in self.walks if n <= 150),
            continuation=tuple(n for n in self.continuation if n <= 64),
            gaps=tuple(gap for gap in self.gaps if gap <= 128),
        )


@dataclass(frozen=True)
class Recording:
    """B equally long real episodes, none of which ends.

    Attributes:
        act: Action that led to each frame, int64 (B, T).
        pose: int32 (B, T, 3).
        tiles: uint8 (B, T, 7, 7, 3); frames are drawn from them, as they are eighty times as large.
        seeds: int64 (B,), of the layouts.
    """

    act: NDArray[np.int64]
    pose: NDArray[np.int32]
    tiles: NDArray[np.uint8]
    seeds: NDArray[np.int64]

    def __len__(self) -> int:
        """B."""
        return len(self.act)

    def __getitem__(self, index: Any) -> Recording:
        """Some episodes, or some of their frames as in `recording[:, 10:]`."""
        rows = index[0] if isinstance(index, tuple) else index
        return Recording(self.act[index], self.pose[index], self.tiles[index], self.seeds[rows])

    @property
    def frames(self) -> NDArray[np.uint8]:
        """The frames, drawn anew: uint8 (B, T, 64, 64, 3)."""
        return tile_palette().draw(self.tiles)

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """Whether cells are in sight, (B, T, 7, 7)."""
        return self.tiles[..., 0] != 0

    @staticmethod
    def cat(recordings: list[Recording]) -> Recording:
        """Episodes of several recordings, one after the other."""
        return Recording(*(np.concatenate([getattr(r, name) for r in recordings]) for name in _ARRAYS))


_ARRAYS: Final = ("act", "pose", "tiles", "seeds")


@dataclass(frozen=True)
class Recordings:
    """All real episodes of the suite.

    Attributes:
        episodes: By (world, task); tasks are `out_and_back/50` and so on, `gaps/8`, `wander` and `probes`.
        settings: `SuiteSettings.recorded` of the settings that they were recorded with.
    """

    episodes: dict[tuple[str, str], Recording]
    settings: dict[str, Any]

    def check(self, settings: SuiteSettings) -> None:
        """Refuse settings that other recordings would belong to.

        Raises:
            ValueError: Naming what differs.
        """
        wanted = settings.recorded
        differing = [name for name in wanted if self.settings.get(name) != wanted[name]]
        if differing:
            words = "; ".join(f"{name}={self.settings.get(name)}, not {wanted[name]}" for name in differing)
            raise ValueError(f"the recordings were made with {words}: record anew, or use their settings.")

    def save(self, path: str | Path) -> None:
        """Write to an .npz file, whole or not at all."""
        arrays = {f"{w}|{t}|{name}": getattr(r, name) for (w, t), r in self.episodes.items() for name in _ARRAYS}
        settings = np.array(json.dumps(self.settings))
        write_atomic(path, lambda file: np.savez_compressed(file, made_of=settings, **arrays))

    @staticmethod
    def load(path: str | Path) -> Recordings:
        """Read a file of `save`.

        Raises:
            ValueError: If it is another file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                settings = json.loads(str(file["made_of"]))
                keys = dict.fromkeys(name.rpartition("|")[0] for name in file.files if name != "made_of")
                found = {key: Recording(*(file[f"{key}|{name}"] for name in _ARRAYS)) for key in keys}
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no recordings of the memory suite ({error}): name a new file.") from error
        return Recordings({(key.split("|")[0], key.split("|")[1]): r for key, r in found.items()}, settings)


def record_suite(settings: SuiteSettings, on_task: Callable[[str], object] = lambda task: None) -> Recordings:
    """Play all tasks in the real worlds; the same settings give the same episodes.

    Args:
        settings: What to play.
        on_task: Called with a line on each task when it begins.

    Raises:
        ValueError: If a world does not fit its tasks.
    """
    recorded = {}
    for world in settings.worlds:
        env = world.make()
        tasks: dict[str, OutAndBack | LookAgain | None] = {}
        if "out_and_back" in world.tasks:
            tasks |= {f"out_and_back/{n}": OutAndBack(n) for n in settings.walks}
        if "gaps" in world.tasks:
            tasks |= {f"gaps/{gap}": LookAgain(gap) for gap in settings.gaps}
        if "wander" in world.tasks:
            tasks |= {"wander": None} | ({"probes": None} if settings.questions else {})
        for task, walk in tasks.items():
            on_task(f"{world.name}: playing {task}")
            wander = settings.probe_frames if task == "probes" else settings.wander
            frames = wander if walk is None else walk.context + walk.horizon
            split: Split = "train" if task == "probes" else "test"
            count = settings.questions if task == "probes" else settings.sequences
            episodes = []
            for seed in settings.seeds:
                rng = np.random.default_rng([seed, SPLITS[split].start, *task.encode()])
                for _ in range(count):
                    layout = int(rng.integers(SPLITS[split].start, SPLITS[split].stop))
                    # The last frames: the way to the cue, if there is one, is no part of the question.
                    episodes.append(record_walk(env, walk, frames, layout, rng)[:, -frames:])
            recorded[world.name, task] = Recording.cat(episodes)
        env.close()
    return Recordings(recorded, settings.recorded)


def record_walk(
    env: PixelMiniGrid, walk: OutAndBack | LookAgain | None, frames: int, seed: int, rng: np.random.Generator
) -> Recording:
    """One episode: a walk, or else a wander of some frames."""
    _, info = env.reset(seed=seed)
    actions: Iterable[Any]
    if walk is None:
        policy = WanderPolicy()
        policy.reset(env, rng)
        actions = (policy.act(env) for _ in range(frames - 1))
    else:
        actions = walk.plan(env.unwrapped, rng)  # type: ignore[arg-type]
    rows = [(0, info["pose"], info["tiles"])]
    for action in actions:
        _, _, terminated, truncated, info = env.step(int(action))
        if terminated or truncated:
            raise ValueError(f"{env} ended after {len(rows)} steps: record other tasks there.")
        rows.append((int(action), info["pose"], info["tiles"]))
    acts, poses, tiles = zip(*rows, strict=True)
    act = np.array(acts, np.int64)
    return Recording(act[None], np.stack(poses)[None], np.stack(tiles)[None], np.array([seed]))
