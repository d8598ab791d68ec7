"""`WorldModelState`: everything a world model remembers, as a value of fixed size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from world_models.files import write_atomic


@dataclass(frozen=True)
class WorldModelState:
    """The memory of B simulated worlds. A value: operations return new states and never write into old ones.

    Its size does not depend on how many frames were seen: planners fork it with `repeat_interleave`, and saved
    states resume exactly.

    Attributes:
        ssm: per layer, (B, tubes, H, P, N) float32: the tubes' state-space states.
        kv: per layer, (B, window, 2, H, n, head_dim): keys and values of the last frames, oldest first.
        latents: (B, n, k): the last committed frame.
        feats: (B, F): its features.
        pose: (B, 3) long: x, y, heading, dead-reckoned since the episode or context began; zeros without odometry.
        age: (B,) long: frames committed since the episode or context began.
    """

    ssm: tuple[Tensor, ...]
    kv: tuple[Tensor, ...]
    latents: Tensor
    feats: Tensor
    pose: Tensor
    age: Tensor

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
        return layers | {"latents": self.latents, "feats": self.feats, "pose": self.pose, "age": self.age}

    def map(self, f: Callable[[Tensor], Tensor]) -> WorldModelState:
        """Apply f to every tensor."""
        ssm, kv = (tuple(f(t) for t in layers) for layers in (self.ssm, self.kv))
        return WorldModelState(ssm, kv, f(self.latents), f(self.feats), f(self.pose), f(self.age))

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
        mine, theirs = self.tensors(), other.tensors()
        mixed = {k: torch.where(mask.view(-1, *[1] * (t.dim() - 1)), t, theirs[k]) for k, t in mine.items()}
        return WorldModelState.from_tensors(mixed)

    @staticmethod
    def cat(states: list[WorldModelState]) -> WorldModelState:
        """Worlds of several states side by side."""
        named = [s.tensors() for s in states]
        return WorldModelState.from_tensors({k: torch.cat([t[k] for t in named]) for k in named[0]})

    @staticmethod
    def from_tensors(named: dict[str, Tensor]) -> WorldModelState:
        """The inverse of `tensors`."""

        def layers(name: str) -> tuple[Tensor, ...]:
            return tuple(named[f"{name}.{i}"] for i in range(sum(k.startswith(f"{name}.") for k in named)))

        rest = (named[name] for name in ("latents", "feats", "pose", "age"))
        return WorldModelState(layers("ssm"), layers("kv"), *rest)

    def save(self, path: str | Path, metadata: dict[str, str] | None = None) -> None:
        """Write to a safetensors file, whole or not at all."""
        data = save({k: t.clone(memory_format=torch.contiguous_format) for k, t in self.tensors().items()}, metadata)
        write_atomic(path, lambda file: file.write(data))

    @staticmethod
    def load(path: str | Path) -> tuple[WorldModelState, dict[str, str]]:
        """Read a file of `save`: the state, and the metadata that was stored with it."""
        try:
            with safe_open(str(path), "pt") as file:
                named = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
                return WorldModelState.from_tensors(named), file.metadata() or {}
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(
                f"{path} is not a saved world model state ({error}); save one with save_state()"
            ) from error
