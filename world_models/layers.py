"""One block of the network: block-wise scan, frame-local attention, MLP, each residual and modulated (paper Fig. 3).

Shapes: B batch, T frames, S streams, n tokens per frame, d width, H heads. Stream 0 is the *writing* stream, whose
frames enter the memory; the other streams only read it. All streams of a frame see the memory of the frames before
it, and of the frame itself only their own tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.geometry import Rotation, place_frequencies, place_rotation
from world_models.ssm import frame_delta_scan, frame_scan
from world_models.state_size import first_channels

if TYPE_CHECKING:
    from world_models.mixers import CausalAttention, LocalConvolution


@dataclass(frozen=True)
class Frames:
    """What every layer is told of the frames, besides their tokens.

    Attributes:
        places: (B, T, n, 2), where the tokens are in the world, the same for all streams.
        around: (B, T, E, 2), places to look at in the memory besides; None if nothing is written.
        is_first: (B, T) bool.
        past: (B, T), how many frames of its own episode come before each frame.
        age: (B,), how many frames the memory holds before frame 0.
        writes: whether stream 0 enters the memory. If not, T is 1, and what the memory holds is there to be read even
            by a first frame.
        channels: (B,), how many channels of this layer's memory reads see; None: all.
    """

    places: Tensor
    around: Tensor | None
    is_first: Tensor
    past: Tensor
    age: Tensor
    writes: bool
    channels: Tensor | None = None

    @staticmethod
    def of(places: Tensor, around: Tensor | None, is_first: Tensor, age: Tensor, writes: bool) -> Frames:
        """Count the past."""
        T = is_first.shape[1]
        frame = torch.arange(T, device=age.device)
        # Frames of this episode before frame t: since its first frame, or since before this sequence began.
        first = torch.where(is_first, frame, -1).cummax(1).values  # (B, T)
        past = torch.where(first >= 0, frame - first, frame + age.unsqueeze(1))
        return Frames(places, around, is_first, past, age, writes)

    def visible(self, window: int) -> Tensor:
        """(B, T, window) bool, oldest first: which of the last frames belong to the frame's own episode."""
        lag = torch.arange(window, 0, -1, device=self.past.device)
        return lag <= self.past.unsqueeze(-1)


