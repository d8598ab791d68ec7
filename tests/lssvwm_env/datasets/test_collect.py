"""Collection: the convention of action and reward, and datasets that depend on their config alone."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import tyro

import lssvwm_env
import lssvwm_env.datasets.collect as module
from lssvwm_env.datasets.collect import CollectConfig, Player, collect
from lssvwm_env.real import make_real
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.command import command
from lssvwm_env.utils.json_types import space_to_json
from lssvwm_models.data import DatasetError, EpisodeDataset
from lssvwm_models.data.segments import segments
from lssvwm_models.data.spec import Camera

ARRAYS = ("obs", "act", "rew", "terminated", "truncated", "is_first", "pose", "tiles", "episode_seed")


def config(out: Path, **changes) -> CollectConfig:
    small = CollectConfig("MiniGrid-MemoryS9-v0", out, frames=700, shard_frames=250, workers=1, episode_length=60)
    return replace(small, **changes)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return collect(config(tmp_path_factory.mktemp("whole")))


def assert_same(one: EpisodeDataset, other: EpisodeDataset) -> None:
    for key in ARRAYS:
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key))


def test_poses_and_tiles_belong_to_their_frames(dataset: EpisodeDataset) -> None:
    env = make_real("MiniGrid-MemoryS9-v0")
    start, end = dataset.episode_starts[1:3]
    obs, info = env.reset(seed=int(dataset.episode_seed[1]))
    for t in range(start, end):
        if t > start:
            obs, reward, terminated, _, info = env.step(int(dataset.act[t]))
            assert (np.float32(reward), terminated) == (dataset.rew[t], dataset.terminated[t])
        np.testing.assert_array_equal(obs, dataset.obs[t])
        np.testing.assert_array_equal(info["pose"], dataset.pose[t])
        np.testing.assert_array_equal(info["tiles"], dataset.tiles[t])


def test_every_episode_ends_once_and_within_the_limit(dataset: EpisodeDataset) -> None:
    assert len(dataset) >= 700
    ends = np.flatnonzero(dataset.terminated | dataset.truncated)
    np.testing.assert_array_equal(ends, np.append(dataset.episode_starts[1:], len(dataset)) - 1)
    assert np.diff(dataset.episode_starts).max() <= 60


def test_splits_have_disjoint_seeds(dataset: EpisodeDataset, tmp_path: Path) -> None:
    test = collect(config(tmp_path, split="test"))
    assert dataset.episode_seed.max() < 2**30 <= test.episode_seed.min()
    assert test.spec.split == "test"


def test_no_shard_repeats_another(dataset: EpisodeDataset) -> None:
    assert len(dataset.spec.shards) == 3
    assert len(set(dataset.episode_seed)) == len(dataset.episode_seed)


def test_base_seed_changes_the_data(dataset: EpisodeDataset, tmp_path: Path) -> None:
    assert collect(config(tmp_path, seed=1)).hash() != dataset.hash()


def test_workers_do_not_change_the_data(dataset: EpisodeDataset, tmp_path: Path) -> None:
    assert_same(collect(config(tmp_path, workers=2)), dataset)


def test_killed_collection_resumes_to_the_same_data(
    dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = module.write_shard

    def killed(path: Path, episodes: list) -> None:
        if path.name == "shard-00001.npz":
            raise KeyboardInterrupt
        write(path, episodes)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_shard", killed)
        collect(config(tmp_path))
    with pytest.raises(DatasetError, match=r"incomplete.*lssvwm collect --env-id MiniGrid-Mem"):
        EpisodeDataset(tmp_path)

    made = []
    monkeypatch.setattr(module, "write_shard", lambda path, episodes: (made.append(path.name), write(path, episodes)))
    assert_same(collect(config(tmp_path)), dataset)
    assert made == ["shard-00001.npz", "shard-00002.npz"]


def test_lost_and_half_written_shards_are_made_again(dataset: EpisodeDataset, tmp_path: Path) -> None:
    collect(config(tmp_path))
    (tmp_path / "shard-00000.npz").unlink()
    half = (tmp_path / "shard-00002.npz").read_bytes()[:3000]
    (tmp_path / "shard-00002.npz").write_bytes(half)
    (tmp_path / "shard-00000.npz.abc.tmp").write_bytes(half)
    assert_same(collect(config(tmp_path)), dataset)


def test_another_config_is_refused_with_the_difference(tmp_path: Path) -> None:
    collect(config(tmp_path, frames=100))
    with pytest.raises(DatasetError, match="seed: 0 there, 7 asked for") as error:
        collect(config(tmp_path, frames=100, seed=7))
    assert "lssvwm collect --env-id" in str(error.value)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"shards but no dataset\.json"):
        collect(config(tmp_path, frames=100))


def test_command_reads_back_as_the_config(tmp_path: Path) -> None:
    asked = config(tmp_path / "a folder", split="test", env_kwargs={"size": 11, "random_length": True})
    words = shlex.split(command("collect", asked))
    assert words[:2] == ["lssvwm", "collect"]
    assert tyro.cli(CollectConfig, args=words[2:]) == asked


def test_env_kwargs_reach_the_environment(tmp_path: Path) -> None:
    rooms = config(tmp_path, env_id="MiniGrid-ObjectRooms-v0", frames=60, env_kwargs={"size": 9})
    dataset = collect(rooms)
    assert dataset.spec.env_kwargs == {"size": 9}
    assert dataset.pose[:, :2].max() <= 7


class Cards(gym.Env):
    """Pictures in an odd size of three dials that an action turns."""

    observation_space = gym.spaces.Box(0, 255, (30, 20, 3), np.uint8)
    action_space = gym.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.turned = self.np_random.integers(0, 50, 2)
        return self.picture(), {}

    def step(self, action):
        self.turned = self.turned + action
        return self.picture(), float(action.sum()), False, False, {}

    def picture(self):
        picture = np.zeros((30, 20, 3), np.uint8)
        picture[:15], picture[15:] = self.turned
        return picture


gym.register("Cards-v0", entry_point=Cards)


def test_other_environments_are_remade_as_they_were_recorded(tmp_path: Path) -> None:
    asked = CollectConfig("Cards-v0", tmp_path / "data", 40, workers=1, episode_length=10, size=48, frame_skip=2)
    data = collect(asked)
    assert data.spec.policy == "sticky" and data.spec.env_kwargs == {"frame_size": 48, "frame_skip": 2}
    assert data.spec.action_space == {"type": "Discrete", "n": 6} and data.obs.shape == (40, 48, 48, 3)
    assert data.spec.preprocessing.startswith("30x20 resized to 48x48 by box averaging, each action taken 2 times")
    env = make_real(data.spec.env_id, **data.spec.env_kwargs)
    episode = next(data.episodes())
    np.testing.assert_array_equal(env.reset(seed=episode.seed)[0], episode.obs[0])
    for obs, act, rew in zip(episode.obs[1:], episode.act[1:], episode.rew[1:], strict=True):
        frame, reward, *_ = env.step(act)
        np.testing.assert_array_equal(frame, obs)
        assert reward == rew == 2 * (act // 3 + act % 3)
    # What a simulator knows of its environment is enough to collect the same.
    again = CollectConfig("Cards-v0", tmp_path / "again", 40, workers=1, episode_length=10,
                          env_kwargs=dict(data.spec.env_kwargs))  # fmt: skip
    assert collect(again).hash() == data.hash() and collect(again).spec.env_kwargs == data.spec.env_kwargs
    words = shlex.split(command("collect", asked))
    assert words[-4:] == ["--size", "48", "--frame-skip", "2"] and tyro.cli(CollectConfig, args=words[2:]) == asked


def test_a_dream_is_collected_like_any_environment(toy_simulator: Simulator, tmp_path: Path) -> None:
    toy_simulator.save(tmp_path / "toy", "a toy")
    kwargs = {"simulator": str(tmp_path / "toy")}
    asked = CollectConfig(
        "lssvwm_env:load", tmp_path / "data", 20, workers=1, episode_length=8, seed=1, env_kwargs=kwargs
    )
    data = collect(asked)
    assert data.spec.policy == "sticky" and data.obs.std() > 0
    assert data.spec.preprocessing == f"dreamed by a model of Toy-v0, weights {toy_simulator.weights_sha256[:12]}"
    world = lssvwm_env.load(toy_simulator)
    episode = next(data.episodes())
    np.testing.assert_array_equal(world.reset(seed=episode.seed)[0], episode.obs[0])
    for obs, act in zip(episode.obs[1:], episode.act[1:], strict=True):
        np.testing.assert_array_equal(world.step(act)[0], obs)


class Wait:
    """Does the same all the time, and adds to what there is to see."""

    def __init__(self, action: int) -> None:
        self.action = action

    def __call__(self, env):
        return gym.wrappers.TransformReward(env, lambda reward: 5.0), self

    def reset(self, env, rng) -> None:
        assert isinstance(env, gym.wrappers.TransformReward)

    def act(self, env) -> int:
        return self.action


def waiting(action: int = 1) -> Player:
    return Player(f"waiting with {action}", "let it wait", Wait(action))


def test_others_than_the_known_policies_can_act(tmp_path: Path) -> None:
    asked = config(tmp_path / "one", frames=90, shard_frames=50)
    data = collect(asked, waiting())
    assert (data.act == ~data.is_first).all() and (data.rew == 5.0 * ~data.is_first).all()
    assert (data.spec.policy, data.spec.command) == ("waiting with 1", "let it wait")
    (tmp_path / "one" / "shard-00001.npz").unlink()
    with pytest.raises(FileNotFoundError, match="let it wait"):
        EpisodeDataset(tmp_path / "one")
    assert_same(collect(asked, waiting()), data)
    with pytest.raises(DatasetError, match="policy: 'waiting with 1' there, 'waiting with 2' asked for"):
        collect(asked, waiting(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames=0 must be at least 1"),
        ({"split": "val"}, "split='val' must be one of train, validation, test"),
        ({"frame_skip": 0}, "frame_skip=0 must be at least 1"),
    ],
)
def test_impossible_configs_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_spaces_as_json() -> None:
    assert space_to_json(gym.spaces.Discrete(7)) == {"type": "Discrete", "n": 7}
    box = space_to_json(gym.spaces.Box(-1, np.array([1, 2], np.float32)))
    assert box == {"type": "Box", "low": -1.0, "high": [1.0, 2.0], "shape": [2], "dtype": "float32"}
    for space in (gym.spaces.Discrete(7, start=1), gym.spaces.MultiBinary(3)):
        with pytest.raises(ValueError, match="cannot be recorded"):
            space_to_json(space)


class Block(gym.Env):
    """A block that an action moves; what else there is to see or to know, others say."""

    observation_space = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = int(self.np_random.integers(16))
        self.steps = 0
        return self.picture(), self.info()

    def step(self, action):
        self.x = (self.x + int(np.sum(action)) - 1) % 16
        self.steps += 1
        return self.picture(), self.reward(), False, self.steps == 6, self.info()

    def picture(self):
        frame = np.zeros((16, 16, 3), np.uint8)
        frame[4:8, self.x] = 200
        return frame

    def reward(self):
        return 0.0

    def info(self):
        return {}


class Arm(Block):
    def info(self):
        return {"pose": np.linspace(0.0, 1.0, 7)}


class PoseAtReset(Block):
    def info(self):
        return {"pose": [0, 0, 0]} if self.steps == 0 else {}


class PoseInSome(Block):
    """In about half of all episodes."""

    def info(self):
        return {"pose": [self.x, 0, 0]} if self.np_random_seed % 2 else {}


class PoseMeant(Block):
    def info(self):
        return {"pose": np.linspace(0.0, 1.0, 7), "lssvwm/pose": [self.x, 0, 0]}


class Flipped(Block):
    def picture(self):
        return super().picture()[::-1, :, ::-1]


class Floats(Block):
    def picture(self):
        return super().picture() / 255.0


class NoReward(Block):
    def reward(self):
        return None


class LateNaN(Block):
    def reward(self):
        return np.nan if self.steps == 5 else 1.0


class Buttons(Block):
    action_space = gym.spaces.MultiBinary(40)


class Nested(Block):
    observation_space = gym.spaces.Dict(
        {"sensors": gym.spaces.Dict({"rgb": Block.observation_space}), "task": gym.spaces.Text(40)}
    )

    def picture(self):
        return {"sensors": {"rgb": super().picture()}, "task": "push the block"}


class Roams(Block):
    """Turns by a tenth of a radian with every step, and says where it is."""

    metadata = Block.metadata | {"camera": {"fov": 75}}
    turn = 0.1

    def info(self):
        return {"pose": np.array([self.steps / 3, -1.5, self.turn * self.steps])}


class RoamsInDegrees(Roams):
    turn = 5.73


for made in (
    Roams,
    RoamsInDegrees,
    Arm,
    PoseAtReset,
    PoseInSome,
    PoseMeant,
    Flipped,
    Floats,
    NoReward,
    LateNaN,
    Buttons,
    Nested,
    Block,
):
    gym.register(f"{made.__name__}-v0", entry_point=made)


def collected(name: str, out: Path, **changes) -> EpisodeDataset:
    small = CollectConfig(f"{name}-v0", out, frames=40, shard_frames=20, workers=1, episode_length=9)
    return collect(replace(small, **changes))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Arm", "Arm-v0: pose is not recorded: info['pose'] is float64 (7,) with frame 0, expected floats (3,)"),
        ("PoseAtReset", "info['pose'] is missing with frame 1"),
        ("PoseInSome", "info of some episodes has no pose"),
    ],
)
def test_poses_of_another_meaning_are_left_out_and_it_is_said_once(
    name: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = collected(name, tmp_path)
    assert data.pose is None and len(data) >= 40
    assert len(caplog.messages) == 1 and words in caplog.messages[0]


def test_a_pose_that_says_what_it_is_is_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = collected("PoseMeant", tmp_path)
    assert (data.pose[:, 0] == data.obs[:, 4, :, 0].argmax(1)).all() and caplog.messages == []


def test_a_pose_in_the_plane_is_recorded_and_of_which_kind_it_is(tmp_path: Path) -> None:
    data = collected("Roams", tmp_path)
    assert data.pose.dtype == np.float32 and data.pose_kind == data.spec.pose == "plane"
    assert data.spec.camera == Camera(75.0)
    np.testing.assert_allclose(data.pose[:3], [[0, -1.5, 0], [1 / 3, -1.5, 0.1], [2 / 3, -1.5, 0.2]], rtol=1e-6)
    batch = segments(data, data.episode_starts[:2] + 1, 3)
    far = np.cos(0.1) / 3, -np.sin(0.1) / 3  # where the second frame of an episode is seen from the first
    assert batch.pose.dtype == torch.float32 and not batch.pose[:, 0].any()
    np.testing.assert_allclose(batch.pose[0, 1], [*far, 0.1], rtol=1e-5)
    assert collected("Roams", tmp_path).spec == data.spec  # nothing is left to do


def test_an_angle_in_degrees_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = collected("RoamsInDegrees", tmp_path)
    assert data.pose is None and data.spec.pose is None
    assert "and the angle in radians, a full turn either way at most" in caplog.messages[0]


def test_shards_agree_on_what_is_recorded_in_whatever_order_they_are_made(tmp_path: Path) -> None:
    # Of shards with one episode each, some have a pose.
    changes = {"frames": 28, "shard_frames": 7}
    data = collected("PoseInSome", tmp_path / "one", **changes)
    assert len(set(data.episode_seed % 2)) == 2 and data.pose is None
    whole = data.hash()
    for shard in (0, 3):
        (tmp_path / "one" / f"shard-{shard:05d}.npz").unlink()
    assert collected("PoseInSome", tmp_path / "one", **changes).hash() == whole


def test_flipped_frames_are_frames(tmp_path: Path) -> None:
    flipped = collected("Flipped", tmp_path / "flipped")
    np.testing.assert_array_equal(flipped.obs[:, ::-1, :, ::-1], collected("Block", tmp_path / "straight").obs)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Floats", r"^Floats-v0 gave a picture float64 \(16, 16, 3\), but its space is Box.* \(in frame 0 of"),
        ("NoReward", r"^NoReward-v0 gave the reward None, expected a finite number.* \(in frame 1 of"),
        (
            "LateNaN",
            r"^LateNaN-v0 gave the reward nan, expected a finite.* \(in frame 5 of the episode of seed \d",
        ),
        ("Buttons", r"^Buttons-v0 has actions MultiBinary\(40\), which are 1,099,511,627,776 .* up to 1,048,576"),
        ("Nested", r"^Nested-v0 has observations .*, expected pictures .*: say --observation sensors/rgb"),
    ],
)
def test_what_cannot_be_recorded_is_said_in_one_line_that_names_it(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        collected(name, tmp_path)
    assert "\n" not in str(error.value) and not list(tmp_path.glob("*.npz"))


def test_a_picture_two_levels_down_is_recorded_and_found_again(tmp_path: Path) -> None:
    data = collected("Nested", tmp_path / "one", observation="sensors/rgb")
    assert data.spec.env_kwargs == {"observation_key": "sensors/rgb"}
    assert (
        data.spec.preprocessing == "sensors/rgb of the observations"
        and "--observation sensors/rgb" in data.spec.command
    )
    np.testing.assert_array_equal(data.obs, collected("Block", tmp_path / "two").obs)
    env = make_real(data.spec.env_id, **data.spec.env_kwargs)
    np.testing.assert_array_equal(env.reset(seed=int(data.episode_seed[0]))[0], data.obs[0])
    again = collected("Nested", tmp_path / "three", env_kwargs=dict(data.spec.env_kwargs))
    assert again.hash() == data.hash()


@pytest.mark.skipif(sys.platform == "win32", reason="which has no such locks")
def test_two_processes_do_not_collect_into_one_folder(tmp_path: Path) -> None:
    import fcntl

    other = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is writing into"):
            collected("Block", tmp_path)
    finally:
        os.close(other)
    assert list(tmp_path.iterdir()) == [] and len(collected("Block", tmp_path)) >= 40


def test_a_single_shard_is_made_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "in_processes", None)
    assert len(collected("Block", tmp_path, workers=4, shard_frames=8192)) >= 40


PROGRAM = """
import os
import threading
import gymnasium as gym
import numpy as np
from pathlib import Path
from lssvwm_env.datasets.collect import CollectConfig, Player, collect

