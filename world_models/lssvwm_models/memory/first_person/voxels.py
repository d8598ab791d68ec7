"""A map of the world in voxels: what is where, for whoever comes to see it from elsewhere.

Each frame is lifted: a network guesses how far along the rays of its points something is, as shares of several depths
(Philion and Fidler 2020). Of all voxels that a ray passes the map counts that they were looked at, and where it ends
that something is there, and its colour (Moravec and Elfes 1985). Of the three, what is there and what hides what
follow, and so a view from anywhere, by volume rendering (Mildenhall et al. 2020). No depth is ever told: the errors of
the views teach it.

The voxels stand in columns on a torus, so the map is as large as it is however far one goes. A column is looked up by
its place alone; rays reach it at all heights at once.

Shapes: B worlds, N frames, S pixels per side, G patches per side, P points per side of a frame; the map has V columns
of `HEIGHTS` voxels, of 2 + C numbers each.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.first_person.picture import PatchBlock, folded, middles, unfolded

PER_CELL: Final = 3  # voxels per side of a cell
HEIGHTS: Final = 8  # voxels in a column,
HIGHEST: Final = 0.84  # whose middles are from so many cells above the eye to so many below it
COUNTS: Final = 2  # of a voxel: how much it was looked at, and how much was there; its colours follow
POINTS: Final = 2  # per side of a patch, that are lifted; fewer where patches are odd
DEPTHS: Final = 20  # at which each of them may be,
NEAREST: Final = 0.3  # from so many cells ahead
FARTHEST: Final = 12.0  # to so many
ROWS: Final = 2  # rays per patch, one upon the other,
COLUMNS: Final = 4  # and side by side
FEATURES: Final = 2  # of voxels, besides their colours
HIDDEN: Final = 64
SAMPLES: Final = 24  # along a ray


class Volume(NamedTuple):
    """What rays of N views through the voxels meet.

    Attributes:
        tokens: (N, G * G, F), of the rays of each patch.
        picture: (N, C, S, S), the colours.
        depth: (N, S, S), the logarithm of the depth in cells, from the eye on, summed over what is met ...
        open: ... and the share of each ray that meets nothing, (N, S, S).
    """

    tokens: Tensor
    picture: Tensor
    depth: Tensor
    open: Tensor


class VoxelMap(nn.Module):
    """Writes frames into voxels, and renders views of them.

    Args:
        size: S.
        channels: C, of frames.
        patch: side of a patch, in pixels.
        fov: horizontal field of view, in degrees.
        side: columns of voxels per side of the map, `PER_CELL` to a cell: places as far apart are one.
        width: of the network that guesses depths.
        layers: of it.
    """

    depth: Tensor
    aside: Tensor
    levels: Tensor
    ahead: Tensor
    right: Tensor
    at_rows: Tensor

    def __init__(
        self, size: int, channels: int, patch: int, fov: float, side: int, width: int = 64, layers: int = 3
    ) -> None:
        super().__init__()
        self.patch = patch
        self.side = side
        self.channels = channels
        grid = size // patch
        self.grid = grid
        self.points = math.gcd(POINTS, patch)
        self.embed = nn.Linear(channels * patch**2, width)
        self.position = nn.Parameter(0.5 * torch.randn(grid**2, width))
        self.blocks = nn.ModuleList(PatchBlock(width, grid) for _ in range(layers))
        self.guess = nn.Linear(width, DEPTHS * self.points**2)
        self.usual = nn.Parameter(torch.zeros(DEPTHS, grid * self.points, grid * self.points))
        self.forget = nn.Parameter(torch.tensor(-3.0))
        self.hidden = nn.Linear(HEIGHTS * (COUNTS + channels) + 2, HIDDEN)
        self.details = nn.Linear(HIDDEN, HEIGHTS * (1 + FEATURES))
        self.solid = nn.Parameter(torch.tensor([8.0, -3.0]))  # by how often something was there
        for layer in (self.guess, self.details):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        slope = math.tan(math.radians(fov) / 2)
        depth = torch.logspace(math.log10(NEAREST), math.log10(FARTHEST), DEPTHS)
        across = slope * middles(grid * self.points)
        step = torch.arange(SAMPLES)
        sample = 0.15 + 0.27 * step + 0.012 * step**2  # as fine as voxels nearby, up to 12 cells
        fixed = {
            "depth": depth,
            "aside": depth.unsqueeze(1) * across,  # (DEPTHS, P)
            "levels": _levels(depth.unsqueeze(1) * across) * (depth / 2).clamp(max=1)[:, None, None],
            "ahead": sample,
            "right": sample.unsqueeze(1) * slope * middles(grid * COLUMNS),  # (SAMPLES, columns)
            "at_rows": _levels(sample.unsqueeze(1) * slope * middles(grid * ROWS)),  # (SAMPLES, rows, HEIGHTS)
        }
        for name, values in fixed.items():
            self.register_buffer(name, values, persistent=False)

    def empty(self, worlds: int) -> Tensor:
        """The map of worlds of which nothing was seen, (B, V, HEIGHTS * (2 + C)) float32."""
        size = worlds, self.side**2, HEIGHTS * (COUNTS + self.channels)
        return torch.zeros(size, dtype=torch.float32, device=self.solid.device)

    def followed(
        self, voxels: Tensor, frames: Tensor, before: Tensor, eyes: Tensor, there: Tensor, donate: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Follow T frames: write the one before each, and look for what each will see.

        Args:
            voxels: (B, V, HEIGHTS * (2 + C)), without the frame before the first of these.
            frames: (B, T, C, S, S) in [-1, 1], those before each, of which `before` (B, T, 3) are the eyes.
            eyes: (B, T, 3).
            there: (B, T) bool, whether a frame comes before. Where none does, an episode begins, with an empty map.
            donate: write into these voxels, and not into a copy.

        Returns:
            the voxels with all these frames, and what `looked_up` finds, (B, T, SAMPLES, columns, F).
        """
        lifted = self.lifted(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        found = []
        for t in range(eyes.shape[1]):
            voxels = self.written(voxels, lifted[:, t], before[:, t], there[:, t], donate)
            found.append(self.looked_up(voxels, eyes[:, t]))
        return voxels, torch.stack(found, 1)

    def lifted(self, frames: Tensor) -> Tensor:
        """What frames (N, C, S, S) in [-1, 1] say of all that their rays reach.

        Returns:
            (N, DEPTHS, P, HEIGHTS * (2 + C)), by depth and column of points: how much was looked at, how much is there,
            and its colours.
        """
        x = self.embed(unfolded(frames, self.patch)) + self.position
        for block in self.blocks:
            x = block(x)
        with torch.autocast(frames.device.type, enabled=False):
            there = (folded(self.guess(x).float(), self.points) + self.usual).softmax(1)  # (N, DEPTHS, P, P)
            reached = there.flip(1).cumsum(1).flip(1)
            colours = F.avg_pool2d(frames.float(), self.patch // self.points).unsqueeze(1)
            told = torch.cat([reached.unsqueeze(2), there.unsqueeze(2), there.unsqueeze(2) * colours], 2)
            return torch.einsum("ndkrc,drh->ndchk", told, self.levels).flatten(3)

    def written(self, voxels: Tensor, lifted: Tensor, eyes: Tensor, there: Tensor, donate: bool = False) -> Tensor:
        """The map after one more frame of every world, seen from `eyes` (B, 3); an empty one where none is `there`
        (B,). With `donate` it is written where the voxels are."""
        values = (lifted * there.view(-1, 1, 1, 1)).flatten(1, 2)  # (B, DEPTHS * P, F)
        columns, shares = (part.flatten(1, 2) for part in self._columns(eyes, self.depth, self.aside))
        added = (values.unsqueeze(2) * shares.unsqueeze(3)).flatten(0, 2)
        at = columns.flatten()
        looks = added.unflatten(1, (HEIGHTS, -1))[..., 0]
        looked_at = looks.new_zeros(voxels.shape[0] * voxels.shape[1], HEIGHTS).index_add(0, at, looks)
        kept = (1 - self.forget.sigmoid() * looked_at.clamp(max=1)).view(*voxels.shape[:2], HEIGHTS, 1)
        kept = kept * there.view(-1, 1, 1, 1)
        old = voxels.unflatten(2, (HEIGHTS, -1))
        new = old.mul_(kept) if donate else old * kept
        return new.view(-1, voxels.shape[2]).index_add_(0, at, added).view_as(voxels)

    def looked_up(self, voxels: Tensor, eyes: Tensor) -> Tensor:
        """What is along the rays of eyes (B, 3), of voxels (B, V, F): (B, SAMPLES, columns, F)."""
        columns, shares = self._columns(eyes, self.ahead, self.right)
        found = F.embedding_bag(
            columns.flatten(0, 2), voxels.flatten(0, 1), per_sample_weights=shares.flatten(0, 2), mode="sum"
        )
        return found.unflatten(0, columns.shape[:3])

    def rendered(self, found: Tensor) -> Volume:
        """The views of N rays bundles, of what `looked_up` found along them."""
        looked_at, there, colour = found.unflatten(3, (HEIGHTS, -1)).split([1, 1, self.channels], -1)
        often = there / (looked_at + 0.05)
        colour = colour / (there + 0.01)
        known = torch.cat([often, colour, looked_at.log1p().clamp(max=3)], -1).flatten(3)
        where = torch.stack([self.ahead.log(), 0.2 * self.ahead], -1)[:, None].expand(*known.shape[:3], -1)
        details = self.details(F.gelu(self.hidden(torch.cat([known, where], -1)))).float()
        more, features = details.unflatten(3, (HEIGHTS, -1)).split([1, FEATURES], -1)
        scale, shift = self.solid
        voxels = torch.cat([scale * often + shift + more, colour, features], -1)
        met = torch.einsum("nschf,srh->nscrf", voxels, self.at_rows)  # (N, SAMPLES, columns, rows, .)
        solid = met[..., 0].sigmoid() * self.at_rows.sum(2)[:, None]
        passes = torch.cat([torch.ones_like(solid[:, :1]), (1 - solid + 1e-4).cumprod(1)], 1)
        shares = solid * passes[:, :-1]
        seen = torch.einsum("nscr,nscrf->nfrc", shares, met[..., 1:])
        depth = torch.einsum("nscr,s->nrc", shares, self.ahead.log())
        rays = torch.cat([seen, depth.unsqueeze(1), passes[:, -1].mT.unsqueeze(1)], 1)
        return self._volume(rays)

    def _volume(self, rays: Tensor) -> Volume:
        """Of rays (N, C + FEATURES + 2, rows, columns)."""
        blocks = rays.unflatten(3, (self.grid, COLUMNS)).unflatten(2, (self.grid, ROWS))
        tokens = blocks.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        size = self.grid * self.patch
        whole = F.interpolate(rays, size=(size, size), mode="bilinear", align_corners=False)
        return Volume(tokens, whole[:, : self.channels], whole[:, -2], whole[:, -1])

    def _columns(self, eyes: Tensor, ahead: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The four columns (B, n, m, 4) around places so far `ahead` (n,) and to the `right` (n, m) of the eyes (B, 3),
        in cells, numbered over all worlds, and the shares of each: bilinear."""
        cos = eyes[:, 2, None, None].cos()
        sin = eyes[:, 2, None, None].sin()
        x = PER_CELL * (eyes[:, 0, None, None] + ahead.unsqueeze(1) * cos - right * sin)
        y = PER_CELL * (eyes[:, 1, None, None] + ahead.unsqueeze(1) * sin + right * cos)
        west = x.floor()
        north = y.floor()
        east = x - west  # shares
        south = y - north
        world = self.side**2 * torch.arange(len(eyes), device=eyes.device)[:, None, None]
        columns = []
        shares = []
        for dx, across in enumerate((1 - east, east)):
            for dy, down in enumerate((1 - south, south)):
                columns.append(world + (north.long() + dy) % self.side * self.side + (west.long() + dx) % self.side)
                shares.append(across * down)
        return torch.stack(columns, -1), torch.stack(shares, -1)


def _levels(down: Tensor) -> Tensor:
    """The shares (..., HEIGHTS) of the voxels of a column in what is so many cells below the eye, (...): linear, and
    none beyond."""
    level = (down / HIGHEST + 1) / 2 * (HEIGHTS - 1)
    return (1 - (level.unsqueeze(-1) - torch.arange(HEIGHTS)).abs()).clamp(min=0)
