"""Any environment becomes square RGB frames and flat actions, and what makes none is refused with what to do."""

from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lssvwm_env.real import PixelEnv, PixelMiniGrid, make_real
from lssvwm_env.real.flat_actions import FlatActions
from lssvwm_env.real.pixels import Framing


class Pictures(gym.Env):
    """Random pictures of any shape; the reward is the number of the step, and step 10 is the last."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, height=210, width=160, channels=3, actions=None, render_mode=None):
        shape = (height, width, channels) if channels else (height, width)
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = actions or gym.spaces.MultiDiscrete([3, 2, 2])
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.seen = []
        return self.observation(), {}

    def step(self, action):
        assert action in self.action_space
        self.steps += 1
        self.seen.append(action)
        return self.observation(), float(self.steps), self.steps == 10, False, {}

    def observation(self):
        self.picture = self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)
        return self.picture

    def render(self):
        return np.full((100, 120, 3), self.steps, np.uint8)


def annotated(height: int = 32) -> gym.Env[np.ndarray, int]:
    return Pictures(height, height)


gym.register("Pictures-v0", entry_point=Pictures)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which this module can be imported."""
    monkeypatch.setitem(sys.modules, "pictures_of_mine", sys.modules[__name__])
    return "pictures_of_mine"


def test_pictures_that_fit_are_left_alone() -> None:
    env = make_real("Pictures-v0", height=32, width=32, actions=gym.spaces.Discrete(3))
    frame, _ = env.reset(seed=0)
    np.testing.assert_array_equal(frame, env.unwrapped.picture)
    assert env.preprocessing == "none" and env.action_space == gym.spaces.Discrete(3)


def test_other_pictures_are_averaged_to_64() -> None:
    env = make_real("Pictures-v0", height=128, width=192)
    frame, _ = env.reset(seed=0)
    mean = env.unwrapped.picture.reshape(64, 2, 64, 3, 3).mean((1, 3))
    assert np.abs(frame - mean).max() < 1  # Pillow rounds after each of two passes
    assert env.observation_space.shape == (64, 64, 3) and "128x192 resized to 64x64" in env.preprocessing
    assert make_real("Pictures-v0").reset(seed=0)[0].shape == (64, 64, 3)  # 210x160


@pytest.mark.parametrize("channels", [0, 1])
def test_grey_becomes_rgb(channels: int) -> None:
    env = make_real("Pictures-v0", height=64, width=64, channels=channels)
    frame, _ = env.reset(seed=0)
    np.testing.assert_array_equal(frame, np.stack([env.unwrapped.picture.squeeze()] * 3, -1))
    assert env.preprocessing.startswith("grey to RGB")


def test_a_size_can_be_asked_for() -> None:
    env = make_real("Pictures-v0", height=64, width=64, frame_size=32)
    frame, _ = env.reset(seed=0)
    expected = Image.fromarray(env.unwrapped.picture).resize((32, 32), Image.Resampling.BOX)
    np.testing.assert_array_equal(frame, np.asarray(expected))
    with pytest.raises(ValueError, match="Pictures-v0 a frame size of 60 is no multiple of 8"):
        make_real("Pictures-v0", frame_size=60)


def test_what_is_rendered_can_be_the_frame() -> None:
    env = make_real("Pictures-v0", render_frames=True)
    env.reset(seed=0)
    frame = env.step(0)[0]
    assert frame.shape == (64, 64, 3) and (frame == 1).all() and env.preprocessing.startswith("rendered, 100x120")
    cart = make_real("CartPole-v1", render_frames=True)
    assert cart.reset(seed=0)[0].std() > 0


def test_a_skipped_frame_repeats_the_action_and_sums_the_reward_up_to_the_end() -> None:
    env = make_real("Pictures-v0", frame_skip=4)
    env.reset(seed=0)
    steps = [env.step(7) for _ in range(3)]
    assert [(reward, end) for _, reward, end, _, _ in steps] == [(10, False), (26, False), (19, True)]
    assert len(env.unwrapped.seen) == 10 and "taken 4 times" in env.preprocessing
    with pytest.raises(ValueError, match="frame_skip=0"):
        make_real("Pictures-v0", frame_skip=0)


