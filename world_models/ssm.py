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

import torch
import torch.nn.functional as F
from torch import Tensor

from world_models import mamba_kernels


def frame_scan(
    C: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor, is_first: Tensor
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

    Returns:
        y (G, T, R, H, P), and the state (G, H, P, N) after the last frame.
    """
    if mamba_kernels.choose(C, x, B):
        return mamba_kernels.chunk_scan(C, x, dt, A, B, state, is_first)
    T, R, N = C.shape[1:]
    M, H, P = x.shape[2:]
    values, decay = _write_weights(x, dt, A), _frame_decay(dt, A, is_first)
    masked_cost = T * M * (R * N + R * H * (P + 2))  # per frame: scores, masks, weighted values
    carried_cost = H * P * N * (M + R + T)  # per frame: frame writes, reads, state passing
    if T > 1 and masked_cost < carried_cost:
        return _masked(C, values, B, state, decay)
    return _carried(C, values, B, state, decay)


def _write_weights(x: Tensor, dt: Tensor, A: Tensor) -> Tensor:
    """Values (G, T, M, H, P) times dt and the decay by the tokens written after them in the same frame."""
    a = dt.float() * A  # (G, T, M, H)
    later = a.sum(2, keepdim=True) - a.cumsum(2)
    return x * (dt * later.exp()).unsqueeze(-1).to(x.dtype)


def _frame_decay(dt: Tensor, A: Tensor, is_first: Tensor) -> Tensor:
    """(G, H, T + 1, T + 1): what is left, at the read of frame t (row; row T is the final state), of the initial
    state (column 0) and of the write of frame s (column s + 1)."""
    a = (dt.float().sum(2) * A).transpose(1, 2)  # (G, H, T)
    cum = F.pad(a.cumsum(-1), (1, 0))  # (G, H, T + 1): log decay of the initial state at each row
    written = torch.cat([torch.zeros_like(cum[..., :1]), cum[..., 1:]], -1)  # log decay already spent at a write
    log_decay = cum.unsqueeze(-1) - written.unsqueeze(-2)
    segment = is_first.cumsum(1)  # (G, T)
    rows = torch.cat([segment, segment[:, -1:]], 1)
    columns = torch.cat([torch.zeros_like(segment[:, :1]), segment], 1)
    T = is_first.shape[1]
    before = torch.ones(T + 1, T + 1, dtype=torch.bool, device=dt.device).tril()
    visible = (rows.unsqueeze(-1) == columns.unsqueeze(-2)) & before  # (G, T + 1, T + 1)
    return log_decay.masked_fill(~visible.unsqueeze(1), -torch.inf).exp()


def _carried(C: Tensor, values: Tensor, B: Tensor, state: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """One state per frame: write each frame, pass the states along time, read each frame."""
    G, T, _, H, P = values.shape
    N = B.shape[-1]
    writes = values.flatten(3).transpose(2, 3) @ B.to(values.dtype)  # (G, T, HP, M) (G, T, M, N) -> (G, T, HP, N)
    if T == 1:  # as when a dream takes a step: nothing to pass along
        kept = decay[..., 0, None, None].unbind(2)  # of the initial state: at the read, and after the write
        y = C @ state.reshape(G, 1, H * P, N).transpose(2, 3).to(C.dtype)  # (G, 1, R, N) (G, 1, N, HP) -> (G, 1, R, HP)
        y = y.unflatten(-1, (H, P)) * kept[0].reshape(G, 1, 1, H, 1).to(y.dtype)  # a smaller tensor than the state
        return y, torch.addcmul(writes.view(G, H, P, N).float(), state, kept[1])
    writes = torch.cat([state.reshape(G, 1, H, P * N), writes.reshape(G, T, H, P * N).float()], 1)
    states = (decay @ writes.transpose(1, 2)).transpose(1, 2)  # (G, H, T+1, T+1) (G, H, T+1, PN) -> (G, T+1, H, PN)
    before = states[:, :T].reshape(G, T, H * P, N)
    y = C @ before.transpose(2, 3).to(C.dtype)  # (G, T, R, N) (G, T, N, HP) -> (G, T, R, HP)
    return y.unflatten(-1, (H, P)), states[:, T].reshape(G, H, P, N).float()


def _masked(C: Tensor, values: Tensor, B: Tensor, state: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """Attention with decay for a mask: no state is formed but the first and the last."""
    G, T, _, H, P = values.shape
    R, N = C.shape[2:]
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
    C: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor, is_first: Tensor
) -> tuple[Tensor, Tensor]:
    """`frame_scan` as the plain recurrence, token by token."""
    outputs = []
    for t in range(x.shape[1]):
        state = torch.where(is_first[:, t, None, None, None], torch.zeros_like(state), state)
        outputs.append(torch.einsum("grn,ghpn->grhp", C[:, t], state))
        for m in range(x.shape[2]):
            decay = (dt[:, t, m] * A).exp()[..., None, None]  # (G, H, 1, 1)
            write = torch.einsum("gh,ghp,gn->ghpn", dt[:, t, m], x[:, t, m], B[:, t, m])
            state = decay * state + write
    return torch.stack(outputs, 1), state
