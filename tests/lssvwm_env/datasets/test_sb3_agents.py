"""Agents of Stable-Baselines3 gather data, and none of their pickles is read."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.torch_layers import NatureCNN

from lssvwm_env.datasets.acting import make_policy
from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.real import make_real

WORLD = "MiniGrid-Empty-5x5-v0"
SMALL = {"features_extractor_kwargs": {"features_dim": 8}, "net_arch": [8]}
OFF_POLICY = {"buffer_size": 1}
ON_POLICY = {"n_steps": 2, "batch_size": 2}


def untrained(algorithm, env, **changes):
    """Small, and made of a copy of the options: SB3 writes into them."""
    given = ON_POLICY if algorithm in (PPO, RecurrentPPO) else OFF_POLICY if algorithm is not A2C else {}
    return algorithm("CnnPolicy", env, **given, policy_kwargs=SMALL | changes)


@pytest.fixture
def env():
    env = make_real(WORLD)
    env.reset(seed=0)
    return env


@pytest.fixture
def file(env, tmp_path):
    untrained(PPO, env).save(tmp_path / "ppo.zip")
    return tmp_path / "ppo.zip"


def actions(policy, env, seed, count=12):
    policy.reset(env, np.random.default_rng(seed))
    return [policy.act(env) for _ in range(count)]


@pytest.mark.parametrize("trained", [PPO, A2C, DQN, QRDQN])
def test_an_agent_chooses_as_it_would_elsewhere(env, tmp_path, trained):
    agent = untrained(trained, env, activation_fn=torch.nn.ELU)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    agent.save(tmp_path / "agent.zip")
    policy = make_policy(f"{trained.__name__}:{tmp_path / 'agent.zip'}", env)
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    for frame in frames:
        wanted = agent.policy.predict(frame, deterministic=True)[0]
        assert policy._policy.predict(frame, deterministic=True)[0] == wanted
    chosen = actions(policy, env, 0)
    assert all(type(action) is int and 0 <= action < 7 for action in chosen)


def test_what_it_does_follows_from_the_stream_of_the_collection_alone(env, file):
    policy = make_policy(f"PPO:{file}", env)
    torch.manual_seed(0)
    one = actions(policy, env, 0, 40)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert actions(policy, env, 0, 40) == one and actions(policy, env, 1, 40) != one
    assert len(set(one)) > 2
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), drawn)


def test_one_that_remembers_begins_every_episode_anew(env, tmp_path):
    small = {"features_extractor_kwargs": {"features_dim": 8}, "lstm_hidden_size": 8}
    RecurrentPPO("CnnLstmPolicy", env, n_steps=2, batch_size=2, policy_kwargs=small).save(tmp_path / "agent.zip")
    policy = make_policy(f"RecurrentPPO:{tmp_path / 'agent.zip'}", env)
    policy.reset(env, np.random.default_rng(0))
    policy.act(env)
    first = [part.clone() if isinstance(part, torch.Tensor) else part.copy() for part in policy._memory]
    policy.act(env)
    assert any(not np.array_equal(one, other) for one, other in zip(first, policy._memory, strict=True))
    policy.reset(env, np.random.default_rng(0))
    policy.act(env)
    assert all(np.array_equal(one, other) for one, other in zip(first, policy._memory, strict=True))


def test_it_collects(file, tmp_path):
    data = collect(CollectConfig(WORLD, tmp_path / "data", 30, policy=f"PPO:{file}", workers=1, episode_length=10))
    assert data.spec.policy == f"PPO:{file}" and len(set(data.act.tolist())) > 2


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was read')",)


def test_no_pickle_is_read(env, file, tmp_path):
    import base64
    import json

    trapped = tmp_path / "trapped.zip"
    trap = base64.b64encode(pickle.dumps(Trap())).decode()
    with zipfile.ZipFile(file) as good, zipfile.ZipFile(trapped, "w") as bad:
        data = json.loads(good.read("data"))
        for value in data.values():
            if isinstance(value, dict) and ":serialized:" in value:
                value[":serialized:"] = trap
        bad.writestr("data", json.dumps(data))
        bad.writestr("policy.pth", good.read("policy.pth"))
    assert actions(make_policy(f"PPO:{trapped}", env), env, 0) == actions(make_policy(f"PPO:{file}", env), env, 0)
    with zipfile.ZipFile(file) as good, zipfile.ZipFile(trapped, "w") as bad:
        bad.writestr("data", good.read("data"))
        bad.writestr("policy.pth", pickle.dumps(Trap(), protocol=2))
    with pytest.raises(ValueError, match=r"trapped.zip holds no agent"):
        make_policy(f"PPO:{trapped}", env)


def test_agents_that_do_not_fit_are_refused(env, file, tmp_path):
    with pytest.raises(
        ValueError, match=r"ppo.zip was not trained by DQN, whose policies are CnnPolicy, DQNPolicy, .*module:Class"
    ):
        make_policy(f"DQN:{file}", env)
    with pytest.raises(ValueError, match=r"nothing.zip holds no agent \(.*No such file"):
        make_policy(f"PPO:{tmp_path / 'nothing.zip'}", env)
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ValueError, match=r"text.zip holds no agent \(File is not a zip file\)"):
        make_policy(f"PPO:{tmp_path / 'text.zip'}", env)
    with zipfile.ZipFile(file) as good, zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("data", "{}")
        other.writestr("policy.pth", good.read("policy.pth"))
    with pytest.raises(ValueError, match=r"other.zip holds no agent \(it says nothing of policy_class, policy_kwargs"):
        make_policy(f"PPO:{tmp_path / 'other.zip'}", env)
    larger = make_real("MiniGrid-Empty-5x5-v0", frame_size=96, render_frames=True)
    with pytest.raises(ValueError, match=r"ppo.zip saw \[3, 64, 64\], but frames are \(96, 96, 3\) here"):
        make_policy(f"PPO:{file}", larger)
    env.action_space = type(env.action_space)(3)
    with pytest.raises(ValueError, match=r"ppo.zip does not act in Discrete\(3\) \(.*size mismatch"):
        make_policy(f"PPO:{file}", env)


class Blind(NatureCNN):
    pass


def test_options_that_only_a_pickle_holds_are_refused(env, tmp_path):
    untrained(PPO, env, features_extractor_class=Blind).save(tmp_path / "agent.zip")
    with pytest.raises(ValueError, match=r"a features_extractor_class that only a pickle holds \(<class .*Blind'>\)"):
        make_policy(f"PPO:{tmp_path / 'agent.zip'}", env)