class Mine(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gym.spaces.Discrete(9)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.integers(0, 255, (8, 8, 3), np.uint8), {}

    def step(self, action):
        return np.full((8, 8, 3), action, np.uint8), 0.0, False, False, {}

class Locked(Mine):
    def step(self, action):
        with lock:
            return super().step(action)

class AtHome(Mine):
    def __init__(self):
        if os.getpid() != home:
            raise ValueError("is not at home")

lock = threading.Lock()
home = os.getpid()

def make(**kwargs) -> gym.Env:
    return gym.make("Mine-v0", **kwargs)

gym.register("Mine-v0", entry_point=Mine)
def hash(id, workers, player=None):
    out = Path(f"{id[-7:]} {workers} {player is None}")
    return collect(CollectConfig(id, out, 40, workers=workers, shard_frames=20, episode_length=9), player).hash()

class Nine:
    reset = lambda self, env, rng: None
    act = lambda self, env: 8

nines = Player("nines", "this program", lambda env: (env, Nine()))
assert hash("Mine-v0", 1) == hash("__main__:make", 2)
assert hash("Mine-v0", 1, nines) == hash("Mine-v0", 2, nines)
for name, kind in (("AtHome-v0", AtHome), ("Locked-v0", Locked)):  # what is locked keeps all others from going along
    gym.register(name, entry_point=kind)
    assert hash("Mine-v0", 1) == hash(name, 2)
print("all is well")
"""


def test_environments_of_a_program_without_file_and_main_guard_are_collected_by_several_workers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-"], input=PROGRAM, capture_output=True, text=True, timeout=90, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1:] == ["all is well"], done.stderr
    said = "is collected in one process, as it cannot be taken to others"
    first, second = done.stderr.splitlines()
    assert first.startswith(f"AtHome-v0 {said}: ValueError: ") and "is not at home" in first
    assert second.startswith(f"Locked-v0 {said}: TypeError: cannot pickle")


class NoCamera(Block):
    metadata = Block.metadata | {"camera": {"fov": 200.0}}


gym.register("NoCamera-v0", entry_point=NoCamera)


def test_a_camera_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metadata\['camera'\] of NoCamera-v0: fov=200.0 must be"):
        collected("NoCamera", tmp_path)


def test_minigrid_in_first_person_is_wandered_through_and_its_camera_is_known(tmp_path: Path) -> None:
    data = collect(CollectConfig("FirstPerson/MiniGrid-DoorKey-6x6-v0", tmp_path, 30, workers=1, episode_length=20))
    assert data.spec.policy == "wander" and data.spec.camera == Camera(90.0, -0.4)
    assert data.pose_kind == "grid" and data.tiles is None


def test_the_environment_in_first_person_of_the_documentation_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "collect-data.md").read_text()
    code = page.split('```python title="corridor.py"\n')[1].split("```")[0]
    (tmp_path / "corridor.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    dataset = collect(CollectConfig("corridor:Corridor", tmp_path / "data", 200, workers=1, episode_length=100))
    assert (dataset.pose_kind, dataset.spec.camera, dataset.spec.policy) == ("plane", Camera(90.0), "sticky")
    assert dataset.pose is not None and np.abs(dataset.pose[:, 0]).max() > 0.5
    assert not caplog.records

    (tmp_path / "lost.py").write_text(
        "import corridor\n\n\nclass Lost(corridor.Corridor):\n    def step(self, action):\n"
        "        obs, *rest, info = super().step(action)\n        self.steps += 1\n"
        "        if self.steps == 50:\n            self.pose += (0, 40, 0)\n        return obs, *rest, info\n\n"
        "    def reset(self, **kwargs):\n        self.steps = 0\n        return super().reset(**kwargs)\n"
    )
    collect(CollectConfig("lost:Lost", tmp_path / "jumps", 100, workers=1, episode_length=100))
    assert "the pose jumps from" in caplog.text
