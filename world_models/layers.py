"""One block of the network: block-wise scan, frame-local attention, MLP, each residual and modulated (paper Fig. 3).

Shapes: B batch, T frames, S streams, n tokens per frame, d width, H heads. Stream 0 is the *writing* stream, whose
frames enter the memory; the other streams only read it. All streams of a frame see the memory of the frames before
it, and of the frame itself only their own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.geometry import Rotation, place_frequencies, place_rotation

if TYPE_CHECKING:
    from world_models.mixers import CausalAttention, LocalConvolution
    from world_models.scans import Scan

Made = TypeVar("Made")


@dataclass(frozen=True)
class Frames:
    """What every layer is told of the frames, besides their tokens.

    Attributes:
        patch_places: (B, T, M, 2), where the patches are in the world, token by token, the same for all streams.
        places: (B, T, n, 2), where the tokens are: in the middle of their patches.
        around: (B, T, E, 2), places to look at in the memory besides; None if nothing is written.
        is_first: (B, T) bool.
        past: (B, T), how many frames of its own episode come before each frame.
        age: (B,), how many frames the memory holds before frame 0.
        writes: whether stream 0 enters the memory. If not, T is 1, and what the memory holds is there to be read even
            by a first frame.
        channels: (B,), how many channels of this layer's memory reads see; None: all.
    """

    patch_places: Tensor
    places: Tensor
    around: Tensor | None
    is_first: Tensor
    past: Tensor
    age: Tensor
    writes: bool
    channels: Tensor | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict)

    @staticmethod
    def of(places: Tensor, parts: int, around: Tensor | None, is_first: Tensor, age: Tensor, writes: bool) -> Frames:
        """Count the past. Every `parts` of the patches, whose places are given, are a token."""
        T = is_first.shape[1]
        frame = torch.arange(T, device=age.device)
        # Frames of this episode before frame t: since its first frame, or since before this sequence began.
        first = torch.where(is_first, frame, -1).cummax(1).values  # (B, T)
        past = torch.where(first >= 0, frame - first, frame + age.unsqueeze(1))
        return Frames(places, places.unflatten(2, (-1, parts)).mean(3), around, is_first, past, age, writes)

    def rotation(
        self, of: Literal["patch_places", "places", "around"], frequencies: Tensor, dtype: torch.dtype
    ) -> Rotation:
        """The rotation that encodes some of the places; all layers have the same frequencies for each."""
        return self.once((of, dtype), lambda: place_rotation(getattr(self, of), frequencies, dtype))

    def lattice(self, of: Literal["patch_places", "around"], size: int) -> Tensor | None:
        """The rows (B, T, ...) of places in a `place_table` of a torus of that size; None if any is not among them."""

        def row_of() -> Tensor | None:
            halves = 2 * getattr(self, of)
            whole = halves.round()
            if not torch.equal(whole, halves):
                return None
            column, row = (whole.long() % (2 * size)).unbind(-1)
            return column * (2 * size) + row

        return self.once((of, size), row_of)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What depends on the places, and on the memory before them, alone: made by who asks first, and kept for the
        other layers and passes."""
        if key not in self._made:
            self._made[key] = make()
        return cast(Made, self._made[key])

    def known(self, key: Hashable) -> Any | None:
        """What `once` has made before, or None."""
        return self._made.get(key)

    def visible(self, window: int) -> Tensor:
        """(B, T, window) bool, oldest first: which of the last frames belong to the frame's own episode."""
        lag = torch.arange(window, 0, -1, device=self.past.device)
        return lag <= self.past.unsqueeze(-1)


