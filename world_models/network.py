"""The paper's network: tokens in, N blocks of scan, attention and MLP, denoised tokens out (paper Fig. 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.actions import ActionEmbedding, ActionSpec
from world_models.layers import Block, BlockScan, FrameLocalAttention, Frames, modulated_norm
from world_models.mixers import CausalAttention, LocalConvolution


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes:
        d_model: width of the tokens.
        block_sizes: side of the scan's tubes in each layer, in tokens; each divides the grid. Its length is the depth.
        map_layers: layers whose state is addressed by place, a map of the world; their tube is the whole frame. The
            other layers address theirs by content.
        window: how many earlier frames the attention sees.
        state_per_token: length of the state's keys per token of a tube.
        d_inner: width of the values held in the state.
        headdim: width of one head of the scan. head_dim: of one head of the attention.
        mlp_ratio: width of the MLP over d_model.
        map_size: places further apart than this many cells, in either direction, may be mistaken for one another.
        map_rule: how map layers write: "add" to what is known of a place, or erase some of it first ("delta").
        overlap: whether tubes smaller than the frame overlap, see `BlockScan`.
        memory: what carries the past: "scan", or, to compare with, "attention" over earlier frames, with none of the
            layers of which block sizes are then asked but how many there are.
        memory_window: how many earlier frames "attention" remembers; None: all of them, at a growing cost.
        mixing: what mixes the tokens of a frame: "attention", or a cheap "convolution".
    """

    d_model: int = 128
    block_sizes: tuple[int, ...] = (8, 2, 8, 8)
    map_layers: tuple[int, ...] = (0, 2)
    window: int = 2
    state_per_token: int = 4
    d_inner: int = 128
    headdim: int = 32
    head_dim: int = 32
    mlp_ratio: int = 2
    map_size: int = 16
    map_rule: Literal["add", "delta"] = "add"
    overlap: bool = False
    memory: Literal["scan", "attention"] = "scan"
    memory_window: int | None = None
    mixing: Literal["attention", "convolution"] = "attention"


class Network(nn.Module):
    """Maps latents of frames, noisy or clean, to their clean latents, reading and writing the memory.

    Args:
        config: sizes.
        grid: tokens per side of a frame; n = grid ** 2.
        latent_dim: k.
    """

    def __init__(self, config: NetworkConfig, grid: int, latent_dim: int, action: ActionSpec) -> None:
        super().__init__()
        _check(config, grid)
        d = config.d_model
        self.tokens = grid**2
        looks_around = config.memory == "scan" and config.map_layers
        self.surroundings = (config.map_size // 2) ** 2 if looks_around else 0  # E
        self.embed = nn.Linear(latent_dim, d)
        self.position = nn.Parameter(0.5 * torch.randn(self.tokens, d))
        self.embed_action = ActionEmbedding(action, d)
        self.embed_tau = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(
            Block(_memory(config, grid, layer), _mixing(config, grid), d, config.mlp_ratio)
            for layer in range(len(config.block_sizes))
        )
        self.modulation = nn.Linear(d, 2 * d)
        self.out = nn.Linear(d, latent_dim)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def initial_state(self, batch_size: int, device: torch.device) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Empty states of the scans and of the attentions."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        ssm = (b.scan.state_shape(batch_size, self.tokens) for b in blocks)
        kv = (b.attention.state_shape(batch_size, self.tokens) for b in blocks)
        return tuple(torch.zeros(s, device=device) for s in ssm), tuple(torch.zeros(s, device=device) for s in kv)

    def forward(
        self,
        latents: Tensor,
        tau: Tensor,
        act: Tensor,
        is_first: Tensor,
        places: Tensor,
        around: Tensor | None,
        ssm: tuple[Tensor, ...],
        kv: tuple[Tensor, ...],
        age: Tensor,
        writes: bool,
        channels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Run S streams of T frames.

        Args:
            latents: (B, T, S, n, k) and tau: (B, T, S), their noise levels in [0, 1], 1 = clean.
            act: (B, T) or (B, T, A), is_first: (B, T), places: (B, T, n, 2), the same for all streams.
            around: (B, T, E, 2), places whose memory the features are made of, besides the frame; None if nothing is
                written.
            ssm, kv: the memory before frame 0; age: (B,) how many frames it has seen.
            writes: whether stream 0 enters the memory. If not, T must be 1.
            channels: (B, L), how many channels of the memory are read in each layer; None: all.

        Returns:
            tokens (B, T, S, n, d) after the last block; what the last map layer remembered, before each frame, of the
            places around (B, T, E, d_inner), or None if there is no such layer or nothing is written; and the memory
            after the last frame.
        """
        x = self.embed(latents)
        x = x + self.position.to(x.dtype)  # under autocast the stream stays in bfloat16: half the traffic
        cond = self.embed_tau(_fourier(tau)) + self.embed_action(act, is_first).unsqueeze(2)  # (B, T, S, d)
        frames = Frames.of(places, around, is_first, age, writes)
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
        """Clean latents (..., n, k) from the tokens of `forward`."""
        return self.out(tokens).float()


def _check(config: NetworkConfig, grid: int) -> None:
    wrong = [b for b in config.block_sizes if grid % b]
    if wrong:
        raise ValueError(f"block_sizes has {wrong[0]}, which does not divide the grid of {grid} x {grid} tokens")
    if any(i >= len(config.block_sizes) or config.block_sizes[i] != grid for i in config.map_layers):
        raise ValueError(
            f"map_layers={config.map_layers} must be layers whose tube is the whole frame, "
            f"of {grid} x {grid} tokens, but block_sizes={config.block_sizes}"
        )


def _memory(config: NetworkConfig, grid: int, layer: int) -> BlockScan | CausalAttention:
    """What carries the past in a layer."""
    if config.memory == "attention":
        return CausalAttention(config.d_model, config.head_dim, config.memory_window, config.map_size)
    block = config.block_sizes[layer]
    return BlockScan(
        config.d_model,
        config.d_inner,
        config.headdim,
        grid,
        block,
        d_state=max(4, config.state_per_token * block**2),
        map_size=config.map_size if layer in config.map_layers else None,
        erases=config.map_rule == "delta" and layer in config.map_layers,
        looks_around=layer == max(config.map_layers, default=None),
        overlap=config.overlap,
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
