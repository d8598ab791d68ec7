"""Frames to latents and back: a linear autoencoder of patches, fitted in closed form.

Small objects carry little pixel energy, so in pixel space a model learns walls long before keys. The tokenizer
whitens the patches (PCA of the training frames): every latent has about unit variance, so what is rare weighs as much
as what is common, and the noise of diffusion is of the same size as the signal everywhere.

Where frames are made of few patches, as those of tiles are, these are a codebook: a dreamt patch is one of them. So a
dream that goes on for ever does not wear out.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLENTY: Final = 32  # latents: whatever they leave out
MOST_LOST: Final = 4e-4  # mean squared error in [-1, 1], that is 40 dB


class PatchTokenizer(nn.Module):
    """Frames (..., C, H, W) in [-1, 1] <-> latents (..., patches, latent_dim).

    Args:
        patch: side of a square patch, in pixels.
        channels: C.
        latent_dim: latents per patch, at most channels * patch ** 2.
        codebook_size: patches in the codebook; 0: there is none.
    """

    mean: Tensor
    encoder: Tensor
    decoder: Tensor
    codebook: Tensor | None

    def __init__(self, patch: int, channels: int, latent_dim: int, codebook_size: int = 0) -> None:
        super().__init__()
        pixels = channels * patch**2
        if latent_dim > pixels:
            raise ValueError(
                f"latent_dim is {latent_dim}; a patch of {pixels} values has no more than {pixels} latents"
            )
        self.patch = patch
        self.channels = channels
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("encoder", torch.eye(pixels, latent_dim))
        self.register_buffer("decoder", torch.eye(latent_dim, pixels))
        self.register_buffer("codebook", torch.zeros(codebook_size, latent_dim) if codebook_size else None)

    @classmethod
    @torch.no_grad()
    def fit(cls, frames: Tensor, patch: int, most: int, floor: float = 3e-5) -> PatchTokenizer:
        """Fit to frames (N, C, H, W) in [-1, 1].

        Directions with less than 1e-6 of the strongest one's variance are noise and left out; those with less than
        `floor` of it are kept but not amplified to unit variance. At most `most` latents are kept, and of more than
        PLENTY only as many as it takes for 40 dB.
        """
        tokenizer = cls(patch, frames.shape[1], 1)
        patches = tokenizer._patches(frames).flatten(0, -2).double()  # (N * patches, pixels)
        mean = patches.mean(0)
        covariance = (patches - mean).T @ (patches - mean) / len(patches)
        variance, directions = torch.linalg.eigh(covariance)
        variance = variance.flip(0)  # the strongest first
        directions = directions.flip(1)
        lost = variance.flip(0).cumsum(0).flip(0) / len(
            variance
        )  # squared error per value without this one and the rest
        for_quality = int((lost > MOST_LOST).sum())
        k = min(most, max(1, int((variance > 1e-6 * variance[0]).sum())), max(PLENTY, for_quality))
        scale = variance[:k].clamp(min=floor * float(variance[0]) + 1e-12).sqrt()
        tokenizer.mean = mean.float()
        # Contiguous, as they are when they are loaded: the same products, to the last bit.
        tokenizer.encoder = (directions[:, :k] / scale).float().contiguous()
        tokenizer.decoder = (directions[:, :k] * scale).T.float().contiguous()
        return tokenizer

    @property
    def latent_dim(self) -> int:
        """Latents per patch."""
        return self.encoder.shape[1]

    def encode(self, frames: Tensor) -> Tensor:
        """Latents of frames."""
        with torch.autocast(frames.device.type, enabled=False):
            return (self._patches(frames) - self.mean) @ self.encoder

    def decode(self, latents: Tensor) -> Tensor:
        """Frames of latents, clipped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            patches = F.linear(latents.float(), self.decoder.T, self.mean).clamp_(-1, 1)  # (..., patches, pixels)
        grid = round(latents.shape[-2] ** 0.5)
        p = self.patch
        patches = patches.unflatten(-1, (self.channels, p, p)).unflatten(-4, (grid, grid))
        frames = patches.movedim(-3, -5).movedim(-2, -3)  # (..., C, grid, p, grid, p)
        return frames.flatten(-4, -3).flatten(-2, -1)

    def quantize(self, latents: Tensor) -> Tensor:
        """Latents (..., patches, latent_dim), every patch exchanged for the nearest of the codebook, if there is one.

        After VQ-VAE (van den Oord et al. 2017), but the codes are the patches themselves. Errors count as in the loss.
        """
        if self.codebook is None:
            return latents
        weight = self.importance()
        with torch.autocast(latents.device.type, enabled=False):
            squares = (self.codebook.square() * weight).sum(1)
            distance = squares - 2 * (latents.float() * weight) @ self.codebook.T  # but for the latents' own squares
        return self.codebook[distance.argmin(-1)]

    def importance(self, power: float = 0.25) -> Tensor:
        """Weights (latent_dim,) of mean 1 for errors of latents: a power of the pixel variance behind them.

        Errors in pixels would count by the variance itself, and small objects for nothing; errors in whitened latents
        all count the same, and light and shadow, one latent of many, for too little.
        """
        weight = self.decoder.square().sum(1) ** power
        return weight / weight.mean()

    def _patches(self, frames: Tensor) -> Tensor:
        """(..., C, H, W) -> (..., patches, C * patch * patch)."""
        patches = frames.unfold(-2, self.patch, self.patch).unfold(-2, self.patch, self.patch)  # (..., C, g, g, p, p)
        return patches.movedim(-5, -3).flatten(-3).flatten(-3, -2)
