"""What a policy on actions says and draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from lssvwm_agents.policies.distributions import Categorical, TanhGaussian


def test_one_percent_of_every_choice_is_uniform() -> None:
    policy = Categorical(torch.tensor([[200.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(policy.probs[0], torch.tensor([0.9925, 0.0025, 0.0025, 0.0025]))
    torch.testing.assert_close(policy.probs[1], torch.full((4,), 0.25))


def test_a_categorical_is_that_of_torch() -> None:
    policy = Categorical(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    torchs = torch.distributions.Categorical(probs=policy.probs)
    actions = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(policy.log_prob(actions), torchs.log_prob(actions))
    torch.testing.assert_close(policy.entropy(), torchs.entropy())
    assert torch.equal(policy.mode(), torchs.mode)
    torch.testing.assert_close(policy.normalized_entropy(), torchs.entropy() / math.log(4))


def test_who_has_but_one_action_has_no_entropy() -> None:
    assert Categorical(torch.zeros(2, 1)).normalized_entropy().tolist() == [0, 0]


def test_discrete_actions_come_as_often_as_they_are_likely() -> None:
    policy = Categorical(torch.tensor([[0.0, 2.0, 1.0]]).expand(20_000, 3))
    shares = policy.sample(torch.Generator().manual_seed(0)).bincount(minlength=3) / 20_000
    torch.testing.assert_close(shares, policy.probs[0], atol=0.02, rtol=0)


def test_noise_stands_for_actions_as_likely_as_they_should_be() -> None:
    policy = Categorical(torch.tensor([[0.0, 2.0, 1.0]]).expand(4000, 3))
    shares = (
        policy.from_noise(torch.randn(4000, generator=torch.Generator().manual_seed(0))).bincount(minlength=3) / 4000
    )
    torch.testing.assert_close(shares, policy.probs[0], atol=0.02, rtol=0)
    assert policy.from_noise(torch.full((4000,), 40.0)).max() == 2
    assert policy.from_noise(torch.full((4000,), -40.0)).min() == 0


def parameters() -> torch.Tensor:
    return torch.tensor([[0.0, 0.8, 0.0, 0.5], [1.5, -0.4, -3.0, -1.0]])


def test_the_spread_of_a_gaussian_has_a_floor() -> None:
    policy = TanhGaussian(torch.tensor([[0.3, 0.0], [0.3, -50.0]]))
    torch.testing.assert_close(policy.std, torch.tensor([[0.1 + math.log(2)], [0.1]]))
    assert torch.equal(policy.mode(), torch.tensor([[0.3], [0.3]]))


def test_log_prob_of_raw_actions_is_that_of_the_gaussian_and_of_actions_differs_by_the_slope() -> None:
    policy = TanhGaussian(parameters())
    raw = torch.tensor([[0.2, -1.0], [1.2, 0.1]])
    gaussian = Independent(Normal(policy.mean, policy.std), 1)
    torch.testing.assert_close(policy.log_prob(raw), gaussian.log_prob(raw))
    squashed = TransformedDistribution(gaussian, TanhTransform())
    slope = (1 - raw.tanh().square()).log().sum(-1)
    torch.testing.assert_close(policy.log_prob(raw) - slope, squashed.log_prob(raw.tanh()))


def test_samples_of_a_gaussian_follow_from_noise() -> None:
    policy = TanhGaussian(parameters())
    noise = torch.randn(2, 2, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(policy.from_noise(noise), Normal(policy.mean, policy.std).icdf(Normal(0, 1).cdf(noise)))
    assert torch.equal(policy.sample(torch.Generator().manual_seed(3)), policy.from_noise(noise))


def test_entropy_of_squashed_vectors_is_that_by_numerical_integration() -> None:
    """Of Y = tanh(U): minus the integral of p(u) log p(y), on a fine grid."""
    policy = TanhGaussian(parameters())
    u = torch.linspace(-9, 9, 20_001, dtype=torch.float64).view(-1, 1, 1)
    normal = Normal(policy.mean.double(), policy.std.double())
    log_density = normal.log_prob(u) - 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u))
    entropies = -torch.trapezoid(normal.log_prob(u).exp() * log_density, u, dim=0)
    torch.testing.assert_close(policy.entropy(), entropies.sum(-1).float(), atol=2e-3, rtol=0)
    torch.testing.assert_close(policy.normalized_entropy(), (entropies.mean(-1).float().exp() / 2), atol=2e-3, rtol=0)


@pytest.mark.parametrize("outputs", [1, 3])
def test_zeros_are_nearly_uniform(outputs: int) -> None:
    assert TanhGaussian(torch.zeros(1, 2 * outputs)).normalized_entropy().item() > 0.95
    assert np.isclose(Categorical(torch.zeros(1, outputs + 1)).normalized_entropy().item(), 1, atol=1e-6)
