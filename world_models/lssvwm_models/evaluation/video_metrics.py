"""How like are two videos? PSNR, SSIM and a perceptual distance frame by frame, and the Frechet distance between two
sets of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from lssvwm_models.evaluation.video_encoder import VideoEncoder, map_distance

SSIM_WINDOW: Final = 11  # pixels
_FRAMES = 64  # at a time: bounds the float copies


@contextmanager
def exactly(device: torch.device | str) -> Iterator[None]:
    """Convolutions in whole float32, as differences of large numbers need."""
    float32 = torch.autocast(torch.device(device).type, enabled=False)
    with float32, torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], device: torch.device | str = "cpu") -> NDArray[np.float64]:
    """Structural similarity of uint8 frames (..., H, W, C), (...): at most 1, which identical frames have.

    Windows are Gaussian, 11 pixels wide (sigma 1.5), as in the paper that named it; the colours are averaged.

    Raises:
        ValueError: If the two are not uint8 of one shape, or smaller than a window.
    """
    _check_frames("ssim", a, b)
    if min(a.shape[-3:-1]) < SSIM_WINDOW:
        raise ValueError(
            f"ssim got frames of shape {a.shape[-3:]}: height and width must be at least {SSIM_WINDOW} pixels."
        )
    return _where_they_differ(lambda a, b: _ssim(a / 255, b / 255), a, b, 1.0, device)


def perceptual(a: NDArray[np.uint8], b: NDArray[np.uint8], device: torch.device | str = "cpu") -> NDArray[np.float64]:
    """How unlike uint8 frames (..., H, W, C) look, (...): at least 0, which identical frames have.

    As LPIPS (Zhang et al. 2018) it is the squared distance of feature maps, scaled to unit length at each place,
    averaged over places and summed over layers. Unlike LPIPS the features are those of a fixed random network,
    `video_encoder.NAME`, so nothing is downloaded, and the numbers are not on the scale of LPIPS. Training can make the
    same distance smaller (`training.perceptual`): it favours models that were trained so.

    Raises:
        ValueError: If the two are not uint8 of one shape.
    """
    _check_frames("perceptual", a, b)
    encoder = VideoEncoder(a.shape[-1]).to(device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return map_distance(encoder.maps(a / 127.5 - 1), encoder.maps(b / 127.5 - 1))

    return _where_they_differ(distance, a, b, 0.0, device)


def _check_frames(name: str, a: NDArray[Any], b: NDArray[Any]) -> None:
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8 or a.ndim < 3:
        raise ValueError(f"{name} got {a.dtype} {a.shape} and {b.dtype} {b.shape}, expected uint8 frames of one shape.")


def _where_they_differ(
    compare: Callable[[Tensor, Tensor], Tensor],
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    same: float,
    device: torch.device | str,
) -> NDArray[np.float64]:
    """What `compare` says of frames (N, C, H, W), 0 to 255, for frames (..., H, W, C) that are not the `same`."""
    flat = [x.reshape(-1, *x.shape[-3:]) for x in (a, b)]
    (differ,) = np.nonzero((flat[0] != flat[1]).any((1, 2, 3)))
    values = np.full(len(flat[0]), same, np.float64)
    with torch.no_grad(), exactly(device):
        for start in range(0, len(differ), _FRAMES):
            index = differ[start : start + _FRAMES]
            pair = (torch.from_numpy(x[index]).to(device).movedim(-1, 1).float() for x in flat)
            values[index] = compare(*pair).double().cpu().numpy()
    return values.reshape(a.shape[:-3])


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """(N,) of frames (N, C, H, W) in [0, 1]."""
    value = structural_similarity_index_measure(a, b, kernel_size=SSIM_WINDOW, data_range=1.0, reduction="none")
    assert isinstance(value, Tensor)
    return value.reshape(len(a))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Frechet distance between two Gaussians with the means and covariances of features (N, D) and (M, D).

    It is |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)). With few clips per feature it is biased upwards: compare it
    only between sets of equal sizes, and with the distance between two sets of real clips.

    Raises:
        ValueError: If the shapes do not fit, or there are fewer than two of either.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features have shapes {tuple(a.shape)} and {tuple(b.shape)}, expected (N, D) and (M, D) with at least two "
            "clips each."
        )
    a = a.detach().double().cpu()
    b = b.detach().double().cpu()
    cov_a = torch.atleast_2d(torch.cov(a.T))
    cov_b = torch.atleast_2d(torch.cov(b.T))
    # tr (A B)^(1/2) = tr (R B R)^(1/2) with R = A^(1/2), and R B R is symmetric: its eigenvalues are real.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(0.0, float(distance))


PSNR_LIMIT: Final = 60.0  # dB; what identical frames count as, so that means stay finite


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8], where: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of uint8 frames (..., H, W, C) in dB, (...); identical frames count as 60 dB.

    With `where`, bool (..., H, W), only over the pixels that it names; frames with none of them count as identical.

    Raises:
        ValueError: If the two are not uint8 of one shape.
    """
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"psnr got {a.dtype} {a.shape} and {b.dtype} {b.shape}, expected uint8 frames of one shape.")
    difference = np.subtract(a, b, dtype=np.float32)
    pixels: Any = a.shape[-3] * a.shape[-2]
    if where is not None:
        difference *= where[..., None]
        pixels = where.sum((-2, -1)).clip(min=1)
    error = np.einsum("...hwc,...hwc->...", difference, difference, dtype=np.float64) / (pixels * a.shape[-1])
    floor = 255**2 / 10 ** (PSNR_LIMIT / 10)
    decibel: NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(error, floor))
    return decibel
