"""The laws of world models, in first person: places along rays, and views."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from lssvwm_models.execution.recorded import RecordedSteps
from lssvwm_models.memory.geometry import advance
from lssvwm_models.memory.rays import FirstPersonView
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.config import preset
from lssvwm_models.training.losses import world_model_loss
from lssvwm_models.training.objective import ObjectiveConfig
from tests.lssvwm_models.model.test_world_model import assert_same
from tests.lssvwm_models.random_worlds import DISCRETE, VIEW, batch, make, sequence

EYE = FirstPersonView(90.0, VIEW.motions, depths=(0.5, 1.5, 3.0))
NETWORK = replace(preset("debug", DISCRETE).network, block_sizes=(4, 4, 2), map_layers=(0,), view_layers=(1,))
MODEL = make(view=EYE, network=NETWORK)


def wander(T=11):
    """Poses of two worlds, from where the first frame was seen."""
    poses = [torch.zeros(2, 3, dtype=torch.long)]
    for t in range(T - 1):
        motion = torch.tensor([VIEW.motions[t % 4], VIEW.motions[(t // 2) % 4]])
        poses.append(advance(poses[-1], motion))
    return torch.stack(poses, 1)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_one_scan_equals_two_and_steps(given, cut):
    obs, act, is_first = sequence(3, model=MODEL)
    is_first[:, 1:] = False
    pose = wander() if given else None
    whole, feats = MODEL.observe(MODEL.initial_state(2), obs, act, is_first, pose)
    state = MODEL.initial_state(2)
    parts = []
    bounds = [0, cut, *range(cut + 1, 12)]
    for start, stop in pairwise(bounds):
        part = slice(start, stop)
        here = None if pose is None else pose[:, part]
        state, some = MODEL.observe(state, obs[:, part], act[:, part], is_first[:, part], here)
        parts.append(some)
    torch.testing.assert_close(torch.cat(parts, 1), feats, rtol=1e-4, atol=1e-5)
    assert_same(state, whole, 1e-4)


def test_worlds_side_by_side_are_those_alone_and_a_saved_one_goes_on():
    obs, act, is_first = sequence(4, model=MODEL)
    state, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    keys = torch.tensor([5, 6])
    frame, after = MODEL.imagine(state, act[:, 0], keys)
    for i in range(2):
        one = slice(i, i + 1)
        alone, after_alone = MODEL.imagine(state[one], act[one, 0], keys[one])
        torch.testing.assert_close(alone.obs, frame.obs[one], rtol=1e-4, atol=1e-4)
        assert_same(after_alone, after[one], 1e-4)
    again = WorldModelState.from_tensors(state.tensors())
    assert torch.equal(MODEL.imagine(again, act[:, 0], keys)[0].latents, frame.latents)


def test_a_recorded_step_gives_the_same_numbers():
    obs, act, is_first = sequence(5, model=MODEL)
    state, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first)
    recorded = RecordedSteps(MODEL, after=1)
    for i in range(4):
        keys = torch.arange(2) + i
        replayed, after = MODEL.imagine(state, act[:, i], keys, recorded=recorded)
        plain, plainly = MODEL.imagine(state, act[:, i], keys)
        assert torch.equal(replayed.latents, plain.latents)
        assert_same(after, plainly, 0)
        state = after
    assert len(recorded.steps) == 1


def test_frames_depend_on_where_they_are_seen_from_and_which_way():
    obs, act, is_first = sequence(6, model=MODEL)
    state, _ = MODEL.observe(MODEL.initial_state(2), obs, act, is_first, wander())
    keys = torch.tensor([1, 2])
    frames = [
        MODEL.imagine(state, act[:, 0], keys, pose=torch.tensor([pose] * 2))[0].latents
        for pose in ([0, 0, 0], [0, 0, 2], [3, 0, 0])
    ]
    assert not torch.allclose(frames[0], frames[1], atol=1e-3) and not torch.allclose(frames[0], frames[2], atol=1e-3)


@pytest.mark.parametrize("objective", [ObjectiveConfig(), ObjectiveConfig(recall=0.5, truncation=0.5)])
def test_every_weight_learns(objective):
    model = make(view=EYE, network=NETWORK)
    seen = replace(batch(), pose=wander())
    loss, _ = world_model_loss(model, seen, torch.Generator().manual_seed(0), objective)
    loss.backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(name.startswith("odometry.") for name in still), still


@pytest.mark.parametrize(
    ("network", "view", "message"),
    [
        ({"view_layers": (0,)}, EYE, r"map_layers=\(0,\) and view_layers=\(0,\) must be different layers"),
        ({"view_layers": (2,)}, EYE, r"view_layers=\(2,\) must be layers whose tube is the whole frame"),
        ({}, VIEW, r"view_layers=\(1,\) are addressed by where the eye looks, but view=EgoView"),
        ({}, None, r"view_layers=\(1,\) are addressed by where the eye looks, but view=None: give a FirstPersonView"),
    ],
)
def test_networks_that_do_not_fit_the_view_are_refused(network, view, message):
    with pytest.raises(ValueError, match=message):
        make(view=view, network=replace(NETWORK, **network))
