"""Agents in the real environment get a memory, and agents in dreams are kept where these are sure."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.sb3 import LSSVWMVecEnv
from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.envs.wrappers import MemoryFeatures, UncertaintyGuard
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
    frames = [obs["frames"]]
    actions = [env.action_space.sample()]  # the first action is ignored
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


def test_all_faces_tell_the_same_uncertainty_and_dream_the_same(toy_simulator: Simulator):
    plain = LSSVWMEnv(toy_simulator)
    env = LSSVWMEnv(toy_simulator, uncertainty_samples=3)
    vector, vec_env = (face(toy_simulator, 2, uncertainty_samples=3) for face in (LSSVWMVectorEnv, LSSVWMVecEnv))
    plain.reset(seed=5), env.reset(seed=5), vector.reset(seed=5), vec_env.seed(5), vec_env.reset()
    for action in (2, 0, 3):
        obs, *_, info = env.step(action)
        assert np.array_equal(obs, plain.step(action)[0])
        _, _, terminated, truncated, together = vector.step([action, 1])
        assert info["uncertainty"] > 0 and together["uncertainty"][0] == pytest.approx(info["uncertainty"], rel=1e-3)
        assert vec_env.step(np.array([action, 1]))[-1][0]["uncertainty"] == pytest.approx(info["uncertainty"], rel=1e-3)
        if (terminated | truncated).any():
            break  # the next step of that world is a reset, which is not unsure of anything
    assert env.fork(2)[1].step(0)[-1]["uncertainty"] > 0


def test_it_is_the_spread_of_the_samples(toy_simulator: Simulator):
    core = SimulatorCore(replace(toy_simulator), 3)
    core.reset([0, 1, 2], [1, 2, 3])
    act = torch.tensor([0, 1, 2])
    assert (core.model.uncertainty(core.memory, act, core.keys) > 0).all()
    for parameter in core.model.network.out.parameters():
        parameter.zero_()  # now every sample is the same frame
    assert not core.model.uncertainty(core.memory, act, core.keys).any()
    for wrong in ({"samples": 1}, {"steps": 1}):
        with pytest.raises(ValueError, match="must be at least 2"):
            core.model.uncertainty(core.memory, act, core.keys, **wrong)
    with pytest.raises(ValueError, match="uncertainty_samples is 1; expected 0 for none, or at least 2"):
        SimulatorCore(toy_simulator, 1, uncertainty_samples=1)


def test_the_guard_truncates_and_takes_back_rewards(toy_simulator: Simulator):
    env = LSSVWMEnv(toy_simulator, uncertainty_samples=3)
    env.reset(seed=0)
    state = env.save_state()
    _, reward, _, truncated, info = env.step(1)
    for limit, ends in ((0.5 * info["uncertainty"], True), (2 * info["uncertainty"], False), (None, False)):
        env.load_state(state)
        step = UncertaintyGuard(env, limit, penalty=3.0).step(1)
        assert step[1] == pytest.approx(reward - 3 * info["uncertainty"], rel=1e-4)
        assert (step[3], truncated, step[4]) == (ends, False, info)
    for wrong in (-0.1, float("nan"), True, "0.5", float("inf")):
        for name in ("limit", "penalty"):
            with pytest.raises(ValueError, match=f"{name}=.* must be a number of at least 0"):
                UncertaintyGuard(env, **{name: wrong})
    with pytest.raises(ValueError, match="make it with uncertainty_samples=4"):
        UncertaintyGuard(gym.wrappers.TimeLimit(LSSVWMEnv(toy_simulator), 3))


class Unsure(Noise):
    """A dream that is always as unsure of its next frame."""

    core = SimpleNamespace(uncertainty_samples=2)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._frame(), 1.0, False, False, {"uncertainty": 0.5}


@pytest.mark.parametrize(("limit", "truncated"), [(0.49, True), (0.5, False), (None, False)])
def test_the_guard_truncates_above_its_limit_and_takes_nothing_unless_told_to(limit: float | None, truncated: bool):
    env = UncertaintyGuard(Unsure(gym.spaces.Discrete(2)), limit)
    env.reset(seed=0)
    _, reward, terminated, cut, _ = env.step(0)
    assert (reward, terminated, cut) == (1.0, False, truncated)
