"""Numbers as distributions over bins."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lssvwm_models.model.heads import RewardHead
from lssvwm_models.utils.two_hot import mean_bin, symexp, symlog, two_hot_loss


@given(st.floats(-1e4, 1e4))
def test_symexp_undoes_symlog(x: float) -> None:
    number = torch.tensor(x, dtype=torch.float64)
    assert symexp(symlog(number)).item() == pytest.approx(x)


def test_symlog_keeps_the_sign_and_takes_the_logarithm() -> None:
    torch.testing.assert_close(
        symlog(torch.tensor([0.0, 1.0, -6.3890561])), torch.tensor([0.0, 0.6931472, -2.0]), atol=1e-6, rtol=0
    )


def test_the_mean_is_weighted_by_probability() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0986123, -50.0]])  # thirds; 1 to 3
    torch.testing.assert_close(mean_bin(logits, torch.tensor([0.0, 1.0, 5.0])), torch.tensor([2.0, 0.75]))


def test_the_loss_is_the_cross_entropy_with_both_neighbours() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 6)
    low = torch.tensor([0, 4, 2, 2])
    share = torch.tensor([0.0, 1.0, 0.25, 0.5])
    target = torch.zeros(4, 6)
    target[torch.arange(4), low] = 1 - share
    target[torch.arange(4), low + 1] = share
    expected = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(two_hot_loss(logits, low, share), expected)


@pytest.mark.parametrize("reward, symlogs", [(0.0, [0.0, 0.15625]), (1.0, [0.625, 0.78125]), (1e9, [5.0, 4.84375])])
def test_the_reward_head_learns_the_two_bins_around_a_reward(reward: float, symlogs: list[float]) -> None:
    head = RewardHead(1)
    head.mlp = torch.nn.Sequential(torch.nn.Identity())
    logits = torch.zeros(len(head.bins), requires_grad=True)
    head.loss(logits, torch.tensor(reward)).backward()
    assert logits.grad is not None
    target = logits.detach().softmax(-1) - logits.grad  # the gradient of a cross-entropy
    assert set(head.bins[target > 1e-6].tolist()) <= set(symlogs)
    mean = symexp((target * head.bins).sum()).item()
    assert mean == pytest.approx(min(reward, symexp(torch.tensor(5.0)).item()), abs=1e-4)