class BlockScan(nn.Module):
    """Mamba-2 over tubes of `block` x `block` tokens (paper section 4.1).

    Departures from Mamba-2, as in Mamba-3: no short convolution (the attention mixes neighbours); B and C are
    normalised, have biases and, in map layers, are rotated by the place of their token, so that the state is addressed
    by place and not by content. Every layer has the same total state,
    `state_per_token * tokens * d_inner`, whatever its block, so that block sizes can be compared fairly.

    A map layer that `looks_around` also reads its map at places out of view, as blurred as those are wide.

    Args:
        d_model: d. d_inner: width of the values; H = d_inner / headdim.
        grid, block: tokens per side of the frame and of a tube.
        d_state: N, the length of the keys.
        map_size: side, in cells, of the torus on which places are told apart; None leaves keys unrotated.
        erases: whether tokens can erase what was at their key before they write, see `frame_delta_scan`.
        looks_around: whether `forward` returns a view of the surroundings.
        overlap: whether half of the heads cut the frame into tubes half a tube further on, so that tubes overlap; it
            goes round at the border of the frame.
    """

    frequencies: Tensor

    def __init__(
        self,
        d_model: int,
        d_inner: int,
        headdim: int,
        grid: int,
        block: int,
        d_state: int,
        map_size: int | None,
        erases: bool = False,
        looks_around: bool = False,
        overlap: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.block, self.headdim, self.n_heads = grid, block, headdim, d_inner // headdim
        self.shift = block // 2 if overlap and 1 < block < grid else 0
        self.split = (d_inner, d_inner, d_state, d_state, self.n_heads)  # z, x, B, C, dt: Mamba-2's layout
        self.in_proj = nn.Linear(d_model, sum(self.split), bias=False)
        gain = 1.0 if map_size is None else 0.1  # begin as a map: content modulates the address a little
        self.B_norm, self.C_norm = KeyNorm(d_state, gain, bias=1.0), KeyNorm(d_state, gain, bias=1.0)
        frequencies = torch.empty(0) if map_size is None else place_frequencies(d_state // 2, map_size)
        self.register_buffer("frequencies", frequencies, persistent=False)
        # What averaging over a square of 2 x 2 cells leaves of each frequency.
        self.look = nn.Parameter((frequencies / 2).cos().prod(-1).repeat(2)) if looks_around else None
        # A step size of a tenth to one writes well; time constants of 4 to 1,000 frames spread over the heads.
        dt = torch.exp(torch.empty(self.n_heads).uniform_(math.log(0.1), 0))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.erase = nn.Linear(d_model, self.n_heads) if erases else None
        if self.erase is not None:  # from next to a sum, good for what stays, to next to the latest look alone
            nn.init.zeros_(self.erase.weight)
            self.erase.bias.data = torch.linspace(-4, 2, self.n_heads)
        lifetime = torch.logspace(math.log10(4), 3, self.n_heads)
        self.A_log = nn.Parameter(-torch.log(lifetime * dt * block**2))
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.norm = RMSNorm(d_inner, eps=1e-5)
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)

    def state_shape(self, batch_size: int, tokens: int) -> tuple[int, ...]:
        """(B, tubes, H, P, N)."""
        return batch_size, tokens // self.block**2, self.n_heads, self.headdim, self.split[2]

    def forward(self, x: Tensor, frames: Frames, state: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Read the state, and let stream 0 write it.

        Args:
            x: (B, T, S, n, d). state: (B, tubes, H, P, N).

        Returns:
            y like x, the state, and (B, T, E, d_inner), what is remembered of the places around; None from layers
            that do not look or write.
        """
        z, value, B, C, dt = self.in_proj(x).split(self.split, -1)
        places = frames.places.unsqueeze(2)
        C = self._key(self.C_norm(C), places)
        value = value.unflatten(-1, (self.n_heads, self.headdim))
        if frames.writes:
            B, dt = self._key(self.B_norm(B[:, :, :1]), places), F.softplus(dt[:, :, :1].float() + self.dt_bias)
        if self.shift:  # heads of the two cuts take turns
            parts = [
                self._scan_tubes(
                    C, value[..., i::2, :], B, dt[..., i::2], state[:, :, i::2], self.A_log[i::2], s, frames
                )
                for i, s in enumerate((0, self.shift))
            ]
            y = torch.stack([part[0] for part in parts], 5).flatten(4, 5)
            state = torch.stack([part[1] for part in parts], 3).flatten(2, 3)
            remembered = None
        else:
            erase = self.erase(x[:, :, :1]).float().sigmoid() if self.erase is not None and frames.writes else None
            y, state, remembered = self._scan_tubes(C, value, B, dt, state, self.A_log, 0, frames, erase)
        y = self.norm((y + value * self.D[:, None].to(value.dtype)).flatten(-2) * F.silu(z))
        return self.out_proj(y), state, remembered

    def _scan_tubes(
        self,
        C: Tensor,
        value: Tensor,
        B: Tensor,
        dt: Tensor,
        state: Tensor,
        A_log: Tensor,
        shift: int,
        frames: Frames,
        erase: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scan with some of the heads, and the frame cut into tubes from `shift` tokens on."""
        batch, tubes, H = state.shape[:3]
        state = state.flatten(0, 1)
        reads = self._to_tubes(C, shift)  # (G, T, R = S * m, N)
        R = reads.shape[2]
        if frames.writes:
            if self.look is not None and frames.around is not None:  # one tube: G = B
                reads = torch.cat([reads, self._key(self.look, frames.around).to(reads.dtype)], 2)  # (B, T, R + E, N)
            first = frames.is_first.repeat_interleave(tubes, 0)
            written, key, step = (self._to_tubes(v, shift) for v in (value[:, :, :1].flatten(-2), B, dt))
            written = written.unflatten(-1, (H, self.headdim))
            scanned = reads, written, step, -A_log.exp(), key, state, first
            if erase is None:
                y, state = frame_scan(*scanned)
            else:
                y, state = frame_delta_scan(*scanned, self._to_tubes(erase, shift))
        else:
            y = reads.flatten(1, 2) @ state.flatten(1, 2).transpose(1, 2).to(reads.dtype)  # one frame
            y = y.view(len(state), 1, -1, H, self.headdim)
        if frames.channels is not None:
            y = y * first_channels(frames.channels, self.headdim).repeat_interleave(tubes, 0)[:, None, None, None]
        y, remembered = y.flatten(-2).split([R, y.shape[2] - R], 2)
        y = self._from_tubes(y, value.shape[:4], shift).view_as(value)
        return y, state.unflatten(0, (batch, tubes)), remembered if remembered.shape[2] else None

    def _key(self, key: Tensor, places: Tensor) -> Tensor:
        if len(self.frequencies):
            key = place_rotation(places, self.frequencies, key.dtype)(key)
        return key * key.shape[-1] ** -0.5

    def _to_tubes(self, x: Tensor, shift: int) -> Tensor:
        """(B, T, S, n, c) -> (B * tubes, T, S * block ** 2, c)."""
        batch, T, S, _, c = x.shape
        k, b = self.grid // self.block, self.block
        if shift:
            x = x.unflatten(3, (self.grid, self.grid)).roll((-shift, -shift), (3, 4))
        return x.reshape(batch, T, S, k, b, k, b, c).permute(0, 3, 5, 1, 2, 4, 6, 7).reshape(-1, T, S * b * b, c)

    def _from_tubes(self, x: Tensor, lead: tuple[int, ...], shift: int) -> Tensor:
        """(B * tubes, T, S * block ** 2, c) -> (B, T, S, n, c)."""
        batch, T, S, n = lead
        k, b = self.grid // self.block, self.block
        x = x.reshape(batch, k, k, T, S, b, b, -1).permute(0, 3, 4, 1, 5, 2, 6, 7)  # (B, T, S, k, b, k, b, c)
        if shift:
            x = x.reshape(batch, T, S, self.grid, self.grid, -1).roll((shift, shift), (3, 4))
        return x.reshape(batch, T, S, n, -1)


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
        T, n = x.shape[1], x.shape[3]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, self.head_dim)).unbind(-3)
        place = place_rotation(frames.places.unsqueeze(2), self.frequencies, q.dtype)  # (B, T, 1, n, H, e / 2)
        q = self.placed_query(q, place).transpose(3, 4)  # (B, T, S, H, n, e)
        k = self.placed_key(k, place)
        own = torch.stack([k, v], 3).transpose(4, 5)  # (B, T, S, 2, H, n, e)
        kept = torch.cat([state.to(own.dtype), own[:, :, 0]], 1) if frames.writes else state.to(own.dtype)
        past = [kept[:, lag : lag + T].unsqueeze(2).expand_as(own) for lag in range(self.window)]
        keys, values = torch.stack([*past, own], 5).flatten(5, 6).unbind(3)  # (B, T, S, H, (W + 1) n, e)
        scores = (q * self.head_dim**-0.5) @ keys.transpose(-1, -2)  # (B, T, S, H, n, (W + 1) n)
        bias = self._bias(frames.visible(self.window)).to(q.dtype).repeat_interleave(n, -1)  # (B, T, H, (W + 1) n)
        y = (scores + bias[:, :, None, :, None]).softmax(-1) @ values
        return self.out_proj(y.transpose(3, 4).flatten(4)), kept[:, T:].to(state.dtype) if frames.writes else state

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
        scan: the memory: a `BlockScan`, or the attention over earlier frames that it is compared with.
        attention: what mixes the tokens of a frame and of the last few: `FrameLocalAttention`, or `LocalConvolution`.
    """

    def __init__(
        self,
        scan: BlockScan | CausalAttention,
        attention: FrameLocalAttention | LocalConvolution,
        d_model: int,
        mlp_ratio: int,
    ) -> None:
        super().__init__()
        self.scan, self.attention = scan, attention
        self.mlp = nn.Sequential(
            nn.Linear(d_model, mlp_ratio * d_model), nn.GELU(), nn.Linear(mlp_ratio * d_model, d_model)
        )
        self.modulation = nn.Linear(d_model, 9 * d_model)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():  # gates begin open: a shallow network needs no gentle start, and a cold one loses time
            self.modulation.bias.view(9, d_model)[2::3] = 1.0

    def forward(
        self, x: Tensor, cond: Tensor, frames: Frames, ssm: Tensor, kv: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """x (B, T, S, n, d), cond (B, T, S, d) -> x, the states of memory and mixing, what is remembered around."""
        m = self.modulation(F.silu(cond)).unsqueeze(-2).chunk(9, -1)  # each (B, T, S, 1, d)
        y, ssm, remembered = self.scan(modulated_norm(x, m[0], m[1]), frames, ssm)
        x = x + m[2] * y
        y, kv = self.attention(modulated_norm(x, m[3], m[4]), frames, kv)
        x = x + m[5] * y
        return x + m[8] * self.mlp(modulated_norm(x, m[6], m[7])), ssm, kv, remembered


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters, then scale and shift (adaLN)."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
