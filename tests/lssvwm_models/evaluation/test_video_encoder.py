"""The fixed encoder is the same everywhere, sees motion, and lets gradients through; I3D is checked when loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lssvwm_models.evaluation.video_encoder import VideoEncoder, load_i3d


def test_features_are_fixed_and_see_motion() -> None:
    generator = torch.Generator().manual_seed(1)
    clips = torch.rand(2, 5, 3, 32, 32, generator=generator) * 2 - 1
    features = VideoEncoder()(clips)
    assert features.shape == (2, 64)
    torch.manual_seed(9)
    assert torch.equal(VideoEncoder()(clips), features)
    assert not torch.allclose(VideoEncoder()(clips.flip(1)), features, atol=1e-3)
    assert 0.05 < features.std() < 5
    # The name stands for these numbers: who changes them needs another name.
    assert VideoEncoder().spatial[0].flatten()[:2].tolist() == pytest.approx(FIRST_WEIGHTS, abs=1e-5)


FIRST_WEIGHTS = [-0.2160780, -0.5918887]


def test_maps_are_of_single_frames_and_differentiable() -> None:
    encoder = VideoEncoder()
    frames = torch.randn(4, 3, 32, 32, requires_grad=True)
    maps = encoder.maps(frames)
    assert [tuple(m.shape) for m in maps] == [(4, 16, 16, 16), (4, 32, 8, 8), (4, 64, 4, 4)]
    assert torch.allclose(encoder.maps(frames[2:3])[-1], maps[-1][2:3], atol=1e-5)
    maps[-1].sum().backward()
    assert frames.grad is not None and frames.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_unknown_encoders_are_refused() -> None:
    with pytest.raises(ValueError, match="'vgg' is no video encoder"):
        VideoEncoder(name="vgg")
    with pytest.raises(ValueError, match=r"expected clips \(B, T, C, H, W\)"):
        VideoEncoder()(torch.zeros(1, 3, 8, 8))


class Pool(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, clips: Tensor) -> Tensor:
        return clips.mean((2, 3, 4)).repeat(1, 134)[:, : self.width]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript, which published I3D weights come in
def test_i3d_is_given_what_it_expects(tmp_path: Path) -> None:
    torch.jit.script(Pool(400)).save(str(tmp_path / "good.pt"))
    torch.jit.script(Pool(7)).save(str(tmp_path / "narrow.pt"))
    (tmp_path / "text.pt").write_text("no network")
    encoder = load_i3d(tmp_path / "good.pt")
    assert encoder(torch.ones(2, 9, 3, 16, 16)).tolist() == [[1.0] * 400] * 2
    with pytest.raises(ValueError, match=r"maps 1 clips to \(1, 7\); expected features \(1, 400\)"):
        load_i3d(tmp_path / "narrow.pt")
    for name in ("text.pt", "nowhere.pt"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a TorchScript file"):
            load_i3d(tmp_path / name)
