import copy
import pickle
import threading
import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lssvwm_models.execution import recorded as module
from lssvwm_models.execution.recorded import RecordedSteps
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel
from tests.conftest import MOTIONS, random_world_model

ACTION = ActionSpec("discrete", 7)
VIEW = EgoView(cell=8, row=6, col=3, motions=MOTIONS)


def begun(model, worlds, frames=2):
    state = model.initial_state(worlds)
    for frame in range(frames):
        _, state = model.imagine(state, torch.full((worlds,), 2), torch.arange(worlds) + frame)
    return state


def same(one, other):
    (frame, state), (frame_too, state_too) = one, other
    for name in ("latents", "expected", "rew", "term_prob", "feats", "obs"):
        assert torch.equal(getattr(frame, name), getattr(frame_too, name)), name
    assert all(torch.equal(v, state_too.tensors()[k]) for k, v in state.tensors().items())


@pytest.mark.parametrize(("steps", "codes"), [(1, 0), (2, 5)])
def test_what_is_replayed_is_what_is_imagined(steps, codes):
    model = random_world_model(ACTION, VIEW)
    if codes:
        model.set_codebook(torch.rand(codes, 3, 8, 8))
    recorded = RecordedSteps(model, after=1)
    state, act = begun(model, 3), torch.tensor([0, 1, 2])
    for i in range(5):
        keys = torch.arange(3) + i
        replayed = model.imagine(state, act.roll(i), keys, steps, recorded=recorded)
        same(replayed, model.imagine(state, act.roll(i), keys, steps))
        state = replayed[1]
    assert len(recorded.steps) == 1
    pose = torch.tensor([[1, 2, 3], [0, 0, 0], [-9, 4, 1]])
    for _ in range(3):
        same(model.imagine(state, act, keys, steps, pose, recorded), model.imagine(state, act, keys, steps, pose))
    assert len(recorded.steps) == 2


def test_worlds_that_begin_and_numbers_of_worlds_that_are_rare_are_not_recorded():
    model = random_world_model(ACTION, VIEW)
    recorded = RecordedSteps(model, after=1)
    for worlds in (1, 2, 3):
        state, act, keys = begun(model, worlds), torch.ones(worlds).long(), torch.arange(worlds)
        model.imagine(state, act, keys, recorded=recorded)
    assert not recorded.steps
    nothing = model.initial_state(3)
    for _ in range(3):
        same(model.imagine(nothing, act, keys, recorded=recorded), model.imagine(nothing, act, keys))
    assert not recorded.steps


def test_weights_that_change_are_recorded_anew():
    model = random_world_model(ACTION, VIEW)
    recorded = RecordedSteps(model, after=1)
    state, act, keys = begun(model, 2), torch.tensor([1, 2]), torch.arange(2)
    for _ in range(3):
        model.imagine(state, act, keys, recorded=recorded)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    for _ in range(3):
        same(model.imagine(state, act, keys, recorded=recorded), model.imagine(state, act, keys))
    assert len(recorded.steps) == 1  # and those of the weights before are let go


def test_attention_over_all_frames_is_never_the_same_step():
    config = preset("debug", ACTION)
    network = replace(config.network, memory="attention", memory_window=2)
    model = WorldModel(replace(config, network=network)).eval().requires_grad_(False)
    recorded = RecordedSteps(model, after=0)
    state, act, keys = model.initial_state(2), torch.tensor([1, 2]), torch.arange(2)
    for _ in range(4):
        replayed = model.imagine(state, act, keys, recorded=recorded)
        same(replayed, model.imagine(state, act, keys))
        state = replayed[1]
    assert not recorded.steps


