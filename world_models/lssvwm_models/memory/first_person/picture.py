"""Pictures of a pinhole camera, in patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def middles(size: int) -> Tensor:
    """Where the middles of pixels are in a picture that reaches from -1 to 1: (size,)."""
    return (2 * torch.arange(size, dtype=torch.float32) + 1) / size - 1


def folded(tokens: Tensor, side: int) -> Tensor:
    """Tokens (N, G * G, c * side ** 2) as a picture (N, c, G * side, G * side)."""
    grid = round(tokens.shape[1] ** 0.5)
    return F.fold(tokens.transpose(1, 2), grid * side, side, stride=side)


def unfolded(picture: Tensor, side: int) -> Tensor:
    """The inverse of `folded`."""
    return F.unfold(picture, side, stride=side).transpose(1, 2)


class PatchBlock(nn.Module):
    """A convolution over neighbouring patches, and an MLP (Liu et al. 2022).

    Args:
        width: of the tokens of G x G patches.
        grid: G.
        condition: width of what modulates the block; 0: nothing does.
        size: side of the convolution's kernel.
    """

    def __init__(self, width: int, grid: int, condition: int = 0, size: int = 5) -> None:
        super().__init__()
        self.grid = grid
        self.kernel = nn.Parameter(torch.randn(width, 1, size, size) / size)
        self.modulation = nn.Linear(condition, 2 * width) if condition else None
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (N, G * G, width), cond (N, condition) -> like x."""
        y = F.layer_norm(x, x.shape[-1:])
        if self.modulation is not None:
            assert cond is not None
            shift, scale = self.modulation(cond).unsqueeze(1).chunk(2, -1)
            y = y * (1 + scale) + shift
        image = y.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        kernel = self.kernel.to(image.dtype)
        image = F.conv2d(image, kernel, padding=kernel.shape[-1] // 2, groups=len(kernel))
        y = image.flatten(2).transpose(1, 2)
        return x + self.down(F.gelu(self.up(y)))
