import torch

from lssvwm_models.data.batch import Batch
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.losses import world_model_loss
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.perceptual import perceptual_loss


def edge(at):
    frame = -torch.ones(1, 3, 32, 32)
    frame[..., at:] = 1
    return frame


def test_the_same_frames_cost_nothing_and_what_looks_more_alike_costs_less():
    noise = 0.02 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert perceptual_loss(edge(16), edge(16)) == 0
    nearly, far = perceptual_loss(edge(16) + noise, edge(16)), perceptual_loss(edge(4), edge(16))
    assert 0 < 5 * nearly < far


def test_it_is_one_number_per_frame_for_any_number_of_channels():
    frames = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = frames.clone()
    other[1, 2] *= -1
    loss = perceptual_loss(other, frames)
    assert loss.shape == (2, 3) and loss.nonzero().tolist() == [[1, 2]]


def test_its_gradient_makes_frames_alike():
    true, frame = edge(16), edge(12).requires_grad_()
    optimizer = torch.optim.SGD([frame], 30.0)
    before = perceptual_loss(frame, true).item()
    for _ in range(20):
        optimizer.zero_grad()
        perceptual_loss(frame, true).sum().backward()
        optimizer.step()
    assert perceptual_loss(frame, true).item() < 0.7 * before


def test_a_model_learns_by_it_and_does_not_own_its_encoder():
    torch.manual_seed(0)
    model = WorldModel(preset("debug", ActionSpec("discrete", 3), frame_size=32, patch=4))
    names = set(model.state_dict())
    is_first = torch.tensor([[True, False, False]])
    obs = torch.rand(1, 3, 3, 32, 32) * 2 - 1
    batch = Batch(obs, torch.ones(1, 3, dtype=torch.long), torch.zeros(1, 3), ~is_first, is_first)
    losses, gradients = [], []
    for weight in (0.0, 3.0):
        model.zero_grad()
        rng = torch.Generator().manual_seed(1)
        loss, logs = world_model_loss(model, batch, rng, ObjectiveConfig(perceptual=weight))
        loss.backward()
        losses.append(logs)
        gradients.append(model.network.out.weight.grad.clone())
    assert losses[1]["frame_loss"] == losses[0]["frame_loss"]
    torch.testing.assert_close(losses[1]["loss"], losses[0]["loss"] + 3 * losses[1]["perceptual_loss"])
    assert "perceptual_loss" not in losses[0] and not torch.allclose(*gradients)
    assert set(model.state_dict()) == names
