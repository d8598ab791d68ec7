import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_models.memory import ssm
from lssvwm_models.memory.ssm import frame_scan, frame_scan_reference
from tests.lssvwm_models.scan_inputs import inputs


def part(i, frames):
    return {k: v[:, frames] if k in ("C", "x", "dt", "B", "is_first", "fade") else v for k, v in i.items()}


def weighed(i):
    values = ssm._write_weights(i["x"], i["dt"], i["A"])
    log_decay = torch.minimum(i["dt"].sum(2) * i["A"], i["fade"].unsqueeze(-1))
    return i["C"], values, i["B"], i["state"], log_decay, i["is_first"]


def close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    T=st.integers(1, 9),
    M=st.sampled_from([1, 4]),
    R=st.sampled_from([1, 8]),
    fades=st.booleans(),
)
def test_scan_equals_the_recurrence(seed, T, M, R, fades):
    i = inputs(seed, T, R, M, fades=fades)
    close(frame_scan(**i), frame_scan_reference(**i))


@pytest.mark.parametrize("form", [ssm._masked, ssm._carried])
def test_each_form_equals_the_recurrence(form):
    i = inputs(0, fades=True)
    close(form(*weighed(i)), frame_scan_reference(**i))


def test_what_fades_is_what_was_there_before_the_frame():
    i = inputs(0, T=1, resets=0)
    i["A"] = torch.zeros(2)
    _, written = frame_scan(**i | {"state": torch.zeros_like(i["state"])})
    _, state = frame_scan(**i | {"fade": torch.full((3, 1), -1.0)})
    torch.testing.assert_close(state, i["state"] / torch.e + written)


def test_what_forgets_faster_by_itself_fades_no_more():
    i = inputs(0, T=3)
    close(frame_scan(**i | {"fade": torch.zeros(3, 3)}), frame_scan(**i))
    i["A"] = torch.full((2,), -9.0)
    i["dt"] += 1
    close(frame_scan(**i | {"fade": torch.full((3, 3), -0.1)}), frame_scan(**i))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 8), max_size=3))
def test_any_chunking_gives_the_same_numbers(seed, cuts):
    i = inputs(seed, T=9, fades=True)
    whole = frame_scan(**i)
    ys = []
    for start, stop in zip([0, *sorted(set(cuts))], [*sorted(set(cuts)), 9], strict=True):
        y, i["state"] = frame_scan(**part(i, slice(start, stop)))
        ys.append(y)
    close((torch.cat(ys, 1), i["state"]), whole)


def test_nothing_leaks_over_a_reset():
    i, other = inputs(1), inputs(2)
    i["is_first"][:, 3] = True
    changed = dict(i, state=other["state"], x=i["x"].clone())
    changed["x"][:, :3] = other["x"][:, :3]
    (y, state), (y_changed, state_changed) = frame_scan(**i), frame_scan(**changed)
    assert not torch.equal(y[:, 1], y_changed[:, 1])
    close((y[:, 3:], state), (y_changed[:, 3:], state_changed))


def test_reads_do_not_see_their_own_frame():
    i = inputs(3)
    changed = dict(i, x=i["x"].clone())
    changed["x"][:, 2] += 1
    y, y_changed = frame_scan(**i)[0], frame_scan(**changed)[0]
    torch.testing.assert_close(y[:, :3], y_changed[:, :3])
    i["is_first"][:] = False
    assert not torch.allclose(frame_scan(**i)[0][:, 3], frame_scan(**dict(changed, is_first=i["is_first"]))[0][:, 3])


def test_gradients_of_both_forms_agree_through_the_carried_state():
    grads = []
    for form in (ssm._masked, ssm._carried):
        i = inputs(4, fades=True)
        leaves = [i[k].requires_grad_() for k in ("C", "x", "dt", "B", "state")]
        y, state = form(*weighed(i))
        grads.append(torch.autograd.grad(y.square().sum() + state.square().sum(), leaves))
    close(*grads)


@pytest.mark.parametrize(
    ("sizes", "form"),
    [
        ({"T": 4, "M": 1, "R": 1}, "_masked"),  # small tubes: no states are formed
        ({"T": 32, "M": 1, "R": 4}, "_masked"),
        ({"T": 32, "M": 4, "R": 8}, "_carried"),
        ({"T": 32, "M": 16, "R": 32}, "_carried"),  # large ones: one state per frame
        ({"T": 1, "M": 1, "R": 1}, "_carried"),  # nothing to mask
    ],
)
def test_the_cheaper_form_is_taken(sizes, form, monkeypatch):
    taken = []
    for name in ("_masked", "_carried"):
        real = getattr(ssm, name)
        monkeypatch.setattr(ssm, name, lambda *args, real=real, name=name: (taken.append(name), real(*args))[1])
    frame_scan(**inputs(0, P=16, N=64, **sizes))
    assert taken == [form]
