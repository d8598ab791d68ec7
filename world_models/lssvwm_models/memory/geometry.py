"""Where patches are in the world: ego poses, coordinates of patches, and rotary codes of place.

The paper gives its networks the camera pose as the action (section 5.1). Here the pose is dead-reckoned from the
agent's own actions (`odometry.py`), and every patch of a frame gets the coordinates of the place it shows. Queries
and keys are rotated by these coordinates (as RoPE does for text, and Mamba-3 for B and C), so both the attention
and the state-space memory can ask "what is at this place?" from wherever the agent now stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lssvwm_models.utils.checks import check_fields, shown

MOST_MOTIONS: Final = 64
_FORWARD = ((1, 0), (0, 1), (-1, 0), (0, -1))  # unit step of headings 0..3: east, south, west, north


@dataclass(frozen=True)
class EgoView:
    """How a top-down view centred on a moving agent maps to the world.

    Attributes:
        cell: pixels per world cell.
        row, col: the agent's cell in the frame; the agent looks towards row 0.
        motions: every ego motion one action can cause, as (forward, right, quarter turns clockwise), in cells.
    """

    cell: int
    row: int
    col: int
    motions: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        check_fields(self, cell=(1, 4096), row=(0, 4096), col=(0, 4096), motions=(-64, 64))
        if not 1 <= len(self.motions) <= MOST_MOTIONS:
            raise ValueError(f"motions={shown(self.motions)} must be 1 to {MOST_MOTIONS}")


def advance(pose: Tensor, motion: Tensor) -> Tensor:
    """The pose (..., 3) = (x, y, heading) after an ego motion (..., 3) = (forward, right, turn).

    Integers are cells and quarter turns; headings are 0 to 3. Floats are lengths and radians, from -pi to pi.
    """
    forward, right = _axes(pose[..., 2])
    moved = pose[..., :2] + motion[..., :1] * forward + motion[..., 1:2] * right
    return torch.cat([moved, _wrapped(pose[..., 2:] + motion[..., 2:])], -1)


def ego_motion(before: Tensor, after: Tensor) -> Tensor:
    """The motion (..., 3) that `advance` needs to get from pose `before` to pose `after`."""
    forward, right = _axes(before[..., 2])
    step = after[..., :2] - before[..., :2]
    turn = _wrapped(after[..., 2] - before[..., 2])
    return torch.stack([(step * forward).sum(-1), (step * right).sum(-1), turn], -1)


def _axes(heading: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (..., 2) ahead and to the right."""
    if heading.is_floating_point():
        forward = torch.stack([heading.cos(), heading.sin()], -1)
    else:
        forward = torch.tensor(_FORWARD, device=heading.device)[heading.long()]
    return forward, torch.stack([-forward[..., 1], forward[..., 0]], -1)


def _wrapped(turn: Tensor) -> Tensor:
    """The same turn as the smallest number that it can be, or none below 0 in quarter turns."""
    return (turn + math.pi) % (2 * math.pi) - math.pi if turn.is_floating_point() else turn % 4


