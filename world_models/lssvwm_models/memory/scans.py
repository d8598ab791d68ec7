"""The memory of a block: Mamba-2 scans, of tubes of tokens addressed by content, or of the world addressed by place.

Shapes: B batch, T frames, S streams, n tokens per frame, d width, H heads, P their width, N length of the keys. See
`blocks` for streams.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.frame_context import FrameContext
from lssvwm_models.memory.geometry import Rotation, place_frequencies, place_rotation, place_rows, place_table
from lssvwm_models.memory.norms import KeyNorm, RMSNorm
from lssvwm_models.memory.ssm import frame_scan
from lssvwm_models.memory.state_size import first_channels


class Scanned(NamedTuple):
    """What a memory makes of frames.

    `y` is like the tokens (B, T, S, n, d), `state` is the memory after the last frame. `around` (B, T, E, d_inner) is
    what was remembered, before each frame, of the places around; None from memories that do not look around, or do not
    write. `reads` (B, 1, M, H, P) is what patches see of what was read: the same for every stream and
    noise level, so the next pass over the same frame takes it from `FrameContext.reads`; None where it is not.
    """

    y: Tensor
    state: Tensor
    around: Tensor | None = None
    reads: Tensor | None = None


class Scan(nn.Module):
    """What all scans have of Mamba-2: step sizes, decay rates per head, a way past the state (D), a gate, a norm.

    Args:
        d_model: d. d_inner: width of the values; H = d_inner / headdim.
        tubes: how many states there are. written: how many values a frame writes into each.
        d_state: N, the length of the keys. projected: how many of a token's keys (B, C) come from what it shows.
        parts: how many values each token is written and read as.
    """

    def __init__(
        self,
        d_model: int,
        d_inner: int,
        headdim: int,
        tubes: int,
        written: int,
        d_state: int,
        projected: int,
        parts: int = 1,
    ) -> None:
        super().__init__()
        self.headdim = headdim
        self.n_heads = d_inner // headdim
        self.parts = parts
        self.tubes = tubes
        self.d_state = d_state
        self.split = (d_inner, d_inner, *[d_state] * projected, self.n_heads)  # z, x, B, C, dt: Mamba-2's layout
        self.in_proj = nn.Linear(d_model, parts * sum(self.split), bias=False)
        # A step size of a tenth to one writes well; time constants of 4 to 1,000 frames spread over the heads.
        dt = torch.exp(torch.empty(self.n_heads).uniform_(math.log(0.1), 0))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        lifetime = torch.logspace(math.log10(4), 3, self.n_heads)
        self.A_log = nn.Parameter(-torch.log(lifetime * dt * written))
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.norm = RMSNorm(d_inner, eps=1e-5)
        self.out_proj = nn.Linear(parts * d_inner, d_model, bias=False)

    def state_shape(self, batch_size: int) -> tuple[int, ...]:
        """(B, tubes, H, P, N)."""
        return batch_size, self.tubes, self.n_heads, self.headdim, self.d_state

    def by_head(self, values: Tensor) -> Tensor:
        """(..., d_inner) -> (..., H, P)."""
        return values.unflatten(-1, (self.n_heads, self.headdim))

    def step_sizes(self, dt: Tensor) -> Tensor:
        """Positive step sizes (..., H), in float32."""
        return F.softplus(dt.float() + self.dt_bias)

    def finished(self, y: Tensor, value: Tensor, z: Tensor) -> Tensor:
        """What was read, y (..., n * parts, H, P), with the tokens' own values past the state -> (..., n, d)."""
        y = torch.addcmul(y, value, self.D[:, None].to(y.dtype)).flatten(-2) * F.silu(z)
        y = F.rms_norm(y, y.shape[-1:], eps=self.norm.eps).unflatten(-2, (-1, self.parts)).flatten(-2)
        # The norm's gains scale the columns of what comes next: that matrix is far smaller than what it multiplies.
        return F.linear(y, self.out_proj.weight * self.norm.weight.repeat(self.parts))


