"""Who changes which weights, and how."""

from pathlib import Path

import pytest
import torch

from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.optimizers import MUON_LR, Muon, hidden_matrices, optimizers, set_lr


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
        "attention.in_proj.weight",
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


@pytest.mark.parametrize("shape", [(8, 24), (24, 8)])
def test_muon_does_what_torchs_does(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    begin = torch.randn(shape)
    ours, theirs = begin.clone().requires_grad_(), begin.clone().requires_grad_()
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    made = [Muon([ours], **settings), torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw")]
    for _ in range(3):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        for optimizer in made:
            optimizer.step()
    moved = (theirs - begin).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # torch's is in bfloat16
    assert moved > 0.1


def test_muon_leaves_alone_what_has_no_gradient() -> None:
    matrix = torch.ones(2, 3, requires_grad=True)
    Muon([matrix]).step()
    assert torch.equal(matrix, torch.ones(2, 3))
