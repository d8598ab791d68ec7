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

from lssvwm_models.utils.checks import SHARE, check_fields
from lssvwm_models.utils.randomness import normal_like


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
        variance_power: errors of latents count by the variance of the pixels behind them to this power; 1 means errors
            in pixels. None: 0.75 in first person, where most of what is small is texture that nobody can foretell, and
            0.25 elsewhere, where it is objects.
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
    variance_power: float | None = None
    truncation: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, pure_noise=SHARE, clean_prefix=SHARE, truncation=SHARE)


@dataclass(frozen=True)
class Streams:
    """What the network gets: latents (B, T, S, M, k) at noise levels tau (B, T, S); stream 0 writes the memory.

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
        return Streams(
            self.latents[:, frames], self.tau[:, frames], self.target, self.weight[:, frames], self.clean[:, frames]
        )


def noisy_streams(latents: Tensor, config: ObjectiveConfig, rng: torch.Generator) -> Streams:
    """Deal out noise for clean latents (B, T, M, k); `rng` is on their device."""
    return (_clean_noisy if config.kind == "clean_noisy" else _diffusion_forcing)(latents, config, rng)


def context_noised(latents: Tensor, config: ObjectiveConfig, rng: torch.Generator) -> Tensor:
    """Latents (B, ..., M, k) a little wrong, each sequence in its own measure, as dreamt frames are."""
    one_per_sequence = (len(latents), *[1] * (latents.dim() - 1))
    size = config.context_noise * torch.rand(one_per_sequence, generator=rng, device=latents.device)
    return latents + size * normal_like(latents, rng)


def _clean_noisy(latents: Tensor, config: ObjectiveConfig, rng: torch.Generator) -> Streams:
    frames = latents.shape[:2]  # B, T
    tau = torch.rand(frames, generator=rng, device=latents.device)
    tau = tau * (torch.rand(frames, generator=rng, device=latents.device) >= config.pure_noise)
    # What is committed in a dream is a generated frame: whatever reads a memory of recorded frames only, and trusts
    # every pixel, goes astray on its own first small mistake.
    written = context_noised(latents, config, rng)
    denoised = _noised(latents, tau, rng)
    everything = torch.ones_like(tau)
    return Streams(
        latents=torch.stack([written, denoised], 2),
        tau=torch.stack([everything, tau], 2),
        target=1,
        weight=everything,
        clean=everything > 0,
    )


def _diffusion_forcing(latents: Tensor, config: ObjectiveConfig, rng: torch.Generator) -> Streams:
    batch, T = latents.shape[:2]
    device = latents.device
    # A prefix is longer than half, and leaves at least one frame to denoise.
    length = torch.randint(T // 2 + 1, max(T, T // 2 + 2), (batch, 1), generator=rng, device=device).clamp(max=T - 1)
    length = length * (torch.rand(batch, 1, generator=rng, device=device) < config.clean_prefix)
    clean = torch.arange(T, device=device) < length  # (B, T)
    tau = torch.where(clean, 1.0, torch.rand(batch, T, generator=rng, device=device))
    return Streams(
        latents=_noised(latents, tau, rng).unsqueeze(2),
        tau=tau.unsqueeze(2),
        target=0,
        weight=(~clean).float(),
        # Reward and termination belong to finished frames: read them where little noise is left.
        clean=tau > 0.9,
    )


def _noised(latents: Tensor, tau: Tensor, rng: torch.Generator) -> Tensor:
    tau = tau[..., None, None]
    return (1 - tau) * normal_like(latents, rng) + tau * latents
