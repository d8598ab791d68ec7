"""Who changes which weights, and how."""

from pathlib import Path

import pytest
import torch

from world_models.actions import ActionSpec
from world_models.optimizers import MUON_LR, hidden_matrices, optimizers, set_lr
from world_models.training_config import TrainingConfig
from world_models.world_model import WorldModel, preset


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(preset("debug", ActionSpec("discrete", 3), latent_dim=4))


def test_every_parameter_has_exactly_one_optimizer(model: WorldModel) -> None:
    made = optimizers(model, TrainingConfig(Path()))
    owned = [id(p) for o in made for group in o.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_matrices_from_tokens_to_tokens_are_muons(model: WorldModel) -> None:
    names = {id(p): name for name, p in model.named_parameters()}
    chosen = {names[id(p)].split("blocks.0.")[1] for p in hidden_matrices(model) if "blocks.0." in names[id(p)]}
    assert chosen == {
        "scan.in_proj.weight",
        "scan.out_proj.weight",
        "attention.qkv.weight",
        "attention.out_proj.weight",
        "mlp.0.weight",
        "mlp.2.weight",
    }
    assert len(optimizers(model, TrainingConfig(Path(), optimizer="adamw"))) == 1


def test_learning_rates_stay_in_proportion(model: WorldModel) -> None:
    made = optimizers(model, TrainingConfig(Path()))
    set_lr(made, 0.5)
    assert [group["lr"] for o in made for group in o.param_groups] == [0.5, 0.5 * MUON_LR]


def test_a_matrix_moves_as_far_in_small_directions_of_its_gradient_as_in_large_ones(model: WorldModel) -> None:
    adamw, muon = optimizers(model, TrainingConfig(Path(), weight_decay=0.0))
    matrix = hidden_matrices(model)[1]
    before = matrix.detach().clone()
    size = min(matrix.shape)
    matrix.grad = torch.zeros_like(matrix)
    matrix.grad[range(size), range(size)] = torch.logspace(0, -1.5, size)
    set_lr([adamw, muon], 0.1)
    muon.step()
    moved = torch.linalg.svdvals(matrix.detach() - before)
    assert moved.max() / moved.min() < 2 < 30  # the gradient's: 30
