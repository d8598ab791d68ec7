"""Any action space as one of the two kinds that a model knows: integers from 0, and vectors of float32."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lssvwm_env.utils.json_types import ActionSpace
from lssvwm_models.data.spaces import MOST_ACTIONS


class FlatActions:
    """An action space, and the flat one that stands for it.

    Discrete, MultiDiscrete and MultiBinary spaces become Discrete from 0: the number whose digits, in mixed radix and
    the last one fastest, are the action. A Box of floats becomes a Box of float32 vectors.

    Args:
        space: The action space of an environment.

    Attributes:
        flat: The space that stands for it.

    Raises:
        ValueError: If it is of another kind, or has too many actions to number them.
    """

    flat: ActionSpace

    def __init__(self, space: gym.Space[Any]) -> None:
        self._space = space
        self._radix = np.array([1])
        self._first = np.array(0)
        if isinstance(space, gym.spaces.Discrete):
            self._radix = np.array([space.n])
            self._first = np.array(space.start)
        elif isinstance(space, gym.spaces.MultiDiscrete):
            self._radix = space.nvec.ravel()
            self._first = space.start
        elif isinstance(space, gym.spaces.MultiBinary):
            self._radix = np.full(space.shape, 2).ravel()
            self._first = np.zeros(space.shape, np.int64)
        elif isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating):
            low = space.low.astype(np.float32).ravel()
            high = space.high.astype(np.float32).ravel()
            self.flat = gym.spaces.Box(low, high, dtype=np.float32)
            return
        else:
            raise ValueError(
                f"has actions {space}, expected Discrete, MultiDiscrete, MultiBinary or a Box of floats: "
                "wrap it with gymnasium's TransformAction"
            )
        count = math.prod(self._radix.tolist())
        if count > MOST_ACTIONS:
            raise ValueError(
                f"has actions {space}, which are {_in_words(count)} if all combinations are counted, expected up to "
                f"{MOST_ACTIONS:,}, as a model learns a vector for each: wrap it with gymnasium's TransformAction, so "
                "that only combinations that matter are left, or with a Box of floats"
            )
        self.flat = gym.spaces.Discrete(count)

    def to_env(self, action: Any) -> Any:
        """An action of the flat space as the environment takes it."""
        if isinstance(self._space, gym.spaces.Box):
            # Bounds of float64 are not exact in float32, and an environment may be strict about them.
            shaped = np.reshape(action, self._space.shape).astype(self._space.dtype)
            return shaped.clip(self._space.low, self._space.high)
        digits = np.array(np.unravel_index(int(action), self._radix), np.int64).reshape(self._first.shape) + self._first
        return digits.astype(self._space.dtype) if digits.ndim else int(digits)

    def from_env(self, actions: ArrayLike) -> NDArray[np.int64] | NDArray[np.float32]:
        """Actions of the environment, one for each of T steps, as those of the flat space: (T,) or (T, A).

        Raises:
            ValueError: If they do not have the shape or the range of the environment's space.
        """
        given = np.asarray(actions)
        if given.shape[1:] != self._space.shape:
            raise ValueError(f"actions have shape {given.shape}, expected (T, ...) with actions of {self._space}")
        if isinstance(self._space, gym.spaces.Box):
            return given.reshape(len(given), -1).astype(np.float32)
        digits = given.astype(np.int64) - self._first
        try:
            return np.ravel_multi_index(tuple(digits.reshape(len(given), -1).T), tuple(self._radix)).astype(np.int64)
        except ValueError as error:
            raise ValueError(f"actions {given.min()} to {given.max()} are not all in {self._space}") from error


def _in_words(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"about 10^{math.log10(count):.0f}"
