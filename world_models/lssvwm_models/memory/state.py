"""`WorldModelState`: everything a world model remembers, as a value of fixed size; `CompactState`: only what counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import torch
from torch import Tensor

from lssvwm_models.memory.first_person.keyframes import Keyframes
from lssvwm_models.memory.first_person.voxels import COUNTS, HEIGHTS
from lssvwm_models.memory.state_size import first_channels, needed_channels
from lssvwm_models.utils.checks import MOST
from lssvwm_models.utils.tensor_files import load_tensors, save_tensors

LAST_MOTIONS: Final = 2  # that a body in the plane is known by
DONATED: Final = ("keyframes.latents", "voxels")  # so large that whoever needs a state no more lets them be written
FARTHEST: Final = 2**22  # cells from where a dream began; in float32, quarters of a cell are still told apart there

State = TypeVar("State")


@dataclass(frozen=True)
class WorldModelState:
    """The memory of B simulated worlds. A value: operations return new states and never write into old ones, but for
    those that are given one to keep (see `WorldModel.imagine`).

    Its size does not depend on how many frames were seen: planners fork it with `repeat_interleave`, and saved
    states resume exactly.

    Attributes:
        ssm: per layer, (B, tubes, H, P, N) float32: the tubes' state-space states.
        kv: per layer, (B, window, 2, H, n, head_dim): keys and values of the last frames, oldest first.
        latents: (B, M, k): the last committed frame.
        feats: (B, F): its features.
        pose: (B, 3) long, x, y and heading, or float32 in the plane, dead-reckoned since the episode or context began;
            zeros without odometry.
        age: (B,) long: frames committed since the episode or context began.
        motions: (B, LAST_MOTIONS, 3) float32: in the plane, how the eye moved last, the latest motion last; None on a
            grid.
        keyframes: some of the frames that were seen, in first person; None elsewhere.
        voxels: (B, V, F) float32: what was seen where, in all frames before the last one; None without keyframes.
    """

    ssm: tuple[Tensor, ...]
    kv: tuple[Tensor, ...]
    latents: Tensor
    feats: Tensor
    pose: Tensor
    age: Tensor
    motions: Tensor | None = None
    keyframes: Keyframes | None = None
    voxels: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """B."""
        return self.age.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; the same whatever the history."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, batch first."""
        layers = {f"{name}.{i}": t for name in ("ssm", "kv") for i, t in enumerate(getattr(self, name))}
        rest = {"latents": self.latents, "feats": self.feats, "pose": self.pose, "age": self.age}
        rest |= {} if self.motions is None else {"motions": self.motions}
        rest |= {} if self.voxels is None else {"voxels": self.voxels}
        kept = {} if self.keyframes is None else self.keyframes.tensors()
        return layers | rest | {f"keyframes.{name}": t for name, t in kept.items()}

    def map(self, f: Callable[[Tensor], Tensor]) -> WorldModelState:
        """Apply f to every tensor."""
        ssm, kv = (tuple(f(t) for t in layers) for layers in (self.ssm, self.kv))
        motions = None if self.motions is None else f(self.motions)
        keyframes = None if self.keyframes is None else self.keyframes.map(f)
        voxels = None if self.voxels is None else f(self.voxels)
        last = f(self.latents), f(self.feats), f(self.pose), f(self.age)
        return WorldModelState(ssm, kv, *last, motions, keyframes, voxels)

    def clone(self) -> WorldModelState:
        """A copy that shares no memory."""
        return self.map(torch.clone)

    def detach(self) -> WorldModelState:
        """The same numbers, without the graph that made them."""
        return self.map(torch.detach)

    def to(self, device: torch.device | str) -> WorldModelState:
        """The state on a device."""
        return self.map(lambda t: t.to(device))

    def __getitem__(self, ids: Tensor | slice | list[int]) -> WorldModelState:
        """The states of some worlds; ids as for a tensor's first dimension, which is kept."""
        return self.map(lambda t: t[ids])

    def repeat_interleave(self, n: int) -> WorldModelState:
        """n copies of every world, side by side: (B,) -> (B * n,). Those of a single world share its memory."""
        if self.batch_size == 1:  # states are never written to, so a view does
            return self.map(lambda t: t.expand(n, *t.shape[1:]))
        return self.map(lambda t: t.repeat_interleave(n, 0))

    def where(self, mask: Tensor, other: WorldModelState) -> WorldModelState:
        """This state where mask (B,) is true, the other elsewhere."""
        mine = self.tensors()
        theirs = other.tensors()
        mixed = {k: torch.where(mask.view(-1, *[1] * (t.dim() - 1)), t, theirs[k]) for k, t in mine.items()}
        return WorldModelState.from_tensors(mixed)

    @staticmethod
    def cat(states: Sequence[WorldModelState], written: WorldModelState | None = None) -> WorldModelState:
        """Worlds of several states side by side, of which the `DONATED` tensors are where they were `written`."""
        named = [s.tensors() for s in states]
        there = {} if written is None else {k: t for k, t in written.tensors().items() if k in DONATED}
        others = {k: torch.cat([t[k] for t in named]) for k in named[0] if k not in there}
        return WorldModelState.from_tensors(others | there)

    @staticmethod
    def from_tensors(named: dict[str, Tensor]) -> WorldModelState:
        """The inverse of `tensors`."""

        def layers(name: str) -> tuple[Tensor, ...]:
            return tuple(named[f"{name}.{i}"] for i in range(sum(k.startswith(f"{name}.") for k in named)))

        rest = {name: named[name] for name in ("latents", "feats", "pose", "age")}
        kept = {name.removeprefix("keyframes."): t for name, t in named.items() if name.startswith("keyframes.")}
        keyframes = Keyframes(**kept) if kept else None
        return WorldModelState(
            layers("ssm"),
            layers("kv"),
            **rest,
            motions=named.get("motions"),
            keyframes=keyframes,
            voxels=named.get("voxels"),
        )

    def compact(self, tolerance: float) -> CompactState:
        """Only the channels of the memory that matter: every tube keeps as many as it needs, see `needed_channels`.

        Args:
            tolerance: the share of the squared norm of each layer's memory that may be dropped, 0 to 1.

        Raises:
            ValueError: If the tolerance is no share.
        """
        return self._held(lambda memory: needed_channels(memory, tolerance))

    def truncated(self, channels: int) -> CompactState:
        """Only the first channels of the memory, the same number in every tube.

        Raises:
            ValueError: If their number is negative.
        """
        if channels < 0:
            raise ValueError(f"channels={channels} must be at least 0: how many of each tube's channels are kept")
        return self._held(lambda memory: torch.full(memory.shape[:2], channels, device=memory.device))

    def _held(self, count: Callable[[Tensor], Tensor]) -> CompactState:
        """As many channels of each tube as `count` says, (B, tubes); all of layers whose memory is attention."""
        held = []
        kept = []
        for s in self.ssm:
            scan = s.dim() == 5
            held.append(first_channels(count(s), s.shape[3]) if scan else s.new_ones(s.shape[:2], dtype=torch.bool))
            kept.append((s.transpose(2, 3) if scan else s)[held[-1]])
        return CompactState(tuple(held), tuple(kept), replace(self, ssm=()))

    def save(self, path: str | Path, metadata: dict[str, str] | None = None) -> None:
        """Write to a safetensors file, whole or not at all."""
        save_tensors(path, self.tensors(), metadata)

    @staticmethod
    def load(path: str | Path) -> tuple[WorldModelState, dict[str, str]]:
        """Read a file of `save`, or of `CompactState.save`: the state, and the metadata that was stored with it."""

        def build(named: dict[str, Tensor]) -> WorldModelState:
            compact = any(name.startswith("held.") for name in named)
            return CompactState.from_tensors(named).expand() if compact else WorldModelState.from_tensors(named)

        return _load(path, build)


