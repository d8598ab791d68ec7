from dataclasses import replace

import pytest
import torch

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


@pytest.mark.parametrize("steps", [1, 2])
def test_what_is_replayed_is_what_is_imagined(steps):
    model = random_world_model(ACTION, VIEW)
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

    monkeypatch.setattr(torch.jit, "trace", refuse)
    model = random_world_model(ACTION, VIEW)
    recorded = RecordedSteps(model, after=0)
    state, act, keys = begun(model, 2), torch.tensor([1, 2]), torch.arange(2)
    for _ in range(3):
        same(model.imagine(state, act, keys, recorded=recorded), model.imagine(state, act, keys))
