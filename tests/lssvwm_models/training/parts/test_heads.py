"""Heads learn of events at first as if they were common, and at last as rarely as they occur."""

import pytest
import torch

from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.parts.heads import event_share, head_inputs, head_loss
from tests.lssvwm_models.random_worlds import MODEL, batch


def test_the_share_of_events_falls_by_a_constant_factor_until_three_quarters_of_the_steps():
    shares = {0: 0.5, 150: 0.1, 300: 0.02, 301: 0.02, 400: 0.02}
    assert {step: pytest.approx(event_share(step, 400, event_rate=0.02)) for step in shares} == shares


def test_the_loss_counts_events_by_their_share_and_everything_else_by_the_rest():
    feats = torch.randn(4, MODEL.config.feature_dim, generator=torch.Generator().manual_seed(0))
    rew = torch.tensor([0.0, 1.0, 0.0, 0.0])
    terminated = torch.tensor([False, False, True, False])
    of_frames = MODEL.reward.loss(feats, rew) + MODEL.termination.loss(feats, terminated)
    events = of_frames[[1, 2]].mean()
    others = of_frames[[0, 3]].mean()
    found = head_loss(MODEL, feats, rew, terminated, share=0.1)
    torch.testing.assert_close(found, 2 * (0.1 * events + 0.9 * others))


def test_what_heads_see_is_what_the_network_makes_of_frames_a_little_wrong():
    data = batch(T=9)  # three blocks
    tokens, around = head_inputs(MODEL, data, ObjectiveConfig(context_noise=0.0), torch.Generator())
    _, feats = MODEL.observe(MODEL.initial_state(2), data.obs, data.act, data.is_first, data.pose)
    torch.testing.assert_close(MODEL.features(tokens, around), feats)
    one, same, other = (
        head_inputs(MODEL, data, ObjectiveConfig(context_noise=0.3), torch.Generator().manual_seed(seed))[0]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other) and not torch.equal(one, tokens)
