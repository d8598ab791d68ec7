"""The paper's network: tokens in, N blocks of scan, attention and MLP, denoised tokens out (paper Fig. 3)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_models.memory.first_person.rays import FirstPersonView, RayMap, Sight
from lssvwm_models.memory.frame_context import FrameContext
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.memory.scans import BlockScan, PlaceMap, Scan
from lssvwm_models.model.actions import ActionEmbedding, ActionSpec
from lssvwm_models.model.blocks import Block, modulated_norm
from lssvwm_models.model.config import NetworkConfig
from lssvwm_models.model.mixers import CausalAttention, FrameLocalAttention, LocalConvolution, PlaceAttention

# Width of what a frame's noise level and action are told the layers by.
CONDITION: Final = 64
HARMONICS: Final = 4  # of a heading: a wall has two faces, and a corner four


class NetworkOutput(NamedTuple):
    """What `Network.forward` makes of frames.

    Attributes:
        tokens: (B, T, S, n, d) after the last block.
        around: what the last map layer remembered, before each frame, of the places around, (B, T, E, d_inner); None if
            there is no such layer or nothing is written.
        ssm, kv: the memory after the last frame.
        reads: per layer, what was read of the memory at the places of a frame that is not written; a pass over the
            same frame takes them instead of reading again. None for layers where the next pass may read otherwise.
    """

    tokens: Tensor
    around: Tensor | None
    ssm: tuple[Tensor, ...]
    kv: tuple[Tensor, ...]
    reads: tuple[Tensor | None, ...]


class Network(nn.Module):
    """Maps latents of frames, noisy or clean, to their clean latents, reading and writing the memory.

    Args:
        config: sizes.
        grid: patches per side of a frame, M in all. They make n = M / merge ** 2 tokens.
        latent_dim: k, numbers per patch.
        view: in first person, maps are written and read along rays, and layers are told which way the eye looks and how
            it moved.
    """

    def __init__(
        self,
        config: NetworkConfig,
        grid: int,
        latent_dim: int,
        action: ActionSpec,
        view: EgoView | FirstPersonView | None = None,
    ) -> None:
        super().__init__()
        _check(config, grid)
        d = config.d_model
        self.grid = grid
        self.merge = config.merge
        self.memory_frames = config.memory_frames
        self.parts = config.merge**2
        self.tokens = grid**2 // self.parts
        looks_around = config.memory == "scan" and config.map_layers
        self.surroundings = (config.map_size // 2) ** 2 if looks_around else 0  # E
        self.embed = nn.Linear(self.parts * latent_dim, d)
        self.position = nn.Parameter(0.5 * torch.randn(self.tokens, d))
        self.embed_action = ActionEmbedding(action, CONDITION)
        self.embed_tau = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, CONDITION))
        kept = config.keyframes > 0
        self.embed_rendered = nn.Linear(self.parts * (latent_dim + 1), d, bias=False) if kept else None
        self.embed_pose = nn.Linear(2 * HARMONICS + 4, CONDITION) if isinstance(view, FirstPersonView) else None
        self.blocks = nn.ModuleList(
            Block(
                _memory(config, grid, layer, view),
                _mixing(config, grid // config.merge),
                d,
                CONDITION,
                config.mlp_ratio,
            )
            for layer in range(len(config.block_sizes))
        )
        # All maps tell places by the same codes, and so do all attentions: one of each computes them for all. (In a
        # tuple, which PyTorch does not take for more modules.)
        a_map = next((m for m in self.modules() if isinstance(m, PlaceMap)), None)
        an_attention = next((m for m in self.modules() if isinstance(m, PlaceAttention)), None)
        self._encoders = a_map, an_attention
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
        zeros = partial(torch.zeros, dtype=torch.float32, device=device)
        return tuple(map(zeros, ssm)), tuple(map(zeros, kv))

    def context(
        self, places: Tensor | Sight, around: Tensor | None, is_first: Tensor, age: Tensor, writes: bool
    ) -> FrameContext:
        """The context of frames, for all layers.

        Args:
            places: (B, T, M, 2) of the patches, or what first-person frames are of.
            around: (B, T, E, 2), places whose memory the features are made of, besides the frame; None if nothing is
                written.
            is_first: (B, T). age: (B,), how many frames the memory has seen before them.
            writes: whether stream 0 enters the memory.
        """
        if isinstance(places, Sight):
            frames = FrameContext.of(places.places, self.parts, around, is_first, age, writes, places.gazes)
            frames = replace(frames, moved=places.moved)
        else:
            frames = FrameContext.of(self._merged(places).flatten(2, 3), self.parts, around, is_first, age, writes)
        if writes:
            frames = replace(frames, fade=self._fade(frames.past))
        a_map, an_attention = self._encoders
        if a_map is not None:
            around_codes = None if around is None else a_map.encode(around)
            frames = replace(frames, patch_codes=a_map.encode(frames.patch_places), around_codes=around_codes)
        if an_attention is not None:
            frames = replace(frames, token_rotation=an_attention.encode(frames.token_places))
        return frames

    def _fade(self, past: Tensor) -> Tensor | None:
        """How fast the memory fades at least, (B, T), at frames that have so many before them; see `memory_frames`.

        A head that forgets more slowly than any sequence of its training is long adds up what it is told, without an
        end: its state leaves the range in which the layers after it have learned to read it.
        """
        limit = self.memory_frames
        # A single frame is a step of a dream, which may be recorded: the same operations, whatever the age.
        if limit is None or (past.shape[1] > 1 and not bool((past >= limit).any())):
            return None
        return torch.where(past >= limit, -1 / limit, 0.0).float()  # whatever the default dtype

    def forward(
        self,
        latents: Tensor,
        tau: Tensor,
        act: Tensor,
        frames: FrameContext,
        ssm: tuple[Tensor, ...],
        kv: tuple[Tensor, ...],
        channels: Tensor | None = None,
        reads: tuple[Tensor | None, ...] | None = None,
    ) -> NetworkOutput:
        """Run S streams of T frames.

        Args:
            latents: (B, T, S, M, k) and tau: (B, T, S), their noise levels in [0, 1], 1 = clean.
            act: (B, T) or (B, T, A), the same for all streams.
            frames: as `context` makes them; those that write nothing are one per world.
            ssm, kv: the memory before frame 0.
            channels: (B, L), how many channels of the memory are read in each layer; None: all.
            reads: of an earlier pass over the same frame and memory; None: they are read.
        """
        x = self.embed(self._merged(latents).flatten(-2))
        if self.embed_rendered is not None:
            assert frames.rendered is not None
            x = x + self.embed_rendered(self._merged(frames.rendered).flatten(-2)).unsqueeze(2)
        x = x + self.position.to(x.dtype)  # under autocast the stream stays in bfloat16: half the traffic
        cond = self.embed_tau(_fourier(tau)) + self.embed_action(act, frames.is_first).unsqueeze(2)  # (B, T, S, c)
        if self.embed_pose is not None:
            assert frames.gazes is not None and frames.moved is not None
            pose = torch.cat([_harmonics(frames.gazes[..., 2].mean(-1)), frames.moved], -1)
            cond = cond + self.embed_pose(pose).unsqueeze(2)
        around = None
        after = []
        for i, block in enumerate(self.blocks):
            frames_here = replace(
                frames,
                channels=None if channels is None else channels[:, i],
                reads=None if reads is None else reads[i],
            )
            output = block(x, cond, frames_here, ssm[i], kv[i])
            x = output.x
            around = around if output.around is None else output.around
            after.append((output.ssm, output.kv, None if frames.writes else output.reads))
        new_ssm, new_kv, new_reads = zip(*after, strict=True)
        shift, scale = self.modulation(F.silu(cond)).unsqueeze(-2).chunk(2, -1)
        return NetworkOutput(modulated_norm(x, shift, scale), around, new_ssm, new_kv, new_reads)

    def denoised(self, tokens: Tensor, rendered: Tensor | None = None) -> Tensor:
        """Clean latents (..., M, k) from the tokens of `forward`: where keyframes are kept, what `rendered` lacks."""
        m = self.merge
        side = self.grid // m
        latents = self.out(tokens).float().unflatten(-1, (m, m, -1)).unflatten(-4, (side, side))
        latents = latents.transpose(-4, -3).flatten(-5, -2)
        return latents if rendered is None else latents + rendered[..., :-1]

    def _merged(self, patches: Tensor) -> Tensor:
        """(..., M, c), row by row -> (..., n, parts, c), token by token."""
        m = self.merge
        side = self.grid // m
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
            f"map_layers={config.map_layers} must be layers whose tube is the whole frame, of {grid} x {grid} tokens, "
            f"but block_sizes={config.block_sizes}"
        )


def _memory(
    config: NetworkConfig, grid: int, layer: int, view: EgoView | FirstPersonView | None
) -> Scan | CausalAttention:
    """What carries the past in a layer."""
    if config.memory == "attention":
        return CausalAttention(
            config.d_model, config.head_dim, (grid // config.merge) ** 2, config.memory_window, config.map_size
        )
    sizes = config.d_model, config.d_inner, config.headdim
    if layer in config.map_layers:
        looks_around = layer == max(config.map_layers)
        if isinstance(view, FirstPersonView):
            return RayMap(*sizes, grid, config.merge, len(view.depths), config.map_size, looks_around)
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
    waves = torch.exp(torch.linspace(0, math.log(200), 32, dtype=torch.float32, device=tau.device))
    angles = tau.unsqueeze(-1) * waves
    return torch.cat([angles.sin(), angles.cos()], -1)


def _harmonics(angle: Tensor) -> Tensor:
    """(...) in radians -> (..., 2 * HARMONICS) cosines and sines."""
    turns = angle.unsqueeze(-1) * torch.arange(1, HARMONICS + 1, device=angle.device)
    return torch.cat([turns.cos(), turns.sin()], -1)
