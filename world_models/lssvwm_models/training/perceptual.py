"""A loss that sees shapes, where squared errors see pixels: distances of feature maps (LPIPS, Zhang et al. 2018).

Unlike LPIPS the features are those of a fixed random network: nothing is downloaded, and any number of channels will
do. Random convolutions respond to edges and colours, but know nothing of objects.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from lssvwm_models.evaluation.video_encoder import VideoEncoder, map_distance


def perceptual_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """The `map_distance` (...) of frames (..., C, H, W) in [-1, 1]."""
    encoder = _encoder(predicted.shape[-3], predicted.device)
    with torch.autocast(predicted.device.type, enabled=False):
        with torch.no_grad():
            of_true = encoder.maps(true.flatten(0, -4))
        of_predicted = encoder.maps(predicted.flatten(0, -4))
        distances = map_distance(of_predicted, of_true)
    return distances.view(predicted.shape[:-3])


@cache
def _encoder(channels: int, device: torch.device) -> VideoEncoder:
    """Kept here and not in the model, so that it is not among the model's weights."""
    return VideoEncoder(channels).to(device).requires_grad_(False).eval()
