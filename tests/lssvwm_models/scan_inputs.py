"""Random scans."""

import torch


def inputs(seed, T=5, R=4, M=2, G=3, H=2, P=3, N=4, resets=0.3, fades=False):
    """Arguments of `frame_scan`: G tubes of T frames, a share of which begin an episode, and half fade by more."""
    g = torch.Generator().manual_seed(seed)
    made = {
        "C": torch.randn(G, T, R, N, generator=g),
        "x": torch.randn(G, T, M, H, P, generator=g),
        "dt": torch.rand(G, T, M, H, generator=g),
        "A": -torch.rand(H, generator=g),
        "B": torch.randn(G, T, M, N, generator=g),
        "state": torch.randn(G, H, P, N, generator=g),
        "is_first": torch.rand(G, T, generator=g) < resets,
    }
    fade = -2 * torch.rand(G, T, generator=g) * (torch.rand(G, T, generator=g) < 0.5)
    return made | ({"fade": fade} if fades else {})