def motion_patches(view: EgoView, grid: int, patch: int) -> list[int]:
    """The patches, of grid x grid, that show the cells in which the motions of a view end, as far as they are in sight.

    Raises:
        ValueError: If none of them is.
    """
    patches = set[int]()
    for forward, right, _ in view.motions:
        top = (view.row - forward) * view.cell
        left = (view.col + right) * view.cell
        rows, cols = (range(max(0, at // patch), min(grid, -(-(at + view.cell) // patch))) for at in (top, left))
        patches.update(row * grid + col for row in rows for col in cols)
    if not patches:
        raise ValueError(f"{view} has no cell in sight that a motion ends in; is the agent at row, col of its frame?")
    return sorted(patches)


def patch_places(pose: Tensor | None, view: EgoView | None, grid: int, patch: int, lead: tuple[int, ...]) -> Tensor:
    """World coordinates (*lead, grid * grid, 2) of the centres of the patches, in cells.

    Without a view the frame itself is the world: the place of a patch is its column and row.
    """
    device = None if pose is None else pose.device
    index = torch.arange(grid, device=device, dtype=torch.float32)
    row, col = (axis.flatten() for axis in torch.meshgrid(index, index, indexing="ij"))
    if view is None or pose is None:
        return torch.stack([col, row], -1).expand(*lead, grid * grid, 2)
    scale = patch / view.cell
    ahead = view.row - (row * scale + (scale - 1) / 2)
    aside = col * scale + (scale - 1) / 2 - view.col
    forward, right = (axis[..., None, :].float() for axis in _axes(pose[..., 2]))
    return pose[..., None, :2].float() + ahead[:, None] * forward + aside[:, None] * right


def surrounding_places(pose: Tensor, map_size: int) -> Tensor:
    """World coordinates (..., E, 2) of the centres of all squares of 2 x 2 cells around an agent with pose (..., 3).

    Together the E = (map_size / 2) ** 2 squares are the whole torus of places, in the order of rows from ahead to
    behind and columns from left to right, whichever way the agent looks.
    """
    offset = torch.arange(0.5 - map_size // 2, map_size // 2, 2, dtype=torch.float32, device=pose.device)
    ahead, aside = (axis.flatten() for axis in torch.meshgrid(-offset, offset, indexing="ij"))
    forward, right = (axis[..., None, :].float() for axis in _axes(pose[..., 2]))
    return pose[..., None, :2].float() + ahead[:, None] * forward + aside[:, None] * right


def place_frequencies(pairs: int, map_size: int) -> Tensor:
    """(pairs, 2) angular frequencies that tell the cells of a `map_size` x `map_size` torus apart.

    They are those of the discrete Fourier transform, shuffled: with `map_size ** 2 / 2` pairs the codes of all cells
    are orthogonal (to 3 %), so a linear memory addressed by them is a map with next to no crosstalk. With fewer pairs a
    random but fixed sample is taken; with more, they repeat.
    """
    half = [(u, v) for u in range(map_size) for v in range(map_size) if (u, v) < (-u % map_size, -v % map_size)]
    waves = torch.tensor(half, dtype=torch.float64)
    waves = (waves + map_size // 2) % map_size - map_size // 2  # the slowest that are the same at all cells
    order = torch.randperm(len(half), generator=torch.Generator().manual_seed(0))
    index = torch.arange(pairs) % len(half)
    return (waves[order[index]] * (2 * math.pi / map_size)).float()


class Rotation(NamedTuple):
    """Cosines and sines of angles (..., pairs)."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate the pairs (x[..., i], x[..., i + half]) of x (..., 2 * half)."""
        first, second = x.chunk(2, -1)
        turned = (first * self.cos).addcmul(second, self.sin, value=-1), (first * self.sin).addcmul(second, self.cos)
        return torch.cat(turned, -1)

    def to(self, dtype: torch.dtype) -> Rotation:
        """In the dtype of what it rotates."""
        return Rotation(self.cos.to(dtype), self.sin.to(dtype))

    def of_all_streams(self) -> Rotation:
        """Of what has streams on its third axis, (B, T, S, ...), if this is of (B, T, ...)."""
        return Rotation(self.cos.unsqueeze(2), self.sin.unsqueeze(2))


def place_rotation(places: Tensor, frequencies: Tensor) -> Rotation:
    """The rotation (..., *pairs) that encodes places (..., D) by frequencies (*pairs, D).

    Angles are computed without a matrix product: autocast would round the places, and a place that is off by a little
    is another.
    """
    axes = [axis.view(*axis.shape, *[1] * (frequencies.dim() - 1)) for axis in places.float().unbind(-1)]
    angles = axes[0] * frequencies[..., 0]
    for axis, wave in zip(axes[1:], frequencies.unbind(-1)[1:], strict=True):
        angles = angles + axis * wave
    return Rotation(angles.cos(), angles.sin())


def place_table(size: int) -> Tensor:
    """All whole and half cells of a torus, (4 * size ** 2, 2), column by column."""
    halves = torch.arange(2 * size, dtype=torch.float32) / 2
    return torch.stack(torch.meshgrid(halves, halves, indexing="ij"), -1).flatten(0, 1)


def place_rows(places: Tensor, size: int) -> Tensor | None:
    """The rows (...) of places (..., 2) in `place_table(size)`; None if any of them is not in the table."""
    halves = 2 * places
    whole = halves.round()
    if not torch.equal(whole, halves):
        return None
    column, row = (whole.long() % (2 * size)).unbind(-1)
    return column * (2 * size) + row
