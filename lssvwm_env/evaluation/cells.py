"""What dreams in first person show in each cell, counted exactly, where the real world is MiniGrid by raycaster.

A real frame is a function of what the cells hold and of the pose, so a dreamt frame can be read by drawing: its cells
show what makes the picture most like it. What all cells hold is not recorded: `replay` takes the recorded actions once
more in the real environment, which is exact.

Cells count that a real frame shows clearly (see `Grids.clear`), and so that what they hold is told from all else, by
`APART`. So real frames are read without an error, and those with noise of 25 levels with next to none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import gymnasium as gym
import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX
from numpy.typing import NDArray

from lssvwm_env.evaluation.revisits import AGES, NEVER, within
from lssvwm_env.real import Raycaster, RaycastMiniGrid
from lssvwm_env.real.first_person.raycaster import Variants
from lssvwm_models.data.openings import Openings
from lssvwm_models.evaluation.tally import Tally

CLEAR: Final = 12
"""Pixels that must show a cell."""
APART: Final = CLEAR * 64**2
"""The least squared distance from what a cell holds to all else, summed over pixels and colours: as much as `CLEAR`
pixels that are 64 of 255 levels brighter."""
PASSES: Final = 8
"""Most times that the cells of a frame are changed; two or three do."""

_EMPTY: Final = (OBJECT_TO_IDX["empty"], 0, 0)
_WALL: Final = OBJECT_TO_IDX["wall"]
_GROUND: Final = [OBJECT_TO_IDX[name] for name in ("unseen", "empty", "floor")]


@dataclass(frozen=True)
class Grids:
    """What the cells of B worlds hold at T frames, and which of them are in sight.

    Attributes:
        codes: MiniGrid's (object, colour, state), uint8 (B, T, H, W, 3), by y and x.
        pixels: How many pixels show what is in a cell, at most 255, uint8 (B, T, H, W).
        pose: x, y and heading in quarter turns, int32 (B, T, 3).
        carried: The code of what the agent carries, that of an empty cell for nothing, uint8 (B, T, 3).
        valid: bool (B, T), false past the end of an episode.
    """

    codes: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    pose: NDArray[np.int32]
    carried: NDArray[np.uint8]
    valid: NDArray[np.bool_]

    def clear(self) -> NDArray[np.bool_]:
        """Whether cells are shown clearly, bool (B, T, H, W).

        By at least `CLEAR` pixels; not the agent's own, as one stands in what is there; and if one sees their ground,
        only those that are not more to the side than ahead: what might stand in the others would be out of the picture.
        """
        height, width = self.pixels.shape[2:]
        x, y, heading = np.moveaxis(self.pose[..., None, None], 2, 0)
        right = np.arange(width) - x  # of an agent that looks north, and so on
        ahead = np.arange(height)[:, None] - y
        forward = np.choose(heading, [right, ahead, -right, -ahead])
        aside = np.abs(np.choose(heading, [ahead, right, ahead, right]))
        told = np.where(np.isin(self.codes[..., 0], _GROUND), aside <= forward, True)
        clear: NDArray[np.bool_] = (self.pixels >= CLEAR) & told & (forward**2 + aside**2 > 0)
        return clear & self.valid[..., None, None]

    def things(self) -> NDArray[np.uint8]:
        """The codes of all that is in some cell, and that of an empty one: uint8 (K, 3), ascending."""
        there = np.zeros((256,) * 3, np.bool_)
        there[tuple(np.moveaxis(self.codes, -1, 0))] = True
        there[_EMPTY] = True
        return np.argwhere(there).astype(np.uint8)


def is_raycast(env: gym.Env[Any, Any]) -> bool:
    """Whether the frames of a real environment are those of the raycaster, so that `replay` can be asked."""
    layer: Any = env
    while isinstance(layer, gym.Wrapper) and not isinstance(layer, RaycastMiniGrid):
        layer = layer.env
    return isinstance(layer, RaycastMiniGrid)


def replay(env: gym.Env[Any, Any], real: Openings) -> Grids:
    """Take the recorded actions in the real environment, to learn what is where.

    Args:
        env: MiniGrid in first person, made as the episodes say.
        real: The first frames of episodes of it.

    Raises:
        ValueError: If it is another environment, or does not show the recorded frames; names the episode and frame.
    """
    if not is_raycast(env):
        raise ValueError(f"env={env} is not MiniGrid in first person, such as FirstPerson/MiniGrid-ObjectRooms-v0.")
    worlds = [
        _replay_one(env, obs[valid], act[valid], int(seed))
        for obs, act, valid, seed in zip(real.obs, real.act, real.valid, real.seeds, strict=True)
    ]
    if len({facts[0].shape[1:] for facts in worlds}) > 1:
        raise ValueError(f"env={env} has grids of several sizes: its cells cannot be counted side by side.")
    last = [np.minimum(np.arange(real.valid.shape[1]), len(facts[0]) - 1) for facts in worlds]
    codes, pixels, pose, carried = (
        np.stack([fact[index] for fact, index in zip(of_all, last, strict=True)])
        for of_all in zip(*worlds, strict=True)
    )
    return Grids(codes, pixels, pose, carried, real.valid)


def _replay_one(
    env: gym.Env[Any, Any], obs: NDArray[np.uint8], act: NDArray[Any], seed: int
) -> tuple[NDArray[Any], ...]:
    """Codes, pixels, poses and what is carried, of the T frames of an episode."""
    rows = []
    for number, (frame, action) in enumerate(zip(obs, act, strict=True)):
        if number == 0:
            shown, info = env.reset(seed=seed)
        else:
            shown, *_, info = env.step(action)
        if not np.array_equal(shown, frame):
            raise ValueError(
                f"frame {number} of the episode of seed {seed} is not what {env} shows after the recorded actions: "
                "take episodes that were recorded from their first frame on, in this environment, with the arguments "
                "that their dataset.json says, and this version of lssvwm-env."
            )
        rows.append((env.get_wrapper_attr("codes"), info["cells"][..., 3], info["pose"], info["carried"]))
    return tuple(np.stack(fact) for fact in zip(*rows, strict=True))


def sights(grids: Grids, context: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How long ago the cells were seen, with what they hold now.

    Args:
        grids: Of B worlds at T frames.
        context: How many frames are real. What only later frames show was never seen by who dreams them.

    Returns:
        Frames since a cell was last shown clearly, in dreamt frames too, or `NEVER` if the context does not show it
        clearly with what it holds now; and whether no frame of the context shows a pixel of it, and it is as it was
        when they ended, so that one can only guess. Both (B, T, H, W).
    """
    frame = np.arange(grids.pixels.shape[1])[:, None, None]
    changed = np.zeros(grids.pixels.shape, np.bool_)
    changed[:, 1:] = (grids.codes[:, 1:] != grids.codes[:, :-1]).any(-1)
    since = np.maximum.accumulate(np.where(changed, frame, 0), axis=1)

    clear = grids.clear()
    known = _latest(clear & (frame < context)) >= since
    age = np.where(known, frame - _latest(clear), NEVER)
    glimpsed = _latest((grids.pixels > 0) & (frame < context)) >= since
    return age, ~glimpsed & (since < context)


