import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lssvwm_models.memory.scans import Scanned
from lssvwm_models.model.blocks import Block, modulated_norm


class Doubled(nn.Module):
    """In the place of a memory: what it makes of its tokens is twice the tokens."""

    def forward(self, x, frames, state):
        return Scanned(2 * x, state + 1, x.sum(), x.mean())


class Tripled(nn.Module):
    """In the place of what mixes tokens."""

    def forward(self, x, frames, state):
        return 3 * x, state + 2


def norm(x):
    return F.layer_norm(x, x.shape[-1:])


def test_every_part_of_a_block_has_a_shift_a_scale_and_a_gate_of_its_own():
    torch.manual_seed(0)
    block = Block(Doubled(), Tripled(), d_model=4, condition=3, mlp_ratio=2)
    nn.init.normal_(block.modulation.weight)
    x, cond = torch.randn(2, 3, 1, 5, 4), torch.randn(2, 3, 1, 3)
    output = block(x, cond, None, torch.zeros(1), torch.zeros(1))
    chunks = block.modulation(cond * cond.sigmoid()).unsqueeze(-2).unflatten(-1, (3, 3, 4))  # part, kind
    shift, scale, gate = chunks.unbind(-2)
    expected = x
    for i, part in enumerate((lambda y: 2 * y, lambda y: 3 * y, block.mlp)):
        seen = norm(expected) * (1 + scale[..., i, :]) + shift[..., i, :]
        expected = expected + gate[..., i, :] * part(seen)
    torch.testing.assert_close(output.x, expected, rtol=1e-5, atol=1e-5)
    assert output.ssm == 1 and output.kv == 2
    assert output.around is not None and output.reads is not None and output.around != output.reads


def test_a_modulated_norm_without_modulation_is_the_norm():
    x = torch.randn(2, 4)
    torch.testing.assert_close(modulated_norm(x, torch.zeros(4), torch.zeros(4)), norm(x))
    torch.testing.assert_close(modulated_norm(x, torch.full((4,), 0.5), torch.ones(4)), 2 * norm(x) + 0.5)


@pytest.mark.parametrize("ratio", [2, 3])
def test_the_mlp_is_as_wide_as_its_ratio_says(ratio):
    assert [layer.out_features for layer in Block(Doubled(), Tripled(), 4, 3, ratio).mlp[::2]] == [4 * ratio, 4]
