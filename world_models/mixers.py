"""What the paper's parts are compared with: attention over earlier frames for the scan, convolution for the attention.

Both take the place of the part they are compared with inside the same block, as the paper's baselines do (section S2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.layers import Frames, PlaceAttention


class CausalAttention(PlaceAttention):
    """Attention over the frames before this one, all of them or the last `window`, in the place of a scan.

    Its state is a cache of keys and values. With a window its size is fixed; without, it grows by every frame, and so
    does the time that a frame takes: this is the quadratic reference of the paper.

    How old a frame is counts by a learned slope
    per head (ALiBi, carried as one more channel of queries and keys), and a learned key stands for "nothing of this".
    """

    _EXTRA = 8  # channels added for the slope; only one is used, but odd widths are slow

    def __init__(self, d_model: int, head_dim: int, tokens: int, window: int | None, map_size: int) -> None:
        super().__init__(d_model, head_dim, map_size)
        self.tokens, self.window = tokens, window
        self.log_slope = nn.Parameter(torch.linspace(0.5, 0.001, self.n_heads).log())
        self.nothing = nn.Parameter(0.1 * torch.randn(2, self.n_heads, head_dim))
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def state_shape(self, batch_size: int) -> tuple[int, ...]:
        """(B, frames, 2, H, n, head_dim) of an empty cache: keys and values, oldest first."""
        return batch_size, self.window or 0, 2, self.n_heads, self.tokens, self.head_dim

    def forward(self, x: Tensor, frames: Frames, state: Tensor) -> tuple[Tensor, Tensor, None]:
        """x (B, T, S, n, d), state (B, F, 2, H, n, e) -> y like x, the state, and nothing remembered around."""
        T, S = x.shape[1:3]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, self.head_dim)).unbind(-3)
        place = frames.rotation("places", self.frequencies, q.dtype)  # (B, T, n, H, e / 2)
        q = self.placed_query(q, place.of_all_streams()) * self.head_dim**-0.5
        q = torch.cat([q, self._slope(q)], -1).transpose(3, 4)  # (B, T, S, H, n, e + 8)
        kept, F_ = state.to(q.dtype), state.shape[1]
        past = frames.age.unsqueeze(1)  # (B, T)
        if frames.writes:
            k = self.placed_key(k[:, :, 0], place)
            kept = torch.cat([kept, torch.stack([k, v[:, :, 0]], 2).transpose(3, 4)], 1)
            past = frames.past
        y = []
        for t in range(T):
            reach = min(F_ + t, int(past[:, t].max()), self.window or F_ + t)
            y.append(self._attend(q[:, t], kept[:, F_ + t - reach : F_ + t], past[:, t]))
        y = torch.stack(y, 1).unflatten(3, (S, -1)).permute(0, 1, 3, 4, 2, 5)  # (B, T, S, n, H, e)
        newest = kept[:, -self.window :] if self.window else kept
        return self.out_proj(y.flatten(4)), newest.to(state.dtype) if frames.writes else state, None

    def _attend(self, q: Tensor, seen: Tensor, past: Tensor) -> Tensor:
        """Queries (B, S, H, n, e + 8) to cached frames (B, f, 2, H, n, e), of which `past` (B,) are of this episode.

        Returns (B, H, S * n, e).
        """
        f, n = seen.shape[1], seen.shape[4]
        keys, values = seen.permute(2, 0, 3, 1, 4, 5).flatten(3, 4)  # (B, H, f n, e) each
        nothing = self.nothing.to(q.dtype)[:, None, :, None].expand(2, len(q), -1, 1, -1)
        keys, values = torch.cat([nothing[0], keys], 2), torch.cat([nothing[1], values], 2)
        lag = torch.arange(f, 0, -1, device=q.device)
        lag = F.pad(lag.repeat_interleave(n), (1, 0))  # (1 + f n,)
        newness = F.pad(-lag.to(q.dtype)[:, None], (0, self._EXTRA - 1)).expand(*keys.shape[:3], -1)
        visible = None
        if f and int(past.min()) < f:
            visible = (lag <= past[:, None])[:, None, None]  # (B, 1, 1, 1 + f n)
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2).flatten(2, 3), torch.cat([keys, newness], -1), F.pad(values, (0, self._EXTRA)),
            attn_mask=visible, scale=1.0,
        )  # fmt: skip
        return y[..., : self.head_dim]

    def _slope(self, q: Tensor) -> Tensor:
        """(..., H, 8) to go with queries (..., H, e)."""
        slope = F.pad(self.log_slope.exp().to(q.dtype)[:, None], (0, self._EXTRA - 1))
        return slope.expand(*q.shape[:-1], -1)


class LocalConvolution(nn.Module):
    """A depthwise convolution over neighbouring tokens of the frame and of the last `window`, gated, in the place of
    `FrameLocalAttention`: the cheap way to mix."""

    def __init__(self, d_model: int, grid: int, window: int, size: int = 3) -> None:
        super().__init__()
        self.grid, self.window, self.size = grid, window, size
        self.in_proj = nn.Linear(d_model, 2 * d_model, bias=False)
        # One kernel per lag, oldest first, the frame itself last.
        self.kernels = nn.Parameter(torch.randn(window + 1, d_model, 1, size, size) / (size * (window + 1) ** 0.5))
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def state_shape(self, batch_size: int, tokens: int) -> tuple[int, ...]:
        """(B, window, n, d): the last frames, oldest first."""
        return batch_size, self.window, tokens, self.out_proj.in_features

    def forward(self, x: Tensor, frames: Frames, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, S, n, d), state as `state_shape` -> y like x, state."""
        T = x.shape[1]
        gate, own = self.in_proj(x).chunk(2, -1)
        kept = torch.cat([state.to(own.dtype), own[:, :, 0]], 1) if frames.writes else state.to(own.dtype)
        y = self._convolve(own, self.window)
        visible = frames.visible(self.window)
        for i in range(self.window):
            earlier = kept[:, i : i + T] * visible[:, :, i, None, None]
            y = y + self._convolve(earlier, i).unsqueeze(2)
        y = self.out_proj(y * F.silu(gate))
        return y, kept[:, T:].to(state.dtype) if frames.writes else state

    def _convolve(self, x: Tensor, kernel: int) -> Tensor:
        """(..., n, d) with one of the kernels, inside each frame."""
        image = x.flatten(0, -3).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        weight = self.kernels[kernel].to(image.dtype)
        y = F.conv2d(image, weight, padding=self.size // 2, groups=image.shape[1])
        return y.flatten(2).transpose(1, 2).view_as(x)
