"""Keyframes: frames that are kept as they were seen, with where from. See `rendering` for what is made of them.

A map of the world holds what is where, but not how a wall is plastered. A frame does. Of the frames of an episode a
fixed number is kept, as in visual SLAM (Klein and Murray 2007): which ones follows from the poses alone. Whoever stands
where the eye has been is shown those from nearby, as in Context as Memory (Yu et al. 2025) and WORLDMEM (Xiao et al.
2025), whose banks of frames grow with the episode.

Shapes: B batch, T frames, V keyframes, K frames that are shown, M patches per frame, k latents per patch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

SHOWN: Final = 4  # K: the last frame, the nearest keyframe, and the two nearest old ones
OLD: Final = 32  # frames ago: no copies of the mistakes of the moment
LENGTH: Final = 0.5  # cells, and
WIDTH: Final = math.radians(30)  # of turn, that count as far
NEAR: Final = 0.05  # what is seen from nearer than this squared distance shows the same, and is not kept as well
SAME: Final = 1e-3  # and nearer than this, what is newer counts
STEP: Final = 1 / 12  # of latents, which are kept in 8 bits: they are whitened, so few of them are larger than ten


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of B worlds, a value as all of a `WorldModelState`.

    Attributes:
        latents: (B, V, M, k) int8, in steps of `STEP`.
        eyes: (B, V, 3) float32, where each was seen from: x and y in cells, and the direction in radians.
        numbers: (B, V) long, which frame of the episode or context each is, from 0; -1: none.
    """

    latents: Tensor
    eyes: Tensor
    numbers: Tensor

    @staticmethod
    def none(worlds: int, count: int, patches: int, latent_dim: int, device: torch.device) -> Keyframes:
        """Those of worlds that have seen nothing."""
        return Keyframes(
            torch.zeros(worlds, count, patches, latent_dim, dtype=torch.int8, device=device),
            torch.zeros(worlds, count, 3, dtype=torch.float32, device=device),
            torch.full((worlds, count), -1, device=device),
        )

    def map(self, f: Callable[[Tensor], Tensor]) -> Keyframes:
        """Apply f to every tensor."""
        return Keyframes(f(self.latents), f(self.eyes), f(self.numbers))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {"latents": self.latents, "eyes": self.eyes, "numbers": self.numbers}


class Shown(NamedTuple):
    """What is shown to each of T frames, and which of them become keyframes.

    Attributes:
        which: (B, T, K), the frames that are shown: below V it is one of the keyframes, V is the last frame before
            these T, and then these follow.
        there: (B, T, K) bool, whether there are so many.
        eyes: (B, T, K, 3), where they were seen from.
        age: (B, T, K), how many frames ago.
        slot: (B, T), the place in which each frame is kept, if it is `kept` (B, T) bool.
        kept_eyes, kept_numbers: of the keyframes after them all.
    """

    which: Tensor
    there: Tensor
    eyes: Tensor
    age: Tensor
    slot: Tensor
    kept: Tensor
    kept_eyes: Tensor
    kept_numbers: Tensor


def show(
    keyframes: Keyframes, last: Tensor, eyes: Tensor, past: Tensor, is_first: Tensor, hidden: Tensor | None = None
) -> Shown:
    """Choose for every frame what is shown to it of the frames before, and keep it where it shows something new.

    Args:
        keyframes: before frame 0.
        last: (B, 3), where the frame before frame 0 was seen from.
        eyes: (B, T, 3), where the frames are seen from.
        past: (B, T), how many frames of its episode come before each.
        is_first: (B, T) bool; keyframes of the episode before are let go.
        hidden: (B, T), how many of the latest frames are not to be shown; None: all may be.
    """
    V = keyframes.numbers.shape[1]
    holds = torch.arange(V, device=eyes.device).expand_as(keyframes.numbers)  # which frame is in which slot
    kept_eyes = keyframes.eyes
    numbers = keyframes.numbers
    hidden = torch.zeros_like(past) if hidden is None else hidden
    frames = []
    for t in range(eyes.shape[1]):
        eye = eyes[:, t]
        numbers = torch.where(is_first[:, t, None], -1, numbers)
        distance = far(kept_eyes, eye.unsqueeze(1)).masked_fill(numbers < 0, torch.inf)  # (B, V)
        age = past[:, t, None] - numbers
        slots, found = _nearest(distance, age, hidden[:, t, None])
        there = torch.cat([(past[:, t, None] > 0) & (hidden[:, t, None] == 0), found], 1)
        which = torch.cat([torch.full_like(slots[:, :1], V + t), holds.gather(1, slots)], 1)
        places = torch.cat([last.unsqueeze(1), kept_eyes.gather(1, slots.unsqueeze(2).expand(-1, -1, 3))], 1)
        ages = torch.cat([torch.ones_like(slots[:, :1]), age.gather(1, slots)], 1)
        slot, kept = _slot(distance, numbers)
        here = torch.zeros_like(numbers, dtype=torch.bool).scatter(1, slot, kept)
        holds = torch.where(here, V + 1 + t, holds)
        kept_eyes = torch.where(here.unsqueeze(2), eye.unsqueeze(1), kept_eyes)
        numbers = torch.where(here, past[:, t, None], numbers)
        last = eye
        frames.append((which, there, places, torch.where(there, ages, 0), slot[:, 0], kept[:, 0]))
    which, there, places, ages, slot, kept = (torch.stack(parts, 1) for parts in zip(*frames, strict=True))
    return Shown(which, there, places, ages, slot, kept, kept_eyes, numbers)


