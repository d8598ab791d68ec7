"""Memories of a first-person camera: a map that is written and read along rays, and views from where one stood.

Shapes: B batch, T frames, S streams, n tokens per frame, d width, H heads, P their width, N length of the keys; G
columns of patches, K depths along a ray.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.delta_rule import delta_scan
from lssvwm_models.memory.frame_context import FrameContext
from lssvwm_models.memory.geometry import place_rotation
from lssvwm_models.memory.rays import gaze_frequencies
from lssvwm_models.memory.scans import PlaceMap, Scan, Scanned, read_once
from lssvwm_models.memory.ssm import frame_decay
from lssvwm_models.memory.state_size import first_channels

CAUTION: Final = 3.0  # to begin with; columns side by side have keys whose products add up to about as much


class RayMap(PlaceMap):
    """A map of the world for frames whose patches show one of several places along a ray.

    A patch writes at all of them, by shares that follow from what it shows: a sum of codes, which a linear memory takes
    as one key. It reads all of them, and a projection of its own for each row of the frame learns what hides what.

    Args:
        d_model, d_inner, headdim, map_size, looks_around: see `PlaceMap`.
        grid: patches per side of the frame.
        merge: patches per side of a token.
        depths: K, places along a ray.
    """

    order: Tensor
    back: Tensor

    def __init__(
        self,
        d_model: int,
        d_inner: int,
        headdim: int,
        grid: int,
        merge: int,
        depths: int,
        map_size: int,
        looks_around: bool = False,
    ) -> None:
        super().__init__(d_model, d_inner, headdim, grid**2, merge**2, map_size, looks_around)
        self.grid = grid
        self.depths = depths
        self.at_depth = nn.Linear(d_model, merge**2 * depths)
        seen = depths * d_inner
        self.hides = nn.Parameter(torch.randn(grid, seen, d_inner) * seen**-0.5)
        side = grid // merge
        numbers = torch.arange(grid**2).view(side, side, merge, merge)  # of the patches, token by token
        order = numbers.permute(1, 3, 0, 2).flatten()  # column by column
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    def _keys(self, x: Tensor, frames: FrameContext) -> Tensor:
        """What patches of tokens x (B, T, n, d) are written by, (B, T, M, N): the codes of places, by their shares."""
        shares = self.at_depth(x).unflatten(-1, (self.parts, self.depths)).flatten(2, 3)  # (B, T, M, K)
        shares = shares.float().softmax(-1).to(x.dtype)[:, :, self.order].unflatten(2, (self.grid, -1))
        codes = self._codes("B", "patch", frames, x.dtype).unflatten(2, (self.grid, self.depths))
        return (shares @ codes).flatten(2, 3)[:, :, self.back]  # (B, T, G, rows, K) (B, T, G, K, N)

    def _seen(self, y: Tensor) -> Tensor:
        """See `PlaceMap`; the places are those of the columns, (B, T, G * K, H, P)."""
        columns = y.flatten(-2).unflatten(2, (self.grid, self.depths)).flatten(3)  # (B, T, G, K * HP)
        patches = torch.einsum("btgf,rfd->btgrd", columns, self.hides.to(y.dtype))
        return self.by_head(patches.flatten(2, 3)[:, :, self.back])


class ViewMemory(Scan):
    """A scan over the whole frame, addressed by where the eye was and which way it looked.

    It brings back what was seen from about here, with all that a map does not hold: texture, edges, what is far away.
    What is written and read at once is a column of the frame, all its tokens as one: they look the same way.

    Such keys are alike where gazes are, so it learns by the delta rule: if what is written just added up, more of what
    is read would be what other gazes have written.

    Args:
        d_model, d_inner, headdim: see `Scan`.
        side: tokens per side of the frame.
        features: N, the length of the keys.
    """

    frequencies: Tensor

    def __init__(self, d_model: int, d_inner: int, headdim: int, side: int, features: int = 1024) -> None:
        super().__init__(side * d_model, d_inner, headdim, 1, side, features, projected=0)
        self.side = side
        self.register_buffer("frequencies", gaze_frequencies(features // 2), persistent=False)
        self.B = nn.Parameter(torch.ones(features))
        self.C = nn.Parameter(torch.ones(features))
        self.log_caution = nn.Parameter(torch.tensor(CAUTION).log())
        self.strength_bias = nn.Parameter(torch.full((self.n_heads,), 2.0))  # nearly all is written, to begin with

    def forward(self, x: Tensor, frames: FrameContext, state: Tensor) -> Scanned:
        """Read the memory (B, 1, H, P, N) with tokens x (B, T, S, n, d), and let stream 0 write it."""
        assert frames.gazes is not None
        columns = x.unflatten(3, (self.side, self.side)).transpose(3, 4).flatten(4)  # (B, T, S, columns, rows * d)
        z, value, dt = self.in_proj(columns).split(self.split, -1)
        value = self.by_head(value)
        state = state.squeeze(1)
        code = place_rotation(frames.gazes, self.frequencies).to(x.dtype)
        caution = self.log_caution.exp()
        keys, queries = (code(F.normalize(vector.to(x.dtype), dim=0)) for vector in (self.B, self.C))
        queries = queries * (1 + caution).to(x.dtype)  # so that what was seen once is read as it was
        if frames.writes:
            log_decay = frame_decay(self.step_sizes(dt[:, :, 0]), -self.A_log.exp(), frames.fade)
            strength = (dt[:, :, 0].float() + self.strength_bias).sigmoid()
            queries = queries[:, :, :0] if frames.reads is not None else queries
            y, state = delta_scan(queries, value[:, :, 0], strength, log_decay, keys, caution, state, frames.is_first)
            y = y.to(x.dtype) if frames.reads is None else frames.reads
        else:
            y = read_once(queries, state) if frames.reads is None else frames.reads
        reads = y
        if frames.channels is not None:
            y = y * first_channels(frames.channels, self.headdim)[:, None, None, None]
        finished = self.finished(y.unsqueeze(2), value, z)  # (B, T, S, columns, rows * d)
        tokens = finished.unflatten(4, (self.side, -1)).transpose(3, 4).flatten(3, 4)
        return Scanned(tokens, state.unsqueeze(1), None, reads)
