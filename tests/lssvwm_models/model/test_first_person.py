"""The laws of world models, in first person: places along rays, and views."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from lssvwm_models.execution import threads
from lssvwm_models.execution.recorded import RecordedSteps
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.geometry import advance, ego_motion
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.config import preset
from lssvwm_models.training.losses import world_model_loss
from lssvwm_models.training.objective import ObjectiveConfig
from tests.lssvwm_models.model.test_world_model import assert_same
from tests.lssvwm_models.random_worlds import DISCRETE, VIEW, batch, make, sequence

EYE = FirstPersonView(90.0, VIEW.motions, depths=(0.5, 1.5, 3.0))
NETWORK = replace(preset("debug", DISCRETE).network, block_sizes=(4, 2), map_layers=(0,), keyframes=8, voxels=24)
ON_GRID = make(view=EYE, network=NETWORK)
IN_PLANE = make(view=replace(EYE, motions=None), network=NETWORK)
either = pytest.mark.parametrize("model", [ON_GRID, IN_PLANE], ids=["grid", "plane"])


def wander(model, T=11):
    """Poses of two worlds, from where the first frame was seen."""
    poses = [torch.zeros(2, 3, dtype=model.pose_dtype)]
    for t in range(T - 1):
        motion = torch.tensor([VIEW.motions[t % 4], VIEW.motions[(t // 2) % 4]])
        poses.append(advance(poses[-1], 0.4 * motion if model is IN_PLANE else motion))
    return torch.stack(poses, 1)


@either
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_one_scan_equals_two_and_steps(model, given, cut):
    obs, act, is_first = sequence(3, model=model)
    is_first[:, 1:] = False
    is_first[1, 6] = not given
    pose = wander(model) if given else None
    whole, feats = model.observe(model.initial_state(2), obs, act, is_first, pose)
    assert whole.pose.any()
    state = model.initial_state(2)
    parts = []
    bounds = [0, cut, *range(cut + 1, 12)]
    for start, stop in pairwise(bounds):
        part = slice(start, stop)
        here = None if pose is None else pose[:, part]
        state, some = model.observe(state, obs[:, part], act[:, part], is_first[:, part], here)
        parts.append(some)
    tolerance = 1e-4 if model is ON_GRID or given else 1e-3  # what is reckoned in the plane rounds anew at every step
    torch.testing.assert_close(torch.cat(parts, 1), feats, rtol=tolerance, atol=tolerance / 10)
    assert_same(state, whole, tolerance)


@either
def test_nothing_leaks_over_a_reset(model):
    obs, act, is_first = sequence(0, model=model)
    is_first[:, 6] = True
    other, other_act, _ = sequence(1, model=model)
    other[:, 6:], other_act[:, 7:] = obs[:, 6:], act[:, 7:]
    state, feats = model.observe(model.initial_state(2), obs, act, is_first)
    state_other, feats_other = model.observe(model.initial_state(2), other, other_act, is_first)
    torch.testing.assert_close(feats[:, 6:], feats_other[:, 6:])
    there = state.keyframes.numbers >= 0
    assert torch.equal(there, state_other.keyframes.numbers >= 0) and there.any()
    torch.testing.assert_close(state.keyframes.latents[there], state_other.keyframes.latents[there])
    torch.testing.assert_close(state.voxels, state_other.voxels)


@either
def test_worlds_side_by_side_are_those_alone_and_a_saved_one_goes_on(model, tmp_path):
    obs, act, is_first = sequence(4, model=model)
    state, _ = model.observe(model.initial_state(2), obs, act, is_first)
    keys = torch.tensor([5, 6])
    frame, after = model.imagine(state, act[:, 0], keys)
    for i in range(2):
        one = slice(i, i + 1)
        alone, after_alone = model.imagine(state[one], act[one, 0], keys[one])
        torch.testing.assert_close(alone.obs, frame.obs[one], rtol=1e-4, atol=1e-4)
        assert_same(after_alone, after[one], 1e-4)
    state.save(tmp_path / "state.safetensors")
    again, _ = WorldModelState.load(tmp_path / "state.safetensors")
    assert torch.equal(model.imagine(again, act[:, 0], keys)[0].latents, frame.latents)


@either
def test_a_recorded_step_gives_the_same_numbers(model):
    obs, act, is_first = sequence(5, model=model)
    state, _ = model.observe(model.initial_state(2), obs, act, is_first)
    recorded = RecordedSteps(model, after=1)
    for i in range(4):
        keys = torch.arange(2) + i
        replayed, after = model.imagine(state, act[:, i], keys, recorded=recorded)
        plain, plainly = model.imagine(state, act[:, i], keys)
        assert torch.equal(replayed.latents, plain.latents)
        assert_same(after, plainly, 0)
        state = after
    assert len(recorded.steps) == 1


@either
@pytest.mark.parametrize("replayed", [False, True], ids=["as it is", "recorded"])
def test_a_state_that_is_given_away_dreams_the_same(model, replayed):
    obs, act, is_first = sequence(7, model=model)
    state, _ = model.observe(model.initial_state(2), obs, act, is_first)
    given = state.clone()
    recorded = RecordedSteps(model, after=1) if replayed else None
    for i in range(4):
        keys = torch.arange(2) + i
        before = state.clone()
        frame, after = model.imagine(state, act[:, i], keys)
        assert_same(state, before, 0)
        same, given_after = model.imagine(given, act[:, i], keys, recorded=recorded, donate=True)
        assert torch.equal(same.latents, frame.latents)
        assert_same(given_after, after, 0)
        assert given_after.voxels.data_ptr() == given.voxels.data_ptr()
        assert given_after.keyframes.latents.data_ptr() == given.keyframes.latents.data_ptr()
        state, given = after, given_after


def test_a_state_that_is_given_to_several_threads_dreams_the_same(monkeypatch):
    monkeypatch.setattr(threads, "ALONE", 1)
    obs, act, is_first = sequence(7, model=IN_PLANE)
    state, _ = IN_PLANE.observe(IN_PLANE.initial_state(2), obs, act, is_first)
    given = state.clone()
    frame, after = IN_PLANE.imagine(state, act[:, 0], torch.arange(2))
    torch.set_num_threads(2)
    same, given_after = IN_PLANE.imagine(given, act[:, 0], torch.arange(2), donate=True)
    torch.testing.assert_close(same.latents, frame.latents, rtol=1e-4, atol=1e-4)
    assert_same(given_after, after, 1e-4)
    assert given_after.voxels.data_ptr() == given.voxels.data_ptr()


@either
def test_frames_depend_on_where_they_are_seen_from_and_which_way(model):
    obs, act, is_first = sequence(6, model=model)
    state, _ = model.observe(model.initial_state(2), obs, act, is_first, wander(model))
    keys = torch.tensor([1, 2])
    frames = [
        model.imagine(state, act[:, 0], keys, pose=torch.tensor([pose] * 2, dtype=model.pose_dtype))[0].latents
        for pose in ([0, 0, 0], [0, 0, 2], [3, 0, 0])
    ]
    assert not torch.allclose(frames[0], frames[1], atol=1e-3) and not torch.allclose(frames[0], frames[2], atol=1e-3)


def test_dreams_do_not_depend_on_the_unit_of_poses():
    cells = make(view=replace(EYE, motions=None), network=NETWORK)
    feet = make(view=replace(EYE, motions=None, cell=3.0), network=NETWORK)
    obs, act, is_first = sequence(8, model=cells)
    is_first[:, 1:] = False
    pose = wander(IN_PLANE)
    units = torch.tensor([3.0, 3.0, 1.0])
    state, _ = cells.observe(cells.initial_state(2), obs, act, is_first, pose)
    scaled, _ = feet.observe(feet.initial_state(2), obs, act, is_first, pose * units)
    torch.testing.assert_close(scaled.feats, state.feats, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled.pose, state.pose * units)


@either
def test_the_last_motions_are_those_that_led_to_the_last_frame(model):
    obs, act, is_first = sequence(7, model=model)
    is_first[:, 1:] = False
    is_first[0, 9] = True
    pose = wander(model)
    state, _ = model.observe(model.initial_state(2), obs, act, is_first, pose)
    if model is ON_GRID:
        assert state.motions is None
        return
    expected = torch.stack([ego_motion(pose[:, 8], pose[:, 9]), ego_motion(pose[:, 9], pose[:, 10])], 1)
    expected[0, 0] = 0  # of the episode before
    torch.testing.assert_close(state.motions, expected)
    assert state.motions.any()


@pytest.mark.parametrize(
    ("model", "pose", "message"),
    [
        (
            ON_GRID,
            torch.zeros(2, 3),
            r"pose is torch.float32 \(2, 3\); expected torch.int64 .*: cells and quarter turns",
        ),
        (IN_PLANE, torch.zeros(2, 3).long(), r"expected torch.float32 \(\.\.\., 3\): x, y and an angle in radians"),
        (IN_PLANE, torch.zeros(2, 4), r"pose is torch.float32 \(2, 4\)"),
        (IN_PLANE, torch.tensor([[0, 0, 0], [0, torch.nan, 0]]), "pose has numbers that are not finite"),
    ],
)
def test_poses_of_another_kind_are_refused(model, pose, message):
    act = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        model.imagine(model.initial_state(2), act, act, pose=pose)


@either
@pytest.mark.parametrize("objective", [ObjectiveConfig(), ObjectiveConfig(recall=0.5, truncation=0.5)])
def test_every_weight_learns(model, objective):
    model = make(view=model.config.view, network=NETWORK)
    seen = replace(batch(), pose=wander(model))
    loss, _ = world_model_loss(model, seen, torch.Generator().manual_seed(0), objective)
    loss.backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(name.startswith(("odometry.", "renderer.")) for name in still), still


@pytest.mark.parametrize(
    ("network", "view", "message"),
    [
        ({"map_layers": (1,)}, EYE, r"map_layers=\(1,\) must be layers whose tube is the whole frame"),
        ({"keyframes": 3}, EYE, "keyframes=3 must be 0, or at least 4: so many are shown at once"),
        ({}, VIEW, r"keyframes=8 are shown from where the eye is, but view=EgoView"),
        ({}, None, r"keyframes=8 are shown from where the eye is, but view=None: give a FirstPersonView"),
    ],
)
def test_networks_that_do_not_fit_the_view_are_refused(network, view, message):
    with pytest.raises(ValueError, match=message):
        make(view=view, network=replace(NETWORK, **network))
