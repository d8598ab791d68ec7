"""Forked children of a program that computes with several threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="others do not fork by themselves")

PROGRAM = """
from multiprocessing import get_context
from threading import current_thread
import lssvwm_env
import torch
from lssvwm_models.execution.threads import by_thread, set_threads

def dream(worlds):
    x = torch.ones(400, 400)
    return worlds, (x @ x).exp().isinf().sum().item()

def child(queue):
    alone = by_thread(dream, 64)
    set_threads(2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # in threads that are its own, a child may have several
    queue.put((threads, len(alone), by_thread(dream, 64) == before))

set_threads(2)
dream(64)  # in torch's threads
before = by_thread(dream, 64)  # in ours
queue = get_context("fork").Queue()
process = get_context("fork").Process(target=child, args=(queue,))
process.start()
print(queue.get(timeout=20), torch.get_num_threads())
process.join()
"""


def run(program: str) -> str:
    words = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def test_a_forked_child_computes_with_one_thread_and_has_a_pool_of_its_own() -> None:
    assert run(PROGRAM) == "(1, 1, True) 2"


def test_worlds_in_forked_processes_begin_and_go_on() -> None:
    program = """
import gymnasium, torch
torch.set_num_threads(2)
import lssvwm_env
worlds = gymnasium.make_vec("LSSVWM/MiniGrid-DoorKey-6x6-v0", num_envs=2, vectorization_mode="async")
obs, _ = worlds.reset(seed=1)
print(obs.shape, worlds.step([2, 2])[0].shape)
worlds.close()
"""
    assert run(program) == "(2, 64, 64, 3) (2, 64, 64, 3)"
