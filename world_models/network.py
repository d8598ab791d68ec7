"""The paper's network: tokens in, N blocks of scan, attention and MLP, denoised tokens out (paper Fig. 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.actions import ActionEmbedding, ActionSpec
from world_models.layers import Block, FrameLocalAttention, Frames, modulated_norm
from world_models.mixers import CausalAttention, LocalConvolution
from world_models.scans import BlockScan, PlaceMap, Scan

# Width of what a frame's noise level and action are told the layers by.
CONDITION: Final = 64


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes:
        d_model: width of the tokens.
        merge: side of the square of patches that one token stands for. Maps know every patch by its own place.
        block_sizes: side of the scan's tubes in each layer, in tokens; each divides the grid. Its length is the depth.
        map_layers: layers whose state is addressed by place, a map of the world; their tube is the whole frame. The
            other layers address theirs by content.
        window: how many earlier frames are mixed into a frame, besides what the memory tells.
        state_per_token: length of the state's keys per token of a tube, in layers that are no maps.
        d_inner: width of the values held in the state.
        headdim: width of one head of the scan. head_dim: of one head of the attention.
        mlp_ratio: width of the MLP over d_model.
        map_size: places further apart than this many cells, in either direction, may be mistaken for one another.
        overlap: whether tubes smaller than the frame overlap, see `BlockScan`.
        memory: what carries the past: "scan", or, to compare with, "attention" over earlier frames, with none of the
            layers of which block sizes are then asked but how many there are.
        memory_window: how many earlier frames "attention" remembers; None: all of them, at a growing cost.
        mixing: what mixes the tokens of a frame: the paper's "attention" (section 4.1), or a depthwise "convolution",
            which learns to draw sharper frames from as many.
    """

    d_model: int = 192
    merge: int = 2
    block_sizes: tuple[int, ...] = (4, 2, 4, 4)
    map_layers: tuple[int, ...] = (0, 2)
    window: int = 0
    state_per_token: int = 4
    d_inner: int = 128
    headdim: int = 32
    head_dim: int = 32
    mlp_ratio: int = 3
    map_size: int = 16
    overlap: bool = False
    memory: Literal["scan", "attention"] = "scan"
    memory_window: int | None = None
    mixing: Literal["attention", "convolution"] = "convolution"


# `debug` takes seconds to train, `micro` half an hour of a CPU core (for small worlds, dreamt fast), `tiny` an hour or
# two, `small` a GPU: it has 8 M parameters.
PRESETS: Final = {
    "debug": NetworkConfig(
        d_model=32,
        block_sizes=(4, 2),
        map_layers=(0,),
        state_per_token=1,
        d_inner=32,
        head_dim=16,
        headdim=16,
        map_size=8,
    ),
    "micro": NetworkConfig(
        d_model=128,
        merge=4,
        block_sizes=(2, 2),
        map_layers=(0,),
        d_inner=64,
        headdim=16,
        mlp_ratio=2,
        mixing="attention",  # its frames have only four tokens
    ),
    "tiny": NetworkConfig(),
    "small": NetworkConfig(
        d_model=256,
        block_sizes=(4, 1, 4, 2, 4),
        map_layers=(0, 2),
        d_inner=256,
        headdim=64,
    ),
}


