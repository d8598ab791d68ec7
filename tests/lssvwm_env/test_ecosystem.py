"""What users of Gymnasium and Stable-Baselines3 do with any environment works with a simulator, unmodified."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium.utils.play import play
from gymnasium.wrappers import FrameStackObservation, RecordEpisodeStatistics, RecordVideo, TimeLimit
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN

from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.sb3 import LSSVWMVecEnv
from lssvwm_env.simulator.simulator import Simulator


@pytest.fixture
def env(toy_simulator: Simulator) -> gym.Env[Any, Any]:
    return TimeLimit(LSSVWMEnv(toy_simulator, "rgb_array"), 4)


def run_episode(env: gym.Env[Any, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Observations, and the last info."""
    observations = [env.reset(seed=0)[0]]
    while True:
        obs, _, terminated, truncated, info = env.step(0)
        observations.append(obs)
        if terminated or truncated:
            return observations, info


def test_record_video(env: gym.Env[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a stand-in for moviepy, which is 160 MB."""
    films: list[list[np.ndarray]] = []

    class ImageSequenceClip:
        def __init__(self, frames: list[np.ndarray], fps: int) -> None:
            films.append(list(frames))

        def write_videofile(self, path: str, **options: Any) -> None:
            Path(path).touch()

    for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["moviepy.video.io.ImageSequenceClip"].ImageSequenceClip = ImageSequenceClip
    recorded = RecordVideo(env, str(tmp_path), episode_trigger=lambda episode: True, disable_logger=True)
    observations, _ = run_episode(recorded)
    recorded.close()
    assert np.array_equal(films[0], observations) and list(tmp_path.iterdir())


def test_episode_statistics_and_frame_stacks(env: gym.Env[Any, Any]):
    alone, _ = run_episode(env)
    observations, info = run_episode(RecordEpisodeStatistics(FrameStackObservation(env, 3)))
    assert info["episode"]["l"] == len(observations) - 1
    assert np.array_equal(observations[-1], [*alone[:1] * 2, *alone][-3:]) and observations[0].shape == (3, 64, 64, 3)


def test_people_can_play(env: gym.Env[Any, Any], monkeypatch: pytest.MonkeyPatch):
    """A key is held for a few frames, then the window is closed."""
    played: list[Any] = []

    def callback(obs: Any, next_obs: Any, action: int, *rest: Any) -> None:
        played.append(action)
        event = pygame.KEYDOWN if len(played) < 3 else pygame.QUIT
        pygame.event.post(pygame.event.Event(event, key=ord("w"), unicode="w"))

    play(env, fps=1000, callback=callback, keys_to_action={"w": 2}, noop=6, seed=0)
    assert played[0] == 6 and 2 in played


@pytest.mark.parametrize(("env_id", "key", "action"), [("MiniGrid-Toy-v0", pygame.K_UP, 2), ("Toy-v0", pygame.K_5, 5)])
def test_people_can_play_with_the_keys_of_the_real_environment(
    toy_simulator: Simulator, env_id: str, key: int, action: int
):
    simulator = replace(toy_simulator, config=replace(toy_simulator.config, env_id=env_id))
    played: list[Any] = []

    def callback(obs: Any, next_obs: Any, action: int, *rest: Any) -> None:
        played.append(action)
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN if len(played) < 3 else pygame.QUIT, key=key))

    play(TimeLimit(LSSVWMEnv(simulator, "rgb_array"), 4), fps=1000, callback=callback, noop=6, seed=0)
    assert set(played) == {6, action}


def test_dqn_and_recurrent_ppo_learn(env: gym.Env[Any, Any], toy_simulator: Simulator):
    small = {"buffer_size": 16, "learning_starts": 4, "batch_size": 4}
    assert DQN("CnnPolicy", env, device="cpu", **small).learn(12).num_timesteps == 12
    worlds = LSSVWMVecEnv(toy_simulator, 2, 4, observation="features")
    model = RecurrentPPO("MlpLstmPolicy", worlds, n_steps=4, batch_size=4, n_epochs=1, device="cpu")
    assert model.learn(8).num_timesteps == 8
