"""Returns: what rewards add up to from each step on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def discounted_returns(
    rewards: NDArray[np.floating], gamma: float, is_last: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """The discounted sum of rewards from each step on.

    Args:
        rewards: (T,).
        gamma: Discount per step, 0 to 1.
        is_last: bool (T,), after which rewards another episode begins; None: they are all of one.

    Returns:
        (T,), in double precision.
    """
    last = np.zeros(len(rewards), bool) if is_last is None else is_last
    returns = list[float]()
    following = 0.0
    for reward, ends in zip(rewards[::-1].tolist(), last[::-1].tolist(), strict=True):
        following = reward + gamma * (0.0 if ends else following)
        returns.append(following)
    return np.array(returns[::-1], np.float64)


def lambda_returns(rew: Tensor, cont: Tensor, values: Tensor, gamma: float, lambda_: float) -> Tensor:
    """What can be expected from each of H steps on: rewards where they were imagined, the critic's values beyond.

    R_t = rew_t + gamma * cont_t * ((1 - lambda_) * values_{t + 1} + lambda_ * R_{t + 1}), and R_H = values_H; see
    TD(lambda), Sutton and Barto 2018, section 12.1. So `lambda_` 0 trusts the critic after a single step, and 1 only
    at the end.

    Args:
        rew: (H, ...) that came with the frame after each step.
        cont: (H, ...) the probability that the world went on after it, 0 to 1.
        values: (H + 1, ...) of the frames before the steps, and of the last one.
        gamma: Discount per step, 0 to 1.
        lambda_: 0 to 1.

    Returns:
        (H, ...).

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if rew.shape != cont.shape or values.shape != (len(rew) + 1, *rew.shape[1:]):
        raise ValueError(
            f"rew has shape {tuple(rew.shape)}, cont {tuple(cont.shape)} and values {tuple(values.shape)}; expected "
            "(H, ...), the same, and (H + 1, ...)"
        )
    returns = list[Tensor]()
    following = values[-1]
    for t in reversed(range(len(rew))):
        following = rew[t] + gamma * cont[t] * torch.lerp(values[t + 1], following, lambda_)
        returns.append(following)
    return torch.stack(returns[::-1])
