"""What is in a clip, as a vector: a small named network that needs no download, or I3D if you have its weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.execution.noise import frame_noise

CLIP: Final = 16  # frames, as is usual for Frechet video distances
NAME: Final = "random-conv3d-0"

Encoder = Callable[[Tensor], Tensor]


class VideoEncoder(nn.Module):
    """A fixed 3D convolution network with random weights: three layers over each frame, then one over time as well.

    Random features see colours, edges, shapes and motion, and are the same everywhere: the name stands for the sizes
    and the seed below. Distances between them mean something only among themselves.

    Attributes:
        name: Which encoder it is; it belongs beside every number computed with it.
    """

    def __init__(self, channels: int = 3, name: str = NAME) -> None:
        super().__init__()
        if name != NAME:
            raise ValueError(f"name={name!r} is no video encoder; there is {NAME!r}.")
        self.name = name
        widths = (channels, 16, 32, 64)

        def fixed(layer: int, *shape: int) -> nn.Parameter:
            noise = frame_noise(torch.tensor([0]), torch.tensor([layer]), shape)[0]
            # He's scale: features keep their size from layer to layer.
            return nn.Parameter(noise * math.sqrt(2 / math.prod(shape[1:])), requires_grad=False)

        layers = enumerate(pairwise(widths))
        self.spatial = nn.ParameterList([fixed(layer, out, into, 3, 3) for layer, (into, out) in layers])
        self.temporal = fixed(len(self.spatial), widths[-1], widths[-1], 3, 3, 3)

    def maps(self, frames: Tensor) -> list[Tensor]:
        """Feature maps of single frames (N, C, H, W) in [-1, 1]: (N, 16, H/2, W/2), (N, 32, H/4, W/4) and
        (N, 64, H/8, W/8). Gradients flow to the frames."""
        found = []
        for weight in self.spatial:
            frames = F.leaky_relu(F.conv2d(frames, weight, stride=2, padding=1), 0.1)
            found.append(frames)
        return found

    def forward(self, frames: Tensor) -> Tensor:
        """Features (B, 64) of clips (B, T, C, H, W) in [-1, 1], averaged over time and place."""
        if frames.dim() != 5:
            raise ValueError(f"frames has shape {tuple(frames.shape)}; expected clips (B, T, C, H, W).")
        last = self.maps(frames.flatten(0, 1))[-1].unflatten(0, frames.shape[:2])  # (B, T, 64, H/8, W/8)
        moving = F.leaky_relu(F.conv3d(last.movedim(1, 2), self.temporal, padding=1), 0.1)
        return moving.mean((2, 3, 4))


def map_distance(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """How unlike the maps of N frames are, (N,): squared distances, averaged over places and summed over layers.

    Every place of a map is scaled to unit length first, so that what is there counts, and not how strong it is.
    """
    distances = [
        (F.normalize(p, dim=1) - F.normalize(t, dim=1)).square().sum(1).mean((1, 2))
        for p, t in zip(ours, theirs, strict=True)
    ]
    return torch.stack(distances).sum(0)


def load_i3d(path: str | Path, device: torch.device | str = "cpu") -> Encoder:
    """The I3D network of the usual Frechet video distance, from a TorchScript file.

    Args:
        path: A file that maps clips (B, 3, T, 224, 224) in [-1, 1] to features (B, 400). Only load files you trust.
        device: Where to run it.

    Returns:
        A function of clips (B, T, 3, H, W) in [-1, 1], which are resized as it needs them.

    Raises:
        ValueError: If the file is missing, is no TorchScript, or maps to something else.
    """
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"i3d={path} cannot be read as a TorchScript file: {reason}") from error

    @torch.no_grad()
    def encode(clips: Tensor) -> Tensor:
        frames = F.interpolate(clips.flatten(0, 1).to(device), (224, 224), mode="bilinear", align_corners=False)
        features = network(frames.unflatten(0, clips.shape[:2]).movedim(1, 2))
        if not isinstance(features, Tensor) or tuple(features.shape) != (len(clips), 400):
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"i3d={path} maps {len(clips)} clips to {found}; expected features ({len(clips)}, 400).")
        return features

    try:
        encode(torch.zeros(1, CLIP, 3, 64, 64))
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[-1]
        raise ValueError(f"i3d={path} does not take clips (B, 3, {CLIP}, 224, 224): {reason}") from error
    return encode
