import math

import pytest
import torch

from lssvwm_models.model.heads import FeatureHead, RewardHead, TerminationHead


def certain(head, logits):
    """A head whose answer is these logits, whatever it is shown."""
    torch.nn.init.zeros_(head.mlp[-1].weight)
    with torch.no_grad():
        head.mlp[-1].bias.copy_(logits)
    return head


def test_a_reward_is_the_mean_of_its_bins_on_a_scale_of_symlog():
    head = RewardHead(4)
    assert head.bins.tolist() == pytest.approx([-5 + 10 * i / 64 for i in range(65)])
    logits = torch.full((65,), -1e9)
    logits[[32 + 6, 32 + 7]] = 0.0  # half and half
    assert certain(head, logits)(torch.zeros(3, 4)).tolist() == pytest.approx([math.expm1(6.5 * 10 / 64)] * 3, rel=1e-5)


@pytest.mark.parametrize("rew", [0.0, 1.0, -0.3, 20.0])
def test_the_loss_of_a_reward_is_least_where_its_two_bins_have_their_shares(rew):
    head = RewardHead(4)
    position = (math.copysign(math.log1p(abs(rew)), rew) + 5) * 6.4
    low = int(position)
    share = position - low
    logits = torch.full((65,), -1e4)
    logits[low], logits[low + 1] = math.log(max(1 - share, 1e-9)), math.log(max(share, 1e-9))
    entropy = -sum(p * math.log(p) for p in (share, 1 - share) if p > 1e-6)
    found = certain(head, logits).loss(torch.zeros(1, 4), torch.tensor([rew]))
    assert found.item() == pytest.approx(entropy, abs=1e-4)
    assert head(torch.zeros(1, 4)).item() == pytest.approx(rew, abs=1e-3 * (1 + abs(rew)))


def test_rewards_beyond_the_bins_count_as_the_last():
    head = RewardHead(4)
    logits = torch.full((65,), -1e4)
    logits[-1] = 0.0
    assert certain(head, logits).loss(torch.zeros(1, 4), torch.tensor([1e6])).item() == pytest.approx(0, abs=1e-5)


def test_a_termination_is_a_logit():
    head = certain(TerminationHead(4), torch.tensor([2.0]))
    assert head(torch.zeros(2, 4)).tolist() == [2.0, 2.0]
    losses = head.loss(torch.zeros(2, 4), torch.tensor([True, False]))
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(-2)), math.log1p(math.exp(2))], rel=1e-5)


def test_features_have_unit_size_and_see_the_surroundings():
    torch.manual_seed(0)
    head = FeatureHead(tokens=4, d_model=8, parts=2, surroundings=3, d_inner=6, width=16)
    x, around = torch.randn(5, 4, 8), torch.randn(5, 3, 6)
    feats = head(x, around)
    torch.testing.assert_close(feats.square().mean(-1), torch.ones(5), rtol=1e-3, atol=0)
    assert (head(x, around + torch.randn_like(around)) != feats).all()
    torch.testing.assert_close(head(x, 10 * around), feats)  # how loud the memory is does not matter
    torch.testing.assert_close(head(10 * x, around), feats, rtol=1e-3, atol=1e-3)


def test_what_was_never_seen_stays_near_zero():
    head = FeatureHead(tokens=1, d_model=8, parts=1, surroundings=2, d_inner=6, width=16)
    x, nothing = torch.randn(1, 1, 8), torch.zeros(1, 2, 6)
    torch.testing.assert_close(head(x, nothing + 1e-6), head(x, nothing), rtol=1e-2, atol=1e-2)
    apart = torch.cat([torch.ones(1, 1, 6), torch.zeros(1, 1, 6)], 1)
    assert not torch.allclose(head(x, apart), head(x, apart.flip(1)))
