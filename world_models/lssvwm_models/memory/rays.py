"""First person: the places that a frame may show lie along rays, and which of them it shows has to be learned.

A top-down frame shows one known cell per patch (`geometry.patch_places`). A frame seen by the eye of an agent shows, in
each of its columns, whatever comes first along a ray. What is known is where the ray is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lssvwm_models.memory.geometry import MOST_MOTIONS, ego_motion
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

    def directions(self, columns: int) -> Tensor:
        """Where the middles of the columns of a frame look, in radians clockwise from straight ahead: (columns,)."""
        across = (2 * torch.arange(columns, dtype=torch.float32) + 1) / columns - 1  # -1 to 1, as the picture plane
        return (across * math.tan(math.radians(self.fov) / 2)).atan()


def straight_ahead(grid: int) -> list[int]:
    """The patches, of grid x grid, in the middle columns of a frame: where a step leads to."""
    middle = range((grid - 1) // 2, grid // 2 + 1)
    return [row * grid + column for row in range(grid) for column in middle]


class Sight(NamedTuple):
    """Where frames may show what they show.

    Attributes:
        places: (..., G * K, 2), x and y, in cells, of K points along the ray of each of the G columns of patches.
        gazes: (..., side, 3), x, y and direction in radians of each of the columns of tokens.
        moved: (..., 4), how far the eye came since the frame before: forward and right in cells, and the cosine and
            sine of its turn.
    """

    places: Tensor
    gazes: Tensor
    moved: Tensor


def sight(pose: Tensor, before: Tensor, view: FirstPersonView, grid: int, side: int) -> Sight:
    """What frames seen from poses (..., 3) are of, each after a frame that was seen from the pose `before`.

    `grid` columns of patches make `side` columns of tokens.
    """
    pose = view.in_cells(pose)
    place, angle = in_plane(pose)
    eye = place + view.ahead / view.cell * torch.stack([angle.cos(), angle.sin()], -1)
    rays = angle[..., None] + view.directions(grid).to(pose.device)  # (..., G)
    ahead = torch.stack([rays.cos(), rays.sin()], -1)
    depths = torch.tensor(view.depths, dtype=torch.float32, device=pose.device)
    places = eye[..., None, None, :] + depths[:, None] * ahead[..., None, :]  # (..., G, K, 2)
    looks = angle[..., None] + view.directions(side).to(pose.device)
    gazes = torch.cat([eye[..., None, :].expand(*looks.shape, 2), looks[..., None]], -1)
    steps, turn = in_plane(ego_motion(view.in_cells(before), pose))
    moved = torch.cat([steps, turn.cos()[..., None], turn.sin()[..., None]], -1)
    return Sight(places.flatten(-3, -2), gazes, moved)


def in_plane(pose: Tensor) -> tuple[Tensor, Tensor]:
    """x and y (..., 2) and angle in radians (...) of poses (..., 3), which may be on a grid."""
    turn = 1.0 if pose.is_floating_point() else math.pi / 2
    plane = pose.float()
    return plane[..., :2], plane[..., 2] * turn


def gaze_frequencies(pairs: int, length: float = 0.5, width: float = math.radians(15)) -> Tensor:
    """(pairs, 3) angular frequencies that tell gazes (x, y, direction) apart.

    Random Fourier features (Rahimi and Recht 2007): codes are alike where the eye was nearer than about `length` cells
    and looked less than about `width` radians elsewhere. Directions take whole harmonics, as a full turn is none.
    """
    generator = torch.Generator().manual_seed(0)
    waves = torch.randn(pairs, 3, generator=generator)
    return torch.cat([waves[:, :2] / length, (waves[:, 2:] / width).round()], -1)
