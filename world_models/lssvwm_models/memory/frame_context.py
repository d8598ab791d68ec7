"""What every layer knows of the frames, besides their tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lssvwm_models.memory.geometry import Rotation


@dataclass(frozen=True)
class FrameContext:
    """Where frames were seen from, which of them begin an episode, and whether they enter the memory.

    A value: the codes of the places, which several layers and passes need, are computed once by `Network.context` and
    handed on. Layers that are run by themselves compute their own.

    Attributes:
        patch_places: (B, T, M, 2), where the patches are in the world, token by token, the same for all streams.
        token_places: (B, T, n, 2), where the tokens are: in the middle of their patches.
        around: (B, T, E, 2), places to look at in the memory besides; None if nothing is written.
        is_first: (B, T) bool.
        past: (B, T), how many frames of its own episode come before each frame.
        age: (B,), how many frames the memory holds before frame 0.
        writes: whether stream 0 enters the memory. If not, T is 1, and what the memory holds is there to be read even
            by a first frame.
        channels: (B,), how many channels of this layer's memory reads see; None: all.
        reads: (B, 1, M, H, P), what patches see of the memory in this layer, as read already in the pass that
            denoised the frame; None: nothing.
        fade: (B, T), the logarithm of the largest share of the memory that each frame leaves, see `frame_scan`; None:
            what the layers leave by themselves.
        patch_codes, around_codes: of `patch_places` and `around`, by `PlaceMap.encode`; None: not computed yet.
        token_rotation: of `token_places`, by `PlaceAttention.encode`; None: not computed yet.
        gazes: (B, T, side, 3), of first-person frames, where the eye is and which way each column of tokens looks. Then
            `patch_places` is (B, T, G * K, 2), the places along the rays of the columns of patches (see `rays`).
        moved: (B, T, 4), of first-person frames, how far the eye came since the frame before.
        rendered: (B, T, M, k + 1), what keyframes show of the frames, and how much of each patch they do not; None: no
            keyframes are kept.
    """

    patch_places: Tensor
    token_places: Tensor
    around: Tensor | None
    is_first: Tensor
    past: Tensor
    age: Tensor
    writes: bool
    channels: Tensor | None = None
    reads: Tensor | None = None
    fade: Tensor | None = None
    patch_codes: Rotation | Tensor | None = None
    around_codes: Rotation | Tensor | None = None
    token_rotation: Rotation | None = None
    gazes: Tensor | None = None
    moved: Tensor | None = None
    rendered: Tensor | None = None

    @staticmethod
    def of(
        patch_places: Tensor,
        parts: int,
        around: Tensor | None,
        is_first: Tensor,
        age: Tensor,
        writes: bool,
        gazes: Tensor | None = None,
    ) -> FrameContext:
        """Count the past. Every `parts` of the patches, whose places are given, are a token.

        In first person, a token is about a cell ahead, where its column looks.
        """
        frame = torch.arange(is_first.shape[1], device=age.device)
        # Frames of this episode before frame t: since its first frame, or since before this sequence began.
        first = torch.where(is_first, frame, -1).cummax(1).values  # (B, T)
        past = torch.where(first >= 0, frame - first, frame + age.unsqueeze(1))
        if gazes is None:
            token_places = patch_places.unflatten(2, (-1, parts)).mean(3)
        else:
            ahead = gazes[..., :2] + torch.stack([gazes[..., 2].cos(), gazes[..., 2].sin()], -1)
            token_places = ahead.repeat(1, 1, gazes.shape[2], 1)  # the same in every row
        return FrameContext(patch_places, token_places, around, is_first, past, age, writes, gazes=gazes)

    def visible(self, window: int) -> Tensor:
        """(B, T, window) bool, oldest first: which of the last frames belong to the frame's own episode."""
        lag = torch.arange(window, 0, -1, device=self.past.device)
        return lag <= self.past.unsqueeze(-1)
