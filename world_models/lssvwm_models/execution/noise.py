"""Gaussian noise that belongs to one world and one frame: a function of (key, frame number), with no hidden state.

Every simulated world owns a key. Its noise at frame t depends on nothing else, so B worlds in one batch dream exactly
what they would dream alone, in any order and on any device, and saving a key saves the whole random stream.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer, splitmix64's increment
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def frame_noise(keys: Tensor, frame: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (B, *shape) for worlds with keys (B,) long at frame numbers (B,) long."""
    count = math.prod(shape)
    pairs = (count + 1) // 2
    start = fold(keys, frame).unsqueeze(1)  # (B, 1)
    bits = mix(start + _GOLDEN * torch.arange(1, pairs + 1, device=keys.device))  # (B, pairs)
    # The high 24 bits give the radius, the next 24 the angle (Box-Muller); both exact in float32.
    radius = (((bits >> 40) & 0xFFFFFF).float() + 1) / 2**24
    angle = ((bits >> 16) & 0xFFFFFF).float() * (2 * math.pi / 2**24)
    length = (-2 * radius.log()).sqrt()
    normal = torch.cat([length * angle.cos(), length * angle.sin()], 1)
    return normal[:, :count].reshape(-1, *shape)


def fold(keys: Tensor, number: Tensor | int) -> Tensor:
    """A new key (B,) from each key and a number: independent streams for children, frames or workers."""
    return mix(keys ^ mix(torch.as_tensor(number, device=keys.device) * _GOLDEN + _MIX_1))


def mix(bits: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 tensors (products wrap, shifts are made logical)."""
    bits = (bits ^ ((bits >> 30) & 0x3FFFFFFFF)) * _MIX_1
    bits = (bits ^ ((bits >> 27) & 0x1FFFFFFFFF)) * _MIX_2
    return bits ^ ((bits >> 31) & 0x1FFFFFFFF)
