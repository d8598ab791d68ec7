"""What changes the weights: Muon for the matrices inside the blocks, AdamW for all else (Jordan et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

if TYPE_CHECKING:
    from world_models.training_config import TrainingConfig
    from world_models.world_model import WorldModel

MUON_LR = 2.5  # times the learning rate of AdamW


def optimizers(model: WorldModel, config: TrainingConfig) -> list[Optimizer]:
    """Optimisers that share the parameters of a model; `set_lr` before every step says how far they go.

    Muon makes every step of a matrix orthogonal, so that directions with small gradients are learned as fast as those
    with large ones. It is for matrices between hidden layers: what embeds, modulates or decodes is left to AdamW.
    """
    by_muon = hidden_matrices(model) if config.optimizer == "muon" else []
    others = [p for p in model.parameters() if not any(p is matrix for matrix in by_muon)]
    made: list[Optimizer] = [AdamW(others, betas=(0.9, 0.99), weight_decay=config.weight_decay)]
    if by_muon:
        made.append(Muon(by_muon, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return made


def hidden_matrices(model: WorldModel) -> list[Tensor]:
    """The weights, inside the blocks, of linear layers from tokens to tokens."""
    return [
        module.weight
        for name, module in model.network.blocks.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith("modulation")
    ]


def set_lr(made: list[Optimizer], lr: float) -> None:
    """Set the learning rate of AdamW, and that of Muon in proportion."""
    for optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = lr * (MUON_LR if isinstance(optimizer, Muon) else 1)
