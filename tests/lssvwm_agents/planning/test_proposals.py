"""Distributions over plans."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lssvwm_agents.planning.proposals import Categorical, Gaussian


def test_categorical_plans_follow_each_step_s_distribution_and_persist() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.7, 0.0]]).expand(1, 6, 4)
    plans = Categorical(probs, 0.5).sample(torch.tensor([3]), 20_000)[0]
    torch.testing.assert_close(F.one_hot(plans, 4).float().mean(0), probs[0], atol=0.02, rtol=0)
    kept = (plans[:, 1:] == plans[:, :-1]).float().mean().item()
    assert kept == pytest.approx(0.5 + 0.5 * (0.1**2 + 0.2**2 + 0.7**2), abs=0.02)


def test_impossible_actions_are_never_drawn() -> None:
    thirds = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]).expand(1, 50, 4)  # their sum is not exactly 1
    assert Categorical(thirds, 0.0).sample(torch.tensor([0]), 20_000).max() == 2


def gaussian(mean: float = 0.0, std: float = 1.0, persistence: float = 0.5, bound: float = 9.0) -> Gaussian:
    shape, limit = (1, 6, 2), torch.full((2,), bound)
    return Gaussian(torch.full(shape, mean), torch.full(shape, std), -limit, limit, persistence)


def test_gaussian_plans_follow_each_step_s_distribution_and_persist() -> None:
    plans = gaussian(mean=1.0, std=2.0).sample(torch.tensor([3]), 20_000)[0]  # (N, H, A)
    torch.testing.assert_close(plans.mean(0), torch.full((6, 2), 1.0), atol=0.05, rtol=0)
    torch.testing.assert_close(plans.std(0), torch.full((6, 2), 2.0), atol=0.05, rtol=0)
    first, second = plans[:, 2, 0], plans[:, 3, 0]
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].item() == pytest.approx(0.5, abs=0.03)


def test_gaussian_plans_stay_in_the_box() -> None:
    plans = gaussian(std=5.0, bound=1.0).sample(torch.tensor([3]), 100)
    assert plans.abs().max() == 1


@pytest.mark.parametrize("proposal", [Categorical(torch.full((1, 6, 3), 1 / 3), 0.5), gaussian()])
def test_a_world_s_plans_are_a_function_of_its_key(proposal: Categorical | Gaussian) -> None:
    a, b = (proposal.sample(torch.tensor([key]), 8) for key in (1, 2))
    assert torch.equal(a, proposal.sample(torch.tensor([1]), 8)) and not torch.equal(a, b)


def test_refitting_moves_to_the_weighted_plans_and_stays_where_nothing_is_known() -> None:
    probs = torch.full((2, 2, 2), 0.5)
    plans = torch.tensor([[[0, 1], [0, 0], [1, 1]], [[1, 1], [1, 1], [1, 1]]])
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    refit = Categorical(probs, 0.5).refit(plans, weights, smoothing=0.2)
    torch.testing.assert_close(refit.probs[0], torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
    assert torch.equal(refit.probs[1], probs[1])
    assert refit.mode()[0, 0] == 0


def test_refitting_a_gaussian_moves_mean_and_spread() -> None:
    plans = torch.stack([torch.full((6, 2), value) for value in (1.0, 3.0, 100.0)]).unsqueeze(0)
    refit = gaussian().refit(plans, torch.tensor([[0.5, 0.5, 0.0]]), smoothing=0.0)
    torch.testing.assert_close(refit.mean, torch.full((1, 6, 2), 2.0))
    torch.testing.assert_close(refit.std, torch.full((1, 6, 2), 1.0))
    still = gaussian()
    assert torch.equal(still.refit(plans, torch.zeros(1, 3), smoothing=0.0).mean, still.mean)
