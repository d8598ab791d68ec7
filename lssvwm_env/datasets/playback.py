"""What a player shows of a video: pictures the right way up, and each for as many frames as its time takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

MOST_FRAMES: Final = 1_000_000
JITTER: Final = 0.2  # of a frame: cameras are that irregular
LITTLE_JITTER: Final = 0.05  # where no picture is shown for one frame only, and much would fit anything
PARTS: Final = 6  # the shortest picture may itself be shown for so many frames
_UNTIMED: Final = 100  # milliseconds, which browsers take where a GIF says 0


class Picture(NamedTuple):
    """A picture as it is stored, and when: both in ticks, which are as long as the file likes them.

    Attributes:
        pixels: uint8 (H, W, 3), the right way up.
        time: When it is shown.
        duration: For how long, if that is known, else 0. Of use for the last one; the others last until the next.
    """

    pixels: NDArray[np.uint8]
    time: int
    duration: int


def pictures(path: Path) -> Iterator[Picture]:
    """The pictures of a video, one by one.

    Raises:
        ValueError: Naming the file, if it is no video, is damaged, or needs a decoder that is not installed.
    """
    try:
        yield from _gif(path) if path.suffix.lower() == ".gif" else _decoded(path)
    except ImportError as error:
        raise ValueError(f'{path} needs a decoder ({error}); get it with: pip install "lssvwm-env[data]"') from error
    except Exception as error:  # decoders have many kinds, and name no file
        raise ValueError(f"{path} cannot be read as a video: {error}") from error


def repeats(durations: Sequence[int]) -> NDArray[np.int64]:
    """For how many frames of equal length each picture is shown.

    Writers merge pictures that are alike into one that is shown for longer, and times are rounded to ticks. So the
    length of a frame is sought of which all durations are multiples, up to a tick or some jitter: the mean of the
    shortest ones, or a small part of it.

    Args:
        durations: Of the pictures, in ticks. The last may be 0, if it is not known: one frame.

    Raises:
        ValueError: If there is no such length.
    """
    timed = [duration for duration in durations[:-1] if duration > 0]  # of pictures that are shown at all
    *shown, last = durations
    frame = _frame_length(np.sort(timed)) if timed else max(1, last)
    counts = [max(1, round(duration / frame)) if duration > 0 else 0 for duration in shown]
    counts.append(max(1, round(last / frame)))
    if sum(counts) > MOST_FRAMES:
        raise ValueError(f"it would have {sum(counts):,} frames; expected at most {MOST_FRAMES:,}")
    return np.array(counts)


def _frame_length(durations: NDArray[np.int64]) -> float:
    """The length of a frame in ticks, given how long pictures are shown, the shortest first."""
    shortest = int(durations[0])
    for parts in range(1, PARTS + 1):
        jitter = JITTER if parts == 1 else LITTLE_JITTER
        slack = max(jitter * shortest / parts, min(1, shortest / parts / 2))
        time = 0
        frames = 0
        for duration in durations.tolist():
            length = time / frames if frames else shortest / parts
            count = max(1, round(duration / length))
            if abs(duration - count * length) > slack:
                break
            time += duration
            frames += count
        else:
            return time / frames
    raise ValueError(
        f"its pictures are shown for {shortest} to {int(durations[-1])} ticks, but for no multiples of any one length: "
        "give it a constant frame rate, and one action for each frame that it then has"
    )


def _gif(path: Path) -> Iterator[Picture]:
    time = 0
    with Image.open(path) as film:
        for picture in ImageSequence.Iterator(film):
            duration = int(picture.info.get("duration", 0)) or _UNTIMED
            yield Picture(np.array(picture.convert("RGB")), time, duration)
            time += duration


def _decoded(path: Path) -> Iterator[Picture]:
    import av

    with av.open(path) as film:
        if not film.streams.video:
            raise ValueError("it has no pictures")
        for number, picture in enumerate(film.decode(film.streams.video[0])):
            rgb: NDArray[Any] = picture.to_ndarray(format="rgb24")
            pixels = _upright(rgb, picture.side_data.get("DISPLAYMATRIX"))
            if picture.pts is None:  # in some raw streams
                yield Picture(pixels, number, 0)
            else:
                yield Picture(pixels, picture.pts, picture.duration or 0)


def _upright(pixels: NDArray[np.uint8], display_matrix: Any) -> NDArray[np.uint8]:
    """A picture turned and mirrored as the file asks players to."""
    if display_matrix is None:
        return pixels
    to_x, to_y = np.sign(np.frombuffer(bytes(display_matrix), np.int32).reshape(3, 3)[:2, :2])  # where x and y come to
    across = np.abs([to_x, to_y]).tolist() == [[0, 1], [1, 0]]
    if not across and np.abs([to_x, to_y]).tolist() != [[1, 0], [0, 1]]:
        raise ValueError("it is to be shown turned by another angle than quarter turns")
    turned = pixels.swapaxes(0, 1) if across else pixels
    right, down = to_x + to_y  # 1 or -1: whether what is shown goes on as what is stored does
    return np.ascontiguousarray(turned[:: int(down), :: int(right)])