def _latest(where: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The last frame before each at which something held, or -1, for (B, T, ...)."""
    frame = np.arange(where.shape[1]).reshape(-1, *[1] * (where.ndim - 2))
    latest = np.full(where.shape, -1)
    latest[:, 1:] = np.maximum.accumulate(np.where(where, frame, -1), axis=1)[:, :-1]
    return latest


def decode(
    grids: Grids, frames: NDArray[np.uint8], things: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read what imagined frames show in the cells that the real ones show clearly, and tell from all other things.

    They show those things that give the picture with the least squared error. These are looked for from the real things
    on: what lowers the error most is changed, with all else that lowers it and has no pixel in common, until no other
    thing in any one cell would lower it.

    Args:
        grids: Of the same B worlds and T frames.
        frames: Imagined frames, uint8 (B, T, 64, 64, 3).
        things: Codes of what may be in a cell, uint8 (K, 3).

    Returns:
        Codes of what the cells show, (0, 0, 0) where something that is not there hides them, uint8 (B, T, H, W, 3); and
        which cells count, bool (B, T, H, W).
    """
    raycaster = Raycaster(*grids.codes.shape[2:4])
    read = grids.codes.copy()
    counted = np.zeros(grids.pixels.shape, np.bool_)
    clear = grids.clear()
    for b, t in np.argwhere(grids.valid):
        picture = _Picture(raycaster, grids.codes[b, t], grids.pose[b, t], grids.carried[b, t], things)
        told = [(y, x) for y, x in np.argwhere(clear[b, t]).tolist() if picture.tells((y, x))]
        read[b, t] = picture.read(frames[b, t], told)
        counted[b, t][tuple(np.array(told, np.int64).reshape(-1, 2).T)] = True
    return read, counted


@dataclass
class _Picture:
    """A real frame, and what it would be with other things in its cells."""

    raycaster: Raycaster
    codes: NDArray[np.uint8]
    pose: NDArray[np.int32]
    carried: NDArray[np.uint8]
    things: NDArray[np.uint8]
    among_real: dict[tuple[int, int], Variants] = field(default_factory=dict)

    def tells(self, cell: tuple[int, int]) -> bool:
        """Whether the real frame tells what is in a cell from all else."""
        self.among_real[cell] = self._variants(self.codes, cell)
        pixels = self.among_real[cell].pixels.astype(np.float32)
        is_there = (self.things == self.codes[cell]).all(1)
        distances = _squared(pixels[~is_there] - pixels[is_there])
        return bool((distances >= APART).all())

    def read(self, frame: NDArray[np.uint8], cells: list[tuple[int, int]]) -> NDArray[np.uint8]:
        """What an imagined frame shows in some cells, among what is really in the others."""
        read = self.codes.copy()
        pictures = self.among_real
        for _ in range(PASSES):
            changes = sorted(
                (self._change(read, frame, cell, pictures[cell]) for cell in cells), key=lambda change: -change.gain
            )
            taken = np.zeros(frame.shape[:2], np.bool_)
            for change in changes:
                where = pictures[change.cell].where
                if change.gain > 0 and not (taken & where).any():
                    read[change.cell] = change.thing
                    taken |= where
            if not taken.any():
                break
            pictures = {cell: self._variants(read, cell) for cell in cells}
        hidden = self.raycaster.look(read, self.pose, self.carried).cells[..., 3] == 0
        for cell in cells:
            if hidden[cell]:
                read[cell] = 0
        return read

    def _variants(self, codes: NDArray[np.uint8], cell: tuple[int, int]) -> Variants:
        return self.raycaster.variants(codes, self.pose, self.carried, cell, self.things)

    def _change(
        self, read: NDArray[np.uint8], frame: NDArray[np.uint8], cell: tuple[int, int], pictures: Variants
    ) -> _Change:
        """What to put into a cell, if only that is changed."""
        errors = _squared(pictures.pixels.astype(np.float32) - frame[pictures.where])
        (now,) = np.flatnonzero((self.things == read[cell]).all(1))
        best = errors.argmin()
        return _Change(cell, self.things[best], float(errors[now] - errors[best]))


class _Change(NamedTuple):
    """Another thing in a cell, and by how much it lowers the squared error."""

    cell: tuple[int, int]
    thing: NDArray[np.uint8]
    gain: float


def _squared(differences: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of squares of (K, n, 3), (K,)."""
    sums: NDArray[np.float32] = np.einsum("knc,knc->k", differences, differences)
    return sums


def cell_report(grids: Grids, frames: NDArray[np.uint8], context: int) -> dict[str, Tally]:
    """Count the cells that dreamt frames show rightly.

    Args:
        grids: What `replay` found for the real frames, those of the context first.
        frames: Dreamt frames, from frame `context` on, uint8 (B, T, 64, 64, 3).
        context: Real frames before.

    Returns:
        Tallies by name, over the cells that the real frames show clearly. `walls`: share of walls that are shown, in
        their colour; `wall_or_not`: share of cells that are shown as walls just where they are; `objects`: share of all
        else that stands or lies in a cell which is shown, of its kind, colour and state; `empty`: share of empty cells
        that are shown so, and no object imagined. Each of them for all cells, and as `..._seen` for those that the
        context shows clearly with what they hold now, as `..._age_9_32` and so on, one of `AGES`, for those among them
        that were last shown as many frames ago, and as `..._new` for those never seen. Cells that changed after the
        context are in the first number only.

    Raises:
        ValueError: If the frames do not fit the worlds.
    """
    dreamt = slice(context, context + frames.shape[1])
    if frames.shape[:2] != grids.valid[:, dreamt].shape or frames.shape[2:] != (64, 64, 3):
        raise ValueError(f"frames are {frames.shape}, expected (B, T, 64, 64, 3), of {grids.valid.shape} frames.")
    ages, never = sights(grids, context)
    age = ages[:, dreamt]
    new = never[:, dreamt]
    after = Grids(*(getattr(grids, name)[:, dreamt] for name in ("codes", "pixels", "pose", "carried", "valid")))
    read, counted = decode(after, frames, grids.things())
    right = (read == after.codes).all(-1)
    wall = after.codes[..., 0] == _WALL
    empty = np.isin(after.codes[..., 0], _GROUND)
    counts = {
        "walls": (right, wall),
        "wall_or_not": (((read[..., 0] == _WALL) == wall) & read.any(-1), np.ones_like(wall)),
        "objects": (right, ~wall & ~empty),
        "empty": (right, empty),
    }
    parts = {"": np.ones_like(new), "_seen": age != NEVER, "_new": new}
    parts |= {f"_age_{span}": within(age, span) for span in AGES}
    return {
        f"{name}{suffix}": Tally.of(values, counted & where & part)
        for name, (values, where) in counts.items()
        for suffix, part in parts.items()
    }
