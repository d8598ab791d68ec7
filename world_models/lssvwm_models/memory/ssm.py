"""The state-space scan of one tube: Mamba-2's recurrence with frames as its clock (paper section 4.1).

A tube is one `b x b` block of the token grid followed through time. Its state `S` (H, P, N) obeys Mamba-2's
recurrence over the tokens of each frame,

    S <- exp(dt * A) * S + dt * x B^T        for every written token,
    y  = S C                                 for every read,

with one rule added: *all reads of a frame see the state as it stood before that frame*. A read is a Mamba-2
token with `dt = 0`: it neither decays nor writes. The rule removes the order bias inside a frame and lets
a half-denoised frame read the memory without ever entering it.

Two forms compute the same numbers and `frame_scan` picks the cheaper one: *masked* (attention-like, for small
tubes), *carried* (one state per frame, for large tubes). Where Mamba-2's Triton kernels are installed, they run it on
CUDA (`mamba_kernels.py`). `frame_scan_reference` is the recurrence itself, for tests.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lssvwm_models.memory import mamba_kernels


def frame_scan(
    C: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    state: Tensor,
    is_first: Tensor,
    fade: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Read and write the states of G tubes over T frames.

    Args:
        C: (G, T, R, N) read keys; R reads per frame, each sees the state before its frame.
        x: (G, T, M, H, P) values written by the M tokens of each frame.
        dt: (G, T, M, H) step sizes, >= 0: how strongly a token writes and how much it makes the state forget.
        A: (H,) negative decay rates.
        B: (G, T, M, N) write keys, shared by the heads (Mamba-2 with one group).
        state: (G, H, P, N) float32, the state before frame 0.
        is_first: (G, T) bool; the state is emptied before such a frame is read or written.
        fade: (G, T) <= 0, the logarithm of the largest share of the state that each frame leaves of what was there
            before it; None: what `dt` and `A` leave.

    Returns:
        y (G, T, R, H, P), and the state (G, H, P, N) after the last frame.
    """
    if fade is None and mamba_kernels.choose(C, x, B):
        return mamba_kernels.chunk_scan(C, x, dt, A, B, state, is_first)
    T, R, N = C.shape[1:]
    M, H, P = x.shape[2:]
    values = _write_weights(x, dt, A)
    log_decay = frame_decay(dt, A, fade)
    masked_cost = T * M * (R * N + R * H * (P + 2))  # per frame: scores, masks, weighted values
    carried_cost = H * P * N * (M + R + T)  # per frame: frame writes, reads, state passing
    if T > 1 and masked_cost < carried_cost:
        return _masked(C, values, B, state, log_decay, is_first)
    return _carried(C, values, B, state, log_decay, is_first)


def frame_decay(dt: Tensor, A: Tensor, fade: Tensor | None) -> Tensor:
    """The logarithm (G, T, H) of the share of the state that each frame leaves; arguments as of `frame_scan`."""
    log_decay = dt.float().sum(2) * A
    return log_decay if fade is None else torch.minimum(log_decay, fade.unsqueeze(-1))


def _write_weights(x: Tensor, dt: Tensor, A: Tensor) -> Tensor:
    """Values (G, T, M, H, P) times dt and the decay by the tokens written after them in the same frame."""
    a = dt.float() * A  # (G, T, M, H)
    later = a.sum(2, keepdim=True) - a.cumsum(2)
    return x * (dt * later.exp()).unsqueeze(-1).to(x.dtype)


def _what_is_left(log_decay: Tensor, is_first: Tensor) -> Tensor:
    """(G, H, T + 1, T + 1): what is left, at the read of frame t (row; row T is the final state), of the initial
    state (column 0) and of the write of frame s (column s + 1)."""
    a = log_decay.transpose(1, 2)  # (G, H, T)
    cum = F.pad(a.cumsum(-1), (1, 0))  # (G, H, T + 1): log decay of the initial state at each row
    written = torch.cat([torch.zeros_like(cum[..., :1]), cum[..., 1:]], -1)  # log decay already spent at a write
    spent = cum.unsqueeze(-1) - written.unsqueeze(-2)
    segment = is_first.cumsum(1)  # (G, T)
    rows = torch.cat([segment, segment[:, -1:]], 1)
    columns = torch.cat([torch.zeros_like(segment[:, :1]), segment], 1)
    T = is_first.shape[1]
    before = torch.ones(T + 1, T + 1, dtype=torch.bool, device=a.device).tril()
    visible = (rows.unsqueeze(-1) == columns.unsqueeze(-2)) & before  # (G, T + 1, T + 1)
    return spent.masked_fill(~visible.unsqueeze(1), -torch.inf).exp()


