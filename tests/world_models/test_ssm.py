import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world_models.scan_inputs import inputs
from world_models import ssm
from world_models.ssm import frame_delta_scan, frame_scan, frame_scan_reference


def part(i, frames):
    return {k: v[:, frames] if k in ("C", "x", "dt", "B", "is_first") else v for k, v in i.items()}


def close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), T=st.integers(1, 9), M=st.sampled_from([1, 4]), R=st.sampled_from([1, 8]))
def test_scan_equals_the_recurrence(seed, T, M, R):
    i = inputs(seed, T, R, M)
    close(frame_scan(**i), frame_scan_reference(**i))


@pytest.mark.parametrize("form", [ssm._masked, ssm._carried])
def test_each_form_equals_the_recurrence(form):
    i = inputs(0)
    values, decay = ssm._write_weights(i["x"], i["dt"], i["A"]), ssm._frame_decay(i["dt"], i["A"], i["is_first"])
    close(form(i["C"], values, i["B"], i["state"], decay), frame_scan_reference(**i))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 8), max_size=3))
def test_any_chunking_gives_the_same_numbers(seed, cuts):
    i = inputs(seed, T=9)
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
        i = inputs(4)
        leaves = [i[k].requires_grad_() for k in ("C", "x", "dt", "B", "state")]
        values, decay = ssm._write_weights(i["x"], i["dt"], i["A"]), ssm._frame_decay(i["dt"], i["A"], i["is_first"])
        y, state = form(i["C"], values, i["B"], i["state"], decay)
        grads.append(torch.autograd.grad(y.square().sum() + state.square().sum(), leaves))
    close(*grads)


def erasures(i, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(i["dt"].shape, generator=g)


def delta_recurrence(C, x, dt, A, B, state, is_first, erase):
    """`frame_delta_scan`, written key by key for tokens whose keys are orthogonal."""
    ys = []
    for t in range(x.shape[1]):
        state = torch.where(is_first[:, t, None, None, None], torch.zeros_like(state), state)
        ys.append(torch.einsum("grn,ghpn->grhp", C[:, t], state))
        for m in range(x.shape[2]):
            key = B[:, t, m] / B[:, t, m].norm(dim=-1, keepdim=True)
            there = torch.einsum("gn,ghpn->ghp", key, state)
            state = state - torch.einsum("gh,ghp,gn->ghpn", erase[:, t, m], there, key)
        for m in range(x.shape[2]):
            decay = (dt[:, t, m] * A).exp()[..., None, None]  # (G, H, 1, 1)
            state = decay * state + torch.einsum("gh,ghp,gn->ghpn", dt[:, t, m], x[:, t, m], B[:, t, m])
    return torch.stack(ys, 1), state


def orthogonal(seed, M=3, N=8):
    i = inputs(seed, M=M, N=N)
    i["B"] = torch.linalg.qr(i["B"].transpose(2, 3)).Q.transpose(2, 3) * 3
    return i


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_delta_rule_equals_its_recurrence(seed):
    i = orthogonal(seed)
    i["erase"] = erasures(i, seed)
    close(frame_delta_scan(**i), delta_recurrence(**i))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_without_erasing_the_delta_rule_is_the_scan(seed):
    i = inputs(seed)
    close(frame_delta_scan(**i, erase=torch.zeros_like(i["dt"])), frame_scan(**i))


def test_what_is_erased_is_replaced():
    i = orthogonal(0) | {"A": torch.zeros(2), "is_first": torch.zeros(3, 5, dtype=torch.bool)}
    i["B"] = i["B"][:, :1].expand_as(i["B"]) / 3  # the same places in every frame
    i["dt"] = torch.ones_like(i["dt"])
    _, state = frame_delta_scan(**i, erase=torch.ones_like(i["dt"]))
    torch.testing.assert_close(
        torch.einsum("gmn,ghpn->gmhp", i["B"][:, -1], state), i["x"][:, -1], rtol=1e-4, atol=1e-4
    )


def test_erasing_never_overshoots_where_keys_overlap():
    i = inputs(0, T=200, M=8, N=4)  # twice as many keys as there are dimensions
    i |= {"A": torch.zeros(2), "x": torch.zeros_like(i["x"]), "is_first": torch.zeros_like(i["is_first"])}
    _, state = frame_delta_scan(**i, erase=torch.ones_like(i["dt"]))
    assert state.norm() < 0.1 * i["state"].norm()