def test_many_digits_become_one_number() -> None:
    env = make_real("Pictures-v0")
    assert env.action_space == gym.spaces.Discrete(12)
    for episode in (range(6), range(6, 12)):
        env.reset(seed=0)
        for action in episode:
            env.step(action)
            assert env.unwrapped.seen[-1].tolist() == [action // 4, action // 2 % 2, action % 2]
    with pytest.raises(ValueError, match="12"):
        env.step(12)


SPACES = [
    gym.spaces.Discrete(5),
    gym.spaces.Discrete(3, start=-1),
    gym.spaces.MultiDiscrete([3, 2, 4]),
    gym.spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[1, 2], [0, -1]]),
    gym.spaces.MultiBinary(4),
    gym.spaces.MultiBinary([2, 2]),
    gym.spaces.Box(-1, 1, (3,), np.float32),
    gym.spaces.Box(-0.1, np.array([[0.1], [7]]), (2, 1), np.float64),
]


@given(st.sampled_from(SPACES), st.integers(0, 2**31))
def test_flat_actions_go_both_ways(space: gym.Space, seed: int) -> None:
    flat = FlatActions(space)
    rng = np.random.default_rng(seed)
    space.seed(seed)
    taken = np.stack([np.asarray(space.sample()) for _ in range(5)])
    for action, number in zip(taken, flat.from_env(taken), strict=True):
        assert number in flat.flat
        np.testing.assert_allclose(flat.to_env(number), action, atol=1e-6)
    if isinstance(flat.flat, gym.spaces.Discrete):
        numbers = rng.integers(0, flat.flat.n, 5)
        back = flat.from_env([flat.to_env(number) for number in numbers])
        np.testing.assert_array_equal(back, numbers)
    else:
        assert flat.to_env(flat.flat.high) in space and flat.to_env(flat.flat.low) in space


def test_actions_outside_of_their_space_are_refused() -> None:
    with pytest.raises(ValueError, match="actions 0 to 3 are not all in Discrete"):
        FlatActions(gym.spaces.Discrete(3)).from_env([0, 3])
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \(T, ...\)"):
        FlatActions(gym.spaces.MultiBinary(3)).from_env(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="Pictures-v0 has actions Text.*TransformAction"):
        make_real("Pictures-v0", actions=gym.spaces.Text(3))


def test_classes_and_functions_make_environments(here: str) -> None:
    assert isinstance(make_real(f"{here}:Pictures").unwrapped, Pictures)
    assert make_real(f"{here}:annotated", height=40).observation_space.shape == (40, 40, 3)
    assert isinstance(make_real(f"{here}:Pictures-v0").unwrapped, Pictures)  # an id


@pytest.mark.parametrize("name", ["os:system", "subprocess:run", "builtins:exec", "gymnasium:__version__"])
def test_nothing_else_is_called(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be made.*no function annotated '-> gymnasium.Env'"):
        make_real(name, command="exit 1")


def test_what_has_no_pictures_is_refused() -> None:
    with pytest.raises(ValueError, match="CartPole-v1 has observations .*expected pictures.*--render"):
        make_real("CartPole-v1")
    with pytest.raises(ValueError, match="expected pictures"):
        make_real("Pictures-v0", height=7, width=7)  # as MiniGrid's codes
    with pytest.raises(ValueError, match="is not the shape of pictures"):
        Framing((64, 64, 4))


def test_minigrid_keeps_its_own_frames() -> None:
    assert isinstance(make_real("MiniGrid-ObjectRooms-v0", size=9, frame_size=64), PixelMiniGrid)
    for asked in ({"frame_size": 32}, {"frame_skip": 2}):
        with pytest.raises(ValueError, match="is a MiniGrid world.*say --render"):
            make_real("MiniGrid-ObjectRooms-v0", **asked)
    above = make_real("MiniGrid-ObjectRooms-v0", size=9, render_frames=True)
    assert isinstance(above, PixelEnv) and above.reset(seed=0)[0].shape[0] == above.unwrapped.get_frame().shape[0]


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_is_a_proper_gymnasium_environment_that_its_spec_makes_again() -> None:
    env = make_real("Pictures-v0", frame_skip=2)
    check_env(env, skip_render_check=True)
    again = gym.make(env.spec)
    assert isinstance(again, PixelEnv) and again.preprocessing == env.preprocessing
