import pytest
import torch

from lssvwm_models.training.objective import ObjectiveConfig, noisy_streams

LATENTS = torch.randn(64, 20, 4, 3, generator=torch.Generator().manual_seed(0))


def streams_of(config):
    return noisy_streams(LATENTS, config, torch.Generator().manual_seed(1))


def test_clean_noisy_writes_clean_frames_and_judges_noisy_ones():
    streams = streams_of(ObjectiveConfig(context_noise=0.0))
    assert streams.target == 1 and streams.weight.all() and streams.clean.all()
    assert torch.equal(streams.latents[:, :, 0], LATENTS) and (streams.tau[:, :, 0] == 1).all()
    assert abs((streams.tau[:, :, 1] == 0).float().mean() - 0.5) < 0.05
    nearly_clean = streams.tau[:, :, 1] > 0.98
    assert (streams.latents[:, :, 1] - LATENTS)[nearly_clean].abs().max() < 0.2


def test_context_noise_is_at_most_what_was_asked():
    streams = streams_of(ObjectiveConfig(context_noise=0.2))
    spread = (streams.latents[:, :, 0] - LATENTS).flatten(1).std(1)
    assert spread.max() < 0.22 and spread.max() > 0.15 and spread.min() < 0.05


def test_diffusion_forcing_keeps_clean_prefixes_longer_than_half():
    streams = streams_of(ObjectiveConfig("diffusion_forcing"))
    clean = streams.tau[:, :, 0] == 1
    prefix = clean.float().cumprod(1).sum(1)
    assert 0.3 < (prefix > 0).float().mean() < 0.7
    assert (prefix[prefix > 0] > 10).all() and (prefix < 20).all()
    assert torch.equal(streams.weight, (~clean).float())  # loss on the noised part only
    assert torch.equal(streams.latents[:, :, 0][clean], LATENTS[clean])
    assert len(streams.tau[0].unique()) > 2  # noise is drawn per frame


@pytest.mark.parametrize("name", ["context_noise", "state_moments", "recall", "perceptual"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_weights_of_losses_are_not_negative(name, value):
    with pytest.raises(ValueError, match=f"{name}={value} must be (at least 0|a finite number)"):
        ObjectiveConfig(**{name: value})


@pytest.mark.parametrize("name", ["pure_noise", "clean_prefix", "truncation"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_shares_of_frames_and_sequences_are_shares(name, value):
    with pytest.raises(ValueError, match=f"{name}={value} must be a share, from 0 to 1"):
        ObjectiveConfig(**{name: value})
