"""What changes the weights: Muon for the matrices inside the blocks, AdamW for all else (Jordan et al. 2024).

And what averages them over the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lssvwm_models.execution.precision import supports_bf16

if TYPE_CHECKING:
    from lssvwm_models.model.world_model import WorldModel
    from lssvwm_models.training.config import TrainingConfig

MUON_LR: Final = 2.5  # times the learning rate of AdamW
NEWTON_SCHULZ: Final = 3.4445, -4.7750, 2.0315  # a, b, c of x -> a x + b x^3 + c x^5, which brings (0, 1] near 1

Average = Callable[[Any, Any, Any], None]  # moves averaged weights towards current ones, as `AveragedModel` asks


class Muon(Optimizer):
    """What `torch.optim.Muon` does with `adjust_lr_fn="match_rms_adamw"`, also where bfloat16 is slow.

    torch's multiplies in bfloat16 whatever the hardware: emulated, that takes most of the time of a step.
    """

    def __init__(
        self, params: list[Tensor], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every matrix (m, n) that has a gradient by 0.2 lr max(m, n)^0.5 along its orthogonal part."""
        for group in self.param_groups:
            lr = group["lr"]
            momentum = group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                mean = state["momentum_buffer"]
                mean.lerp_(matrix.grad, 1 - momentum)
                direction = orthogonal(matrix.grad.lerp(mean, momentum))  # Nesterov's momentum
                matrix.mul_(1 - lr * group["weight_decay"])
                # Entries of an orthogonal (m, n) are about max(m, n)^-0.5 in size, and updates of AdamW about 0.2: so
                # scaled, both go as far with the same learning rate, whatever the shape.
                matrix.add_(direction, alpha=-0.2 * lr * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix (m, n) with the singular vectors of the given one, and values near 1 (Newton-Schulz, roughly)."""
    a, b, c = NEWTON_SCHULZ
    X = matrix.bfloat16() if supports_bf16(matrix.device.type) else matrix
    X = X if X.shape[0] <= X.shape[1] else X.T
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(steps):
        square = X @ X.T  # (m, m)
        X = torch.addmm(X, torch.addmm(square, square, square, beta=b, alpha=c), X, beta=a)
    return X if matrix.shape[0] <= matrix.shape[1] else X.T


def optimizers(model: WorldModel, config: TrainingConfig) -> list[Optimizer]:
    """Optimisers that share the parameters of a model; `set_lr` before every step says how far they go.

    Muon makes every step of a matrix orthogonal, so that directions with small gradients are learned as fast as those
    with large ones. It is for matrices between hidden layers: what embeds, modulates or decodes is left to AdamW.
    """
    by_muon = hidden_matrices(model) if config.optimizer == "muon" else []
    others = [p for p in model.parameters() if not any(p is matrix for matrix in by_muon)]
    adamw = AdamW(others, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    return [adamw, Muon(by_muon, weight_decay=config.weight_decay)] if by_muon else [adamw]


def hidden_matrices(model: WorldModel) -> list[Tensor]:
    """The weights, inside the blocks, of linear layers from tokens to tokens."""
    return [
        module.weight
        for name, module in model.network.blocks.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith("modulation")
    ]


def set_lr(optimizers: list[Optimizer], lr: float) -> None:
    """Set the learning rate of AdamW, and that of Muon in proportion."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * (MUON_LR if isinstance(optimizer, Muon) else 1)


def averaged(model: nn.Module, average: Average) -> AveragedModel:
    """A copy of a model that follows it whenever it is told to `update_parameters`; it takes no gradients itself."""
    copy = AveragedModel(model, multi_avg_fn=average).requires_grad_(False).eval()
    copy.update_parameters(model)  # torch's first update copies: so the average begins with the weights of now
    return copy


def warmed_up_ema(decay: float) -> Average:
    """An exponential average whose decay at update n = 1, 2, ... is min(decay, (1 + n) / (10 + n)).

    The weights of the first steps are soon outdated, so a short memory serves best at first.
    """

    def average(averages: Any, current: Any, updates: Any) -> None:
        n = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, current, updates)

    return average
