"""The bundled simulators are registered cheaply, and are what their registration says."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import pytest

import lssvwm_env
from lssvwm_env import BUNDLED


def test_importing_is_cheap():
    check = "import sys, lssvwm_env; sys.exit(' '.join({'torch', 'pygame', 'minigrid'} & sys.modules.keys()) or 0)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_registering_again_changes_nothing():
    before = dict(gym.registry)
    lssvwm_env.register_envs()
    assert gym.registry == before


def test_public_names_exist():
    for name in lssvwm_env.__all__:
        assert getattr(lssvwm_env, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lssvwm_env.nothing  # noqa: B018 (the access is the test)


@pytest.mark.parametrize("env_id", BUNDLED)
def test_bundled_simulators_run(env_id: str):
    env = gym.make(env_id)
    config = env.unwrapped.simulator.config
    assert config.horizon == BUNDLED[env_id] == env.spec.max_episode_steps
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    obs, _, _, truncated, _ = env.step(env.action_space.sample())
    assert obs in env.observation_space and not truncated


@pytest.mark.parametrize("env_id", BUNDLED)
def test_bundled_simulators_load_by_name(env_id: str):
    env = lssvwm_env.load(env_id.removeprefix("LSSVWM/"))
    assert env.unwrapped.simulator.config.horizon == BUNDLED[env_id]
