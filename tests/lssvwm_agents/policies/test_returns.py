"""What rewards add up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_agents.policies.returns import discounted_returns, lambda_returns


def test_rewards_are_discounted_from_each_step_on() -> None:
    returns = discounted_returns(np.array([0, 1, 2], np.float32), 0.5)
    assert returns.tolist() == [1.0, 2.0, 2.0] and returns.dtype == np.float64


def test_an_episode_earns_nothing_of_the_next() -> None:
    returns = discounted_returns(np.array([1.0, 2.0, 4.0, 8.0]), 0.5, np.array([False, True, False, True]))
    assert returns.tolist() == [2.0, 2.0, 8.0, 8.0]


def drawn(seed: int, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards and continuations (H, 3), and values (H + 1, 3)."""
    rng = torch.Generator().manual_seed(seed)
    rew = torch.randn(steps, 3, generator=rng, dtype=torch.float64)
    values = torch.randn(steps + 1, 3, generator=rng, dtype=torch.float64)
    return rew, torch.rand(steps, 3, generator=rng, dtype=torch.float64), values


@settings(deadline=None)
@given(seed=st.integers(0, 1000), steps=st.integers(1, 8), gamma=st.floats(0, 1), lambda_=st.floats(0, 1))
def test_lambda_returns_are_the_mean_of_n_step_returns(seed: int, steps: int, gamma: float, lambda_: float) -> None:
    rew, cont, values = drawn(seed, steps)

    def n_step(t: int, n: int) -> torch.Tensor:
        total = torch.zeros(3, dtype=torch.float64)
        weight = torch.ones(3, dtype=torch.float64)
        for k in range(t, t + n):
            total = total + weight * rew[k]
            weight = weight * gamma * cont[k]
        return total + weight * values[t + n]

    for t, found in enumerate(lambda_returns(rew, cont, values, gamma, lambda_)):
        longest = steps - t
        shares = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, longest)] + [lambda_ ** (longest - 1)]
        torch.testing.assert_close(found, sum(s * n_step(t, n + 1) for n, s in enumerate(shares)))


def test_lambda_0_is_one_step_and_lambda_1_the_discounted_sum() -> None:
    rew, cont, values = drawn(0, 4)
    torch.testing.assert_close(lambda_returns(rew, cont, values, 0.9, 0.0), rew + 0.9 * cont * values[1:])
    rew = torch.tensor([1.0, 2.0, 3.0])
    returns = lambda_returns(rew, torch.ones(3), torch.tensor([7.0, 7.0, 7.0, 10.0]), 0.5, 1.0)
    assert returns.tolist() == [1 + 1 + 0.75 + 1.25, 2 + 1.5 + 2.5, 3 + 5.0]


def test_lambda_returns_by_hand() -> None:
    rew = torch.tensor([1.0, 2.0])
    cont = torch.tensor([0.5, 1.0])
    values = torch.tensor([100.0, 4.0, 8.0])
    last = 2 + 0.5 * 8
    first = 1 + 0.5 * 0.5 * (0.75 * 4 + 0.25 * last)
    assert lambda_returns(rew, cont, values, 0.5, 0.25).tolist() == [first, last]


def test_nothing_counts_after_an_end() -> None:
    rew = torch.tensor([1.0, 2.0, 4.0])
    returns = lambda_returns(rew, torch.tensor([1.0, 0.0, 1.0]), torch.full((4,), 100.0), 1.0, 1.0)
    assert returns[:2].tolist() == [3.0, 2.0]


@pytest.mark.parametrize("cont, values", [((3,), (3,)), ((2,), (4,)), ((3,), (4, 1))])
def test_values_must_be_one_more_than_rewards(cont: tuple[int, ...], values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"rew has shape \(3,\), cont .* and values .*; expected"):
        lambda_returns(torch.zeros(3), torch.zeros(cont), torch.zeros(values), 1.0, 1.0)
