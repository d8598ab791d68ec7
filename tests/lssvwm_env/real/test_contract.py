"""Environments that break their promises get one line that names them and what they gave."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_env.real import PixelEnv, PixelMiniGrid, make_real
from lssvwm_env.real.contract import leaf, leaves

SPACE = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)
FRAME = np.arange(768, dtype=np.uint8).reshape(16, 16, 3)


class Gives(gym.Env):
    """Gives on reset and on step whatever it is told to."""

    observation_space = SPACE
    action_space = gym.spaces.Discrete(2)

    def __init__(self, first: Any = (FRAME, {}), then: Any = (FRAME, 0.0, False, False, {})) -> None:
        self.first = first
        self.then = then
        self.render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        return self.first

    def step(self, action):
        return self.then

    def render(self):
        return self.shown.pop(0)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (FRAME / 255.0, "float64 (16, 16, 3)"),
        (FRAME.astype(np.int64), "int64 (16, 16, 3)"),
        (FRAME[:8], "uint8 (8, 16, 3)"),
        (FRAME[..., 0], "uint8 (16, 16)"),
        (np.zeros((32, 32, 3), np.uint8), "uint8 (32, 32, 3)"),
        (FRAME.tolist(), "list"),
        (None, "NoneType"),
        ({"image": FRAME}, "dict"),
    ],
)
def test_a_picture_of_another_kind_is_refused_on_reset_and_on_step(picture: Any, words: str) -> None:
    message = f"Gives gave a picture {words}, but its space is Box(0, 255, (16, 16, 3), uint8)"
    with pytest.raises(ValueError) as error:
        PixelEnv(Gives((picture, {}))).reset()
    assert str(error.value) == message
    env = PixelEnv(Gives(then=(picture, 0.0, False, False, {})))
    env.reset()
    with pytest.raises(ValueError) as error:
        env.step(0)
    assert str(error.value) == message


@pytest.mark.parametrize("flip", [np.s_[::-1], np.s_[:, ::-1], np.s_[..., ::-1]])
def test_flipped_views_are_pictures_that_lie_straight_in_memory(flip: Any) -> None:
    frame, _ = PixelEnv(Gives((FRAME[flip], {}))).reset()
    np.testing.assert_array_equal(frame, FRAME[flip])
    assert frame.flags.c_contiguous


@pytest.mark.parametrize("given", [FRAME, (FRAME,), (FRAME, None), (FRAME, {}, 0), [FRAME, {}], None])
def test_reset_gives_an_observation_and_an_info(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^Gives gave .* on reset, expected \(observation, info\)$"):
        PixelEnv(Gives(given)).reset()


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ((FRAME, 0.0, False, {}), r"\(ndarray, float, bool, dict\) on step, expected \(observation, reward"),
        ((FRAME, 0.0, False, False, None), ".* on step"),
        (FRAME, "uint8 .* on step"),
        (None, "NoneType on step"),
        ((FRAME, None, False, False, {}), "the reward None"),
        ((FRAME, np.nan, False, False, {}), "the reward nan"),
        ((FRAME, "1", False, False, {}), "the reward '1'"),
        ((FRAME, 0.0, None, False, {}), "terminated=None, expected True or False"),
        ((FRAME, 0.0, False, "no", {}), "truncated='no', expected True or False"),
        ((FRAME, 0.0, np.array([True, False]), False, {}), "terminated=array"),
    ],
)
def test_step_gives_what_gymnasium_says(then: Any, words: str) -> None:
    env = PixelEnv(Gives(then=then))
    env.reset()
    with pytest.raises(ValueError, match=f"^Gives gave {words}"):
        env.step(0)


def test_numbers_of_numpy_are_given_on_as_plain_ones() -> None:
    env = PixelEnv(Gives(then=(FRAME, np.array([2.5], np.float32), np.True_, np.bool_(False), {})))
    env.reset()
    _, reward, terminated, truncated, _ = env.step(0)
    assert (reward, terminated, truncated) == (2.5, True, False)
    assert [type(x) for x in (reward, terminated, truncated)] == [float, bool, bool]


def test_what_is_rendered_keeps_the_size_it_has_first() -> None:
    env = Gives()
    env.shown = [FRAME, FRAME, FRAME[:8]]
    seen = PixelEnv(env, render_frames=True)
    seen.reset()
    with pytest.raises(ValueError, match=r"^Gives gave a picture uint8 \(8, 16, 3\), but its space"):
        seen.step(0)
    env.shown = [None]
    with pytest.raises(ValueError, match="renders NoneType, expected arrays uint8"):
        PixelEnv(env, render_frames=True)


def test_minigrid_worlds_are_held_to_it_by_their_id() -> None:
    env = gym.make("MiniGrid-DoorKey-6x6-v0", disable_env_checker=True)
    env.unwrapped.step = lambda action: (env.unwrapped.gen_obs(), np.nan, True, False, {})
    seen = PixelMiniGrid(env)
    seen.reset(seed=0)
    with pytest.raises(ValueError, match="MiniGrid-DoorKey-6x6-v0 gave the reward nan"):
        seen.step(0)


NESTED = gym.spaces.Dict(
    {
        "task": gym.spaces.Text(9),
        "sensors": gym.spaces.Dict({"rgb": SPACE, "depth": gym.spaces.Box(0, 1, (16, 16))}),
        "a/b": gym.spaces.Discrete(2),
    }
)


def test_entries_of_nested_observations_have_names() -> None:
    assert dict(leaves(NESTED)).keys() == {"task", "sensors/rgb", "sensors/depth", "a/b"}
    observation = {"task": "go", "sensors": {"rgb": FRAME, "depth": None}, "a/b": 1, "a": {"c": 2}}
    assert leaf(observation, "sensors/rgb") is FRAME and leaf(observation, "task") == "go"
    assert (leaf(observation, "a/b"), leaf(observation, "a/c")) == (1, 2)
    assert leaf({"a": {"c": 2}, "a/b": 1}, "a/b") == 1
    assert leaf(observation, "sensors/lidar") is None and leaf(observation, "nothing") is None
    assert leaf(FRAME, "") is FRAME and leaf(FRAME, "rgb") is None


class Senses(Gives):
    observation_space = NESTED


def test_pictures_can_be_an_entry_of_a_dict() -> None:
    given = {"task": "push", "sensors": {"rgb": FRAME, "depth": np.zeros((16, 16))}, "a/b": 0}
    env = PixelEnv(
        Senses((given, {}), ({**given, "sensors": {}}, 0.0, False, False, {})), observation_key="sensors/rgb"
    )
    np.testing.assert_array_equal(env.reset()[0], FRAME)
    assert env.preprocessing == "sensors/rgb of the observations" and env.observation_space == SPACE
    with pytest.raises(ValueError, match="^Senses gave a picture NoneType, but its space is Box"):
        env.step(0)


@pytest.mark.parametrize(
    ("env", "key", "message"),
    [
        (Senses(), None, "expected pictures .*: say --observation sensors/rgb"),
        (Senses(), "task", "no pictures under 'task', expected pictures .*: say --observation sensors/rgb"),
        (Senses(), "sensors", "no pictures under 'sensors'"),
        (Gives(), "rgb", "no pictures under 'rgb'.*: leave out --observation"),
    ],
)
def test_where_the_pictures_are_is_said(env: gym.Env, key: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelEnv(env, observation_key=key)


def test_frames_are_rendered_or_observed() -> None:
    with pytest.raises(ValueError, match="CartPole-v1 either renders frames or observes x"):
        make_real("CartPole-v1", render_frames=True, observation_key="x")
    with pytest.raises(ValueError, match="no pictures under 'image'.* --render"):
        make_real("MiniGrid-DoorKey-6x6-v0", observation_key="image")
