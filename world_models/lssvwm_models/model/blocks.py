"""One block of the network: block-wise scan, frame-local attention, MLP, each residual and modulated (paper Fig. 3).

Shapes: B batch, T frames, S streams, n tokens per frame, d width, H heads. Stream 0 is the *writing* stream, whose
frames enter the memory; the other streams only read it. All streams of a frame see the memory of the frames before
it, and of the frame itself only their own tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.frame_context import FrameContext
from lssvwm_models.memory.scans import Scan
from lssvwm_models.model.mixers import CausalAttention, FrameLocalAttention, LocalConvolution


class BlockOutput(NamedTuple):
    """Tokens `x` (B, T, S, n, d), the states of memory and mixing, and `around` and `reads` as in `Scanned`."""

    x: Tensor
    ssm: Tensor
    kv: Tensor
    around: Tensor | None
    reads: Tensor | None


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
        self.scan = scan
        self.attention = attention
        self.mlp = nn.Sequential(
            nn.Linear(d_model, mlp_ratio * d_model), nn.GELU(), nn.Linear(mlp_ratio * d_model, d_model)
        )
        self.modulation = nn.Linear(condition, 9 * d_model)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():  # gates begin open: a shallow network needs no gentle start, and a cold one loses time
            self.modulation.bias.view(9, d_model)[2::3] = 1.0

    def forward(self, x: Tensor, cond: Tensor, frames: FrameContext, ssm: Tensor, kv: Tensor) -> BlockOutput:
        """Run tokens x (B, T, S, n, d) of frames with conditions cond (B, T, S, c)."""
        m = self.modulation(F.silu(cond)).unsqueeze(-2).chunk(9, -1)  # each (B, T, S, 1, d)
        scanned = self.scan(modulated_norm(x, m[0], m[1]), frames, ssm)
        x = x + m[2] * scanned.y
        y, kv = self.attention(modulated_norm(x, m[3], m[4]), frames, kv)
        x = x + m[5] * y
        x = x + m[8] * self.mlp(modulated_norm(x, m[6], m[7]))
        return BlockOutput(x, scanned.state, kv, scanned.around, scanned.reads)


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters, then scale and shift (adaLN)."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