@dataclass(frozen=True)
class CompactState:
    """The memory of B worlds without the channels that they do not need: smaller to keep, to fork and to save.

    A value, as `WorldModelState`, which makes it and which `expand` gives back, with zeros for what was dropped.

    Attributes:
        held: per layer, (B, tubes, P) bool: which channels are kept. Of layers whose memory is attention (B, frames),
            all true: these are left whole.
        kept: per layer, (K, H, N): these channels, one after the other; or frames, (K, 2, H, n, head_dim).
        rest: everything else; its `ssm` is empty.
    """

    held: tuple[Tensor, ...]
    kept: tuple[Tensor, ...]
    rest: WorldModelState

    @property
    def batch_size(self) -> int:
        """B."""
        return self.rest.batch_size

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    def expand(self) -> WorldModelState:
        """The state, to go on from."""
        ssm = []
        for held, kept in zip(self.held, self.kept, strict=True):
            memory = kept.new_zeros(*held.shape, *kept.shape[1:])
            memory[held] = kept
            ssm.append(memory.transpose(2, 3).contiguous() if held.dim() == 3 else memory)
        return replace(self.rest, ssm=tuple(ssm))

    def map(self, f: Callable[[Tensor], Tensor]) -> CompactState:
        """Apply f to every tensor; it must leave shapes as they are."""
        held, kept = (tuple(f(t) for t in layers) for layers in (self.held, self.kept))
        return CompactState(held, kept, self.rest.map(f))

    def to(self, device: torch.device | str) -> CompactState:
        """The state on a device."""
        return self.map(lambda t: t.to(device))

    def __getitem__(self, ids: Tensor | slice | list[int]) -> CompactState:
        """The states of some worlds; ids as for a tensor's first dimension, which is kept."""
        worlds = torch.arange(self.batch_size)[ids.cpu() if isinstance(ids, Tensor) else ids].tolist()
        kept = []
        for h, k in zip(self.held, self.kept, strict=True):
            of_world = k.split(h.flatten(1).sum(1).tolist())
            kept.append(torch.cat([k[:0], *(of_world[i] for i in worlds)]))
        return CompactState(tuple(h[worlds] for h in self.held), tuple(kept), self.rest[worlds])

    def repeat_interleave(self, n: int) -> CompactState:
        """n copies of every world, side by side: (B,) -> (B * n,)."""
        return self[torch.arange(self.batch_size).repeat_interleave(n)]

    @staticmethod
    def cat(states: list[CompactState]) -> CompactState:
        """Worlds of several states side by side."""
        held, kept = (
            tuple(torch.cat(layers) for layers in zip(*parts, strict=True))
            for parts in ([s.held for s in states], [s.kept for s in states])
        )
        return CompactState(held, kept, WorldModelState.cat([s.rest for s in states]))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        layers = {f"{name}.{i}": t for name in ("held", "kept") for i, t in enumerate(getattr(self, name))}
        return layers | self.rest.tensors()

    @staticmethod
    def from_tensors(named: dict[str, Tensor]) -> CompactState:
        """The inverse of `tensors`."""
        layers = range(sum(name.startswith("held.") for name in named))
        held, kept = (tuple(named[f"{name}.{i}"] for i in layers) for name in ("held", "kept"))
        return CompactState(held, kept, WorldModelState.from_tensors(named))

    def save(self, path: str | Path, metadata: dict[str, str] | None = None) -> None:
        """Write to a safetensors file, whole or not at all. `WorldModelState.load` reads it too."""
        save_tensors(path, self.tensors(), metadata)

    @staticmethod
    def load(path: str | Path) -> tuple[CompactState, dict[str, str]]:
        """Read a file of `save`: the state, and the metadata that was stored with it."""
        compact, metadata = _load(path, CompactState.from_tensors)
        if compact.rest.ssm:
            raise ValueError(f"{path} holds a whole state, not a compact one; read it with WorldModelState.load()")
        return compact, metadata


