"""A loss that sees shapes, where squared errors see pixels: distances of feature maps (LPIPS, Zhang et al. 2018).

Unlike LPIPS the features are those of a fixed random network: nothing is downloaded, and any number of channels will
do. Random convolutions respond to edges and colours, but know nothing of objects.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lssvwm_models.evaluation.video_encoder import VideoEncoder


def perceptual_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean squared difference (...) of the maps of frames (..., C, H, W) in [-1, 1], summed over the layers.

    Every place of a map is scaled to unit length first, so that what is there counts, and not how strong it is.
    """
    encoder = _encoder(predicted.shape[-3], predicted.device)
    with torch.autocast(predicted.device.type, enabled=False):
        with torch.no_grad():
            of_true = encoder.maps(true.flatten(0, -4))
        of_predicted = encoder.maps(predicted.flatten(0, -4))
        distances = [
            (F.normalize(p, dim=1) - F.normalize(t, dim=1)).square().sum(1).mean((1, 2))
            for p, t in zip(of_predicted, of_true, strict=True)
        ]
    return torch.stack(distances).sum(0).view(predicted.shape[:-3])


@cache
def _encoder(channels: int, device: torch.device) -> VideoEncoder:
    """Kept here and not in the model, so that it is not among the model's weights."""
    return VideoEncoder(channels).to(device).requires_grad_(False).eval()
