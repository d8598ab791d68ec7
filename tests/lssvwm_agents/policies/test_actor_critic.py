"""What a policy on features says, draws, expects and keeps in a file."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from lssvwm_agents.policies.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    Critic,
)
from lssvwm_env.envs.sb3 import LSSVWMVecEnv
from lssvwm_env.envs.wrappers import MemoryFeatures
from lssvwm_env.simulator.simulator import Simulator

DISCRETE = {"type": "Discrete", "n": 3}
BOX = {"type": "Box", "low": [-1.0, 2.0], "high": [1.0, 6.0], "shape": [2], "dtype": "float32"}
WIDTH = 5


def random_actor_critic(space: dict[str, Any] = DISCRETE, features: int = WIDTH, **changes: Any) -> ActorCritic:
    """One whose last layers are not at zero any more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ActorCritic(ActorCriticConfig(features, space, **({"width": 16} | changes)))
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return made


def features(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(*shape, WIDTH)).astype(np.float32)


# --- the critic ---


def test_a_new_critic_expects_nothing_and_a_new_policy_prefers_nothing() -> None:
    for space in (DISCRETE, BOX):
        made = ActorCritic(ActorCriticConfig(WIDTH, space))
        feats = torch.from_numpy(features(4))
        torch.testing.assert_close(made.critic(feats), torch.zeros(4), atol=1e-4, rtol=0)
        assert (made.policy(feats).normalized_entropy() > 0.95).all()


def test_the_critic_s_targets_have_the_mean_of_the_returns() -> None:
    critic = Critic(1, 8, 1, reach=147)
    returns = torch.tensor([0.0, 0.3, 0.9, -2.5, 40.0])
    weights = torch.zeros(len(returns), len(critic.bins), requires_grad=True)
    critic.mlp = torch.nn.Sequential(torch.nn.Identity())
    critic.loss(weights, returns).sum().backward()
    assert weights.grad is not None
    targets = weights.detach().softmax(-1) - weights.grad  # the gradient of a cross-entropy
    torch.testing.assert_close((targets * critic.bins).sum(-1), returns, atol=1e-4, rtol=1e-4)
    assert ((targets > 1e-6).sum(-1) <= 2).all()


def test_returns_out_of_reach_count_as_the_farthest_bin() -> None:
    critic = Critic(1, 8, 1, reach=3.0)
    assert critic.bins[[0, 32, 64]].tolist() == pytest.approx([-3.0, 0.0, 3.0])
    critic.mlp = torch.nn.Sequential(torch.nn.Identity())
    logits = torch.randn(4, 65, generator=torch.Generator().manual_seed(0))
    beyond = critic.loss(logits, torch.tensor([-9.0, -3.0, 3.0, 9.0]))
    log_prob = logits.log_softmax(-1)
    expected = -torch.stack([log_prob[0, 0], log_prob[1, 0], log_prob[2, 64], log_prob[3, 64]])
    torch.testing.assert_close(beyond, expected, atol=1e-4, rtol=0)


def test_win_or_lose_is_worth_the_mean_of_the_two() -> None:
    torch.manual_seed(0)
    critic = Critic(1, 16, 1, reach=147)
    feats = torch.ones(2, 1)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        critic.loss(feats, torch.tensor([0.0, 1.0])).mean().backward()
        optimizer.step()
    assert critic(feats)[0].item() == pytest.approx(0.5, abs=0.02)


# --- predict ---


def test_raw_actions_fill_the_box_from_bound_to_bound() -> None:
    made = ActorCritic(ActorCriticConfig(WIDTH, BOX))
    raw = torch.tensor([[0.0, 0.0], [50.0, 50.0], [-50.0, -50.0], [0.5, -0.5]])
    middle = 0.5 + math.tanh(0.5) / 2
    expected = torch.tensor([[0.0, 4.0], [1.0, 6.0], [-1.0, 2.0], [-1 + 2 * middle, 6 - 4 * middle]])
    torch.testing.assert_close(made.to_actions(raw), expected)
    assert ActorCritic(ActorCriticConfig(WIDTH, DISCRETE)).to_actions(torch.tensor([2, 0])).tolist() == [2, 0]


def test_actions_that_are_not_the_likeliest_are_drawn_from_the_policy() -> None:
    made = random_actor_critic()
    feats = np.repeat(features(1), 20_000, 0)
    shares = np.bincount(made.predict(feats)[0], minlength=3) / 20_000
    probs = made.policy(torch.from_numpy(feats[:1])).probs[0]
    np.testing.assert_allclose(shares, probs.detach().numpy(), atol=0.02)
    assert made.predict(feats[:1], deterministic=True)[0] == probs.argmax()


@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_predict_gives_actions_of_the_space(space: dict[str, Any]) -> None:
    made = random_actor_critic(space)
    for deterministic in (False, True):
        actions, state = made.predict(features(200), deterministic=deterministic)
        one, _ = made.predict(features(), deterministic=deterministic)
        assert state is None and actions.dtype == made.action_space.dtype
        assert actions.shape == (200, *made.action_space.shape) and one.shape == made.action_space.shape
        assert all(action in made.action_space for action in actions) and one in made.action_space


@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_the_likeliest_actions_are_the_same_every_time_and_others_by_seed(space: dict[str, Any]) -> None:
    made = random_actor_critic(space)
    feats = features(50)
    best = [made.predict(feats, deterministic=True)[0] for _ in range(2)]
    assert np.array_equal(*best)
    runs = []
    for seed in (1, 1, 2):
        made.set_random_seed(seed)
        runs.append(np.stack([made.predict(feats)[0] for _ in range(2)]))
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])
    assert not np.array_equal(*runs[0])


