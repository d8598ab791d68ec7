import pytest
import torch

from lssvwm_models.memory.norms import KeyNorm, RMSNorm

X = torch.tensor([[3.0, 4.0, 0.0, 0.0]])


def test_new_norms_leave_lengths_as_the_norm_makes_them():
    torch.testing.assert_close(RMSNorm(4)(X), X / 2.5, rtol=1e-5, atol=0)
    centred = X - 1.75
    torch.testing.assert_close(KeyNorm(4)(X), centred / centred.square().mean().sqrt(), rtol=1e-5, atol=0)
    torch.testing.assert_close(KeyNorm(4, gain=3.0, bias=0.5)(X), 3 * KeyNorm(4)(X) + 0.5)
    assert KeyNorm(4).bias is None


@pytest.mark.parametrize("norm", [RMSNorm(4), KeyNorm(4), KeyNorm(4, bias=1.0)])
def test_the_dtype_stays_that_of_the_input(norm):
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(X.bfloat16()).dtype == torch.bfloat16
        assert norm(X).dtype == torch.float32


def test_what_is_tiny_is_not_blown_up():
    assert RMSNorm(4, eps=1e-5)(torch.full((1, 4), 1e-3))[0, 0].item() == pytest.approx(
        1e-3 / (1e-6 + 1e-5) ** 0.5, rel=1e-4
    )