def _load(path: str | Path, build: Callable[[dict[str, Tensor]], State]) -> tuple[State, dict[str, str]]:
    """What `build` makes of the tensors of a file, and its metadata."""
    try:
        named, metadata = load_tensors(path)
        _check_counts(named["age"])
        _check_placed(named["pose"], named.get("motions"))
        _check_kept(named.get("keyframes.eyes"), named.get("keyframes.numbers"), named.get("voxels"))
        return build(named), metadata
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is not a saved world model state ({error}); save one with save_state()") from error


def _check_counts(age: Tensor) -> None:
    """Refuse ages that no dream comes to."""
    if age.dtype != torch.long or bool(((age < 0) | (age > MOST)).any()):
        raise ValueError(f"age is {age.dtype} from {age.min()} to {age.max()}; expected int64, from 0 to {MOST}")


def _check_placed(pose: Tensor, motions: Tensor | None) -> None:
    """Refuse poses that no dream comes to; those in the plane, which have last motions, and those on a grid."""
    heading = pose[..., 2]
    # So put that NaN is refused, too.
    near = bool(((pose[..., :2] <= FARTHEST) & (pose[..., :2] >= -FARTHEST)).all())
    if motions is not None:
        if pose.dtype != torch.float32 or not near or not bool((heading.abs() <= math.pi + 1e-3).all()):
            raise ValueError(
                f"pose is {pose.dtype} {pose.tolist()}; expected float32, x and y of up to {FARTHEST:,}, and an angle "
                "from -pi to pi"
            )
        if not bool(motions.isfinite().all()):
            raise ValueError("motions has numbers that are not finite")
    elif pose.dtype != torch.long or not near or bool((heading != heading % 4).any()):
        raise ValueError(f"pose is {pose.tolist()}; expected x and y of up to {FARTHEST:,}, and a heading from 0 to 3")


def _check_kept(eyes: Tensor | None, numbers: Tensor | None, voxels: Tensor | None) -> None:
    """Refuse keyframes and voxels that no dream comes to."""
    if voxels is not None and bool((voxels.unflatten(-1, (HEIGHTS, -1))[..., :COUNTS] < 0).any()):
        raise ValueError("voxels has counts below 0")
    if eyes is not None and not bool((eyes.abs() <= FARTHEST).all()):
        raise ValueError(f"keyframes.eyes has {eyes.abs().max()}; expected numbers of up to {FARTHEST:,}")
    if numbers is not None and bool(((numbers < -1) | (numbers > MOST)).any()):
        raise ValueError(f"keyframes.numbers is from {numbers.min()} to {numbers.max()}; expected -1 to {MOST}")
