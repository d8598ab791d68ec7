"""What is done at which step."""

from pathlib import Path

import pytest

from lssvwm_models.training.config import TrainingConfig


def config(**changes):
    return TrainingConfig(Path(), **changes)


def test_the_learning_rate_rises_stays_and_falls():
    settings = config(steps=100, lr=0.8, warmup=4, cooldown=0.25)
    rates = {0: 0.2, 1: 0.4, 3: 0.8, 4: 0.8, 74: 0.8, 75: 0.8, 76: 0.768, 90: 0.32, 99: 0.032}
    assert {step: pytest.approx(settings.lr_at(step)) for step in rates} == rates


def test_without_a_cooldown_the_learning_rate_stays_to_the_end():
    settings = config(steps=10, lr=1.0, warmup=1, cooldown=0.0)
    assert [settings.lr_at(step) for step in range(10)] == [1.0] * 10


def test_a_cooldown_over_everything_falls_from_the_start():
    settings = config(steps=4, lr=1.0, warmup=1, cooldown=1.0)
    assert [settings.lr_at(step) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_a_warmup_longer_than_the_training_is_cut_off():
    settings = config(steps=4, lr=1.0, warmup=8, cooldown=0.5)
    assert [settings.lr_at(step) for step in range(4)] == [0.125, 0.25, 0.375, 0.5]


def test_every_length_of_the_schedule_gets_an_equal_share_of_the_steps():
    settings = config(steps=7, lengths=(8, 16, 32))
    assert [settings.length(step) for step in range(7)] == [8, 8, 8, 16, 16, 32, 32]
    assert settings.length(7) == 32  # an evaluation of a finished run asks for it


def test_a_batch_has_as_many_frames_whatever_the_length():
    settings = config(frames_per_step=128, lengths=(128,))
    assert [settings.batch_size(length) for length in (32, 50, 128)] == [4, 2, 1]
    assert settings.batch_size(200) == 1
