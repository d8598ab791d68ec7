"""Small world models with random weights, and random recordings for them."""

import torch
from torch import nn

from lssvwm_models.data.batch import Batch
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel

VIEW = EgoView(cell=8, row=6, col=3, motions=((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
DISCRETE = ActionSpec("discrete", 5)


def make(action=DISCRETE, view=VIEW, **changes):
    """A small model with random weights everywhere (some layers begin at zero, which would hide mistakes)."""
    torch.manual_seed(0)
    model = WorldModel(preset("debug", action, view=view, block_frames=4, **changes)).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


MODEL = make()


def sequence(seed, T=11, batch=2, model=MODEL):
    g = torch.Generator().manual_seed(seed)
    c = model.config
    obs = torch.rand(batch, T, c.channels, c.frame_size, c.frame_size, generator=g) * 2 - 1
    if c.action.kind == "discrete":
        act = torch.randint(0, c.action.size, (batch, T), generator=g)
    else:
        act = torch.randn(batch, T, c.action.size, generator=g)
    is_first = torch.rand(batch, T, generator=g) < 0.15
    is_first[:, 0] = True
    return obs, act, is_first


def batch(seed=0, T=11):
    obs, act, is_first = sequence(seed, T)
    return Batch(obs, act, torch.rand(2, T), is_first, is_first, torch.zeros(2, T, 3, dtype=torch.long))
