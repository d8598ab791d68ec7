"""What earlier frames show of the view of now: image-based rendering, with a depth that is learned.

Where the eye was and is, is known, but not how far away what it sees is. The voxels of what was seen before tell that
roughly. A small network mends it for every part of the new view, and where frames overlap as they should, it was right:
errors of the new view alone teach it (Zhou et al. 2016). Then earlier frames are bent as the new view asks for, and put
together; what none of them shows is drawn from the voxels.

Shapes: N frames to render, K earlier frames that are shown to each, S pixels per side, G patches per side.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.first_person.keyframes import SHOWN, far
from lssvwm_models.memory.first_person.picture import PatchBlock, folded, middles, unfolded
from lssvwm_models.memory.first_person.voxels import COLUMNS, FEATURES, ROWS, Volume, VoxelMap
from lssvwm_models.memory.geometry import ego_motion

NEAREST: Final = 0.05  # cells: what is nearer is not shown
DEPTHS: Final = (-2.0, 3.0)  # logarithms of the least and the largest depth, in cells
FINE: Final = 4  # depths per side of a patch
COARSE: Final = 2  # pixels, per side, of which the network sees one
CONDITION: Final = 64
MOVES: Final = 7  # what is told of an earlier frame


class Renderer(nn.Module):
    """Renders views from frames that were seen from elsewhere.

    The camera is level, and at the same height everywhere.

    Args:
        size: S.
        channels: of frames.
        patch: side of a patch, in pixels.
        fov: horizontal field of view, in degrees.
        side: of the map of voxels, in columns, see `VoxelMap`.
        width: of the network that mends depths.
        layers: of it.
    """

    usual: Tensor

    def __init__(
        self, size: int, channels: int, patch: int, fov: float, side: int, width: int = 96, layers: int = 3
    ) -> None:
        super().__init__()
        self.voxels = VoxelMap(size, channels, patch, fov, side)
        self.patch = patch
        self.grid = size // patch
        self.fine = math.gcd(FINE, patch)
        self.focal = 1 / math.tan(math.radians(fov) / 2)
        self.coarse = math.gcd(COARSE, patch)
        self.embed = nn.Linear(SHOWN * (channels + 2) * (patch // self.coarse) ** 2, width)
        self.embed_volume = nn.Linear(ROWS * COLUMNS * (channels + FEATURES + 2), width)
        self.position = nn.Parameter(0.5 * torch.randn(self.grid**2, width))
        self.embed_moves = nn.Sequential(nn.Linear(SHOWN * MOVES, CONDITION), nn.SiLU())
        self.blocks = nn.ModuleList(PatchBlock(width, self.grid, CONDITION) for _ in range(layers))
        self.geometry = nn.Linear(width, self.fine**2 * (2 + SHOWN))  # depth, and what each view counts, or none
        self.guess = nn.Linear(width, channels * patch**2)  # of what none shows
        for layer in (self.geometry, self.guess):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # What is drawn upon a frame, as a frame round it, is no part of the world: it does not move with the view.
        self.scenery = nn.Parameter(torch.zeros(size, size))
        depth = 1.2 / middles(size).abs().clamp(min=0.2)  # of a floor and a ceiling, to begin with
        self.register_buffer("usual", depth.log().unsqueeze(1), persistent=False)

    def forward(
        self, frames: Tensor, there: Tensor, eyes: Tensor, eye: Tensor, age: Tensor, volume: Volume
    ) -> tuple[Tensor, Tensor]:
        """Render.

        Args:
            frames: (N, K, C, S, S) in [-1, 1].
            there: (N, K) bool, which of them there are.
            eyes: (N, K, 3) where they were seen from, and eye: (N, 3) from where to see.
            age: (N, K) how many frames ago.
            volume: what the voxels show.

        Returns:
            the views (N, C, S, S), and the share (N, G * G) of every patch that no frame shows.
        """
        N, K = there.shape
        with torch.autocast(frames.device.type, enabled=False):
            moves = ego_motion(eye.unsqueeze(1), eyes)
            drawn = (3 + 10 * self.scenery).sigmoid().expand(N, K, 1, -1, -1) * there.view(N, K, 1, 1, 1)
            frames = torch.cat([frames.float(), drawn], 2)
            few = F.avg_pool2d(frames.flatten(0, 1), self.coarse).unflatten(0, (N, K))
            likely = (volume.depth + volume.open * self.usual).clamp(*DEPTHS)
            bent, visible = self.bent(few, moves, F.avg_pool2d(likely, self.coarse).exp())
            distance = far(eyes, eye.unsqueeze(1)).clamp(min=1e-6).sqrt().clamp(max=4) * there
            told = distance.view(N, K, 1, 1, 1).expand(-1, -1, 1, *bent.shape[3:])
            seen = torch.cat([bent * visible.unsqueeze(2), visible.unsqueeze(2), told], 2).flatten(1, 2)
            cond = self.embed_moves(self._told(moves, distance, there, age).flatten(1))
        seen = unfolded(seen, self.patch // self.coarse)
        x = self.embed(seen) + self.embed_volume(volume.tokens) + self.position
        for block in self.blocks:
            x = block(x, cond)
        with torch.autocast(frames.device.type, enabled=False):
            geometry = folded(self.geometry(x).float(), self.fine)
            scale = self.patch // self.fine
            geometry = F.interpolate(geometry, scale_factor=scale, mode="bilinear", align_corners=False)
            depth = (likely + geometry[:, 0]).clamp(*DEPTHS).exp()
            bent, visible = self.bent(frames, moves, depth)
            scores = 5 * geometry[:, 1 : K + 1] + 5 * (visible - 1) - 2 * distance[..., None, None]
            scores = scores.masked_fill(~there[..., None, None], -30)
            shares = torch.cat([scores, 5 * geometry[:, K + 1 :] - 6], 1).softmax(1)
            unseen = shares[:, K:]
            guess = volume.picture + folded(self.guess(x).float(), self.patch)
            view = (shares[:, :K].unsqueeze(2) * bent).sum(1) + unseen * guess
            return view, F.avg_pool2d(unseen, self.patch).flatten(1)

    def bent(self, frames: Tensor, moves: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (N, K, C + 1, S, S) as they look from eyes that these moves (N, K, 3) would lead from to their own.

        Args:
            frames: the last channel says how much of each pixel is scenery. They may be coarser, as the result then is.
            moves: forward and right in cells, and clockwise in radians.
            depth: (N, S, S), how far ahead in cells what is seen in the new view is.

        Returns:
            frames (N, K, C, S, S), and how much of each pixel (N, K, S, S) they show.
        """
        across = middles(frames.shape[-1]).to(frames.device) / self.focal
        down = across.unsqueeze(1)
        ahead = depth.unsqueeze(1)  # (N, 1, S, S)
        forward = ahead - moves[..., 0, None, None]
        right = ahead * across - moves[..., 1, None, None]
        cos = moves[..., 2].cos()[..., None, None]
        sin = moves[..., 2].sin()[..., None, None]
        away = forward * cos + right * sin  # ahead of the eye of then, (N, K, S, S)
        aside = right * cos - forward * sin
        scale = self.focal / away.clamp(min=NEAREST)
        x = aside * scale  # in the picture of then, where it is inside from -1 to 1
        y = ahead * down * scale
        inside = (away > NEAREST) & (x.abs() < 1) & (y.abs() < 1)
        at = torch.stack([x, y], -1).flatten(0, 1)
        shown = F.grid_sample(frames.flatten(0, 1), at, padding_mode="border", align_corners=False)
        shown = shown.unflatten(0, moves.shape[:2])
        return shown[:, :, :-1], shown[:, :, -1] * inside

    def _told(self, moves: Tensor, distance: Tensor, there: Tensor, age: Tensor) -> Tensor:
        """What the network is told of each earlier frame, (N, K, MOVES)."""
        turn = moves[..., 2]
        parts = (
            moves[..., 0].clamp(-4, 4),
            moves[..., 1].clamp(-4, 4),
            turn.cos(),
            turn.sin(),
            distance,
            age.log1p() / 5,
        )
        return torch.stack([*parts, torch.ones_like(turn)], -1) * there.unsqueeze(-1)
