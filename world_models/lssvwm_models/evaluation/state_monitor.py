"""Is the memory alive? Scale, drift and collapse of the state of every scan layer, and a controller that answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from lssvwm_models.memory.scans import Scan
from lssvwm_models.model.blocks import Block
from lssvwm_models.model.network import Network
from lssvwm_models.utils.figures import png

if TYPE_CHECKING:
    from lssvwm_models.model.world_model import WorldModel

BAND: Final = (0.5, 2.0)  # where the scale of a state, and its growth from the middle to the end, should stay
LIMITS: Final = (1 / 32, 32.0)  # of the strength of the controller


def scan_states(network: Network, ssm: tuple[Tensor, ...]) -> dict[int, Tensor]:
    """The states (B, tubes, H, P, N) of the layers that have a scan, by layer."""
    pairs = enumerate(zip(network.blocks, ssm, strict=True))
    return {i: s for i, (block, s) in pairs if isinstance(block, Block) and isinstance(block.scan, Scan)}


@torch.no_grad()
def state_metrics(model: WorldModel, obs: Tensor, act: Tensor) -> dict[str, float]:
    """The health of the states of a model that watches openings of episodes, obs (B, T, C, H, W) and act (B, T, ...).

    Per layer: `rms`, the scale at the end; `drift`, that over the scale half-way; `rank`, the effective rank of the
    states' matrices as a share of the highest (1 is full, less is collapse); `dead`, the share of channels that hold
    less than a hundredth of the average.
    """
    is_first = torch.zeros(obs.shape[:2], dtype=torch.bool)
    is_first[:, 0] = True
    state = model.initial_state(len(obs))
    states = []
    for half in (slice(obs.shape[1] // 2), slice(obs.shape[1] // 2, None)):
        state, _ = model.observe(state, *(x[:, half].to(model.device) for x in (obs, act, is_first)))
        states.append(scan_states(model.network, state.ssm))
    middle, end = states
    return {f"state/{i}/{k}": v for i in end for k, v in health(middle[i], end[i]).items()}


def health(middle: Tensor, end: Tensor) -> dict[str, float]:
    """What `state_metrics` says of a layer whose states (B, tubes, H, P, N) are these half-way and at the end."""
    before = middle.float().square().mean().sqrt()
    rms = end.float().square().mean().sqrt()
    channels = end.float().square().mean((0, 1, 4)).sqrt()  # (H, P)
    found = {
        "rms": rms,
        "drift": rms / before.clamp(min=1e-8),
        "rank": effective_rank(end).mean() / min(end.shape[-2:]),
        "dead": (channels <= 0.01 * rms).float().mean(),
    }
    return {name: float(value) for name, value in found.items()}


def effective_rank(matrices: Tensor) -> Tensor:
    """The exponential of the entropy of the singular values (Roy and Vetterli 2007) of (..., P, N): from 1 to the rank.

    Read off the smaller Gram matrix, in double precision.
    """
    m = matrices.double()
    m = m if m.shape[-2] <= m.shape[-1] else m.mT
    values = torch.linalg.eigvalsh(m @ m.mT).clamp(min=0).sqrt()
    share = values / values.sum(-1, keepdim=True).clamp(min=1e-30)
    return torch.special.entr(share).sum(-1).exp()


def steered(strength: float, metrics: Mapping[str, float], rate: float = 1.5) -> float:
    """The next strength of the regulariser: raised while a layer is outside the band, lowered while all are inside.

    A multiplicative controller, as the one that adapts the KL coefficient of PPO. Its strength has limits.
    """
    watched = [v for k, v in metrics.items() if k.startswith("state/") and k.endswith(("/rms", "/drift"))]
    if not watched:
        return strength
    inside = all(BAND[0] <= value <= BAND[1] for value in watched)
    return min(max(strength / rate if inside else strength * rate, LIMITS[0]), LIMITS[1])


def state_png(metrics: list[dict[str, Any]]) -> bytes:
    """Plot scale, drift, rank and dead channels of every layer over the lines of a run's metrics."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3), layout="constrained")
    for axis, name in zip(figure.subplots(1, 4), ("rms", "drift", "rank", "dead"), strict=True):
        for key in sorted({k for line in metrics for k in line if k.startswith("state/") and k.endswith(f"/{name}")}):
            points = [(line["step"], line[key]) for line in metrics if key in line]
            axis.plot(*zip(*points, strict=True), "o-", markersize=3, label=f"layer {key.split('/')[1]}")
        if name in ("rms", "drift"):
            axis.set_yscale("log")
            axis.axhspan(*BAND, color="0.5", alpha=0.15)
        axis.set(title=name, xlabel="optimiser step")
        axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(frameon=False, fontsize=8)
    return png(figure)
