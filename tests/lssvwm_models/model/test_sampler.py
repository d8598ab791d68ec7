import torch

from lssvwm_models.model.sampler import sample


def test_a_sure_model_is_sampled_exactly_in_any_number_of_steps():
    x, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    for steps in (1, 2, 5):
        torch.testing.assert_close(sample(lambda x_tau, tau: x, noise, steps).x, x, rtol=1e-5, atol=1e-5)


def test_the_model_is_shown_what_training_showed_it():
    """x_tau = (1 - tau) noise + tau x, at tau = 0, 1/4, 2/4, 3/4."""
    x, noise, seen = torch.randn(1, 3, 4), torch.randn(1, 3, 4), []

    def denoise(x_tau, tau):
        seen.append(float(tau))
        torch.testing.assert_close(x_tau, (1 - tau) * noise + tau * x, rtol=1e-5, atol=1e-5)
        return x

    sample(denoise, noise, 4)
    assert seen == [0, 0.25, 0.5, 0.75]


def test_what_was_expected_is_the_first_prediction():
    told = iter([torch.zeros(1, 2), torch.ones(1, 2), 2 * torch.ones(1, 2)])
    found = sample(lambda x_tau, tau: next(told), torch.randn(1, 2), 3)
    torch.testing.assert_close(found.x, 2 * torch.ones(1, 2))
    assert torch.equal(found.expected, torch.zeros(1, 2))
