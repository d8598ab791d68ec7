"""Goals given as pictures: a world whose reward is how much more it looks like the goal than before."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agents.mpc import Rememberer
from world_models.data.segments import to_frames
from world_models.state import WorldModelState
from world_models.world_model import Prediction


class TowardsGoal:
    """The same world with another reward, for any planner: reaching a moment that looks like a picture.

    The reward of a step is what it adds to the likeness, so that plans are worth the likeness they end with, less what
    they begin with; reaching the goal ends the episode and pays 1 more. What the world itself pays does not count.

    Args:
        core: Where to imagine, and to remember.
        goal: The picture, uint8 (H, W, C), such as a frame that was seen before.
        patch: Side in pixels of the squares that are compared, such as the tiles of a grid world.
        reached: Likeness from which the goal counts as reached.
    """

    def __init__(self, core: Rememberer, goal: NDArray[np.uint8], patch: int = 8, reached: float = 0.99) -> None:
        self.core, self.patch, self.reached = core, patch, reached
        self.goal = to_frames(goal)

    @property
    def action_space(self) -> gym.Space:
        """Of the world."""
        return self.core.action_space

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        """See `SimulatorCore.imagine`."""
        frame, after = self.core.imagine(memory, act, keys)
        now = self.likeness(frame.obs)
        reached = (now >= self.reached).float()
        return Prediction(
            frame.obs, now - self.likeness(self.core.shown(memory)) + reached, reached, frame.feats
        ), after

    def shown(self, memory: WorldModelState) -> Tensor:
        """See `SimulatorCore.shown`."""
        return self.core.shown(memory)

    def nothing_seen(self, num_worlds: int) -> WorldModelState:
        """See `SimulatorCore.nothing_seen`."""
        return self.core.nothing_seen(num_worlds)

    def remember(
        self, memory: WorldModelState, obs: NDArray[np.uint8], act: Tensor, is_first: Tensor
    ) -> WorldModelState:
        """See `SimulatorCore.remember`."""
        return self.core.remember(memory, obs, act, is_first)

    def likeness(self, obs: Tensor) -> Tensor:
        """The share of squares that frames (B, C, H, W) in [-1, 1] have in common with the goal, (B,)."""
        difference = (obs - self.goal.to(obs.device)).abs().mean(1)  # (B, H, W)
        p = self.patch
        squares = difference.unfold(1, p, p).unfold(2, p, p).mean((-1, -2))  # (B, rows, columns)
        return (squares < 0.1).float().mean((1, 2))