def test_where_nothing_can_be_recorded_steps_are_taken_as_before(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("not on this Python")

    monkeypatch.setattr(torch._C, "_create_graph_by_tracing", refuse)
    model = random_world_model(ACTION, VIEW)
    recorded = RecordedSteps(model, after=0)
    state, act, keys = begun(model, 2), torch.tensor([1, 2]), torch.arange(2)
    for _ in range(3):
        same(model.imagine(state, act, keys, recorded=recorded), model.imagine(state, act, keys))


@pytest.mark.parametrize("worlds", [1, 3])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_replayed_numbers_are_the_same_to_the_last_bit(worlds, dtype):
    """Under autocast, too: a recording knows of no part where it was off, such as odometry."""
    model = random_world_model(ACTION, VIEW)
    recorded = RecordedSteps(model, after=0)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        state = begun(model, 1).repeat_interleave(worlds)  # a view, and then tensors of their own
        for i in range(4):
            act, keys = (torch.arange(worlds) + i) % 7, torch.arange(worlds) + i
            replayed = model.imagine(state, act, keys, 2, recorded=recorded)
            same(replayed, model.imagine(state, act, keys, 2))
            state = replayed[1]
    assert list(map(bool, recorded.steps.values())) == [True]


def double(x):
    return (x * 2,)


def call(recorded, number):
    x = torch.arange(float(number))
    assert torch.equal(recorded(double, {"x": x}, None)[0], x * 2)


def test_a_thousand_varied_batches_keep_a_handful_of_recordings():
    recorded = RecordedSteps(torch.nn.Linear(1, 1), after=1, kept=4)
    rng = torch.Generator().manual_seed(0)
    for number in torch.randint(1, 40, (1000,), generator=rng).square() % 40:
        call(recorded, int(number))
        assert len(recorded.steps) <= 4 and len(recorded._recent) <= 8
    assert len(recorded.steps) == 4


def test_recordings_that_give_way_are_freed():
    recorded = RecordedSteps(torch.nn.Linear(1, 1), after=0, kept=2)

    def long(x):
        for _ in range(300):
            x = x.sin()
        return (x,)

    def record(numbers):
        for number in numbers:
            for _ in range(2):
                recorded(long, {"x": torch.ones(number)}, None)

    record(range(1, 5))
    before = resident()
    record(range(5, 15))
    assert len(recorded.steps) == 2
    assert resident() - before < 5 * 2**20  # each of the ten takes more than two megabytes in PyTorch's own list


def resident():
    """Bytes of memory that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_what_is_asked_for_often_is_not_pushed_out_by_what_is_not():
    recorded = RecordedSteps(torch.nn.Linear(1, 1), after=3, kept=3)

    def numbers():
        return [shape[0] for *_, ((_, shape, *_),), _ in recorded.steps]

    for other in range(10, 50):
        call(recorded, 1), call(recorded, 2), call(recorded, other)
    assert numbers() == [1, 2]
    for _ in range(5):
        call(recorded, 1), call(recorded, 3), call(recorded, 4)
    assert numbers() == [1, 3, 4]


def test_many_numbers_of_worlds_in_turn_are_not_recorded_over_and_over(monkeypatch):
    recordings = []
    monkeypatch.setattr(module, "_record", lambda step, tensors: recordings.append(tensors))
    recorded = RecordedSteps(torch.nn.Linear(1, 1), after=3, kept=4)
    for _ in range(20):
        for number in range(12):
            call(recorded, number)
    assert not recordings


def test_what_cannot_be_recorded_is_tried_once_and_holds_no_worlds():
    tried = []

    def refuse(x):
        tried.append(torch.jit.is_tracing())
        if tried[-1]:
            raise RuntimeError("not here")
        return (x,)

    recorded = RecordedSteps(torch.nn.Linear(1, 1), after=0)
    x = torch.ones(2)
    for _ in range(3):
        assert recorded(refuse, {"x": x}, None)[0] is x
    assert tried == [True, False, False, False]
    held = weakref.ref(x)
    del x
    assert held() is None


def test_threads_that_record_at_once_print_no_warnings():
    """Warnings are silenced for the whole process: who stops first would let those of the other through."""
    arrived = [threading.Event(), threading.Event()]
    models = [torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)]
    tracing = []

    def step(x):
        tracing.append(torch.jit.is_tracing())
        me = threads.index(threading.current_thread())
        arrived[me].set()
        if me == 0:
            arrived[1].wait(timeout=30)  # not done before the other has come
        else:
            threads[0].join()
        return (x * len(x),)

    def run():
        RecordedSteps(models.pop(), after=0)(step, {"x": torch.ones(3)}, None)

    threads = [threading.Thread(target=run) for _ in models]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads[0].start()
        arrived[0].wait(timeout=30)
        threads[1].start()
        threads[1].join()
    assert tracing == [True, False] and not caught  # the second one takes its step meanwhile


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_recorded_nothing(copied):
    recorded = RecordedSteps(torch.nn.Linear(1, 1), after=0, kept=3)
    call(recorded, 2)
    other = copied(recorded)
    assert (len(recorded.steps), len(other.steps), other.after, other.kept) == (1, 0, 0, 3)
    call(other, 2)
    assert len(other.steps) == 1
