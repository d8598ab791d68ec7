"""Who acts is found by name, and refused in words."""

from pathlib import Path

import numpy as np
import pytest

from lssvwm_env.datasets.acting import POLICIES, MixedPolicy, make_policy
from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.real import UniformPolicy, make_real

WORLD = "MiniGrid-Empty-5x5-v0"


class Spinner:
    """Always turns, unless the picture is black."""

    def reset(self, env, rng):
        self.side = int(rng.integers(2))

    def act(self, env):
        frame = env.get_wrapper_attr("frame")
        assert frame.shape == (64, 64, 3) and frame.any()
        return self.side


class Needy(Spinner):
    def __init__(self, speed):
        pass


class Actor:
    def act(self, env):
        return 0


def test_ours_are_found_by_name():
    for name, policy in POLICIES.items():
        assert type(make_policy(name, make_real(WORLD))) is policy


def test_a_class_of_ones_own_acts(tmp_path):
    asked = CollectConfig(WORLD, tmp_path, 60, policy=f"{__name__}:Spinner", workers=1, episode_length=10)
    data = collect(asked)
    assert data.spec.policy == f"{__name__}:Spinner"
    episodes = [episode.act[1:] for episode in data.episodes()]
    assert {frozenset(act.tolist()) for act in episodes} == {frozenset([0]), frozenset([1])}


def test_it_acts_in_other_processes_too(tmp_path, monkeypatch):
    (tmp_path / "spinning.py").write_text(
        "class Left:\n    def reset(self, env, rng):\n        pass\n\n    def act(self, env):\n        return 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    asked = CollectConfig(WORLD, tmp_path / "data", 40, policy="spinning:Left", shard_frames=20, episode_length=10)
    assert not collect(asked).act.any()


def test_of_several_one_acts_in_each_episode_with_equal_odds():
    env = make_real(WORLD)
    rng = np.random.default_rng(0)
    policy = make_policy(f"uniform+{__name__}:Spinner", env)
    assert isinstance(policy, MixedPolicy)
    spun = []
    for seed in range(100):
        env.reset(seed=seed)
        policy.reset(env, rng)
        spun.append(len({policy.act(env) for _ in range(20)}) == 1)
    assert 35 < sum(spun) < 65


def test_a_part_that_stands_twice_acts_twice_as_often():
    env = make_real(WORLD)
    rng = np.random.default_rng(0)
    policy = make_policy(f"uniform+{__name__}:Spinner+{__name__}:Spinner", env)
    spun = 0
    for seed in range(150):
        env.reset(seed=seed)
        policy.reset(env, rng)
        spun += not isinstance(policy._acting, UniformPolicy)
    assert 85 < spun < 115


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clever", r"policy='clever' is none of wander, roam, sticky, uniform; name one of them, module:Class"),
        ("wander+", r"policy='' is none of"),
        (":Spinner", r"policy=':Spinner' is none of"),
        ("nowhere:Spinner", r"policy='nowhere:Spinner' cannot be made \(No module named 'nowhere'\); expected a class"),
        (f"{__name__}:Nobody", r"cannot be made \(module .* has no attribute 'Nobody'\)"),
        (f"{__name__}:Needy", r"cannot be made .*missing 1 required positional argument: 'speed'"),
        (f"{__name__}:Actor", r"Actor' has no reset; expected reset\(env, rng\) and act\(env\)"),
        (f"{__name__}:WORLD", r"cannot be made \('str' object is not callable\)"),
    ],
)
def test_what_is_no_policy_is_refused_before_anything_is_written(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        collect(CollectConfig(WORLD, tmp_path / "data", 40, policy=name, workers=1))
    assert not (tmp_path / "data").exists()


def test_a_policy_that_does_not_know_the_world_says_so(tmp_path):
    asked = CollectConfig("CartPole-v1", tmp_path, 40, policy="wander", workers=1, render=True)
    with pytest.raises(ValueError, match="expected a MiniGrid environment: use UniformPolicy"):
        collect(asked)


def test_the_class_of_the_documentation_acts(tmp_path, monkeypatch):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "collect-data.md").read_text()
    (tmp_path / "cautious.py").write_text(page.split('```python title="cautious.py"\n')[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    world = "MiniGrid-Empty-8x8-v0"
    data = collect(
        CollectConfig(world, tmp_path / "data", 300, policy="cautious:Cautious", workers=1, episode_length=100)
    )
    assert 0.4 < (data.act == 2).mean() < 0.8 and "--policy cautious:Cautious+sticky" in page
