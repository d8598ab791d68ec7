"""A memory that is told what it has wrong: the delta rule, with frames as its clock.

What Mamba-2 writes is added to what is there. Where keys are far from orthogonal, as those of gazes are, what was
written by one is read by many others, and what is written by one again and again drowns the rest. Under the delta rule
(Widrow and Hoff 1960; Schlag et al. 2021) a frame writes what is missing: the difference between its values and what
its keys read. It may decay besides, as in the gated delta rule (Yang et al. 2024). As everywhere here, all reads of a
frame see the state as it stood before.
"""

from __future__ import annotations

import torch
from torch import Tensor


def delta_scan(
    C: Tensor,
    x: Tensor,
    strength: Tensor,
    log_decay: Tensor,
    B: Tensor,
    caution: Tensor,
    state: Tensor,
    is_first: Tensor,
) -> tuple[Tensor, Tensor]:
    """Read and write the states of G worlds over T frames.

    A frame writes all its M values x at once, by its keys K: `S <- exp(log_decay) S + K^T (K K^T + caution)^-1 d`, of
    the differences `d = strength (x - K S)`. Without caution it would read afterwards just what it wrote (Kaczmarz
    1937, by blocks). With more it goes only a part of the way, and what other frames wrote lasts.

    Args:
        C: (G, T, R, N) keys to read by, of length 1.
        x: (G, T, M, H, P) values written by each frame.
        strength: (G, T, M, H) from 0 to 1, how much of each is written.
        log_decay: (G, T, H) <= 0, logarithm of the share of the state that each frame leaves of what was before.
        B: (G, T, M, N) keys to write by, of length 1.
        caution: () > 0.
        state: (G, H, P, N) float32, the state before frame 0.
        is_first: (G, T) bool; the state is emptied before such a frame is read or written.

    Returns:
        y (G, T, R, H, P) float32, and the state (G, H, P, N) after the last frame.
    """
    T, R = C.shape[1:3]
    H, P = x.shape[3:]
    with torch.autocast(x.device.type, enabled=False):  # what is missing is a small difference
        keys = B.float()
        eye = torch.eye(keys.shape[2], device=keys.device)
        inverse = torch.linalg.inv(keys @ keys.transpose(2, 3) + caution.float() * eye)  # (G, T, M, M)
        both = torch.cat([C.float(), keys], 2)
        kept = (log_decay.float().exp() * ~is_first.unsqueeze(-1)).repeat_interleave(P, 2).unsqueeze(2)  # (G, T, 1, HP)
        memory = state.flatten(1, 2).transpose(1, 2)  # (G, N, HP)
        empty = ~is_first[..., None, None]
        y = []
        for t in range(T):
            read = both[:, t] @ memory * empty[:, t]  # (G, R + M, HP)
            missing = (x[:, t].float() - read[:, R:].unflatten(-1, (H, P))) * strength[:, t].float().unsqueeze(-1)
            memory = memory * kept[:, t] + keys[:, t].transpose(1, 2) @ (inverse[:, t] @ missing.flatten(-2))
            y.append(read[:, :R])
    return torch.stack(y, 1).unflatten(-1, (H, P)), memory.transpose(1, 2).unflatten(1, (H, P)).contiguous()
