import threading

import pytest
import torch

from lssvwm_models.execution.threads import ALONE, by_thread
from tests.lssvwm_models.random_worlds import MODEL, sequence


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def surroundings(worlds):
    return worlds, threading.get_ident(), torch.get_num_threads(), torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("worlds", [0, 1, ALONE, ALONE + 1, 5 * ALONE])
def test_every_world_is_dreamt_once_and_a_thread_of_the_pool_computes_alone(three_threads, worlds):
    parts, identities, threads, autocast = zip(*by_thread(surroundings, worlds), strict=True)
    assert [i for part in parts for i in range(worlds)[part]] == list(range(worlds))
    assert len(parts) == min(3, max(1, -(-worlds // ALONE)))
    alone = len(parts) == 1
    assert set(threads) == {3 if alone else 1} and set(autocast) == {False}
    assert (threading.get_ident() in identities) == alone
    assert torch.get_num_threads() == 3


def test_threads_of_the_callers_that_begin_later_have_the_callers_number(three_threads):
    by_thread(surroundings, 3 * ALONE)
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [3]


def test_the_precision_is_the_callers(three_threads):
    with torch.autocast("cpu", torch.bfloat16):
        made = by_thread(lambda worlds: torch.ones(2, 2) @ torch.ones(2, 2), 3 * ALONE)
    assert [x.dtype for x in made] == 3 * [torch.bfloat16]


def test_an_error_leaves_the_number_of_threads_as_it_was(three_threads):
    def fail(worlds):
        raise RuntimeError("no dream")

    for worlds in (1, 3 * ALONE):
        with pytest.raises(RuntimeError, match="no dream"):
            by_thread(fail, worlds)
        assert torch.get_num_threads() == 3


def test_worlds_dreamt_by_several_threads_are_those_dreamt_by_one(three_threads):
    obs, act, is_first = sequence(0, T=3, batch=2 * ALONE + 3)
    state, _ = MODEL.observe(MODEL.initial_state(len(obs)), obs, act, is_first)
    keys = torch.arange(len(obs))
    frames, after = MODEL.imagine(state, act[:, 0], keys)
    torch.set_num_threads(1)
    expected, expected_after = MODEL.imagine(state, act[:, 0], keys)
    for name in ("obs", "rew", "term_prob", "feats"):
        torch.testing.assert_close(getattr(frames, name), getattr(expected, name), rtol=1e-4, atol=1e-4)
    for name, tensor in after.tensors().items():
        torch.testing.assert_close(tensor, expected_after.tensors()[name], rtol=1e-4, atol=1e-4)
