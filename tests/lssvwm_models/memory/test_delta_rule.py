"""The delta rule: what is missing is written, whatever the number of frames at once."""

import pytest
import torch
import torch.nn.functional as F

from lssvwm_models.memory.delta_rule import delta_scan

G, T, R, M, H, P, N = 2, 7, 3, 4, 2, 5, 16


def inputs(seed=0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=g)

    is_first = torch.zeros(G, T, dtype=torch.bool)
    is_first[1, 3] = True
    return {
        "C": F.normalize(normal(G, T, R, N), dim=-1),
        "x": normal(G, T, M, H, P),
        "strength": torch.rand(G, T, M, H, generator=g),
        "log_decay": -torch.rand(G, T, H, generator=g),
        "B": F.normalize(normal(G, T, M, N), dim=-1),
        "caution": torch.tensor(0.7),
        "state": normal(G, H, P, N),
        "is_first": is_first,
    }


def reference(C, x, strength, log_decay, B, caution, state, is_first):
    """Frame by frame, world by world, head by head, as it stands in the docstring."""
    worlds = []
    for g in range(G):
        heads = []
        for h in range(H):
            S = state[g, h]  # (P, N)
            y = []
            for t in range(C.shape[1]):
                S = torch.zeros_like(S) if is_first[g, t] else S
                y.append(C[g, t] @ S.T)
                K = B[g, t]
                missing = strength[g, t, :, h, None] * (x[g, t, :, h] - K @ S.T)
                written = K.T @ torch.linalg.solve(K @ K.T + caution * torch.eye(M), missing)
                S = log_decay[g, t, h].exp() * S + written.T
            heads.append((torch.stack(y), S))
        worlds.append([torch.stack(parts, axis) for parts, axis in zip(zip(*heads, strict=True), (2, 0), strict=True)])
    y, state = (torch.stack(parts) for parts in zip(*worlds, strict=True))
    return y, state


def test_it_is_the_rule_of_its_docstring():
    for one, other in zip(delta_scan(**inputs()), reference(**inputs()), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("cut", [1, 3, 4, 6])
def test_one_scan_equals_two(cut):
    all_at_once = inputs(1)
    y, state = delta_scan(**all_at_once)
    timeless = ("caution", "state")
    first = {k: v if k in timeless else v[:, :cut] for k, v in all_at_once.items()}
    before, between = delta_scan(**first)
    after, last = delta_scan(
        **{k: v if k in timeless else v[:, cut:] for k, v in all_at_once.items()} | {"state": between}
    )
    torch.testing.assert_close(torch.cat([before, after], 1), y)
    torch.testing.assert_close(last, state)


def test_without_caution_a_frame_reads_what_it_wrote_and_writing_again_changes_nothing():
    given = inputs(2) | {"caution": torch.tensor(1e-6), "strength": torch.ones(G, T, M, H)}
    given |= {"log_decay": torch.zeros(G, T, H), "is_first": torch.zeros(G, T, dtype=torch.bool)}
    given |= {name: given[name][:, :1].expand_as(given[name]) for name in ("x", "B")}
    given["C"] = given["B"]
    y, state = delta_scan(**given)
    torch.testing.assert_close(y[:, 1:], given["x"][:, 1:], rtol=1e-3, atol=1e-3)
    once, _ = delta_scan(**{k: v if k in ("caution", "state") else v[:, :2] for k, v in given.items()})
    torch.testing.assert_close(once[:, 1], y[:, -1], rtol=1e-3, atol=1e-3)
    assert state.isfinite().all()


def test_what_is_seen_from_the_same_place_again_and_again_does_not_drown_the_rest():
    """A thousand frames of one place, and one frame of another that is rather like it."""
    g = torch.Generator().manual_seed(3)
    here = F.normalize(torch.randn(1, 1, 1, N, generator=g), dim=-1)
    there = F.normalize(here + 2 * F.normalize(torch.randn(1, 1, 1, N, generator=g), dim=-1), dim=-1)
    B = torch.cat([here.expand(1, 1000, 1, N), there], 1)
    x = torch.cat([torch.ones(1, 1000, 1, 1, 1), -torch.ones(1, 1, 1, 1, 1)], 1)
    ones = torch.ones(1, 1001, 1, 1)
    still = torch.zeros(1, 1001, 1)
    none = torch.zeros(1, 1001, dtype=torch.bool)
    _, state = delta_scan(B, x, ones, still, B, torch.tensor(0.5), torch.zeros(1, 1, 1, N), none)
    assert (there[0, 0] @ state[0, 0].T).item() < 0 < (here[0, 0] @ state[0, 0].T).item()


def test_gradients_are_those_of_the_reference():
    grads = []
    for scan in (delta_scan, reference):
        given = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in inputs(4).items()}
        y, state = scan(**given)
        (y.square().sum() + state.sin().sum()).backward()
        grads.append({k: given[k].grad for k in ("x", "strength", "log_decay", "B", "caution", "C")})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-3, atol=1e-4, msg=name)
