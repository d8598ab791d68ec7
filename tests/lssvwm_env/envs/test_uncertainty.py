from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.sb3 import LSSVWMVecEnv
from lssvwm_env.envs.uncertainty import UncertaintyGuard
from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.simulator.simulator import Simulator


def test_all_faces_tell_the_same_uncertainty_and_dream_the_same(toy_simulator: Simulator):
    plain, env = LSSVWMEnv(toy_simulator), LSSVWMEnv(toy_simulator, uncertainty_samples=3)
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
    with pytest.raises(ValueError, match="make it with uncertainty_samples=4"):
        UncertaintyGuard(gym.wrappers.TimeLimit(LSSVWMEnv(toy_simulator), 3))
