import pytest
import torch

from lssvwm_models.training.regularisers import earlier_frames, hidden_frames, state_moments

UNIT = torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))  # (B, tubes, H, P, N)


def test_states_of_unit_scale_cost_nothing():
    assert state_moments([UNIT, UNIT[:, :1]]) < 0.01


def test_twice_too_large_costs_what_half_as_large_does_and_a_mean_costs_too():
    large, small = state_moments([2 * UNIT]), state_moments([0.5 * UNIT])
    torch.testing.assert_close(large, small, rtol=0.05, atol=0)
    assert large > 1
    torch.testing.assert_close(state_moments([UNIT + 0.5]), torch.tensor(0.25), rtol=0.1, atol=0)


def test_every_head_is_judged_by_itself():
    state = UNIT.clone()
    state[:, :, 0] *= 3
    state[:, :, 1] /= 3  # together they look harmless
    assert state_moments([state]) > 1
    state.requires_grad_()
    state_moments([state]).backward()
    pull = -(state.grad * state).sum((0, 1, 3, 4))
    assert pull[0] < -0.1 < 0.1 < pull[1] and pull[2].abs() < 0.05


def test_empty_states_are_harmless():
    state = torch.zeros(2, 1, 3, 4, 4, requires_grad=True)
    loss = state_moments([state])
    loss.backward()
    assert loss.isfinite() and not state.grad.any()


def test_a_network_without_scans_is_told_so():
    with pytest.raises(ValueError, match="no layer of this network has one; set it to 0"):
        state_moments([])


def test_earlier_frames_are_of_the_last_frames_episode_and_before_it():
    is_first = torch.zeros(3, 9, dtype=torch.bool)
    is_first[:, 0] = True
    is_first[1, 4] = is_first[2, 8] = True
    rng = torch.Generator().manual_seed(0)
    drawn = [earlier_frames(is_first, rng) for _ in range(200)]
    index = torch.stack([i for i, _ in drawn])
    assert index[:, 0].unique().tolist() == list(range(8))
    assert index[:, 1].unique().tolist() == [4, 5, 6, 7]
    assert all(counts.tolist() == [True, True, False] for _, counts in drawn)


def test_of_half_of_the_frames_up_to_64_of_the_latest_are_hidden():
    hidden = hidden_frames(torch.zeros(40, 100, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert hidden.shape == (40, 100)
    assert 0.45 < (hidden == 0).float().mean() < 0.55
    assert sorted(hidden.unique().tolist()) == list(range(65))
    some = hidden[hidden > 0].float()
    assert 31 < some.mean() < 34
