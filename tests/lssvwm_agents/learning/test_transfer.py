"""Actor-critics are taken from the features of one model to those of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lssvwm_agents.learning.transfer import transfer_policy, translated
from lssvwm_agents.policies.actor_critic import ActorCritic, ActorCriticConfig
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data import DatasetOrigin, Episode, write_dataset


def trained(width: int, actions: int = 3) -> ActorCritic:
    """Random in every layer."""
    torch.manual_seed(0)
    made = ActorCritic(ActorCriticConfig(width, {"type": "Discrete", "n": actions}, 32, 2, "old"))
    for last in (made.actor[-1], made.critic.mlp[-1]):
        torch.nn.init.normal_(last.weight, std=0.5)
    return made


def answers(agent: ActorCritic, feats: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([agent.policy(feats).probs, agent.critic(feats).unsqueeze(-1)], -1)


def test_what_is_said_in_other_words_is_understood() -> None:
    agent, rng = trained(8), torch.Generator().manual_seed(0)
    before, words = torch.randn(600, 8, generator=rng), torch.randn(8, 8, generator=rng)
    after = (before - 2) @ words
    new = translated(agent, before[:500], after[:500], "new")
    assert (answers(new, after[500:]) - answers(agent, before[500:])).abs().mean() < 0.05
    assert (answers(agent, after[500:]) - answers(agent, before[500:])).abs().mean() > 0.2
    assert new.config == replace(agent.config, weights_sha256="new") and agent.config.weights_sha256 == "old"


def test_nothing_changes_where_the_features_have_not() -> None:
    agent, feats = trained(8), torch.randn(500, 8)
    assert (answers(translated(agent, feats, feats, None), feats) - answers(agent, feats)).abs().mean() < 0.005


def test_little_data_and_features_that_are_always_the_same_do_no_harm() -> None:
    agent, feats = trained(8), torch.randn(3, 8)
    feats[:, 0] = 1
    assert answers(translated(agent, feats, feats.flip(1), None), torch.randn(9, 8)).isfinite().all()


def test_an_agent_does_the_same_in_a_model_whose_features_are_stirred(toy_simulator: Simulator, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    end = np.arange(40) == 39
    act = rng.integers(0, 7, 40)
    act[0] = 0
    obs = rng.integers(0, 256, (40, 64, 64, 3), np.uint8)
    episode = Episode(obs, act, np.zeros(40, np.float32), end, end & False, 0)
    space = toy_simulator.config.action_space
    data = write_dataset(tmp_path / "data", [episode], DatasetOrigin("Toy-v0", space))
    other = Simulator(toy_simulator.model, toy_simulator.config, toy_simulator.starts)
    with torch.no_grad():  # the norm after it does not mind the order
        for parameter in other.model.features.mix.parameters():
            parameter.copy_(parameter.flip(0))
        other.model.features.norm.weight.copy_(other.model.features.norm.weight.flip(0))
    old, new = SimulatorCore(toy_simulator, 1), SimulatorCore(other, 1)
    agent = trained(toy_simulator.config.model.feature_dim, 7)
    moved = transfer_policy(agent, old, new, data, seed=0)
    assert moved.config.weights_sha256 == other.weights_sha256 != toy_simulator.weights_sha256
    assert moved.sha256() == transfer_policy(agent, old, new, data, seed=0).sha256() != agent.sha256()
    seen = [core.reset([0], [0], [(obs[:8], act[:8])]) is not None and core.features() for core in (old, new)]
    torch.testing.assert_close(seen[1], seen[0].flip(1))
    close = (answers(moved, seen[1]) - answers(agent, seen[0])).abs().max()
    assert close < 0.05 < (answers(agent, seen[1]) - answers(agent, seen[0])).abs().max()
