"""Chance has an owner."""

import torch

from lssvwm_models.utils.randomness import modules_drawn_from, normal_like, step_generator


def drawn(rng):
    return torch.rand(3, generator=rng).tolist()


def test_every_step_of_every_seed_has_a_stream_of_its_own():
    streams = [drawn(step_generator(seed, step)) for seed in range(3) for step in range(3)]
    assert len({tuple(numbers) for numbers in streams}) == 9
    assert drawn(step_generator(1, 2)) == streams[5]


def test_a_step_draws_what_it_always_drew():
    """Golden: runs of older versions are resumed with it."""
    torch.manual_seed(2 * 1_000_003 + 5)
    assert drawn(step_generator(2, 5)) == torch.rand(3).tolist()


def test_modules_are_a_function_of_their_generator_and_move_it_on():
    before = torch.get_rng_state()
    rng = torch.Generator().manual_seed(0)
    with modules_drawn_from(rng):
        first = torch.nn.Linear(4, 4).weight
        second = torch.nn.Linear(4, 4).weight
    with modules_drawn_from(torch.Generator().manual_seed(0)):
        again = torch.nn.Linear(4, 4).weight
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert drawn(rng) != drawn(torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_is_like_what_it_is_for():
    x = torch.zeros(1000, 2, dtype=torch.bfloat16)
    noise = normal_like(x, torch.Generator().manual_seed(0))
    assert noise.shape == x.shape and noise.dtype == x.dtype and not x.any()
    assert abs(noise.float().mean()) < 0.1 and abs(noise.float().std() - 1) < 0.1
