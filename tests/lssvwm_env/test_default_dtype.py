"""A program whose default is float64 loads what others made, and dreams, plans and acts in the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import lssvwm_env
from lssvwm_agents.planning.mcts import MCTS
from lssvwm_agents.planning.protocols import Budget, Planner, PlanRequest
from lssvwm_agents.planning.shooting import CEM
from lssvwm_agents.policies.actor_critic import ActorCritic, ActorCriticConfig
from lssvwm_env.simulator.simulator import Simulator

Numbers = list[np.ndarray]


@pytest.fixture
def float64() -> Iterator[Callable[[], None]]:
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)


def dream(simulator: str | Path, action: np.ndarray) -> Numbers:
    """All that two worlds give, from reset on."""
    env = lssvwm_env.LSSVWMVectorEnv(simulator, 2, uncertainty_samples=2)
    made = [env.reset(seed=1)[0].copy()]
    for _ in range(2):
        obs, rew, *ends, infos = env.step(action)
        made += [obs.copy(), rew, *ends, infos["term_prob"], infos["uncertainty"], env.core.features().numpy()]
    return made


def assert_equal(one: Numbers, other: Numbers) -> None:
    for x, y in zip(one, other, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["toy_simulator", "toy_box_simulator", "LSSVWM/MiniGrid-MemoryS9-v0"])
def test_a_simulator_is_as_sound_and_dreams_the_same(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, float64: Callable[[], None]
) -> None:
    simulator: str | Path = name
    if name.startswith("toy"):
        simulator = tmp_path / name
        request.getfixturevalue(name).save(simulator, "a toy")
    action = np.full((2, 2), 0.5, np.float32) if "box" in name else np.array([2, 1])
    expected = dream(simulator, action)
    float64()
    assert_equal(dream(simulator, action), expected)
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("kind", [MCTS, CEM])
def test_plans_are_the_same(kind: type[Planner], toy_simulator: Simulator, float64: Callable[[], None]) -> None:
    def plan() -> Numbers:
        core = lssvwm_env.LSSVWMVectorEnv(toy_simulator, 2).core
        core.reset([0, 1], [1, 2])
        request = PlanRequest(core, core.memory, 3, Budget(imagined_steps=40), torch.arange(2))
        made = kind().plan(request)
        return [made.actions.numpy(), made.value.numpy()]

    expected = plan()
    float64()
    assert_equal(plan(), expected)


@pytest.mark.parametrize(
    "space", [{"type": "Discrete", "n": 4}, {"type": "Box", "low": -1.0, "high": 1.0, "shape": [2], "dtype": "float32"}]
)
def test_a_policy_is_the_same(space: dict, tmp_path: Path, float64: Callable[[], None]) -> None:
    feats = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)

    def act() -> Numbers:
        torch.manual_seed(0)
        agent = ActorCritic(ActorCriticConfig(6, space, 8, 1))
        agent.set_random_seed(0)
        value = agent.critic(torch.from_numpy(feats)).detach().numpy()
        return [agent.predict(feats)[0], agent.predict(feats, deterministic=True)[0], value]

    expected = act()
    float64()
    assert_equal(act(), expected)