class PlaceAttention(nn.Module):
    """Queries, keys and values that know where their tokens are in the world: what attentions have in common.

    Queries and keys are normalised. Half of the heads are rotated by place and begin by looking at their own place in
    earlier frames; the other half, unrotated, are free to reason about the view (what hides what depends on where
    things are in the view, not in the world).
    """

    frequencies: Tensor

    def __init__(self, d_model: int, head_dim: int, map_size: int) -> None:
        super().__init__()
        self.head_dim, self.n_heads = head_dim, d_model // head_dim
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.q_norm, self.k_norm = KeyNorm(head_dim), KeyNorm(head_dim)
        of_place = torch.arange(self.n_heads) % 2 == 0
        looks_at_place = of_place.float()[:, None].repeat(1, head_dim)
        self.q_bias, self.k_bias = nn.Parameter(looks_at_place), nn.Parameter(looks_at_place.clone())
        frequencies = place_frequencies(self.n_heads * head_dim // 2, map_size).view(self.n_heads, -1, 2)
        self.register_buffer("frequencies", frequencies * of_place[:, None, None], persistent=False)

    def placed_query(self, q: Tensor, place: Rotation) -> Tensor:
        """Queries (..., H, e) at places with rotations (..., H, e / 2)."""
        return place(self.q_norm(q) + self.q_bias.to(q.dtype))

    def placed_key(self, k: Tensor, place: Rotation) -> Tensor:
        """Keys (..., H, e) at places with rotations (..., H, e / 2)."""
        return place(self.k_norm(k) + self.k_bias.to(k.dtype))


class FrameLocalAttention(PlaceAttention):
    """Full attention inside a frame, causal over the last `window` frames (paper equation 6).

    How old a frame is enters as a learned bias per head and lag.
    """

    def __init__(self, d_model: int, head_dim: int, window: int, map_size: int) -> None:
        super().__init__(d_model, head_dim, map_size)
        self.window = window
        self.lag_bias = nn.Parameter(torch.zeros(self.n_heads, window + 1))  # lag 0 is the frame itself
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def state_shape(self, batch_size: int, tokens: int) -> tuple[int, ...]:
        """(B, window, 2, H, n, head_dim): keys and values of the last frames, oldest first."""
        return batch_size, self.window, 2, self.n_heads, tokens, self.head_dim

    def forward(self, x: Tensor, frames: Frames, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, S, n, d), state as `state_shape` -> y like x, state."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, self.head_dim)).unbind(-3)
        place = frames.rotation("places", self.frequencies, q.dtype).of_all_streams()  # (B, T, 1, n, H, e / 2)
        q = self.placed_query(q, place).transpose(3, 4)  # (B, T, S, H, n, e)
        seen = torch.stack([self.placed_key(k, place), v], 3).transpose(4, 5)  # (B, T, S, 2, H, n, e)
        bias = None
        if self.window:
            seen, bias, state = self._with_past(seen, frames, state)
        keys, values = seen.unbind(3)  # (B, T, S, H, (W + 1) n, e)
        scores = (q * self.head_dim**-0.5) @ keys.transpose(-1, -2)  # (B, T, S, H, n, (W + 1) n)
        scores = scores if bias is None else scores + bias
        y = scores.softmax(-1) @ values
        return self.out_proj(y.transpose(3, 4).flatten(4)), state

    def _with_past(self, own: Tensor, frames: Frames, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values (B, T, S, 2, H, (W + 1) n, e) of the window and of the frame itself, from `own`, those of the
        frame; what the age of each adds to its scores, (B, T, 1, H, 1, (W + 1) n); and the state."""
        T, n = own.shape[1], own.shape[5]
        kept = torch.cat([state.to(own.dtype), own[:, :, 0]], 1) if frames.writes else state.to(own.dtype)
        past = [kept[:, lag : lag + T].unsqueeze(2).expand_as(own) for lag in range(self.window)]
        bias = self._bias(frames.visible(self.window)).to(own.dtype).repeat_interleave(n, -1)[:, :, None, :, None]
        state = kept[:, T:].to(state.dtype) if frames.writes else state
        return torch.stack([*past, own], 5).flatten(5, 6), bias, state

    def _bias(self, visible: Tensor) -> Tensor:
        """(B, T, H, W + 1): the learned bias of each lag, oldest first, or minus infinity where there is no frame."""
        visible = F.pad(visible, (0, 1), value=True).unsqueeze(2)
        return self.lag_bias.flip(-1).masked_fill(~visible, -torch.inf)


class RMSNorm(nn.Module):
    """Root-mean-square norm that keeps its input's dtype, under autocast too."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)


class KeyNorm(nn.LayerNorm):
    """Layer norm of keys and queries, with a gain and perhaps a bias; keeps its input's dtype, under autocast too."""

    def __init__(self, width: int, gain: float = 1.0, bias: float | None = None) -> None:
        super().__init__(width, bias=bias is not None)
        nn.init.constant_(self.weight, gain)
        if bias is not None:
            nn.init.constant_(self.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, x.shape[-1:], self.weight.to(x.dtype), bias, self.eps)


class Block(nn.Module):
    """`x -> x + memory -> + local mixing -> + MLP`, each normalised, modulated and gated per frame (adaLN).

    Args:
        scan: the memory: a `BlockScan` or a `PlaceMap`, or the attention over earlier frames that it is compared with.
        attention: what mixes the tokens of a frame and of the last few: `FrameLocalAttention`, or `LocalConvolution`.
        condition: c, width of what modulates.
    """

    def __init__(
        self,
        scan: Scan | CausalAttention,
        attention: FrameLocalAttention | LocalConvolution,
        d_model: int,
        condition: int,
        mlp_ratio: int,
    ) -> None:
        super().__init__()
        self.scan, self.attention = scan, attention
        self.mlp = nn.Sequential(
            nn.Linear(d_model, mlp_ratio * d_model), nn.GELU(), nn.Linear(mlp_ratio * d_model, d_model)
        )
        self.modulation = nn.Linear(condition, 9 * d_model)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():  # gates begin open: a shallow network needs no gentle start, and a cold one loses time
            self.modulation.bias.view(9, d_model)[2::3] = 1.0

    def forward(
        self, x: Tensor, cond: Tensor, frames: Frames, ssm: Tensor, kv: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """x (B, T, S, n, d), cond (B, T, S, c) -> x, the states of memory and mixing, what is remembered around."""
        m = self.modulation(F.silu(cond)).unsqueeze(-2).chunk(9, -1)  # each (B, T, S, 1, d)
        y, ssm, remembered = self.scan(modulated_norm(x, m[0], m[1]), frames, ssm)
        x = x + m[2] * y
        y, kv = self.attention(modulated_norm(x, m[3], m[4]), frames, kv)
        x = x + m[5] * y
        return x + m[8] * self.mlp(modulated_norm(x, m[6], m[7])), ssm, kv, remembered


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters, then scale and shift (adaLN)."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