def _nearest(distance: Tensor, age: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The slots (B, K - 1) of the nearest keyframe and of the nearest old ones, and whether there are such.

    Of keyframes with this distance and age (B, V), none of the latest `hidden` (B, 1); the last frame is shown anyway.
    """
    nearest, slot = distance.masked_fill(age <= hidden.clamp(min=1), torch.inf).min(1, keepdim=True)
    others = distance.masked_fill(age <= hidden.clamp(min=OLD), torch.inf).scatter(1, slot, torch.inf)
    old, slots = others.topk(SHOWN - 2, largest=False)
    return torch.cat([slot, slots], 1), torch.cat([nearest, old], 1).isfinite()


def _slot(distance: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The slot (B, 1) of a frame that is so far from the keyframes, and whether it is kept, (B, 1) bool."""
    least, nearest = distance.min(1, keepdim=True)
    same = least < SAME
    free = numbers.argmin(1, keepdim=True)  # or the oldest
    return torch.where(same, nearest, free), same | (least >= NEAR)


def far(one: Tensor, other: Tensor) -> Tensor:
    """The squared distance (...) between eyes (..., 3); it is 1 where one would not know the view again."""
    step = (one[..., :2] - other[..., :2]) / LENGTH
    turn = torch.remainder(one[..., 2] - other[..., 2] + math.pi, 2 * math.pi) - math.pi
    return step.square().sum(-1) + (turn / WIDTH).square()


def coded(latents: Tensor) -> Tensor:
    """Latents as they are kept, in steps of `STEP`."""
    return (latents.detach().float() / STEP).round().clamp(-127, 127).to(torch.int8)


def recent(last: Tensor, latents: Tensor | None) -> Tensor:
    """The last frame (B, M, k) and those after it (B, T, M, k), as they are kept: (B, 1 + T, M, k)."""
    return coded(last.unsqueeze(1) if latents is None else torch.cat([last.unsqueeze(1), latents], 1))


def pictures(keyframes: Keyframes, frames: Tensor, shown: Shown) -> Tensor:
    """The latents (B, T, K, M, k) of what is shown, of keyframes and of `recent` frames."""
    worlds = torch.arange(len(frames), device=frames.device)[:, None, None]
    V = keyframes.numbers.shape[1]
    of_keyframes = keyframes.latents[worlds, shown.which.clamp(max=V - 1)]
    others = frames[worlds, (shown.which - V).clamp(min=0)]
    return torch.where((shown.which < V)[..., None, None], of_keyframes, others).float() * STEP


def after(keyframes: Keyframes, frames: Tensor, shown: Shown, donate: bool = False) -> Keyframes:
    """The keyframes with those of the `recent` frames (B, 1 + T, M, k) that are kept.

    With `donate` the latents are written where they are, and not into a copy, which takes longer than to look up and
    write a frame of each.
    """
    worlds = torch.arange(len(frames), device=frames.device)
    latents = keyframes.latents if donate else keyframes.latents.clone()
    for t in range(shown.slot.shape[1]):
        slot = shown.slot[:, t]
        latents[worlds, slot] = torch.where(shown.kept[:, t, None, None], frames[:, t + 1], latents[worlds, slot])
    return Keyframes(latents, shown.kept_eyes, shown.kept_numbers)
