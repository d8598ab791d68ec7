"""Videos with actions beside them become a dataset."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from lssvwm_env.datasets.check import check_dataset
from lssvwm_env.datasets.videos import ImportVideosConfig, import_videos

RNG = np.random.default_rng(0)


def film(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Flat pictures that get brighter: even lossy codecs keep these nearly."""
    return np.repeat(np.arange(frames, dtype=np.uint8) * 8 + 20, height * width * 3).reshape(frames, height, width, 3)


def save(path: Path, frames: np.ndarray, **beside: np.ndarray) -> None:
    iio.imwrite(path, frames, plugin="pyav", codec="libx264" if path.suffix == ".mp4" else "ffv1", fps=10)
    for name, array in beside.items():
        np.save(path.with_suffix(".npy" if name == "act" else f".{name}.npy"), array)


def test_frames_actions_rewards_and_ends_come_in(tmp_path: Path) -> None:
    ended = np.arange(20) == 19
    save(tmp_path / "a.mp4", film(20), act=np.arange(20) % 3, rewards=np.arange(20.0), terminated=ended)
    save(tmp_path / "b.mp4", film(18), act=np.arange(1, 18) % 4)  # without the first
    data = import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))
    one, two = data.episodes()
    assert (len(one), len(two)) == (20, 18) and one.obs.shape[1:] == (64, 64, 3)
    assert np.abs(one.obs.mean((1, 2, 3)) - film(20)[:, 0, 0, 0]).max() < 4
    assert one.act.tolist() == [0, *(np.arange(1, 20) % 3)] and two.act.tolist() == [0, *(np.arange(1, 18) % 4)]
    assert one.rew.tolist() == list(range(20)) and not two.rew.any()
    assert one.terminated[-1] and not one.truncated[-1]
    assert two.truncated[-1] and not two.terminated.any()
    assert data.spec.action_space == {"type": "Discrete", "n": 4} and one.seed == -1
    assert data.spec.preprocessing == "read from videos, 48x64 resized to 64x64 by box averaging"
    assert "lssvwm import-videos --folder" in data.spec.command
    assert not check_dataset(data.folder)


def test_vectors_make_a_box_and_lossless_codecs_lose_nothing(tmp_path: Path) -> None:
    frames = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
    act = RNG.random((6, 2), np.float32)
    iio.imwrite(tmp_path / "a.mkv", frames, plugin="pyav", codec="ffv1", fps=10, out_pixel_format="bgr0")
    np.save(tmp_path / "a.npy", act)
    data = import_videos(ImportVideosConfig(tmp_path, tmp_path / "data", split="test"))
    np.testing.assert_array_equal(data.obs, frames)
    np.testing.assert_array_equal(data.act[1:], act[1:])
    assert data.spec.action_space["shape"] == [2] and data.spec.split == "test" and not data.act[0].any()


def test_gifs_need_no_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    iio.imwrite(tmp_path / "a.gif", film(5, 32, 32))
    np.save(tmp_path / "a.npy", np.zeros(5, np.int64))
    data = import_videos(ImportVideosConfig(tmp_path, tmp_path / "data", size=16))
    assert data.obs.shape == (5, 16, 16, 3) and data.spec.env_kwargs == {"frame_size": 16}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    def refused() -> None:
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))

    with pytest.raises(FileNotFoundError, match="holds no videos; expected files ending in .mp4"):
        refused()
    iio.imwrite(tmp_path / "a.gif", film(5, 32, 32))
    with pytest.raises(FileNotFoundError, match="a.npy is missing: the actions of a.gif"):
        refused()
    np.save(tmp_path / "a.npy", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="a.npy has 3 entries for 5 frames; expected as many, or one less"):
        refused()
    np.save(tmp_path / "a.npy", np.zeros((5, 2, 2), np.float32))
    with pytest.raises(ValueError, match=r"a.npy is float32 \(5, 2, 2\), expected int64"):
        refused()
    np.save(tmp_path / "a.npy", np.full(5, -1))
    with pytest.raises(ValueError, match="integers from 0"):
        refused()
    np.save(tmp_path / "a.npy", np.zeros(5, np.int64))
    np.save(tmp_path / "a.terminated.npy", np.ones(5, np.bool_))
    with pytest.raises(ValueError, match="a.gif: Episode ends before its last frame"):
        refused()
    iio.imwrite(tmp_path / "b.gif", film(5, 32, 32))
    np.save(tmp_path / "b.npy", np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match="different kinds of actions: float32 .* and int64"):
        refused()
    assert not (tmp_path / "data").exists()


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.mp4", film(3), act=np.zeros(3, np.int64))
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "imageio.plugins.pyav", raising=False)
    with pytest.raises(ValueError, match=r'a.mp4 needs a decoder .*pip install "lssvwm-env\[data\]"'):
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))
