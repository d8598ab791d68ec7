import pytest
import torch

from lssvwm_models.model.tokenizer import PatchTokenizer


def tiles(n=200):
    """Frames made of four kinds of tiles, one of them rare."""
    g = torch.Generator().manual_seed(0)
    kinds = torch.rand(4, 3, 4, 4, generator=g) * 2 - 1
    index = torch.multinomial(torch.tensor([0.5, 0.3, 0.19, 0.01]), n * 4, True, generator=g).view(n, 2, 2)
    return kinds[index].permute(0, 3, 1, 4, 2, 5).reshape(n, 3, 8, 8)


def test_tiles_survive_exactly_in_as_few_latents_as_they_need():
    frames = tiles()
    tokenizer = PatchTokenizer.fit(frames, patch=4, most=32)
    assert tokenizer.latent_dim == 3  # four kinds of tiles span three directions
    torch.testing.assert_close(tokenizer.decode(tokenizer.encode(frames)), frames, rtol=0, atol=1e-4)


def test_every_latent_has_unit_variance_rare_tiles_too():
    frames = tiles()
    latents = PatchTokenizer.fit(frames, patch=4, most=32).encode(frames)
    torch.testing.assert_close(latents.flatten(0, 1).std(0), torch.ones(3), rtol=0.01, atol=0)


def test_tokens_are_patches_in_reading_order():
    frames = torch.zeros(1, 1, 4, 4)
    frames[0, 0, :2, 2:] = 1  # upper right
    latents = PatchTokenizer(patch=2, channels=1, latent_dim=4).encode(frames)
    assert latents[0].sum(-1).tolist() == [0, 4, 0, 0]
    assert torch.equal(PatchTokenizer(2, 1, 4).decode(latents), frames)


def test_leading_dimensions_are_kept():
    frames = torch.rand(2, 3, 3, 8, 8)
    tokenizer = PatchTokenizer(4, 3, 48)
    assert tokenizer.encode(frames).shape == (2, 3, 4, 48)
    torch.testing.assert_close(tokenizer.decode(tokenizer.encode(frames)), frames)


def test_more_latents_than_pixels_are_refused():
    with pytest.raises(ValueError, match="latent_dim is 49"):
        PatchTokenizer(4, 3, 49)


def test_blends_of_tiles_become_the_tile_that_is_nearest_in_brightness_too():
    frames = tiles()
    tokenizer = PatchTokenizer.fit(frames, patch=4, most=32)
    latents = tokenizer.encode(frames)
    assert tokenizer.quantize(latents) is latents  # there is no codebook
    tokenizer.codebook = latents.flatten(0, 1).unique(dim=0)[:4]
    torch.testing.assert_close(tokenizer.quantize(latents), latents, rtol=0, atol=1e-4)
    blends = latents.lerp(latents.roll(1, 0), 0.4)
    torch.testing.assert_close(tokenizer.quantize(blends), latents, rtol=0, atol=1e-4)


def test_nearest_is_what_the_loss_calls_so():
    tokenizer = PatchTokenizer(1, 2, 2, codebook_size=2)
    tokenizer.decoder = torch.tensor([[16.0, 0.0], [0.0, 1.0]])  # importance 4 to 1
    tokenizer.codebook = torch.tensor([[1.0, 0.0], [0.0, 1.5]])
    near = torch.tensor([[[0.0, 0.0]]])  # 4 * 1 from the first, 1.5 ** 2 from the second
    assert tokenizer.quantize(near).tolist() == [[[0.0, 1.5]]]
    with torch.autocast("cpu", torch.bfloat16):
        assert tokenizer.quantize(near.bfloat16()).dtype == torch.float32


def test_no_more_latents_are_kept_than_it_takes_for_40_db():
    g = torch.Generator().manual_seed(0)
    scale = 0.5 * 0.9 ** torch.arange(192)  # of directions of patches, no two of the same variance
    frames = (torch.randn(4000, 192, generator=g) * scale).view(4000, 3, 8, 8)
    lost = scale.square().flip(0).cumsum(0).flip(0) / 192  # by who keeps only those before
    enough = int((lost > 4e-4).sum())
    assert 9 < enough < 32
    assert PatchTokenizer.fit(frames, 8, 96).latent_dim == 32  # so many are kept whatever they are worth
    loud = PatchTokenizer.fit(8 * frames, 8, 96)
    assert 32 < loud.latent_dim < 96
    kept = loud.encode(8 * frames) @ loud.decoder + loud.mean  # without the clipping of brightness
    error = (kept[:, 0] - 8 * frames.flatten(1)).square().mean()
    assert 3e-4 < error < 4e-4
    assert PatchTokenizer.fit(8 * frames, 8, 33).latent_dim == 33


@pytest.mark.parametrize(("power", "expected"), [(0.0, [1, 1]), (0.5, [1.6, 0.4]), (1.0, [32 / 17, 2 / 17])])
def test_errors_count_by_a_power_of_the_variance_behind_them(power, expected):
    tokenizer = PatchTokenizer(1, 2, 2)
    tokenizer.decoder = torch.diag(torch.tensor([4.0, 1.0]))
    torch.testing.assert_close(tokenizer.importance(power), torch.tensor(expected).float())