class BlockScan(Scan):
    """Mamba-2 over tubes of `block` x `block` tokens (paper section 4.1), addressed by content.

    Departures from Mamba-2, as in Mamba-3: no short convolution (the attention mixes neighbours); B and C are
    normalised and have biases.

    Args:
        d_model, d_inner, headdim: see `Scan`.
        grid, block: tokens per side of the frame and of a tube.
        d_state: N, the length of the keys.
        overlap: whether half of the heads cut the frame into tubes half a tube further on, so that tubes overlap; it
            goes round at the border of the frame.
    """

    def __init__(
        self, d_model: int, d_inner: int, headdim: int, grid: int, block: int, d_state: int, overlap: bool = False
    ) -> None:
        super().__init__(d_model, d_inner, headdim, (grid // block) ** 2, block**2, d_state, projected=2)
        self.grid = grid
        self.block = block
        self.shift = block // 2 if overlap and 1 < block < grid else 0
        self.B_norm = KeyNorm(d_state, bias=1.0)
        self.C_norm = KeyNorm(d_state, bias=1.0)

    def forward(self, x: Tensor, frames: FrameContext, state: Tensor) -> Scanned:
        """Read the state (B, tubes, H, P, N) with tokens x (B, T, S, n, d), and let stream 0 write it."""
        z, value, B, C, dt = self.in_proj(x).split(self.split, -1)
        value = self.by_head(value)
        C = self.C_norm(C) * self.d_state**-0.5
        if frames.writes:
            B = self.B_norm(B[:, :, :1]) * self.d_state**-0.5
            dt = self.step_sizes(dt[:, :, :1])
        if self.shift:  # heads of the two cuts take turns
            cuts = [
                self._scan_tubes(
                    C, value[..., i::2, :], B, dt[..., i::2], state[:, :, i::2], self.A_log[i::2], shift, frames
                )
                for i, shift in enumerate((0, self.shift))
            ]
            y = torch.stack([cut[0] for cut in cuts], 5).flatten(4, 5)
            state = torch.stack([cut[1] for cut in cuts], 3).flatten(2, 3)
        else:
            y, state = self._scan_tubes(C, value, B, dt, state, self.A_log, 0, frames)
        return Scanned(self.finished(y, value, z), state)

    def _scan_tubes(
        self,
        C: Tensor,
        value: Tensor,
        B: Tensor,
        dt: Tensor,
        state: Tensor,
        A_log: Tensor,
        shift: int,
        frames: FrameContext,
    ) -> tuple[Tensor, Tensor]:
        """Scan with some of the heads, and the frame cut into tubes from `shift` tokens on."""
        batch, tubes, H = state.shape[:3]
        state = state.flatten(0, 1)  # (G, H, P, N), G = B * tubes
        reads = self._to_tubes(C, shift)  # (G, T, S * m, N)
        if frames.writes:
            first = frames.is_first.repeat_interleave(tubes, 0)
            written = self._to_tubes(value[:, :, :1].flatten(-2), shift).unflatten(-1, (H, self.headdim))
            keys = self._to_tubes(B, shift)
            steps = self._to_tubes(dt, shift)
            fade = None if frames.fade is None else frames.fade.repeat_interleave(tubes, 0)
            y, state = frame_scan(reads, written, steps, -A_log.exp(), keys, state, first, fade)
        else:
            y = read_once(reads, state)
        if frames.channels is not None:
            y = y * first_channels(frames.channels, self.headdim).repeat_interleave(tubes, 0)[:, None, None, None]
        y = self._from_tubes(y.flatten(-2), value.shape[:4], shift).view_as(value)
        return y, state.unflatten(0, (batch, tubes))

    def _to_tubes(self, x: Tensor, shift: int) -> Tensor:
        """(B, T, S, n, c) -> (B * tubes, T, S * block ** 2, c)."""
        batch, T, S, _, c = x.shape
        b = self.block
        k = self.grid // b
        if shift:
            x = x.unflatten(3, (self.grid, self.grid)).roll((-shift, -shift), (3, 4))
        return x.reshape(batch, T, S, k, b, k, b, c).permute(0, 3, 5, 1, 2, 4, 6, 7).reshape(-1, T, S * b * b, c)

    def _from_tubes(self, x: Tensor, lead: tuple[int, ...], shift: int) -> Tensor:
        """(B * tubes, T, S * block ** 2, c) -> (B, T, S, n, c)."""
        batch, T, S, n = lead
        b = self.block
        k = self.grid // b
        x = x.reshape(batch, k, k, T, S, b, b, -1).permute(0, 3, 4, 1, 5, 2, 6, 7)  # (B, T, S, k, b, k, b, c)
        if shift:
            x = x.reshape(batch, T, S, self.grid, self.grid, -1).roll((shift, shift), (3, 4))
        return x.reshape(batch, T, S, n, -1)


class PlaceMap(Scan):
    """Mamba-2 over the whole frame, addressed by place: its state is a map of the world.

    B and C are codes of the places that a frame shows, rotated as in Mamba-3 (see `geometry`), and not of what is seen
    there: that is the values'. All that is written at a place adds up, and fades. Each patch of a frame is written and
    read at its own place, however many of them a token stands for.

    A map that `looks_around` also reads places out of view, as blurred as those are wide.

    Args:
        d_model, d_inner, headdim: see `Scan`.
        patches: of a frame.
        parts: patches per token.
        map_size: side, in cells, of the torus on which places differ; N = map_size ** 2.
        looks_around: whether `forward` returns a view of the surroundings.
    """

    frequencies: Tensor

    def __init__(
        self,
        d_model: int,
        d_inner: int,
        headdim: int,
        patches: int,
        parts: int,
        map_size: int,
        looks_around: bool = False,
    ) -> None:
        super().__init__(d_model, d_inner, headdim, 1, patches, map_size**2, projected=0, parts=parts)
        self.map_size = map_size
        frequencies = place_frequencies(self.d_state // 2, map_size)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.B = nn.Parameter(torch.ones(self.d_state))
        self.C = nn.Parameter(torch.ones(self.d_state))
        # What averaging over a square of 2 x 2 cells leaves of each frequency.
        self.look = nn.Parameter((frequencies / 2).cos().prod(-1).repeat(2)) if looks_around else None
        self._tables: dict[str, tuple[Hashable, Tensor]] = {}

    def forward(self, x: Tensor, frames: FrameContext, state: Tensor) -> Scanned:
        """Read the map (B, 1, H, P, N) with tokens x (B, T, S, n, d), and let stream 0 write it."""
        z, value, dt = self.in_proj(x).unflatten(-1, (self.parts, -1)).flatten(3, 4).split(self.split, -1)
        value = self.by_head(value)  # (B, T, S, M, H, P), M patches
        state = state.squeeze(1)
        places = frames.patch_places.shape[2] if frames.reads is None else 0  # to read
        if frames.writes:
            y, state = self._write(self._keys(x[:, :, 0], frames), value[:, :, 0], dt[:, :, 0], frames, state)
        elif places:
            y = read_once(self._codes("C", "patch", frames, x.dtype), state)
        else:
            y = value[:, :, 0, :0]
        if frames.channels is not None:
            y = y * first_channels(frames.channels, self.headdim)[:, None, None, None]
        seen = self._seen(y[:, :, :places]) if frames.reads is None else frames.reads
        around = y[:, :, places:].flatten(-2) if y.shape[2] > places else None
        return Scanned(self.finished(seen.unsqueeze(2), value, z), state.unsqueeze(1), around, seen)

    def _keys(self, x: Tensor, frames: FrameContext) -> Tensor:
        """What the patches of tokens x (B, T, n, d) are written by: (B, T, M, N)."""
        return self._codes("B", "patch", frames, x.dtype)

    def _seen(self, y: Tensor) -> Tensor:
        """What patches see, (B, T, M, H, P), of what is at the places that the frame may show, (B, T, places, H, P)."""
        return y

    def _write(
        self, keys: Tensor, value: Tensor, dt: Tensor, frames: FrameContext, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write values (B, T, M, H, P) by keys (B, T, M, N) into the map.

        Returns what is read before, (B, T, places + E, H, P), or (B, T, E, H, P) if the places were read, and the map.
        """
        queries = [] if frames.reads is not None else [self._codes("C", "patch", frames, keys.dtype)]
        if self.look is not None and frames.around is not None:
            queries.append(self._codes("look", "around", frames, keys.dtype))
        reads = torch.cat(queries, 2) if queries else keys[:, :, :0]
        steps = self.step_sizes(dt)
        return frame_scan(reads, value, steps, -self.A_log.exp(), keys, state, frames.is_first, frames.fade)

    def encode(self, places: Tensor) -> Rotation | Tensor:
        """The codes of places (B, T, ..., 2): a rotation, or the rows (B, T, ...) of a table.

        Where no gradients are wanted codes are looked up: nearly all places are whole or half cells, and there are not
        many of those on a torus.
        """
        rows = None if torch.is_grad_enabled() else place_rows(places, self.map_size)
        return place_rotation(places, self.frequencies) if rows is None else rows

    def _codes(
        self, name: Literal["B", "C", "look"], of: Literal["patch", "around"], frames: FrameContext, dtype: torch.dtype
    ) -> Tensor:
        """The keys (B, T, ..., N) of some of the places, ready for products."""
        codes = frames.patch_codes if of == "patch" else frames.around_codes
        if codes is None:
            places = frames.patch_places if of == "patch" else frames.around
            assert places is not None
            codes = self.encode(places)
        vector = getattr(self, name)
        scale = self.d_state**-0.5
        if isinstance(codes, Rotation):
            return codes.to(dtype)(vector.to(dtype) * scale)
        return F.embedding(codes, self._table(name, vector, scale, dtype))  # several times as fast as indexing

    def _table(self, name: str, vector: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """The keys of all places of the table, kept until the weights that they are made of change."""
        version = vector.data_ptr(), vector._version, dtype
        if name not in self._tables or self._tables[name][0] != version:
            places = place_table(self.map_size).to(vector.device)
            table = place_rotation(places, self.frequencies)(vector.float() * scale).to(dtype)
            self._tables[name] = version, table
        return self._tables[name][1]


def read_once(C: Tensor, state: Tensor) -> Tensor:
    """What keys C (G, 1, R, N) of one frame read from a state (G, H, P, N) that it does not write: (G, 1, R, H, P)."""
    y = C.flatten(1, 2) @ state.flatten(1, 2).transpose(1, 2).to(C.dtype)
    return y.view(len(C), 1, -1, *state.shape[1:3])