def _carried(
    C: Tensor, values: Tensor, B: Tensor, state: Tensor, log_decay: Tensor, is_first: Tensor
) -> tuple[Tensor, Tensor]:
    """One state per frame: write each frame, pass the states along time, read each frame."""
    H, P = values.shape[3:]
    writes = values.flatten(3).transpose(2, 3) @ B.to(values.dtype)  # (G, T, HP, M) (G, T, M, N) -> (G, T, HP, N)
    before, state = pass_along(state, writes.unflatten(2, (H, P)).float(), log_decay.exp(), is_first)
    y = C @ before.flatten(2, 3).transpose(2, 3).to(C.dtype)  # (G, T, R, N) (G, T, N, HP) -> (G, T, R, HP)
    return y.unflatten(-1, (H, P)), state


def pass_along(state: Tensor, writes: Tensor, decay: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
    """States (G, T, H, P, N) before each frame, emptied where an episode begins, and the one after the last.

    A state that is read decays by `decay` (G, T, H), and what its frame writes, `writes` like the states, is added.
    """
    if writes.shape[1] == 1 and not is_first.any():  # a step of a dream: nothing is copied
        return state.unsqueeze(1), torch.addcmul(writes[:, 0], state, decay[:, 0, :, None, None])
    before, last = _PassAlong.apply(state, writes, decay, is_first)
    return before, last


class _PassAlong(torch.autograd.Function):
    """Frame by frame in place, forwards and backwards: every state is touched while the cache still holds it."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, writes: Tensor, decay: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        T = writes.shape[1]
        first = is_first.any(0).tolist()
        before = torch.empty_like(writes)
        kept = decay[..., None, None]
        for t in range(T):
            before[:, t] = state
            if first[t]:
                before[:, t] *= ~is_first[:, t, None, None, None]
            state = torch.addcmul(writes[:, t], before[:, t], kept[:, t])
        ctx.save_for_backward(before, decay, is_first)
        return before, state

    @staticmethod
    def backward(ctx: Any, before_grad: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        before, decay, is_first = ctx.saved_tensors
        T = decay.shape[1]
        first = is_first.any(0).tolist()
        writes_grad = torch.empty_like(before)
        kept = decay[..., None, None]
        for t in reversed(range(T)):  # grad: of the state after frame t
            writes_grad[:, t] = grad
            grad = torch.addcmul(before_grad[:, t], grad, kept[:, t])
            if first[t]:
                grad *= ~is_first[:, t, None, None, None]
        return grad, writes_grad, (writes_grad * before).sum((3, 4)), None


def _masked(
    C: Tensor, values: Tensor, B: Tensor, state: Tensor, log_decay: Tensor, is_first: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention with decay for a mask: no state is formed but the first and the last."""
    G, T, _, H, P = values.shape
    R, N = C.shape[2:]
    decay = _what_is_left(log_decay, is_first)
    scores = C.flatten(1, 2) @ B.to(C.dtype).flatten(1, 2).transpose(1, 2)  # (G, TR, N) (G, N, TM) -> (G, TR, TM)
    mask = decay[:, :, :T, 1:].to(scores.dtype)  # (G, H, T, T)
    scores = scores.view(G, 1, T, R, T, -1) * mask[:, :, :, None, :, None]
    by_head = values.permute(0, 3, 1, 2, 4).flatten(2, 3)
    y = scores.reshape(G, H, T * R, -1) @ by_head  # (G, H, TR, TM) (G, H, TM, P) -> (G, H, TR, P)
    y = y.view(G, H, T, R, P).permute(0, 2, 3, 1, 4)
    carried = C.flatten(1, 2) @ state.flatten(1, 2).transpose(1, 2).to(C.dtype)  # (G, TR, N) (G, N, HP)
    initial = decay[:, :, :T, 0].transpose(1, 2)[:, :, None, :, None]  # (G, T, 1, H, 1)
    y = y + carried.view(G, T, R, H, P) * initial.to(y.dtype)
    kept = decay[:, :, T, 1:].transpose(1, 2)[:, :, None, :, None]  # (G, T, 1, H, 1)
    last = (values * kept.to(values.dtype)).flatten(3).flatten(1, 2)  # (G, TM, HP)
    last = last.transpose(1, 2) @ B.to(values.dtype).flatten(1, 2)  # (G, HP, TM) (G, TM, N) -> (G, HP, N)
    return y, state * decay[:, :, T, 0, None, None] + last.view(G, H, P, N).float()


def frame_scan_reference(
    C: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    state: Tensor,
    is_first: Tensor,
    fade: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`frame_scan` as the plain recurrence, token by token."""
    outputs = []
    for t in range(x.shape[1]):
        state = torch.where(is_first[:, t, None, None, None], torch.zeros_like(state), state)
        outputs.append(torch.einsum("grn,ghpn->grhp", C[:, t], state))
        if fade is not None:  # what the decays of this frame's tokens will not take of what was there before it
            excess = (dt[:, t].sum(1) * A - fade[:, t, None]).clamp(min=0)  # (G, H)
            state = (-excess).exp()[..., None, None] * state
        for m in range(x.shape[2]):
            decay = (dt[:, t, m] * A).exp()[..., None, None]  # (G, H, 1, 1)
            write = torch.einsum("gh,ghp,gn->ghpn", dt[:, t, m], x[:, t, m], B[:, t, m])
            state = decay * state + write
    return torch.stack(outputs, 1), state
