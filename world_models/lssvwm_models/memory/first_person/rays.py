"""First person: the places that a frame may show lie along rays, and which of them it shows has to be learned.

A top-down frame shows one known cell per patch (`geometry.patch_places`). A frame seen by the eye of an agent shows, in
each of its columns, whatever comes first along a ray. What is known is where the ray is.

Shapes: B batch, T frames, n tokens per frame, d width, H heads, P their width, N length of the keys; G columns of
patches, K depths along a ray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lssvwm_models.memory.first_person.picture import middles
from lssvwm_models.memory.frame_context import FrameContext
from lssvwm_models.memory.geometry import MOST_MOTIONS, ego_motion
from lssvwm_models.memory.scans import PlaceMap
from lssvwm_models.utils.checks import AHEAD, CELL, FOV, check_fields, shown

MOST_DEPTHS = 64


@dataclass(frozen=True)
class FirstPersonView:
    """How a camera that moves with an agent, level and at the agent's eye, maps to the world.

    Attributes:
        fov: horizontal field of view, in degrees.
        motions: every ego motion one action can cause, as in `EgoView`; None: poses are in the plane, and there are
            no kinds of motions.
        ahead: how far the camera is ahead of the pose, in the unit of x and y; behind, if it is negative.
        cell: what counts as a cell, in that unit.
        depths: distances along a ray, in cells, at which what a patch shows may be. Near ones are closer together: what
            is near is large.
    """

    fov: float
    motions: tuple[tuple[int, int, int], ...] | None
    ahead: float = 0.0
    cell: float = 1.0
    depths: tuple[float, ...] = (0.35, 0.75, 1.25, 2.0, 3.0, 4.5)

    def __post_init__(self) -> None:
        check_fields(self, fov=FOV, ahead=AHEAD, cell=CELL, motions=(-64, 64), depths=(0.0, 1e3))
        if self.motions is not None and not 1 <= len(self.motions) <= MOST_MOTIONS:
            raise ValueError(f"motions={shown(self.motions)} must be 1 to {MOST_MOTIONS}")
        if self.motions is not None and self.cell != 1:
            raise ValueError(f"cell={self.cell} must be 1 where motions are counted in cells")
        if not 1 <= len(self.depths) <= MOST_DEPTHS:
            raise ValueError(f"depths={shown(self.depths)} must be 1 to {MOST_DEPTHS}")

    def in_cells(self, pose: Tensor) -> Tensor:
        """Poses (..., 3) with x and y in cells."""
        return pose if self.cell == 1 else torch.cat([pose[..., :2] / self.cell, pose[..., 2:]], -1)

    def eye(self, pose: Tensor) -> Tensor:
        """Where the eye of poses (..., 3) is, x and y in cells, and which way it looks, in radians: (..., 3)."""
        place, angle = in_plane(self.in_cells(pose))
        place = place + self.ahead / self.cell * torch.stack([angle.cos(), angle.sin()], -1)
        return torch.cat([place, angle.unsqueeze(-1)], -1)

    def directions(self, columns: int) -> Tensor:
        """Where the middles of the columns of a frame look, in radians clockwise from straight ahead: (columns,)."""
        return (middles(columns) * math.tan(math.radians(self.fov) / 2)).atan()


def straight_ahead(grid: int) -> list[int]:
    """The patches, of grid x grid, in the middle columns of a frame: where a step leads to."""
    middle = range((grid - 1) // 2, grid // 2 + 1)
    return [row * grid + column for row in range(grid) for column in middle]


class Sight(NamedTuple):
    """Where frames may show what they show.

    Attributes:
        eye: (..., 3), x and y in cells, and direction in radians.
        places: (..., G * K, 2), x and y, in cells, of K points along the ray of each of the G columns of patches.
        gazes: (..., side, 3), x, y and direction in radians of each of the columns of tokens.
        moved: (..., 4), how far the eye came since the frame before: forward and right in cells, and the cosine and
            sine of its turn.
    """

    eye: Tensor
    places: Tensor
    gazes: Tensor
    moved: Tensor


def sight(pose: Tensor, before: Tensor, view: FirstPersonView, grid: int, side: int) -> Sight:
    """What frames seen from poses (..., 3) are of, each after a frame that was seen from the pose `before`.

    `grid` columns of patches make `side` columns of tokens.
    """
    eye = view.eye(pose)
    place, angle = eye[..., :2], eye[..., 2]
    rays = angle[..., None] + view.directions(grid).to(pose.device)  # (..., G)
    ahead = torch.stack([rays.cos(), rays.sin()], -1)
    depths = torch.tensor(view.depths, dtype=torch.float32, device=pose.device)
    places = place[..., None, None, :] + depths[:, None] * ahead[..., None, :]  # (..., G, K, 2)
    looks = angle[..., None] + view.directions(side).to(pose.device)
    gazes = torch.cat([place[..., None, :].expand(*looks.shape, 2), looks[..., None]], -1)
    steps, turn = in_plane(ego_motion(view.in_cells(before), view.in_cells(pose)))
    moved = torch.cat([steps, turn.cos()[..., None], turn.sin()[..., None]], -1)
    return Sight(eye, places.flatten(-3, -2), gazes, moved)


def in_plane(pose: Tensor) -> tuple[Tensor, Tensor]:
    """x and y (..., 2) and angle in radians (...) of poses (..., 3), which may be on a grid."""
    turn = 1.0 if pose.is_floating_point() else math.pi / 2
    plane = pose.float()
    return plane[..., :2], plane[..., 2] * turn


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
