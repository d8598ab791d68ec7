"""Laws of the batched core: worlds are independent, states are values, forks go their own ways."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_env.envs.core import FIRST_FRAME_STEPS, CoreStep, SimulatorCore
from lssvwm_env.envs.core_state import CoreState
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.execution import precision
from lssvwm_models.memory.state import DONATED, WorldModelState

few = settings(max_examples=8, deadline=None)
actions = st.lists(st.integers(0, 6), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def core(toy_simulator: Simulator) -> SimulatorCore:
    """Three worlds; tests reset them as they like."""
    return SimulatorCore(toy_simulator, 3)


def same(a: WorldModelState, b: WorldModelState) -> bool:
    return all(torch.equal(t, b.tensors()[k]) for k, t in a.tensors().items())


def assert_alike(a: WorldModelState, b: WorldModelState) -> None:
    """The same but for the last bits: how products are rounded depends on where in memory their factors lie."""
    for name, tensor in a.tensors().items():
        torch.testing.assert_close(tensor, b.tensors()[name], rtol=1e-5, atol=1e-5, msg=name)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """The same frames but for a step of brightness."""
    return bool(np.abs(a.astype(int) - b).max() <= 1)


def play(core: SimulatorCore, acts: list[int]) -> np.ndarray:
    """Frames (T, B, H, W, C) when every world takes the same actions."""
    return torch.stack([core.step([a] * core.num_envs).obs for a in acts]).numpy()


def context(length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (length, 64, 64, 3), np.uint8), rng.integers(0, 7, length)


def close(a: CoreStep, b: CoreStep) -> bool:
    return (
        (a.obs.int() - b.obs.int()).abs().max() <= 1
        and torch.allclose(a.rew, b.rew, atol=1e-4)
        and torch.allclose(a.term_prob, b.term_prob, atol=1e-4)
    )


@few
@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=3), acts=actions)
def test_worlds_side_by_side_equal_single_worlds(toy_simulator: Simulator, seeds: list[int], acts: list[int]):
    together = SimulatorCore(toy_simulator, len(seeds))
    shown = together.reset(range(len(seeds)), seeds)
    alone = [SimulatorCore(toy_simulator, 1) for _ in seeds]
    assert np.array_equal(shown, np.concatenate([c.reset([0], [s]) for c, s in zip(alone, seeds, strict=True)]))
    for first in acts:
        act = (first + 2 * np.arange(len(seeds))) % 7
        singles = [c.step(act[[i]]) for i, c in enumerate(alone)]
        assert close(
            together.step(act), CoreStep(*(torch.cat(parts) for parts in zip(*(s[:4] for s in singles), strict=True)))
        )


def test_step_gives_what_it_says(core: SimulatorCore):
    core.reset([0, 1, 2], [1, 2, 3])
    obs, rew, terminated, term_prob, uncertainty = core.step(torch.tensor([0, 6, 3]))
    assert uncertainty is None
    assert obs.shape == (3, 64, 64, 3) and obs.dtype == torch.uint8
    assert rew.shape == (3,) and rew.dtype == torch.float32
    assert torch.equal(terminated, term_prob > 0.5) and terminated.dtype == torch.bool
    assert torch.equal(obs, core.frames())  # what is shown is what is remembered


@few
@given(seed=st.integers(0, 2**63 - 1))
def test_a_seed_is_a_dream(core: SimulatorCore, seed: int):
    core.reset([0, 1, 2], [seed, seed, seed ^ 1], [context(2)] * 3)
    frames = play(core, [1, 2])
    assert alike(frames[:, 0], frames[:, 1])
    assert (frames[:, 0] != frames[:, 2]).any((1, 2, 3)).all()


def test_seeds_mean_the_same_dreams_in_every_release(core: SimulatorCore, toy_simulator: Simulator):
    """Golden numbers: saved states, recorded episodes and published tables hang on them."""
    core.reset([0, 1, 2], [0, 1, 2**63 - 1])
    streams = [-7295063088267293789, 4412704970879388956, -5106724654946333537]
    assert core.keys.tolist() == streams
    children = core.fork(3).keys.tolist()
    assert children[:3] == [streams[0], -3287169272993224912, -164981558574639357] and children[::3] == streams
    first = [obs.tobytes() for obs in toy_simulator.starts.obs]
    assert [first.index(core.start(seed)[0].tobytes()) for seed in range(6)] == [1, 0, 0, 3, 3, 1]


def test_seeds_reach_every_start(core: SimulatorCore, toy_simulator: Simulator):
    seen = {core.reset([0], [seed]).numpy().tobytes() for seed in range(40)}
    assert seen == {obs[-1].tobytes() for obs in toy_simulator.starts.obs}


@few
@given(chosen=st.sets(st.integers(0, 2), min_size=1, max_size=2), order=st.randoms())
def test_reset_leaves_other_worlds_untouched(core: SimulatorCore, chosen: set[int], order):
    core.reset([0, 1, 2], [5, 6, 7])
    core.step([1, 2, 3])
    memory = core.memory
    keys = core.keys
    others = sorted({0, 1, 2} - chosen)
    ids = sorted(chosen)
    order.shuffle(ids)
    core.reset(ids, [10 + i for i in ids])
    assert same(core.memory[others], memory[others]) and torch.equal(core.keys[others], keys[others])
    assert core.memory.age[ids].tolist() == [3] * len(ids)
    fresh = SimulatorCore(core.simulator, 3)
    fresh.reset([0, 1, 2], [10, 11, 12])
    assert torch.equal(core.keys[ids], fresh.keys[ids])
    assert torch.allclose(core.memory.latents[ids], fresh.memory.latents[ids], atol=1e-5)


def test_contexts_of_unequal_lengths(core: SimulatorCore):
    contexts = [context(4, seed=1), context(1, seed=2), context(4, seed=3)]
    shown = core.reset([2, 0, 1], [1, 2, 3], contexts)
    assert np.array_equal(shown, np.stack([obs[-1] for obs, _ in contexts]))
    assert core.memory.age.tolist() == [1, 4, 4]
    single = SimulatorCore(core.simulator, 1)
    single.reset([0], [1], contexts[:1])
    assert all(torch.allclose(t[2:], single.memory.tensors()[k], atol=1e-4) for k, t in core.memory.tensors().items())


def test_the_first_action_of_a_context_does_not_count(core: SimulatorCore):
    obs, act = context(3)
    core.reset([0, 1], [1, 1], [(obs, [0, *act[1:]]), (obs, [-100, *act[1:]])])
    assert_alike(core.memory[[0]], core.memory[[1]])


def test_the_first_action_of_a_context_may_be_none_of_the_space(toy_box_simulator: Simulator):
    core = SimulatorCore(toy_box_simulator, 1)
    core.reset([0], [1], [(OBS, [[np.nan, 9], [0.5, 1]])])
    assert all(t.isfinite().all() for t in core.memory.tensors().values())


def test_observe_equals_having_lived_it(core: SimulatorCore):
    obs, act = context(5)
    core.reset([0, 1, 2], [1, 1, 1], [(obs, act), (obs[:2], act[:2]), context(2, seed=9)])
    untouched = core.memory[[0, 2]]
    core.observe(obs[None, 2:], act[None, 2:], ids=[1])
    assert same(core.memory[[0, 2]], untouched)
    for name, tensor in core.memory.tensors().items():
        assert torch.allclose(tensor[0], tensor[1], atol=1e-4), name


@few
@given(acts=actions, then=actions)
def test_a_saved_state_goes_on_bit_for_bit(core: SimulatorCore, tmp_path_factory, acts: list[int], then: list[int]):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    core.reset([0, 1, 2], [1, 2, 3])
    play(core, acts)
    state = core.save_state()
    state.save(path)
    frames = play(core, then)
    core.load_state(state)
    assert alike(play(core, then), frames)
    other = SimulatorCore(core.simulator, 3)
    other.load_state(CoreState.load(path))
    assert alike(play(other, then), frames)
    assert_alike(other.memory, core.memory)


def test_a_state_does_not_grow(core: SimulatorCore, tmp_path: Path):
    core.reset([0, 1, 2], [1, 2, 3])
    sizes = set()
    for _ in range(3):
        play(core, [1] * 5)
        core.save_state(include_rng=False).save(tmp_path / "state")
        sizes.add((core.memory.nbytes, (tmp_path / "state").stat().st_size))
    assert len(sizes) == 1


def test_a_state_without_stream_keeps_the_keys_of_the_core(core: SimulatorCore, tmp_path: Path):
    core.reset([0, 1, 2], [1, 2, 3])
    state = core.save_state(include_rng=False)
    state.save(tmp_path / "state")
    assert state.keys is None and CoreState.load(tmp_path / "state").keys is None
    core.reset([0, 1, 2], [4, 5, 6])
    keys = core.keys
    core.load_state(state)
    assert torch.equal(core.keys, keys) and same(core.memory, state.memory)


def test_states_that_do_not_fit_are_refused(core: SimulatorCore, toy_box_simulator: Simulator, tmp_path: Path):
    core.reset([0, 1, 2], [1, 2, 3])
    state = core.save_state()
    with pytest.raises(ValueError, match=r"this simulator has .*load the simulator that it was saved with"):
        SimulatorCore(toy_box_simulator, 3).load_state(state)
    with pytest.raises(ValueError, match="state holds 2 worlds, but this core has 3"):
        core.load_state(state[[0, 2]])
    with pytest.raises(ValueError, match=r"latents: found torch.float32 \(3, 2, 32\), expected torch.float32 \(3, 64"):
        core.load_state(replace(state, memory=replace(state.memory, latents=state.memory.latents[:, :2])))
    with pytest.raises(ValueError, match=r"keys: found torch.int64 \(2,\), expected torch.int64 \(3,\)"):
        core.load_state(replace(state, keys=state.keys[:2]))
    core.memory.save(tmp_path / "memory")
    with pytest.raises(ValueError, match="not of simulated worlds"):
        CoreState.load(tmp_path / "memory")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="not a saved world model state"):
        CoreState.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        CoreState.load(tmp_path / "nothing")


@few
@given(n=st.integers(1, 3), acts=actions)
def test_forks_leave_their_parent_and_one_another_alone(toy_simulator: Simulator, n: int, acts: list[int]):
    parent = SimulatorCore(toy_simulator, 2)
    parent.reset([0, 1], [1, 2])
    before = parent.save_state()
    keys = parent.keys
    children = parent.fork(n)
    assert children.num_envs == 2 * n and children.model is parent.model
    assert same(children.memory, before.memory.repeat_interleave(n))
    assert torch.equal(children.keys[::n], keys) and len(set(children.keys.tolist())) == 2 * n
    dreamed = play(children, acts)
    assert same(parent.memory, before.memory) and torch.equal(parent.keys, keys)
    lived = play(parent, acts)
    assert np.abs(lived.astype(int) - dreamed[:, ::n].astype(int)).max() <= 1
    assert n == 1 or (dreamed[-1, 0] != dreamed[-1, 1]).any()


def test_worlds_can_be_split_from_one_another(core: SimulatorCore):
    core.reset([0, 1, 2], [1, 2, 3])
    memory = core.memory
    alone = core.split()
    assert [child.num_envs for child in alone] == [1, 1, 1] and all(child.model is core.model for child in alone)
    for i, child in enumerate(alone):
        assert same(child.memory, memory[[i]]) and torch.equal(child.keys, core.keys[[i]])
        child.step([i])
    assert core.memory is memory and core.num_envs == 3


@pytest.fixture
def seeing(toy_first_person_simulator: Simulator) -> SimulatorCore:
    """Two worlds in first person, whose memories are so large that steps write into them."""
    core = SimulatorCore(toy_first_person_simulator, 2)
    core.reset([0, 1], [1, 2])
    return core


Hold = Callable[[SimulatorCore], WorldModelState]
HOLDING: dict[str, Hold] = {
    "memory": lambda core: core.memory,
    "state": lambda core: core.save_state().memory,
    "row": lambda core: core.memory[1:],
    "shallow copy": lambda core: copy.copy(core).memory,
    "deep copy": lambda core: copy.deepcopy(core).memory,
    "fork": lambda core: core.fork(1).memory,
}


@pytest.mark.parametrize("hold", HOLDING.values(), ids=HOLDING)
def test_no_step_writes_into_what_someone_holds(
    seeing: SimulatorCore, hold: Callable[[SimulatorCore], WorldModelState]
):
    play(seeing, [1, 2])
    held = hold(seeing)
    before = held.clone()
    play(seeing, [2, 1])
    assert same(held, before) and not same(seeing.memory[-held.batch_size :], before)


def test_no_step_writes_into_a_state_that_was_loaded_or_given(seeing: SimulatorCore):
    state = seeing.save_state()
    before = state.memory.clone()
    for begin in (lambda: seeing.load_state(state), lambda: setattr(seeing, "memory", state.memory)):
        begin()
        play(seeing, [2, 1])
        assert same(state.memory, before)


def test_the_only_child_of_a_world_writes_into_no_parent(toy_first_person_simulator: Simulator):
    parent = SimulatorCore(toy_first_person_simulator, 1)
    parent.reset([0], [1])
    before = parent.save_state().memory.clone()
    for children in (parent.fork(1), parent.fork(3), *parent.split()):
        play(children, [2, 1])
        assert same(parent.memory, before)


def test_a_memory_that_nobody_holds_is_written_where_it_is(seeing: SimulatorCore):
    def places(memory: WorldModelState) -> list[int]:
        return [tensor.data_ptr() for name, tensor in memory.tensors().items() if name in DONATED]

    held = seeing.save_state()
    before = held.memory.clone()
    copied = play(seeing, [2, 1, 3])
    seeing.load_state(held)
    assert alike(play(seeing, [2]), copied[:1])  # this step copies what is held,
    first = places(seeing._memory)
    assert len(first) == 2 and not set(first) & set(places(held.memory))
    assert alike(play(seeing, [1, 3]), copied[1:])  # and these need not
    assert places(seeing._memory) == first
    assert same(held.memory, before)


def test_a_step_that_was_cut_off_leaves_no_half_written_world(seeing: SimulatorCore, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    play(seeing, [1])
    held = seeing.save_state()
    monkeypatch.setattr(seeing, "imagine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        seeing.step([1, 1])
    assert same(seeing.memory, held.memory)  # it was held, and so it is as it was
    monkeypatch.undo()
    play(seeing, [1])
    monkeypatch.setattr(seeing, "imagine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        seeing.step([1, 1])
    with pytest.raises(gym.error.ResetNeeded, match=r"worlds \[0, 1\] have not begun"):
        seeing.step([1, 1])


def test_worlds_must_begin(toy_simulator: Simulator):
    core = SimulatorCore(toy_simulator, 2)
    core.reset([1], [0])
    for use in (lambda: core.step([0, 0]), core.save_state, core.frames, lambda: core.fork(2)):
        with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) first: worlds \[0\] have not begun"):
            use()


OBS, ACT = context(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), r"ids is \[\]; expected different world numbers from 0 to 2"),
        (([0, 0], [1, 2]), r"ids is \[0, 0\]"),
        (([3], [1]), r"ids is \[3\]"),
        (([1, False], [1, 2]), r"ids is \[1, False\]; expected numbers, which True and False are not"),
        (([0], [1, 2]), r"seeds is \[1, 2\]; expected 1 integers"),
        (([0, 1], [1, True]), r"seeds is \[1, True\]; expected numbers"),
        (([0], [0.5]), r"seeds is \[0.5\]"),
        (([0, 1], [1, 2], [(OBS, ACT)]), r"contexts has 1 entries; expected 2"),
        (([0], [1], [(OBS / 255, ACT)]), r"context obs is float64 .*expected uint8 \(T, 64, 64, 3\)"),
        (([0], [1], [(OBS[0], ACT)]), r"context obs is uint8 \(64, 64, 3\)"),
        (([0], [1], [(OBS[:0], ACT[:0])]), r"context obs is .*with T >= 1 frames"),
        (([0], [1], [(OBS, ACT[:1])]), r"context act has shape \(1,\); expected one action per frame, 2"),
        (([0], [1], [(OBS, [0, 9])]), r"context act\[1:\] has the values \[9\]; expected integers from 0 to 6"),
        (([0], [1], [(OBS, [0.0, 1.0])]), r"context act\[1:\] is torch.float64"),
        (([0], [1], [(OBS, "go")]), r"context act is 'go'; expected numbers"),
    ],
)
def test_reset_refuses_what_does_not_fit(core: SimulatorCore, arguments: tuple, message: str):
    core.reset([0, 1, 2], [1, 2, 3])
    before = core.save_state()
    with pytest.raises(ValueError, match=message):
        core.reset(*arguments)
    assert same(core.memory, before.memory) and torch.equal(core.keys, before.keys)


@pytest.mark.parametrize("number", [None, "x", 1.5, True, 2**64])
def test_seeds_of_starts_and_numbers_of_worlds_are_integers(core: SimulatorCore, number: object):
    with pytest.raises(ValueError, match="^seed="):
        core.start(number)
    for worlds in (number, 0, -1):
        with pytest.raises(ValueError, match="^num_worlds="):
            core.initial_memory(worlds)


@pytest.mark.parametrize(
    "act",
    [
        [0, 0],
        [0, 0, 7],
        [0, -1, 0],
        [0.0, 0.0, 0.0],
        [True, False, True],
        [0, True, 1],
        None,
        torch.zeros(3, device="meta"),
    ],
)
def test_step_refuses_actions_outside_the_space(core: SimulatorCore, act: object):
    core.reset([0, 1, 2], [1, 2, 3])
    before = core.memory
    with pytest.raises(ValueError, match=r"^actions .*expected"):
        core.step(act)
    assert core.memory is before


def test_imagining_is_stepping_that_leaves_the_worlds_where_they_are(core: SimulatorCore):
    core.reset([0, 1, 2], [5, 6, 7])
    before = core.memory
    act = torch.tensor([1, 2, 3])
    prediction, memory = core.imagine(core.memory, act, core.keys)
    assert core.memory is before
    step = core.step(act)
    assert torch.equal(step.rew, prediction.rew) and torch.equal(step.term_prob, prediction.term_prob)
    assert all(torch.equal(t, memory.tensors()[name]) for name, t in core.memory.tensors().items())


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "2"])
def test_numbers_are_checked(toy_simulator: Simulator, number: object):
    with pytest.raises(ValueError, match=r"^num_envs=.* must be (an integer|at least 1)$"):
        SimulatorCore(toy_simulator, number)
    with pytest.raises(ValueError, match=r"^denoising_steps=.* must be (an integer|at least 1)$"):
        SimulatorCore(toy_simulator, 1, denoising_steps=number)


@pytest.mark.parametrize("number", [1, -1, 1 << 16, 2.5, "3"])
def test_uncertainty_samples_are_none_or_several(toy_simulator: Simulator, number: object):
    with pytest.raises(ValueError, match=r"uncertainty_samples is .*; expected 0 for none, or at least 2"):
        SimulatorCore(toy_simulator, 1, uncertainty_samples=number)


def test_another_device_gets_a_copy_of_the_model(toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lssvwm_env.envs.core.as_device", torch.device)  # there may be no other than the CPU
    core = SimulatorCore(toy_simulator, 2, device="meta")
    assert core.memory.latents.device == core.keys.device == core.device == torch.device("meta")
    assert core.model is not toy_simulator.model and toy_simulator.model.device == torch.device("cpu")
    assert SimulatorCore(toy_simulator, 2).model is toy_simulator.model


@pytest.mark.parametrize(("denoising_steps", "steps"), [(1, 2), (2, 2), (3, 3)])
def test_uncertainty_needs_two_denoising_steps_and_takes_the_dreams_own_if_more(
    toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, denoising_steps: int, steps: int
):
    core = SimulatorCore(toy_simulator, 1, denoising_steps, uncertainty_samples=4)
    core.reset([0], [0])
    called: list[tuple[int, int]] = []
    monkeypatch.setattr(
        core.model, "uncertainty", lambda memory, act, keys, *how: called.append(how) or torch.tensor([0.25])
    )
    step = core.step([0])
    assert called == [(4, steps)] and step.info()["uncertainty"].tolist() == [0.25]


def test_a_world_ends_with_more_than_even_odds(core: SimulatorCore, monkeypatch: pytest.MonkeyPatch):
    core.reset([0, 1, 2], [1, 2, 3])
    prediction, memory = core.imagine(core.memory, torch.tensor([0, 0, 0]), core.keys)
    odds = torch.tensor([0.49, 0.5, 0.51])
    monkeypatch.setattr(core, "imagine", lambda *worlds: (replace(prediction, term_prob=odds), memory))
    assert core.step([0, 0, 0]).terminated.tolist() == [False, False, True]


def test_worlds_of_a_state_can_be_picked(core: SimulatorCore):
    core.reset([0, 1, 2], [1, 2, 3])
    state = core.save_state()
    assert torch.equal(state[[2, 0]].keys, state.keys[[2, 0]]) and same(state[[2, 0]].memory, state.memory[[2, 0]])
    assert core.save_state(include_rng=False)[[0]].keys is None


def test_denoising_steps_change_the_dream(toy_simulator: Simulator):
    frames = []
    for steps in (None, 1, 2):
        core = SimulatorCore(toy_simulator, 1, steps)
        core.reset([0], [0])
        frames.append(core.step([0]).obs)
    assert np.array_equal(frames[0], frames[1]) and not np.array_equal(frames[0], frames[2])


def test_long_contexts_must_be_wanted_and_change_nothing_before(core: SimulatorCore):
    core.reset([0, 1, 2], [1, 2, 3])
    before = core.memory
    with pytest.raises(ValueError, match="context has 9 frames, .*at most 8.*set allow_long_context to True"):
        core.reset([1], [0], [context(9)])
    assert core.memory is before
    core.reset([1], [0], [context(9)], allow_long_context=True)
    assert core.memory.age.tolist() == [before.age[0], 9, before.age[2]]


def test_each_world_may_want_a_long_context_for_itself(core: SimulatorCore):
    contexts = [context(9), context(2)]
    core.reset([0, 1], [0, 0], contexts, allow_long_context=[True, False])
    assert core.memory.age[:2].tolist() == [9, 2]
    with pytest.raises(ValueError, match="context has 9 frames"):
        core.reset([0, 1], [0, 0], contexts, allow_long_context=[False, True])
    with pytest.raises(ValueError, match="allow_long_context has 1 entries; expected 2"):
        core.reset([0, 1], [0, 0], contexts, allow_long_context=[True])


def test_a_context_as_long_as_the_longest_trained_one_needs_no_wanting(core: SimulatorCore):
    core.reset([0], [0], [context(8)])
    assert core.memory.age[0] == 8


def test_bfloat16_dreams_nearly_the_same_and_leaves_states_as_they_are(
    toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(precision, "supports_bf16", lambda kind: True)  # even if it has to be emulated
    exact, rounded = (SimulatorCore(toy_simulator, 2, bf16=bf16) for bf16 in (False, True))
    for core in (exact, rounded):
        core.reset([0, 1], [1, 2])
    step = exact.step([1, 2])
    other = rounded.step([1, 2])
    assert (step.obs.float() - other.obs.float()).abs().mean() < 3
    assert not torch.equal(exact.memory.feats, rounded.memory.feats)
    exact.load_state(rounded.save_state())  # the same dtypes
    assert {k: t.dtype for k, t in exact.memory.tensors().items()} == {
        k: t.dtype for k, t in toy_simulator.model.initial_state(1).tensors().items()
    }


def test_a_world_from_nothing_takes_time_to_settle(toy_simulator: Simulator, monkeypatch: pytest.MonkeyPatch):
    core = SimulatorCore(toy_simulator, 2)
    steps = []
    imagine = core.model.imagine
    monkeypatch.setattr(core.model, "imagine", lambda *args, **kw: steps.append(args[3]) or imagine(*args, **kw))
    shown = core.reset([1, 0], [1, 2], [None, context(3)])
    assert steps == [FIRST_FRAME_STEPS] == [16] and core.memory.age.tolist() == [3, 1]
    assert torch.equal(shown[0], core.frames()[1])
    core.step([0, 0])
    assert steps[1:] == [1]
    slow = SimulatorCore(toy_simulator, 1, denoising_steps=17)
    slow.reset([0], [0], [None])
    assert steps[2:] == [17]  # never fewer than the dream itself takes
