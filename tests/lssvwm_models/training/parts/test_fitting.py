"""What parts are trained by."""

import pytest

from lssvwm_models.training.parts.fitting import LR, lr_at


def test_its_learning_rate_rises_over_fifty_steps_and_falls_over_two_thirds():
    rates = {0: 0.02, 24: 0.5, 49: 1.0, 100: 1.0, 150: 0.75, 200: 0.5, 299: 0.005}
    assert {step: pytest.approx(lr_at(step, 300) / LR) for step in rates} == rates
