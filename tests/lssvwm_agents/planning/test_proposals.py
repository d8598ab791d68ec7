"""Distributions over plans."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F

from lssvwm_agents.planning.proposals import CategoricalProposal, GaussianProposal


def test_categorical_plans_follow_each_step_s_distribution_and_persist() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.7, 0.0]]).expand(1, 6, 4)
    plans = CategoricalProposal(probs, 0.5).sample(torch.tensor([3]), 20_000)[0]
    torch.testing.assert_close(F.one_hot(plans, 4).float().mean(0), probs[0], atol=0.02, rtol=0)
    kept = (plans[:, 1:] == plans[:, :-1]).float().mean().item()
    assert kept == pytest.approx(0.5 + 0.5 * (0.1**2 + 0.2**2 + 0.7**2), abs=0.02)


def test_impossible_actions_are_never_drawn() -> None:
    thirds = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]).expand(1, 50, 4)  # their sum is not exactly 1
    assert CategoricalProposal(thirds, 0.0).sample(torch.tensor([0]), 20_000).max() == 2


def gaussian(mean: float = 0.0, std: float = 1.0, persistence: float = 0.5, bound: float = 9.0) -> GaussianProposal:
    shape = (1, 6, 2)
    limit = torch.full((2,), bound)
    return GaussianProposal(torch.full(shape, mean), torch.full(shape, std), -limit, limit, persistence)


def test_gaussian_plans_follow_each_step_s_distribution_and_persist() -> None:
    plans = gaussian(mean=1.0, std=2.0).sample(torch.tensor([3]), 20_000)[0]  # (N, H, A)
    torch.testing.assert_close(plans.mean(0), torch.full((6, 2), 1.0), atol=0.05, rtol=0)
    torch.testing.assert_close(plans.std(0), torch.full((6, 2), 2.0), atol=0.05, rtol=0)
    first = plans[:, 2, 0]
    second = plans[:, 3, 0]
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].item() == pytest.approx(0.5, abs=0.03)


def test_gaussian_plans_stay_in_the_box() -> None:
    plans = gaussian(std=5.0, bound=1.0).sample(torch.tensor([3]), 100)
    assert plans.abs().max() == 1


@pytest.mark.parametrize("proposal", [CategoricalProposal(torch.full((1, 6, 3), 1 / 3), 0.5), gaussian()])
def test_a_world_s_plans_are_a_function_of_its_key(proposal: CategoricalProposal | GaussianProposal) -> None:
    a, b = (proposal.sample(torch.tensor([key]), 8) for key in (1, 2))
    assert torch.equal(a, proposal.sample(torch.tensor([1]), 8)) and not torch.equal(a, b)


def test_refitting_moves_to_the_weighted_plans_and_stays_where_nothing_is_known() -> None:
    probs = torch.full((2, 2, 2), 0.5)
    plans = torch.tensor([[[0, 1], [0, 0], [1, 1]], [[1, 1], [1, 1], [1, 1]]])
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    refit = CategoricalProposal(probs, 0.5).refit(plans, weights, smoothing=0.2)
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


def test_smoothing_is_the_share_of_the_old_gaussian() -> None:
    plans = torch.stack([torch.full((6, 2), value) for value in (1.0, 3.0)]).unsqueeze(0)
    refit = gaussian(mean=-2.0, std=5.0).refit(plans, torch.tensor([[0.5, 0.5]]), smoothing=0.25)
    torch.testing.assert_close(refit.mean, torch.full((1, 6, 2), 0.25 * -2 + 0.75 * 2))
    torch.testing.assert_close(refit.std, torch.full((1, 6, 2), 0.25 * 5 + 0.75 * 1))
    assert torch.equal(refit.mode(), refit.mean)


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9])
def test_persistence_is_the_correlation_of_neighbours_and_falls_off_with_distance(persistence: float) -> None:
    noise = gaussian(persistence=persistence).sample(torch.tensor([0]), 20_000)[0, :, :, 0]  # (N, H)
    correlations = torch.corrcoef(noise.T)
    for distance in (1, 2, 5):
        expected = torch.full((6 - distance,), persistence**distance)
        torch.testing.assert_close(correlations.diagonal(distance), expected, atol=0.03, rtol=0)
    torch.testing.assert_close(noise.std(0), torch.ones(6), atol=0.03, rtol=0)


def test_plans_without_persistence_are_independent_from_step_to_step() -> None:
    halves = torch.full((1, 6, 2), 0.5)
    plans = CategoricalProposal(halves, 0.0).sample(torch.tensor([0]), 20_000)[0]
    assert (plans[:, 1:] == plans[:, :-1]).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("proposal", [CategoricalProposal(torch.full((1, 6, 3), 1 / 3), 0.5), gaussian()])
def test_proposals_are_values(proposal: CategoricalProposal | GaussianProposal) -> None:
    with pytest.raises(FrozenInstanceError):
        proposal.persistence = 0.0  # type: ignore[misc]


def test_a_box_clips_each_number_by_its_own_bounds() -> None:
    low = torch.tensor([-1.0, 2.0])
    high = torch.tensor([0.0, 2.5])
    shape = (1, 6, 2)
    plans = GaussianProposal(torch.ones(shape), torch.full(shape, 5.0), low, high, 0.0).sample(torch.tensor([0]), 200)
    assert plans.amin((0, 1, 2)).tolist() == [-1, 2] and plans.amax((0, 1, 2)).tolist() == [0, 2.5]