class Network(nn.Module):
    """Maps latents of frames, noisy or clean, to their clean latents, reading and writing the memory.

    Args:
        config: sizes.
        grid: patches per side of a frame, M in all. They make n = M / merge ** 2 tokens.
        latent_dim: k, numbers per patch.
    """

    def __init__(self, config: NetworkConfig, grid: int, latent_dim: int, action: ActionSpec) -> None:
        super().__init__()
        _check(config, grid)
        d, self.grid, self.merge, self.parts = config.d_model, grid, config.merge, config.merge**2
        self.tokens = grid**2 // self.parts
        looks_around = config.memory == "scan" and config.map_layers
        self.surroundings = (config.map_size // 2) ** 2 if looks_around else 0  # E
        self.embed = nn.Linear(self.parts * latent_dim, d)
        self.position = nn.Parameter(0.5 * torch.randn(self.tokens, d))
        self.embed_action = ActionEmbedding(action, CONDITION)
        self.embed_tau = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, CONDITION))
        self.blocks = nn.ModuleList(
            Block(_memory(config, grid, layer), _mixing(config, grid // config.merge), d, CONDITION, config.mlp_ratio)
            for layer in range(len(config.block_sizes))
        )
        self.modulation = nn.Linear(CONDITION, 2 * d)
        self.out = nn.Linear(d, self.parts * latent_dim)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def initial_state(self, batch_size: int, device: torch.device) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Empty states of the scans and of the attentions."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        ssm = (b.scan.state_shape(batch_size) for b in blocks)
        kv = (b.attention.state_shape(batch_size, self.tokens) for b in blocks)
        return tuple(torch.zeros(s, device=device) for s in ssm), tuple(torch.zeros(s, device=device) for s in kv)

    def frames(self, places: Tensor, around: Tensor | None, is_first: Tensor, age: Tensor, writes: bool) -> Frames:
        """What the layers are told of frames.

        Args:
            places: (B, T, M, 2) of the patches. around: (B, T, E, 2), places whose memory the features are made of,
                besides the frame; None if nothing is written.
            is_first: (B, T). age: (B,), how many frames the memory has seen before them.
            writes: whether stream 0 enters the memory.
        """
        return Frames.of(self._merged(places).flatten(2, 3), self.parts, around, is_first, age, writes)

    def forward(
        self,
        latents: Tensor,
        tau: Tensor,
        act: Tensor,
        frames: Frames,
        ssm: tuple[Tensor, ...],
        kv: tuple[Tensor, ...],
        channels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Run S streams of T frames.

        Args:
            latents: (B, T, S, M, k) and tau: (B, T, S), their noise levels in [0, 1], 1 = clean.
            act: (B, T) or (B, T, A), the same for all streams.
            frames: as `frames` makes them; those that write nothing are one per world.
            ssm, kv: the memory before frame 0.
            channels: (B, L), how many channels of the memory are read in each layer; None: all.

        Returns:
            tokens (B, T, S, n, d) after the last block; what the last map layer remembered, before each frame, of the
            places around (B, T, E, d_inner), or None if there is no such layer or nothing is written; and the memory
            after the last frame.
        """
        x = self.embed(self._merged(latents).flatten(-2))
        x = x + self.position.to(x.dtype)  # under autocast the stream stays in bfloat16: half the traffic
        cond = self.embed_tau(_fourier(tau)) + self.embed_action(act, frames.is_first).unsqueeze(2)  # (B, T, S, c)
        new_ssm, new_kv, remembered = [], [], None
        for i, (block, s, c) in enumerate(zip(self.blocks, ssm, kv, strict=True)):
            told = frames if channels is None else replace(frames, channels=channels[:, i])
            x, s, c, seen = block(x, cond, told, s, c)
            remembered = remembered if seen is None else seen
            new_ssm.append(s)
            new_kv.append(c)
        self_cond = self.modulation(F.silu(cond)).unsqueeze(-2).chunk(2, -1)
        return modulated_norm(x, *self_cond), remembered, tuple(new_ssm), tuple(new_kv)

    def denoised(self, tokens: Tensor) -> Tensor:
        """Clean latents (..., M, k) from the tokens of `forward`."""
        side, m = self.grid // self.merge, self.merge
        latents = self.out(tokens).float().unflatten(-1, (m, m, -1)).unflatten(-4, (side, side))
        return latents.transpose(-4, -3).flatten(-5, -2)

    def _merged(self, patches: Tensor) -> Tensor:
        """(..., M, c), row by row -> (..., n, parts, c), token by token."""
        side, m = self.grid // self.merge, self.merge
        patches = patches.unflatten(-2, (side, m, side, m)).transpose(-4, -3)  # (..., side, side, m, m, c)
        return patches.flatten(-3, -2).flatten(-4, -3)


def _check(config: NetworkConfig, grid: int) -> None:
    if grid % config.merge:
        raise ValueError(
            f"merge is {config.merge}, which does not divide the grid of {grid} x {grid} patches; set merge=1, or "
            "choose another patch"
        )
    grid //= config.merge
    wrong = [b for b in config.block_sizes if grid % b]
    if wrong:
        raise ValueError(f"block_sizes has {wrong[0]}, which does not divide the grid of {grid} x {grid} tokens")
    if any(i >= len(config.block_sizes) or config.block_sizes[i] != grid for i in config.map_layers):
        raise ValueError(
            f"map_layers={config.map_layers} must be layers whose tube is the whole frame, "
            f"of {grid} x {grid} tokens, but block_sizes={config.block_sizes}"
        )


def _memory(config: NetworkConfig, grid: int, layer: int) -> Scan | CausalAttention:
    """What carries the past in a layer."""
    if config.memory == "attention":
        return CausalAttention(
            config.d_model, config.head_dim, (grid // config.merge) ** 2, config.memory_window, config.map_size
        )
    sizes = config.d_model, config.d_inner, config.headdim
    if layer in config.map_layers:
        looks_around = layer == max(config.map_layers)
        return PlaceMap(*sizes, grid**2, config.merge**2, config.map_size, looks_around)
    block = config.block_sizes[layer]
    return BlockScan(
        *sizes, grid // config.merge, block, max(4, config.state_per_token * block**2), overlap=config.overlap
    )


def _mixing(config: NetworkConfig, grid: int) -> FrameLocalAttention | LocalConvolution:
    """What mixes the tokens of a frame."""
    if config.mixing == "convolution":
        return LocalConvolution(config.d_model, grid, config.window)
    return FrameLocalAttention(config.d_model, config.head_dim, config.window, config.map_size)


def _fourier(tau: Tensor) -> Tensor:
    """(...) in [0, 1] -> (..., 64) sines and cosines."""
    waves = torch.exp(torch.linspace(0, math.log(200), 32, device=tau.device))
    angles = tau.unsqueeze(-1) * waves
    return torch.cat([angles.sin(), angles.cos()], -1)
