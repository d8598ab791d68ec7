"""The batched faces do what Gymnasium's and Stable-Baselines3's own wrappers around single worlds do."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

import lssvwm_env
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.sb3 import LSSVWMVecEnv
from lssvwm_env.envs.vector import LSSVWMVectorEnv
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data.segments import to_frames

B = 3
LIMIT = 4
rng = np.random.default_rng(0)
ACTIONS = rng.integers(0, 7, (14, B))


@pytest.fixture(scope="module")
def mortal(toy_simulator: Simulator) -> Simulator:
    """Its episodes sometimes terminate, so that all kinds of ends are met."""
    simulator = replace(toy_simulator, model=copy.deepcopy(toy_simulator.model))
    model = simulator.model
    starts = simulator.starts
    is_first = torch.zeros(starts.act.shape, dtype=torch.bool)
    is_first[:, 0] = True
    with torch.no_grad():
        _, feats = model.observe(
            model.initial_state(len(is_first)), to_frames(starts.obs), torch.from_numpy(starts.act), is_first
        )
        model.termination.mlp[-1].weight *= 4
        model.termination.mlp[-1].bias -= model.termination(feats).quantile(0.95)  # dreams end more often
    return simulator


@pytest.fixture(scope="module")
def immortal(toy_simulator: Simulator) -> Simulator:
    """Its episodes never terminate."""
    simulator = replace(toy_simulator, model=copy.deepcopy(toy_simulator.model))
    with torch.no_grad():
        simulator.model.termination.mlp[-1].bias -= 50
    return simulator


def single(simulator: Simulator, **kwargs: Any) -> gym.Env[Any, Any]:
    return TimeLimit(LSSVWMEnv(simulator, "rgb_array", **kwargs), LIMIT)


def assert_alike(a: Any, b: Any, name: str = "result") -> None:
    """Equal, but for the last bits of floats and one step of brightness."""
    assert type(a) is type(b), name
    if isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for key in a:
            assert_alike(a[key], b[key], f"{name}[{key!r}]")
    elif isinstance(a, tuple | list) or (isinstance(a, np.ndarray) and a.dtype == object):
        assert len(a) == len(b), name
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_alike(*pair, f"{name}[{i}]")
    elif isinstance(a, np.ndarray):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), name
        tolerance = 1 if a.dtype == np.uint8 else 1e-4
        np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=0, atol=tolerance, err_msg=name)
    elif a is not None:
        assert a == pytest.approx(b, abs=1e-4), name


@pytest.mark.parametrize("kind", ["frames", "both"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_it_is_a_sync_vector_env_of_single_worlds(mortal: Simulator, mode: AutoresetMode, kind: Any):
    ours = LSSVWMVectorEnv(mortal, B, LIMIT, mode, observation=kind)
    theirs = SyncVectorEnv([lambda: single(mortal, observation=kind)] * B, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert_alike(ours.reset(seed=7), theirs.reset(seed=7))
    ends = np.zeros(2, int)
    for actions in ACTIONS:
        step = ours.step(actions)
        assert_alike(step, theirs.step(actions))
        assert step[0] in ours.observation_space
        ends += step[2].sum(), step[3].sum()
    assert ends.all(), "the test met no termination or no truncation"
    assert_alike(ours.reset(seed=[1, None, 2]), theirs.reset(seed=[1, None, 2]))


def test_resets_can_be_left_to_the_user(mortal: Simulator):
    ours = LSSVWMVectorEnv(mortal, B, LIMIT, AutoresetMode.DISABLED)
    theirs = SyncVectorEnv([lambda: single(mortal)] * B, autoreset_mode=AutoresetMode.DISABLED)
    ours.reset(seed=7), theirs.reset(seed=7)
    resets = 0
    for actions in ACTIONS:
        step = ours.step(actions)
        assert_alike(step, theirs.step(actions))
        if (ended := step[2] | step[3]).any():
            resets += 1
            with pytest.raises(gym.error.ResetNeeded, match="worlds that have ended"):
                ours.step(actions)
            assert_alike(ours.reset(options={"reset_mask": ended}), theirs.reset(options={"reset_mask": ended}))
    assert resets


def test_it_is_a_dummy_vec_env_of_single_worlds(mortal: Simulator):
    ours = LSSVWMVecEnv(mortal, B, LIMIT, "rgb_array")
    theirs = DummyVecEnv([lambda: single(mortal)] * B)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    ours.seed(7), theirs.seed(7)
    assert_alike(ours.reset(), theirs.reset())
    dones = 0
    for actions in ACTIONS:
        step = ours.step(actions)
        assert_alike(step, theirs.step(actions))
        assert_alike(ours.reset_infos, theirs.reset_infos)
        dones += step[2].sum()
    assert dones
    assert ours.render().shape == theirs.render().shape


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_sb3_learns_on_frames_and_on_features(mortal: Simulator, algorithm: Any):
    small = {"n_steps": 4, "device": "cpu"} | ({"batch_size": 4, "n_epochs": 1} if algorithm is PPO else {})
    for kind, policy in (("frames", "CnnPolicy"), ("features", "MlpPolicy"), ("both", "MultiInputPolicy")):
        env = LSSVWMVecEnv(mortal, 2, LIMIT, observation=kind)
        assert algorithm(policy, env, **small).learn(8).num_timesteps == 8


def test_make_vec_makes_it(toy_simulator: Simulator, tmp_path: Path):
    toy_simulator.save(tmp_path / "toy", "")
    gym.register("Toy-v1", "lssvwm_env.envs.env:LSSVWMEnv", vector_entry_point="lssvwm_env.envs.vector:LSSVWMVectorEnv",
                 max_episode_steps=5, kwargs={"simulator": tmp_path / "toy"})  # fmt: skip
    try:
        env = gym.make_vec("Toy-v1", num_envs=2, observation="features", autoreset_mode=AutoresetMode.SAME_STEP)
    finally:
        del gym.registry["Toy-v1"]
    assert isinstance(env, LSSVWMVectorEnv) and env.max_episode_steps == 5
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    # In Gymnasium 1.1 this wrapper counts right in the other mode only.
    env = gym.wrappers.vector.RecordEpisodeStatistics(LSSVWMVectorEnv(toy_simulator, 2, 5))
    env.reset(seed=0)
    infos = [env.step([0, 1])[-1] for _ in range(5)]
    lengths = [info["episode"]["l"][info["_episode"]] for info in infos if "episode" in info]
    assert lengths and all((each > 0).all() and (each <= 5).all() for each in lengths)
    assert all(gym.spec(f"LSSVWM/{name}").vector_entry_point for name in ("ObjectRooms-v0", "MiniGrid-MemoryS9-v0"))
    assert lssvwm_env.LSSVWMVectorEnv is LSSVWMVectorEnv and lssvwm_env.LSSVWMVecEnv is LSSVWMVecEnv


def test_long_contexts_are_wanted_world_by_world(toy_simulator: Simulator):
    env = LSSVWMVectorEnv(toy_simulator, 2)
    frames = rng.integers(0, 256, (9, 64, 64, 3), np.uint8)
    long = {"context": (frames, np.zeros(9, int))}
    env.reset(seed=1, options=[long | {"allow_long_context": True}, {"start": 0}])
    assert env.core.memory.age.tolist() == [9, 3]
    with pytest.raises(ValueError, match="context has 9 frames"):
        env.reset(seed=1, options=[long, {"allow_long_context": True}])


def test_tensors_stay_tensors(mortal: Simulator):
    arrays, tensors = (LSSVWMVectorEnv(mortal, B, observation="both", to_numpy=numpy) for numpy in (True, False))
    (obs, _), (same, _) = arrays.reset(seed=1), tensors.reset(seed=1)
    assert_alike(obs, {k: v.numpy() for k, v in same.items()})
    *step, _ = tensors.step(torch.tensor([0, 1, 2]))
    assert all(isinstance(x, torch.Tensor) for x in (*step[0].values(), *step[1:]))
    assert step[0]["frames"].dtype == torch.uint8 and step[2].dtype == torch.bool


def test_moments_are_kept_and_corrected(mortal: Simulator):
    env = LSSVWMVectorEnv(mortal, B)
    env.reset(seed=1)
    state = env.save_state()
    first = env.step(ACTIONS[0])
    env.load_state(state)
    assert_alike(first, env.step(ACTIONS[0]))
    env.load_state(state)
    real = rng.integers(0, 256, (B, 2, 64, 64, 3), np.uint8)
    assert np.array_equal(env.observe(real, ACTIONS[:2].T), real[:, -1])


def test_a_moment_that_is_loaded_goes_on_even_if_its_world_had_ended_since(toy_simulator: Simulator):
    env = LSSVWMVectorEnv(toy_simulator, 2, max_episode_steps=1)
    env.reset(seed=1)
    state = env.save_state()
    assert env.step([0, 1])[3].all()
    env.load_state(state)
    *_, infos = env.step([0, 1])  # and no reset, as after an end
    assert infos["_term_prob"].all() and env.core.memory.age.tolist() == [4, 4]


def test_episodes_are_as_long_as_the_simulator_says_or_the_user(toy_simulator: Simulator):
    assert LSSVWMVectorEnv(toy_simulator).max_episode_steps == toy_simulator.config.horizon
    assert LSSVWMVectorEnv(toy_simulator, max_episode_steps=1).max_episode_steps == 1
    with pytest.raises(ValueError, match="max_episode_steps=0 must be at least 1"):
        LSSVWMVectorEnv(toy_simulator, max_episode_steps=0)


def test_frames_are_rendered_on_demand(toy_simulator: Simulator):
    env = LSSVWMVectorEnv(toy_simulator, 2, render_mode="rgb_array", observation="features")
    assert env.metadata["render_modes"] == ["rgb_array"] and env.metadata["render_fps"] == 10
    env.reset(seed=1)
    env.step([0, 1])
    shown = env.render()
    assert isinstance(shown, tuple) and np.array_equal(np.stack(shown), env.core.frames())
    shown[0][:] = 0
    assert np.array_equal(np.stack(env.render()), env.core.frames())
    assert LSSVWMVectorEnv(toy_simulator, 2).render() is None


def test_sb3_asks_the_worlds_for_what_they_share(toy_simulator: Simulator):
    env = LSSVWMVecEnv(toy_simulator, 3, 7)
    assert env.get_attr("max_episode_steps") == [7, 7, 7] and env.get_attr("max_episode_steps", [0, 2]) == [7, 7]
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3 and env.env_is_wrapped(gym.Wrapper, 1) == [False]
    assert env.get_images() == [None] * 3
    shown = LSSVWMVecEnv(toy_simulator, 2, 7, "rgb_array")
    shown.seed(0)
    assert np.array_equal(np.stack(shown.get_images()), np.zeros((2, 64, 64, 3)))
    assert np.array_equal(shown.reset(), np.stack(shown.get_images()))
    assert [list(info) for info in shown.reset_infos] == [["term_prob"]] * 2


def test_sb3_chooses_where_worlds_begin(toy_simulator: Simulator):
    env = LSSVWMVecEnv(toy_simulator, 2)
    env.set_options({"start": 3})
    first = env.reset()
    assert (first == toy_simulator.starts.obs[3, -1]).all()
    env.seed(5)
    assert not np.array_equal(env.reset(), first)  # options are for one reset


def test_worlds_begin_where_they_are_told(mortal: Simulator):
    env = LSSVWMVectorEnv(mortal, B)
    starts = mortal.starts.obs[:, -1]
    obs, _ = env.reset(seed=1, options=[{"start": 4}, {"context": (starts[1][None], [0])}, {"start": "nothing"}])
    assert np.array_equal(obs[:2], [starts[4], starts[1]])
    assert not (obs[2] == starts).all((1, 2, 3)).any() and env.core.memory.age.tolist() == [3, 1, 1]
    alone = LSSVWMEnv(mortal)
    assert_alike(obs[2], alone.reset(seed=3, options={"start": "nothing"})[0])
    assert_alike(env.step([0, 0, 5])[0][2], alone.step(5)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": [1]}, "seed has 1 entries; expected one per world, 3"),
        ({"options": [{}]}, "options has 1 entries; expected one per world, 3"),
        ({"options": {"start": 9}}, r"options\['start'\] is 9; expected 'nothing', or a number from 0 to 4"),
        ({"options": {"start": 1, "context": (1, 2)}}, "both a context and a start"),
        ({"options": {"reset_mask": np.zeros(3, bool)}}, "not all False"),
        ({"options": {"reset_mask": np.ones(2, bool)}}, r"expected bool \(3,\)"),
        ({"options": {"reset_mask": np.ones(3, int)}}, r"expected bool \(3,\)"),
        ({"options": {"reset_mask": [True] * 3}}, r"expected bool \(3,\)"),
        ({"options": {"contexts": 1}}, r"unknown keys \['contexts'\]"),
    ],
)
def test_a_refused_reset_changes_nothing(mortal: Simulator, arguments: dict[str, Any], message: str):
    env, twin = (LSSVWMVectorEnv(mortal, B) for _ in range(2))
    env.reset(seed=1), twin.reset(seed=1)
    with pytest.raises(ValueError, match=message):
        env.reset(**arguments)
    assert_alike(env.step(ACTIONS[0]), twin.step(ACTIONS[0]))
    assert_alike(env.reset(), twin.reset())


FACES = (LSSVWMEnv, LSSVWMVectorEnv, LSSVWMVecEnv)


@pytest.mark.parametrize("face", FACES)
def test_all_faces_take_what_the_core_takes(toy_simulator: Simulator, face: Any):
    wanted = {"denoising_steps": 2, "device": "auto", "uncertainty_samples": 3, "bf16": True}
    env = face(toy_simulator, **wanted)
    core: SimulatorCore = getattr(env, "core", None) or env.env.core
    assert core.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert (core.denoising_steps, core.uncertainty_samples, core.bf16) == (2, 3, True)
    plain = face(toy_simulator)
    core = getattr(plain, "core", None) or plain.env.core
    assert (core.denoising_steps, core.uncertainty_samples, core.bf16) == (1, 0, False)
    assert core.device == torch.device("cpu")


@pytest.mark.parametrize("face", FACES)
def test_all_faces_name_a_device_that_is_not_there(toy_simulator: Simulator, face: Any):
    with pytest.raises(ValueError, match=r"^device='gpu' cannot be used here"):
        face(toy_simulator, device="gpu")
    with pytest.raises(TypeError, match="unexpected keyword argument 'dvice'"):
        face(toy_simulator, dvice="cpu")


def test_other_arguments_are_refused(mortal: Simulator):
    with pytest.raises(ValueError, match="observation is 'pixels'; expected one of frames, features, both"):
        LSSVWMVectorEnv(mortal, observation="pixels")
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        LSSVWMVectorEnv(mortal, render_mode="human")
    vec_env = LSSVWMVecEnv(mortal)
    with pytest.raises(NotImplementedError, match=r"call `env\.fork`"):
        vec_env.env_method("fork", 2)
    with pytest.raises(NotImplementedError, match=r"set `env\.x`"):
        vec_env.set_attr("x", 1)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_step_counts_of_all_worlds_go_back(immortal: Simulator, mode: AutoresetMode):
    env = LSSVWMVectorEnv(immortal, 2, 4, mode)
    env.reset(seed=1)
    env.step([0, 0])
    moment = env.save_state()
    for _ in range(2):
        assert [env.step([0, 0])[3].tolist() for _ in range(3)] == [[False] * 2] * 2 + [[True] * 2]
        env.load_state(moment)
    assert moment[[1]].elapsed.tolist() == [1]


def test_sb3_goes_back_too_and_tells_its_pace(immortal: Simulator):
    env = LSSVWMVecEnv(immortal, 2, 4)
    assert env.metadata["render_fps"] == 10 == env.get_attr("metadata")[0]["render_fps"]
    env.reset()
    moment = env.env.save_state()
    for _ in range(2):
        assert [env.step(np.zeros(2, int))[2].tolist() for _ in range(4)] == [[False] * 2] * 3 + [[True] * 2]
        env.env.load_state(moment)


def test_beliefs_are_scalars_of_numpy_everywhere(mortal: Simulator):
    env = LSSVWMVecEnv(mortal, B, LIMIT, uncertainty_samples=2)
    env.reset()
    for actions in ACTIONS:
        infos = env.step(actions)[3]
        for info in (*infos, *env.reset_infos):
            assert type(info["term_prob"]) is type(info["uncertainty"]) is np.float64


def test_a_masked_reset_tells_of_the_worlds_that_begin(toy_simulator: Simulator):
    env = LSSVWMVectorEnv(toy_simulator, 2)
    assert env.reset(seed=1)[1]["_term_prob"].tolist() == [True, True]
    infos = env.reset(options={"reset_mask": np.array([False, True])})[1]
    assert infos["_term_prob"].tolist() == [False, True] and (infos["term_prob"] > 0).tolist() == [False, True]
