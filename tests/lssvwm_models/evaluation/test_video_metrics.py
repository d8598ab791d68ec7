"""SSIM, the perceptual and the Frechet distance, against what they must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lssvwm_models.data.segments import to_frames
from lssvwm_models.evaluation.video_metrics import frechet_distance, perceptual, ssim
from lssvwm_models.training.perceptual import perceptual_loss


def test_ssim_falls_from_one_as_frames_differ() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
    other = frames.copy()
    other[1, 2, :4] = 0
    other[0, 1] = 255 - frames[0, 1]
    found = ssim(frames, other)
    assert found.shape == (2, 3)
    np.testing.assert_array_equal(found[[0, 0, 1, 1], [0, 2, 0, 1]], 1)
    assert 0.5 < found[1, 2] < 0.99 and found[0, 1] < 0


def test_ssim_refuses_misfits() -> None:
    with pytest.raises(ValueError, match="expected uint8 frames of one shape"):
        ssim(np.zeros((2, 16, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))


def test_the_perceptual_distance_is_that_of_training() -> None:
    frames, other = np.random.default_rng(0).integers(0, 256, (2, 2, 40, 16, 16, 3), np.uint8)  # more than go at once
    other[1, 2] = frames[1, 2]
    found = perceptual(frames, other)
    np.testing.assert_allclose(found, perceptual_loss(to_frames(frames), to_frames(other)), rtol=1e-4)
    assert found[1, 2] == 0 and np.count_nonzero(found) == 79
    with pytest.raises(ValueError, match="perceptual got uint8 .* expected uint8 frames of one shape"):
        perceptual(frames, other[:1])


def test_what_is_shifted_looks_more_alike_than_another_picture() -> None:
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = 255
    assert perceptual(edge, np.roll(edge, 1, 1)) < 0.5 * perceptual(edge, edge.swapaxes(0, 1).copy())


def gaussian(mean: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """Points with exactly this mean and the covariance root @ root.T."""
    points = torch.randn(200, len(mean), dtype=torch.float64)
    points = points - points.mean(0)
    white = points @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(points.T))).T
    return white @ root.T + mean


def test_frechet_is_the_closed_form() -> None:
    torch.manual_seed(0)
    mean, zero, eye = torch.tensor([3.0, 4.0, 0.0]).double(), torch.zeros(3).double(), torch.eye(3).double()
    # Covariances that commute: sum of (sqrt(a) - sqrt(b))^2 over the axes.
    spread = torch.diag(torch.tensor([1.0, 2.0, 5.0]).double())
    assert frechet_distance(gaussian(zero, eye), gaussian(mean, spread)) == pytest.approx(25 + 0 + 1 + 16)
    # And ones that do not: tr (A B)^(1/2) from the eigenvalues of A B, which need not be symmetric.
    a, b = torch.randn(2, 3, 3, dtype=torch.float64)
    cross = torch.linalg.eigvals(a @ a.T @ b @ b.T).sqrt().real.sum()
    expected = 25 + (a @ a.T).trace() + (b @ b.T).trace() - 2 * cross
    assert frechet_distance(gaussian(zero, a), gaussian(mean, b)) == pytest.approx(float(expected))


def test_frechet_of_fewer_clips_than_features_is_finite() -> None:
    few = torch.randn(3, 50)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert math.isfinite(frechet_distance(few, few * 2 + 1)) and frechet_distance(few, few + 1) == pytest.approx(50)


def test_frechet_refuses_misfits() -> None:
    for a, b in ((torch.zeros(4, 2), torch.zeros(4, 3)), (torch.zeros(1, 2), torch.zeros(4, 2))):
        with pytest.raises(ValueError, match="at least two clips each"):
            frechet_distance(a, b)
