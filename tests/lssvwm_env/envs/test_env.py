"""`LSSVWMEnv` keeps every contract of Gymnasium and Stable-Baselines3, and loses no world to a wrong argument."""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pygame
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import lssvwm_env
from lssvwm_env.envs.env import LSSVWMEnv, _Window
from lssvwm_env.envs.observations import observation_space
from lssvwm_env.simulator.simulator import Simulator


@pytest.fixture
def env(toy_simulator: Simulator) -> LSSVWMEnv:
    env = LSSVWMEnv(toy_simulator, render_mode="rgb_array")
    env.reset(seed=0)
    return env


@pytest.fixture(params=["toy_simulator", "toy_box_simulator"])
def env_id(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A registered environment over a simulator folder."""
    request.getfixturevalue(request.param).save(tmp_path / "toy", "")
    gym.register("Toy-v0", "lssvwm_env.envs.env:LSSVWMEnv", max_episode_steps=5, kwargs={"simulator": tmp_path / "toy"})
    yield "Toy-v0"
    del gym.registry["Toy-v0"]


def context(length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(length)
    return rng.integers(0, 256, (length, 64, 64, 3), np.uint8), rng.integers(0, 7, length)


def test_passes_both_checkers_without_a_warning(env_id: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(env_id)
        check_env(env.unwrapped)
        check_env_sb3(env)
        check_env_sb3(env.unwrapped)


def test_ppo_learns_without_an_adapter(env_id: str):
    model = PPO("CnnPolicy", gym.make(env_id), n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    model.learn(32)
    assert model.num_timesteps == 32


def test_load_adds_the_time_limit(toy_simulator: Simulator, tmp_path: Path):
    toy_simulator.save(tmp_path / "toy", "")
    env = lssvwm_env.load(tmp_path / "toy", render_mode="rgb_array")
    env.reset(seed=0)
    ends = [env.step(0)[3] for _ in range(toy_simulator.config.horizon)]
    assert isinstance(env.unwrapped, LSSVWMEnv) and env.render_mode == "rgb_array"
    assert ends == [False] * (len(ends) - 1) + [True]


def test_make_and_load_choose_the_device(env_id: str, tmp_path: Path):
    for device in ("cpu", "auto"):
        made = gym.make(env_id, device=device, bf16=True).unwrapped.core
        loaded = lssvwm_env.load(tmp_path / "toy", device=device, bf16=True).unwrapped.core
        assert made.bf16 and loaded.bf16 and made.device == loaded.device
        assert made.device.type == ("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="^device='gpu' cannot be used here"):
        gym.make(env_id, device="gpu")


def test_returns_plain_python_values_and_beliefs_as_scalars_of_numpy(env: LSSVWMEnv):
    obs, rew, terminated, truncated, info = env.step(np.int64(3))
    assert obs in env.observation_space and obs.flags.c_contiguous
    assert type(rew) is float and type(terminated) is bool and truncated is False
    assert list(info) == ["term_prob"] and type(info["term_prob"]) is np.float64
    assert terminated == (info["term_prob"] > 0.5)


def test_episodes_differ_unless_seeded(env: LSSVWMEnv):
    def dream(seed: int | None) -> np.ndarray:
        env.reset(seed=seed, options={"context": context(2)})
        return env.step(0)[0]

    assert np.array_equal(dream(1), dream(1))
    assert not np.array_equal(dream(1), dream(2))
    assert not np.array_equal(dream(None), dream(None))


def test_goes_on_from_a_lived_episode(env: LSSVWMEnv):
    obs, act = context(4)
    first, info = env.reset(seed=0, options={"context": (obs, act)})
    assert np.array_equal(first, obs[-1]) and list(info) == ["term_prob"]
    env.step(0)
    later, act = context(2)
    env.observe(later, act)
    assert env.core.memory.age.tolist() == [7] and np.array_equal(env.render(), later[-1])


@pytest.mark.parametrize("start", [0, 4, np.int64(2)])
def test_begins_at_a_start_of_the_users_choice(env: LSSVWMEnv, start: int):
    obs, _ = env.reset(options={"start": start})
    assert np.array_equal(obs, env.simulator.starts.obs[start][-1])


def test_features_reach_the_bounds_of_their_space_and_no_further(env: LSSVWMEnv):
    space = observation_space(env.simulator, "features")
    width = env.simulator.config.model.feature_dim
    assert space.shape == (width,) and space.dtype == np.float32
    one_is_all = torch.nn.functional.one_hot(torch.arange(width), width).float() * 1e6
    extreme = float(env.simulator.model.features.norm(one_is_all).abs().max())
    assert space.high.max() == pytest.approx(extreme, rel=1e-4) and np.array_equal(space.low, -space.high)


def test_long_contexts_must_be_wanted(env: LSSVWMEnv):
    with pytest.raises(ValueError, match=r"context has 9 frames, .*at most 8.*set allow_long_context to True"):
        env.reset(options={"context": context(9)})
    env.reset(options={"context": context(9), "allow_long_context": True})
    env.reset(options={"context": context(8)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contxt": 1}, r"unknown keys \['contxt'\]; known are allow_long_context, context, start"),
        ({"start": 5}, r"options\['start'\] is 5; expected 'nothing', or a number from 0 to 4"),
        ({"start": -1}, r"options\['start'\] is -1"),
        ({"start": True}, r"options\['start'\] is True"),
        ({"start": 1.0}, r"options\['start'\] is 1.0"),
        ({"context": (1, 2, 3)}, r"options\['context'\] is a tuple; expected a pair"),
        ({"context": context(2), "start": 0}, "both a context and a start"),
        ({"context": 3}, r"options\['context'\] is a int; expected a pair"),
        ({"context": (1, 2)}, r"context obs is int64 \(\); expected uint8 \(T, 64, 64, 3\)"),
        ({"context": (context(2)[0], [0, 7])}, r"context act\[1:\] has the values \[7\]"),
    ],
)
def test_refused_options_leave_the_episode(env: LSSVWMEnv, options: dict, message: str):
    before = env.core.memory
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    assert env.core.memory is before


@pytest.mark.parametrize("action", [7, -1, 1.0, True, None, "left", [1], np.array([1, 2])])
def test_refused_actions_leave_the_world(env: LSSVWMEnv, action: object):
    before = env.core.memory
    with pytest.raises(ValueError, match=r"^action .*; expected"):
        env.step(action)
    assert env.core.memory is before
    env.step(0)


@pytest.mark.parametrize("action", [[np.nan, 0], [np.inf, 0], [0, 1.1], [0.0], 0.0, [[0, 0]]])
def test_refused_box_actions_leave_the_world(toy_box_simulator: Simulator, action: object):
    env = LSSVWMEnv(toy_box_simulator)
    env.reset(seed=0)
    before = env.core.memory
    with pytest.raises(ValueError, match=r"^action .*; expected numbers in Box\(-1.0, 1.0, \(2,\), float32\)"):
        env.step(action)
    assert env.core.memory is before
    env.step([0.5, -1])


def test_an_episode_must_begin(toy_simulator: Simulator):
    env = LSSVWMEnv(toy_simulator, render_mode="rgb_array")
    for use in (lambda: env.step(0), env.save_state, env.render, lambda: env.fork(2), lambda: env.observe(*context(1))):
        with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\)"):
            use()


def test_saves_and_returns(env: LSSVWMEnv, tmp_path: Path):
    seen = env.step(1)[0]
    state = env.save_state(tmp_path / "moment")
    ahead = [env.step(a) for a in (1, 2)]
    for saved in (state, tmp_path / "moment"):
        assert np.array_equal(env.load_state(saved), seen) and np.array_equal(env.render(), seen)
        again = [env.step(a) for a in (1, 2)]
        for (obs, reward, *ends, _), (same_obs, same_reward, *same_ends, _) in zip(ahead, again, strict=True):
            assert np.abs(obs.astype(int) - same_obs).max() <= 1 and ends == same_ends
            assert reward == pytest.approx(same_reward, abs=1e-5)


def test_a_saved_moment_has_its_stream_unless_told_otherwise(env: LSSVWMEnv, tmp_path: Path):
    moment = env.save_state(tmp_path / "moment")
    ahead = env.step(1)[0]
    for saved in (moment, tmp_path / "moment"):
        env.reset(seed=1)
        env.load_state(saved)
        assert np.array_equal(env.step(1)[0], ahead)


def test_a_new_stream_gives_a_new_future(env: LSSVWMEnv):
    state = env.save_state(include_rng=False)
    ahead = env.step(1)[0]
    env.reset(seed=1)
    env.load_state(state)
    assert not np.array_equal(env.step(1)[0], ahead)


def test_forks_are_environments_of_their_own(env: LSSVWMEnv):
    now = env.render()
    memory = env.core.memory
    forks = env.fork(3)
    assert all(np.array_equal(fork.render(), now) for fork in forks)
    assert all(fork.core.model is env.core.model for fork in forks)
    first, second, _ = (fork.step(2)[0] for fork in forks)
    assert env.core.memory is memory and np.array_equal(env.render(), now)
    assert np.array_equal(env.step(2)[0], first) and not np.array_equal(first, second)
    forks[2].reset(seed=5)
    assert forks[0].np_random is not forks[1].np_random is not env.np_random
    assert forks[0].action_space is not env.action_space and forks[0].observation_space == env.observation_space
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        env.fork(0)


def test_forks_are_what_their_parent_is(toy_simulator: Simulator):
    env = LSSVWMEnv(toy_simulator, observation="both", denoising_steps=2, uncertainty_samples=2, bf16=True)
    env.reset(seed=0)
    fork = env.fork(2)[1]
    assert (fork.core.denoising_steps, fork.core.uncertainty_samples, fork.core.bf16) == (2, 2, True)
    obs, *_, info = fork.step(0)
    assert obs in fork.observation_space and info["uncertainty"] > 0


def test_users_may_write_into_what_they_get(env: LSSVWMEnv):
    obs, *_ = env.step(0)
    shown = env.render()
    obs[:] = 0
    env.render()[:] = 0
    assert np.array_equal(env.render(), shown)


def test_shows_a_window(toy_simulator: Simulator):
    env = LSSVWMEnv(toy_simulator, render_mode="human")
    obs, _ = env.reset(seed=0)
    assert env.render() is None
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert np.array_equal(screen, obs.repeat(8, 0).repeat(8, 1))
    assert env.fork(1)[0].render_mode is None
    env.close()
    env.close()
    assert not pygame.display.get_init()


def test_frames_are_shown_at_their_pace_and_never_smaller_than_they_are(toy_simulator: Simulator):
    assert LSSVWMEnv.metadata == {"render_modes": ["rgb_array", "human"], "render_fps": 10}
    window = _Window(600, 20)
    frame = np.random.default_rng(0).integers(0, 256, (600, 20, 3), np.uint8)
    paces: list[int] = []
    window._clock = SimpleNamespace(tick=paces.append)
    window.show(frame, 10)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert np.array_equal(shown, frame) and paces == [10]
    window.close()


def test_says_how_to_get_a_window(toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch):
    plain_import = builtins.__import__

    def no_pygame(name: str, *args: object, **kwargs: object) -> object:
        if name == "pygame":
            raise ImportError(name)
        return plain_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pygame)
    with pytest.raises(gym.error.DependencyNotInstalled, match="pip install pygame-ce"):
        LSSVWMEnv(toy_simulator, render_mode="human").reset()


def test_render_needs_a_mode(toy_simulator: Simulator):
    with pytest.raises(ValueError, match="render_mode is 'ascii'; expected None, 'rgb_array' or 'human'"):
        LSSVWMEnv(toy_simulator, render_mode="ascii")
    env = LSSVWMEnv(toy_simulator)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="make the env with render_mode='rgb_array'"):
        assert env.render() is None


def steps_left(env: gym.Env, most: int = 9) -> int:
    """How many steps of action 0 it takes until the episode is truncated."""
    return next(i + 1 for i in range(most) if env.step(env.action_space.sample())[3])


def test_time_limits_go_back_with_the_world(env_id: str, tmp_path: Path):
    """In the stack of `gym.make`, below further wrappers, and in that of `load`; by value and by file."""
    for make in (
        lambda: gym.make(env_id),
        lambda: gym.wrappers.RecordEpisodeStatistics(gym.make(env_id, max_episode_steps=5)),
        lambda: gym.wrappers.TimeLimit(gym.make(env_id, max_episode_steps=-1), 5),
        lambda: gym.wrappers.TimeLimit(lssvwm_env.load(tmp_path / "toy"), 5),
    ):
        env = make()
        env.reset(seed=0)
        begun = env.unwrapped.save_state()
        env.step(env.action_space.sample())
        env.step(env.action_space.sample())
        env.unwrapped.save_state(tmp_path / "moment")
        assert steps_left(env) == 3
        env.unwrapped.load_state(begun)
        assert steps_left(env) == 5
        env.unwrapped.load_state(tmp_path / "moment")
        assert steps_left(env) == 3


def test_forks_keep_the_step_count_and_leave_the_time_limit_alone(env_id: str):
    env = gym.make(env_id)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    child = gym.wrappers.TimeLimit(env.unwrapped.fork(1)[0], 5)
    later = child.unwrapped
    later.step(env.action_space.sample())
    env.unwrapped.load_state(later.save_state())
    assert later.core.elapsed.tolist() == [2] and steps_left(env) == 3


def test_moments_of_older_releases_have_no_step_count_and_begin_anew(env: LSSVWMEnv, tmp_path: Path):
    env.step(1)
    said = {"format": "lssvwm-state", "weights_sha256": env.simulator.weights_sha256, "keys": "[5]"}
    env.core.memory.save(tmp_path / "moment", said)
    env.load_state(tmp_path / "moment")
    assert env.core.elapsed.tolist() == [0] and env.core.keys.tolist() == [5]


@pytest.mark.parametrize("uncertainty_samples", [0, 2])
def test_reset_tells_as_much_as_step_does(toy_simulator: Simulator, uncertainty_samples: int):
    env = LSSVWMEnv(toy_simulator, uncertainty_samples=uncertainty_samples)
    first, later = env.reset(seed=0)[1], env.step(0)[-1]
    assert {k: (type(v), v.shape) for k, v in first.items()} == {k: (type(v), v.shape) for k, v in later.items()}
    assert len(first) == (2 if uncertainty_samples else 1) and first.get("uncertainty", 0) == 0
    env.load_state(env.save_state())  # what the model believes of the frame it has dreamt last
    assert env.core.first_info()["term_prob"][0] == pytest.approx(later["term_prob"], abs=1e-6)


def test_a_world_that_is_dreamt_inside_another_leaves_its_time_limit_alone(toy_simulator: Simulator):
    """As where a wrapper of one plans in the other: both are on the stack."""
    inner = LSSVWMEnv(toy_simulator)

    class Planner(gym.Wrapper):
        def reset(self, **kwargs: object) -> object:
            inner.reset(seed=0)
            return self.env.reset(**kwargs)

    env = gym.wrappers.TimeLimit(Planner(LSSVWMEnv(toy_simulator)), 5)
    env.reset(seed=0)
    env.step(0)
    inner.load_state(inner.save_state())
    assert steps_left(env) == 4
