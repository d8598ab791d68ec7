"""Two ways to train the same network to denoise a frame given what came before it.

*Clean-noisy*: the clean frames write the memory, and every frame is also denoised from the memory just before it, in a
second stream of the same weights. Each frame gives a loss under the very condition it will meet when dreaming.

*Diffusion forcing* (paper section 4.2): one stream, every frame with its own noise; half of the sequences keep a clean
prefix longer than half, and only what is noised counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class ObjectiveConfig:
    """How noise is dealt out in training.

    Attributes:
        kind: the objective, see the module.
        pure_noise: clean-noisy only: share of frames denoised from pure noise, where dynamics are learned.
        context_noise: clean-noisy only: frames enter the memory with Gaussian noise of up to this size, so that dreams
            stay stable on their own slightly wrong frames.
        clean_prefix: diffusion forcing only: share of sequences with a clean prefix.
        cut_gradients: whether gradients stop where one block of frames hands its memory to the next (truncated
            backpropagation through time). Training then needs the memory of one block, however long the sequences are.
        state_moments: weight of a pull of the states of the scans towards mean 0 and variance 1, against drift; see
            `regularisers.state_moments`. Networks without scans have none.
        recall: weight of a second task, against forgetting: after every block of frames, make an earlier frame of the
            episode again from the memory and the pose of then. For models with a view.
        perceptual: weight of a loss that compares frames by what a fixed random network sees in them; see `perceptual`.
        truncation: share of sequences whose reads see only the first few channels of the memory, a random number in
            each layer, so that channels come to stand in order of importance; see `state_size`.
    """

    kind: Literal["clean_noisy", "diffusion_forcing"] = "clean_noisy"
    pure_noise: float = 0.5
    context_noise: float = 0.0
    clean_prefix: float = 0.5
    cut_gradients: bool = False
    state_moments: float = 0.01
    recall: float = 0.0
    perceptual: float = 0.1
    truncation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("state_moments", "recall", "perceptual"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is the weight of a loss; it must be at least 0")
        if not 0 <= self.truncation <= 1:
            raise ValueError(f"truncation={self.truncation} is a share of the sequences; it must be from 0 to 1")


@dataclass(frozen=True)
class Streams:
    """What the network is shown: latents (B, T, S, M, k) at noise levels tau (B, T, S); stream 0 writes the memory.

    `target` is the stream whose prediction is judged, `weight` (B, T) which of its frames count, and `clean` (B, T)
    which frames of stream 0 are clean enough to read reward and termination from.
    """

    latents: Tensor
    tau: Tensor
    target: int
    weight: Tensor
    clean: Tensor

    def __getitem__(self, frames: slice) -> Streams:
        """Some of the frames of every sequence."""
        latents, tau, weight, clean = (x[:, frames] for x in (self.latents, self.tau, self.weight, self.clean))
        return Streams(latents, tau, self.target, weight, clean)


def noisy_streams(latents: Tensor, config: ObjectiveConfig) -> Streams:
    """Deal out noise for clean latents (B, T, M, k)."""
    return (_clean_noisy if config.kind == "clean_noisy" else _diffusion_forcing)(latents, config)


def context_noised(latents: Tensor, config: ObjectiveConfig) -> Tensor:
    """Latents (B, ..., M, k) a little wrong, each sequence in its own measure, as dreamt frames are."""
    size = config.context_noise * torch.rand(len(latents), *[1] * (latents.dim() - 1), device=latents.device)
    return latents + size * torch.randn_like(latents)


def _clean_noisy(latents: Tensor, config: ObjectiveConfig) -> Streams:
    batch, T = latents.shape[:2]
    tau = torch.rand(batch, T, device=latents.device)
    tau = tau * (torch.rand_like(tau) >= config.pure_noise)
    clean = context_noised(latents, config)
    everything = torch.ones_like(tau)
    return Streams(
        torch.stack([clean, _noised(latents, tau)], 2), torch.stack([everything, tau], 2), 1, everything, everything > 0
    )


def _diffusion_forcing(latents: Tensor, config: ObjectiveConfig) -> Streams:
    batch, T = latents.shape[:2]
    device = latents.device
    length = torch.randint(T // 2 + 1, max(T, T // 2 + 2), (batch, 1), device=device).clamp(max=T - 1)
    length = length * (torch.rand(batch, 1, device=device) < config.clean_prefix)
    clean = torch.arange(T, device=device) < length  # (B, T)
    tau = torch.where(clean, 1.0, torch.rand(batch, T, device=device))
    # Reward and termination belong to finished frames: read them where little noise is left.
    return Streams(_noised(latents, tau).unsqueeze(2), tau.unsqueeze(2), 0, (~clean).float(), tau > 0.9)


def _noised(latents: Tensor, tau: Tensor) -> Tensor:
    tau = tau[..., None, None]
    return (1 - tau) * torch.randn_like(latents) + tau * latents
