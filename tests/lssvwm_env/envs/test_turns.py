"""Worlds belong to one thread at a time, and copies of them to whoever has the copy."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.sb3 import LSSVWMVecEnv
from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.envs.wrappers import MemoryFeatures
from lssvwm_env.simulator.simulator import Simulator
from tests.lssvwm_env.envs.test_refused_calls import FACES, OBS, future, made

COPIES: list[Callable[[Any], Any]] = [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))]


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("face", FACES)
def test_a_copy_has_the_same_future(toy_simulator: Simulator, face: Any, copied: Callable[[Any], Any]):
    env = made(face, toy_simulator)
    env.step(1 if face is LSSVWMEnv else [1, 1])
    other = copied(env)
    assert all(np.array_equal(a, b) for a, b in zip(future(other), future(env), strict=True))


@pytest.mark.parametrize("copied", COPIES)
def test_wrappers_are_copied_around_it(toy_simulator: Simulator, copied: Callable[[Any], Any]):
    env = gym.wrappers.OrderEnforcing(TimeLimit(LSSVWMEnv(toy_simulator, "rgb_array"), 4))
    env.reset(seed=0)
    moment = env.unwrapped.save_state()
    env.step(1)
    other = copied(env)
    assert np.array_equal(other.render(), env.render())
    assert [other.step(2)[3] for _ in range(3)] == [False, False, True]
    again = copied(other)
    again.unwrapped.load_state(moment)
    assert [again.step(2)[3] for _ in range(4)] == [False, False, False, True]
    assert [env.step(2)[3] for _ in range(3)] == [False, False, True]


def test_copies_share_the_weights_by_deepcopy_alone_and_open_no_window(toy_simulator: Simulator):
    env = LSSVWMEnv(toy_simulator, "human")
    env.reset(seed=0)
    twin, other = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    assert twin.simulator is env.simulator is toy_simulator and other.simulator is not toy_simulator
    assert twin.core._recorded is env.core._recorded and env.fork(1)[0].core._recorded is env.core._recorded
    assert (twin.render_mode, twin._window, env.render_mode) == (None, None, "human")
    assert all(copied.action_space is not env.action_space for copied in (twin, env.fork(1)[0]))
    assert twin.core.action_space is not env.core.action_space
    env.close()


def test_an_agents_memory_of_the_real_world_is_copied_too(toy_simulator: Simulator):
    class Still(gym.Env[Any, Any]):
        observation_space = toy_simulator.observation_space
        action_space = toy_simulator.action_space

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return OBS[0], {}

        def step(self, action: Any) -> Any:
            return OBS[0, ::-1], 0.0, False, False, {}

    env = MemoryFeatures(Still(), toy_simulator)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    assert np.array_equal(env.step(1)[0], twin.step(1)[0])


def test_another_process_goes_on_with_it(toy_simulator: Simulator):
    env = LSSVWMEnv(toy_simulator)
    env.reset(seed=0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply(step, (env,))
    np.testing.assert_allclose(elsewhere, env.step(2)[0], rtol=0, atol=1)


def step(env: LSSVWMEnv) -> np.ndarray:
    frame: np.ndarray = env.step(2)[0]
    return frame


USES: dict[Any, list[Callable[[Any], Any]]] = {
    SimulatorCore: [
        lambda core: core.step([0, 0]),
        lambda core: core.reset([0], [1]),
        lambda core: core.observe(OBS[None, :1].repeat(2, 0), [[0], [0]]),
        lambda core: core.save_state(),
        lambda core: core.load_state(None),
        lambda core: core.fork(2),
    ],
    LSSVWMEnv: [
        lambda env: env.step(0),
        lambda env: env.reset(),
        lambda env: env.observe(OBS, [0, 0]),
        lambda env: env.save_state(),
        lambda env: env.load_state(None),
        lambda env: env.fork(2),
    ],
    LSSVWMVectorEnv: [
        lambda env: env.step([0, 0]),
        lambda env: env.reset(),
        lambda env: env.observe(OBS[None, :1].repeat(2, 0), [[0], [0]]),
        lambda env: env.save_state(),
        lambda env: env.load_state(None),
    ],
    LSSVWMVecEnv: [lambda env: env.step_async([0, 0]), lambda env: env.reset()],
}


@pytest.mark.parametrize("face", FACES)
def test_a_second_thread_is_refused_while_a_step_is_under_way(
    toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, face: Any
):
    env, twin = made(face, toy_simulator), made(face, toy_simulator)
    core = env if face is SimulatorCore else env.env.core if face is LSSVWMVecEnv else env.core
    imagine = core.model.imagine
    refused: list[str] = []

    def slow(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(core.model, "imagine", imagine)
        other = threading.Thread(target=use)
        other.start()
        other.join()
        return imagine(*args, **kwargs)

    def use() -> None:
        for call in USES[face]:
            try:
                call(env)
            except RuntimeError as error:
                refused.append(str(error))
            else:
                refused.append("taken")

    monkeypatch.setattr(core.model, "imagine", slow)
    action = 1 if face is LSSVWMEnv else np.ones(2, int)
    (seen, *_), (expected, *_) = env.step(action), twin.step(action)
    assert np.array_equal(seen, expected)
    assert len(refused) == len(USES[face])
    assert all("give each thread an environment of its own, by fork() or copy.deepcopy()" in said for said in refused)
    assert all(np.array_equal(a, b) for a, b in zip(future(env, 2), future(twin, 2), strict=True))


def test_actions_are_not_given_twice_nor_taken_twice(toy_simulator: Simulator):
    env = made(LSSVWMVecEnv, toy_simulator)
    env.step_async(np.zeros(2, int))
    with pytest.raises(RuntimeError, match=r"^step_wait\(\) comes first"):
        env.step_async(np.zeros(2, int))
    env.step_wait()
    with pytest.raises(RuntimeError, match=r"^step_async\(\) comes first"):
        env.step_wait()
    env.step_async(np.zeros(2, int))
    env.reset()
    env.step(np.zeros(2, int))


def test_forks_and_copies_move_beside_their_parent(toy_simulator: Simulator):
    core = made(SimulatorCore, toy_simulator)
    with core.turn:
        for other in (core.fork(1), core.split()[0], copy.deepcopy(core)):
            thread = threading.Thread(target=other.step, args=([0] * other.num_envs,))
            thread.start()
            thread.join()
            assert other.elapsed.tolist() == [1] * other.num_envs
