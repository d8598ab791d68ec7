from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.memory_features import MemoryFeatures
from lssvwm_env.simulator.simulator import Simulator


class Noise(gym.Env[Any, Any]):
    """A real environment: every frame is noise of its own."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)

    def __init__(self, action_space: gym.Space[Any]) -> None:
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._frame(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._frame(), 1.0, False, False, {}

    def _frame(self) -> Any:
        return self.np_random.integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("name", ["toy_simulator", "toy_box_simulator"])
def test_the_real_world_feels_as_the_dream_that_goes_on_from_it(name: str, request: pytest.FixtureRequest):
    simulator: Simulator = request.getfixturevalue(name)
    env = MemoryFeatures(Noise(simulator.action_space), simulator, observation="both")
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    frames, actions = [obs["frames"]], [env.action_space.sample()]  # the first action is ignored
    for _ in range(5):
        actions.append(env.action_space.sample())
        obs, *_ = env.step(actions[-1])
        frames.append(obs["frames"])
    dream = LSSVWMEnv(simulator, observation="both")
    dreamed, _ = dream.reset(options={"context": (np.stack(frames), np.stack(actions))})
    assert np.array_equal(dreamed["frames"], obs["frames"])
    np.testing.assert_allclose(dreamed["features"], obs["features"], rtol=1e-4, atol=1e-4)
    again, _ = env.reset(seed=0)
    np.testing.assert_array_equal(again["frames"], frames[0])  # and nothing is left of the episode before:
    alone, _ = LSSVWMEnv(simulator, observation="features").reset(options={"context": (frames[0][None], actions[:1])})
    np.testing.assert_allclose(again["features"], alone, rtol=1e-4, atol=1e-4)


def test_policies_learn_on_it(toy_simulator: Simulator):
    env = MemoryFeatures(Noise(toy_simulator.action_space), toy_simulator)
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space and env.step(3)[0] in env.observation_space
    assert PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu").learn(8).num_timesteps == 8


def test_another_environment_is_refused(toy_simulator: Simulator):
    with pytest.raises(ValueError, match=r"action_space Discrete\(3\), but the simulator has Discrete\(7\)"):
        MemoryFeatures(Noise(gym.spaces.Discrete(3)), toy_simulator)
