"""Videos with actions beside them become a dataset."""

from __future__ import annotations

import sys
import warnings
import wave
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from lssvwm_env.datasets.check import check_dataset
from lssvwm_env.datasets.playback import pictures, repeats
from lssvwm_env.datasets.videos import ImportVideosConfig, import_videos

RNG = np.random.default_rng(0)


def film(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Flat pictures that get brighter: even lossy codecs keep these nearly."""
    return np.repeat(np.arange(frames, dtype=np.uint8) * 8 + 20, height * width * 3).reshape(frames, height, width, 3)


def save(path: Path, frames: np.ndarray, **beside: np.ndarray) -> None:
    if path.suffix == ".gif":
        iio.imwrite(path, frames)
    else:
        iio.imwrite(path, frames, plugin="pyav", codec="libx264" if path.suffix == ".mp4" else "ffv1", fps=10)
    for name, array in beside.items():
        np.save(path.with_suffix(".npy" if name == "act" else f".{name}.npy"), array)


def test_frames_actions_rewards_and_ends_come_in(tmp_path: Path) -> None:
    ended = np.arange(20) == 19
    save(tmp_path / "a.mp4", film(20), act=np.arange(20) % 3, rewards=np.arange(20.0), terminated=ended)
    save(tmp_path / "b.mp4", film(18), act=np.arange(18) % 4)
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
    data = import_videos(ImportVideosConfig(tmp_path, tmp_path / "data", split="test", first_entry="ignored"))
    np.testing.assert_array_equal(data.obs, frames)
    np.testing.assert_array_equal(data.act[1:], act[1:])
    assert data.spec.action_space["shape"] == [2] and data.spec.split == "test" and not data.act[0].any()


def test_files_without_the_first_entry_are_those_of_one_less(tmp_path: Path) -> None:
    save(tmp_path / "a.mp4", film(5), act=np.array([1, 2, 3, 0]), rewards=np.arange(4.0))
    for stated in (None, "absent"):
        config = ImportVideosConfig(tmp_path, tmp_path / f"data-{stated}", first_entry=stated)
        data = import_videos(config)
        assert data.act.tolist() == [0, 1, 2, 3, 0] and data.rew.tolist() == [0, 0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"a.rewards.npy has 4 entries for 5 frames; expected as many$"):
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data", first_entry="ignored"))
    with pytest.raises(ValueError, match="first_entry='maybe' must be one of ignored, absent"):
        ImportVideosConfig(tmp_path, tmp_path / "data", first_entry="maybe")


def test_what_is_not_clear_is_asked_for(tmp_path: Path) -> None:
    config = ImportVideosConfig(tmp_path, tmp_path / "data")
    save(tmp_path / "a.mp4", film(5), act=np.array([2, 1, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"a.npy begins with 2, but nothing led to the first frame.* --first-entry ig"):
        import_videos(config)
    data = import_videos(replace(config, first_entry="ignored", out=tmp_path / "stated"))
    assert data.act.tolist() == [0, 1, 0, 0, 0] and data.spec.action_space["n"] == 2
    np.save(tmp_path / "a.npy", np.array([1, 0, 0, 0]))
    save(tmp_path / "b.mp4", film(4), act=np.array([0, 0, 1, 0]))  # four of five frames? nobody can know
    with pytest.raises(ValueError, match=r"b.npy has an entry for each frame of its video, but .*a.npy one less"):
        import_videos(config)
    with pytest.raises(ValueError, match="b.npy has 4 entries for 4 frames; expected one less"):
        import_videos(replace(config, first_entry="absent"))
    assert not config.out.exists()


def test_pictures_that_were_stored_as_one_come_in_as_often_as_they_are_shown(tmp_path: Path) -> None:
    frames = film(20, 32, 32)
    frames[7] = frames[6]
    frames[12:15] = frames[12]
    iio.imwrite(tmp_path / "a.gif", frames, duration=100)
    with Image.open(tmp_path / "a.gif") as stored:
        assert stored.n_frames == 17  # the writer merges what is alike
    act = np.arange(1, 20) % 3
    np.save(tmp_path / "a.npy", act)
    data = import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))
    assert data.act.tolist() == [0, *act]
    np.testing.assert_allclose(data.obs, frames, atol=4)


def test_gaps_between_times_are_frames_too(tmp_path: Path) -> None:
    shown = [0, 1, 1, 1, 2, 3, 3]
    for name, codec in {"a.mp4": "libx264", "b.mkv": "ffv1"}.items():
        with av.open(tmp_path / name, "w") as out:
            stream = out.add_stream(codec, rate=30)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for number in range(4):
                frame = av.VideoFrame.from_ndarray(film(4, 32, 32)[number], format="rgb24")
                frame.pts = shown.index(number)
                frame.time_base = Fraction(1, 30)  # in .mkv times are rounded to milliseconds
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        np.save(tmp_path / name.replace(name[-3:], "npy"), np.arange(1, 6))
    one, two = import_videos(ImportVideosConfig(tmp_path, tmp_path / "data")).episodes()
    for episode in (one, two):  # that the last one is shown twice is not in these files
        np.testing.assert_allclose(episode.obs[:, 0, 0, 0], film(4)[shown[:-1], 0, 0, 0], atol=4)


@pytest.mark.parametrize(
    ("degrees", "flip"), [(0, False), (90, False), (180, False), (-90, False), (90, True), (0, True)]
)
def test_a_picture_is_turned_as_a_player_turns_it(tmp_path: Path, degrees: int, flip: bool) -> None:
    upright = np.zeros((3, 32, 64, 3), np.uint8) + np.arange(0, 128, 2, dtype=np.uint8)[None, None, :, None]
    upright[:, :8, :8] = 250  # at the upper left
    save(tmp_path / "stored.mp4", upright, act=np.zeros(3, np.int64))
    with av.open(tmp_path / "stored.mp4") as stored, av.open(tmp_path / "a.mp4", "w") as out:
        stream = out.add_stream_from_template(stored.streams.video[0])
        stream.set_display_rotation(degrees, hflip=flip)
        for packet in stored.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    pixels = next(pictures(tmp_path / "a.mp4")).pixels
    wanted = np.rot90(upright[0], degrees // 90)  # counterclockwise
    wanted = wanted[:, ::-1] if flip else wanted
    assert pixels.shape == wanted.shape
    assert np.abs(pixels.astype(int) - wanted).mean() < 4


def test_names_that_leave_open_what_belongs_to_what_are_refused(tmp_path: Path) -> None:
    for name in ("a.gif", "a.mp4"):
        save(tmp_path / name, film(3), act=np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"a.npy would belong to a.gif and to a.mp4: give them names of their own"):
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))
    (tmp_path / "a.mp4").rename(tmp_path / "a.rewards.mp4")
    with pytest.raises(ValueError, match=r"a.rewards.npy would belong to a.gif and to a.rewards.mp4"):
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))


def test_hidden_files_are_no_videos(tmp_path: Path) -> None:
    save(tmp_path / "x.mkv", film(3), act=np.zeros(3, np.int64))
    (tmp_path / "._x.mkv").write_bytes(b"Mac OS X")
    assert len(import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))) == 3


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_files_that_are_no_videos_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no video")
    np.save(tmp_path / "a.npy", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=rf"{name} cannot be read as a video"):
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))
    save(tmp_path / name, film(3, 6, 6) if name == "a.gif" else film(3, 4, 4))
    with pytest.raises(ValueError, match=rf"{name}: \(\d, \d, 3\) is not the shape of pictures"):
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.avi"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    np.save(tmp_path / "a.npy", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"a.avi cannot be read as a video: it has no pictures"):
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))


@pytest.mark.parametrize(
    ("durations", "counts"),
    [
        ([100, 100, 100], [1, 1, 1]),
        ([0], [1]),
        ([40], [1]),
        ([10, 20, 10], [1, 2, 1]),
        ([10, 10, 30, 20], [1, 1, 3, 2]),
        ([10, 10, 30, 0], [1, 1, 3, 1]),
        ([20, 30, 20, 20], [2, 3, 2, 2]),  # of frames of 10, none of which stands alone
        ([3, 3, 4, 3, 3, 4, 7, 10], [1, 1, 1, 1, 1, 1, 2, 3]),  # 30 frames per second in hundredths
        ([7, 7, 6, 13, 7], [1, 1, 1, 2, 1]),  # 15
        ([33, 34, 33, 67, 33, 100, 3333, 33], [1, 1, 1, 2, 1, 3, 100, 1]),  # 30 in thousandths
        ([2990, 3010, 3000, 6020, 2980, 0], [1, 1, 1, 2, 1, 1]),  # a phone
        ([33, 30, 36, 31, 35, 33], [1, 1, 1, 1, 1, 1]),
        ([512, 512, 0, 512, 512], [1, 1, 0, 1, 1]),  # one that no player shows
        ([1, 2, 1], [1, 2, 1]),
        ([3000, 3000, 5], [1, 1, 1]),  # of the last one little is known
    ],
)
def test_times_become_numbers_of_frames(durations: list[int], counts: list[int]) -> None:
    assert repeats(durations).tolist() == counts


def test_times_of_no_common_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shown for 1000 to 1618 ticks, but for no multiples of any one length"):
        repeats([1000, 1618, 1307, 1000])
    with pytest.raises(ValueError, match="it would have 1,000,00. frames; expected at most 1,000,000"):
        repeats([1, 1_000_000, 1])


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
    for wrong in (-1, 2**40):
        np.save(tmp_path / "a.npy", np.full(5, wrong))
        with pytest.raises(ValueError, match=r"a.npy has the values .*; expected integers from 0, less than 1,048,576"):
            refused()
    np.save(tmp_path / "a.npy", np.zeros(5, np.int64))
    np.save(tmp_path / "a.terminated.npy", np.ones(4, np.bool_))
    with pytest.raises(ValueError, match="a.gif: Episode ends before its last frame"):
        refused()
    np.save(tmp_path / "a.terminated.npy", np.ones(5, np.int64))
    with pytest.raises(ValueError, match=r"a.terminated.npy is int64 \(5,\), expected bool \(T,\)"):
        refused()
    np.save(tmp_path / "a.terminated.npy", np.zeros(5, np.bool_))
    for wrong, message in {
        np.nan: "a.gif: Episode.rew: a reward is not a finite number: nan in frame 3",
        1e300: "a.gif: Episode.rew: a reward is not a finite number: inf in frame 3",
    }.items():
        np.save(tmp_path / "a.rewards.npy", np.array([0, 0, 0, wrong, 0]))
        with pytest.raises(ValueError, match=message):
            refused()
    np.save(tmp_path / "a.rewards.npy", np.array(["much"] * 5))
    with pytest.raises(ValueError, match=r"a.rewards.npy is <U4 \(5,\), expected numbers"):
        refused()
    (tmp_path / "a.rewards.npy").unlink()
    for damaged in (b"no array", (tmp_path / "a.npy").read_bytes().replace(b"}", b"{")):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(ValueError, match="a.npy cannot be read as an array"):
            refused()
    np.save(tmp_path / "a.npy", np.zeros(5, np.int64))
    iio.imwrite(tmp_path / "b.gif", film(5, 32, 32))
    np.save(tmp_path / "b.npy", np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match="different kinds of actions: float32 .* in .*b.npy and int64 .* in .*a.npy"):
        refused()
    assert not (tmp_path / "data").exists()


def test_arrays_of_python_2_come_in_without_a_word(tmp_path: Path) -> None:
    save(tmp_path / "a.gif", film(5), act=np.arange(5))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"(5,), } ", b"(5L,), }"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert import_videos(ImportVideosConfig(tmp_path, tmp_path / "data")).act.tolist() == [0, 1, 2, 3, 4]


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.mp4", film(3), act=np.zeros(3, np.int64))
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "imageio.plugins.pyav", raising=False)
    with pytest.raises(ValueError, match=r'a.mp4 needs a decoder .*pip install "lssvwm-env\[data\]"'):
        import_videos(ImportVideosConfig(tmp_path, tmp_path / "data"))