def test_predict_finds_the_features_in_a_dict() -> None:
    made = random_actor_critic()
    both = {"features": features(4), "frames": np.zeros((4, 8, 8, 3), np.uint8)}
    assert np.array_equal(made.predict(both, deterministic=True)[0], made.predict(features(4), deterministic=True)[0])


def test_frames_are_no_features() -> None:
    with pytest.raises(ValueError, match=r"observation has shape \(2, 8, 8, 3\); expected features \(5,\) or \(B, 5\)"):
        random_actor_critic().predict(np.zeros((2, 8, 8, 3), np.float32))


class Noise(gym.Env[Any, Any]):
    """A real environment: every frame is noise of its own."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Discrete(7)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 3
        return self.np_random.integers(0, 256, (64, 64, 3), np.uint8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return self.np_random.integers(0, 256, (64, 64, 3), np.uint8), 1.0, not self.left, False, {}


def test_sb3_judges_it_in_dreams_and_in_the_real_environment(
    toy_simulator: Simulator, toy_box_simulator: Simulator
) -> None:
    for simulator in (toy_simulator, toy_box_simulator):
        made = random_actor_critic(simulator.config.action_space, simulator.config.model.feature_dim)
        dreams = VecMonitor(LSSVWMVecEnv(simulator, 2, 4, observation="features"))
        _, lengths = evaluate_policy(made, dreams, n_eval_episodes=2, return_episode_rewards=True, deterministic=False)
        assert len(lengths) == 2 and max(lengths) <= 4
    made = random_actor_critic(toy_simulator.config.action_space, toy_simulator.config.model.feature_dim)
    real = VecMonitor(DummyVecEnv([lambda: MemoryFeatures(Noise(), toy_simulator)]))
    assert evaluate_policy(made, real, n_eval_episodes=2) == (3.0, 0.0)


# --- files ---


@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_what_is_loaded_is_what_was_saved(space: dict[str, Any], tmp_path: Path) -> None:
    made = random_actor_critic(space, depth=1, weights_sha256="abc")
    made.save(tmp_path / "policy.safetensors")
    before = torch.get_rng_state()
    loaded = ActorCritic.load(tmp_path / "policy.safetensors")
    assert loaded.config == made.config and torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in made.state_dict().items())
    feats = features(20)
    assert np.array_equal(made.predict(feats)[0], loaded.predict(feats)[0])
    torch.testing.assert_close(loaded.critic(torch.from_numpy(feats)), made.critic(torch.from_numpy(feats)))


def test_it_can_be_copied() -> None:
    made = random_actor_critic()
    assert np.array_equal(copy.deepcopy(made).predict(features(20))[0], made.predict(features(20))[0])


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    with pytest.raises(FileNotFoundError):
        ActorCritic.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        ActorCritic.load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="holds tensors, but no actor-critic"):
        ActorCritic.load(path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"width": "wide"}, "config.width is 'wide'; expected an integer"),
        ({"height": 3}, "config has the unknown field 'height'"),
        ({"action_space": {"type": "Graph"}}, "action_space is .*expected type Discrete with n"),
        ({"depth": 10**6}, "depth=1000000 must be at most 64"),
        ({"width": 10**9}, "it asks for far more numbers than the tensors beside it have"),
        ({"width": 8}, r"tensors are not those of its config:\n  actor.0.bias: found .*\(16,\), expected .*\(8,\)"),
    ],
)
def test_damaged_files_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    made = random_actor_critic()
    path = tmp_path / "policy.safetensors"
    config = {"feature_dim": WIDTH, "action_space": DISCRETE, "width": 16} | changes
    save_file(made.state_dict(), path, {"format": "lssvwm-actor-critic", "config": json.dumps(config)})
    with pytest.raises(ValueError, match=message):
        ActorCritic.load(path)


def test_every_flipped_bit_is_refused_or_of_no_account(tmp_path: Path) -> None:
    made = random_actor_critic()
    made.save(path := tmp_path / "policy.safetensors")
    data = path.read_bytes()
    made.save(path)
    assert path.read_bytes() == data
    for bit in np.random.default_rng(0).choice(8 * len(data), 200, replace=False).tolist():
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            loaded = ActorCritic.load(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert loaded.sha256() == made.sha256() and loaded.config == made.config


def test_features_of_another_simulator_are_refused(toy_simulator: Simulator, tmp_path: Path) -> None:
    for sha256, fits in ((toy_simulator.weights_sha256, True), ("0" * 64, False)):
        random_actor_critic(weights_sha256=sha256).save(tmp_path / "policy.safetensors")
        if fits:
            ActorCritic.load(tmp_path / "policy.safetensors", toy_simulator)
        else:
            with pytest.raises(ValueError, match=r"features of the weights 000000000000\.\.\., but this simulator has"):
                ActorCritic.load(tmp_path / "policy.safetensors", toy_simulator)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"width": 0}, "width=0 must be at least 1"),
        ({"feature_dim": 0}, "feature_dim=0 must be"),
        ({"depth": 0}, "depth=0 must be"),
        ({"reach": 0.0}, "reach is 0.0; expected more than 0"),
        ({"action_space": BOX | {"high": "inf"}}, "expected Discrete, or a Box of vectors with finite bounds"),
        ({"action_space": BOX | {"shape": [2, 2], "low": 0, "high": 1}}, "a Box of vectors"),
    ],
)
def test_bad_configs_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActorCriticConfig(**({"feature_dim": WIDTH, "action_space": DISCRETE} | changes))
