"""Who changes which weights, and how."""

from pathlib import Path

import pytest
import torch

from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.optimizers import (
    MUON_LR,
    Muon,
    averaged,
    hidden_matrices,
    optimizers,
    orthogonal,
    set_lr,
    warmed_up_ema,
)


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


def test_muon_scales_its_step_by_the_longer_side_of_a_matrix() -> None:
    """By hand: the first step of a one-row matrix. Its direction has unit length after Newton-Schulz, about."""
    matrix = torch.full((1, 16), 2.0).requires_grad_()
    matrix.grad = torch.full((1, 16), 5.0)
    Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    scale = 1.0
    for _ in range(5):
        scale = 3.4445 * scale - 4.7750 * scale**3 + 2.0315 * scale**5
    expected = 2.0 * (1 - 0.1 * 0.5) - 0.2 * 0.1 * 16**0.5 * scale * 0.25
    torch.testing.assert_close(matrix.detach(), torch.full((1, 16), expected), rtol=1e-2, atol=0)
    assert abs(expected - 1.886) < 1e-3


def test_muon_looks_ahead_along_its_momentum() -> None:
    """Nesterov's: gradients (1, 0), then (0, 1), with momentum 0.5, give 0.5 (0, 1) + 0.5 (0.25, 0.5)."""
    matrix = torch.zeros(1, 2).requires_grad_()
    optimizer = Muon([matrix], lr=1.0, momentum=0.5, weight_decay=0.0)
    for grad in ([[1.0, 0.0]], [[0.0, 1.0]]):
        before = matrix.detach().clone()
        matrix.grad = torch.tensor(grad)
        optimizer.step()
    moved = before - matrix.detach()
    assert float(moved[0, 1] / moved[0, 0]) == pytest.approx(0.75 / 0.125, rel=0.02)


def test_orthogonal_brings_all_singular_values_near_one() -> None:
    matrix = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix).float())
    assert values.min() > 0.6 and values.max() < 1.3


def test_the_average_begins_with_the_first_weights_and_forgets_them_fast() -> None:
    """Weights go from 0 to 1 and stay: decays are 2/11, 3/12, 4/13, ... and no more than was asked for."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = averaged(model, warmed_up_ema(0.3))
    assert float(average.module.weight) == 0.0
    torch.nn.init.ones_(model.weight)
    missing = []
    for _ in range(4):
        average.update_parameters(model)
        missing.append(1 - float(average.module.weight))
    decays = [2 / 11, 3 / 12, 0.3, 0.3]
    expected = [torch.tensor(decays[: n + 1]).prod().item() for n in range(4)]
    assert missing == pytest.approx(expected, rel=1e-4)
    assert not average.module.weight.requires_grad


def test_a_long_average_gets_as_long_as_it_was_asked_to_be() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = averaged(model, warmed_up_ema(0.99))
    average.n_averaged.fill_(10_000)
    torch.nn.init.ones_(model.weight)
    average.update_parameters(model)
    assert float(average.module.weight) == pytest.approx(0.01, rel=1e-4)
