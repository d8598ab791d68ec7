"""Worlds that pay for something else than they do, for any planner: for reaching a picture, for looking where the dream
does not know what it would see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Final

import gymnasium as gym
import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_agents.planning.mpc import ObservingImaginer
from lssvwm_models.data.segments import to_frames
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction

PATCH: Final = 8  # side in pixels of the squares in which frames are compared: the tiles of MiniGrid
DIFFERENCE: Final = 0.1  # squares that differ by less than this on average, of a range of 2, are the same
SURPRISE: Final = 0.075  # squares that differ by less from what was expected of them were known


class RewardWrapper(ABC):
    """The world of a core, with another reward."""

    def __init__(self, core: ObservingImaginer) -> None:
        self.core = core

    @abstractmethod
    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        """See `SimulatorCore.imagine`."""

    @property
    def action_space(self) -> gym.Space:
        """Of the world."""
        return self.core.action_space

    def decode(self, memory: WorldModelState) -> Tensor:
        """See `SimulatorCore.decode`."""
        return self.core.decode(memory)

    def initial_memory(self, num_worlds: int) -> WorldModelState:
        """See `SimulatorCore.initial_memory`."""
        return self.core.initial_memory(num_worlds)

    def update_memory(
        self, memory: WorldModelState, obs: NDArray[np.uint8], act: Tensor, is_first: Tensor
    ) -> WorldModelState:
        """See `SimulatorCore.update_memory`."""
        return self.core.update_memory(memory, obs, act, is_first)


class TowardsGoal(RewardWrapper):
    """It pays to get to where it looks like a picture.

    The reward of a step is what it adds to the likeness, so that plans are worth the likeness they end with, less what
    they begin with; reaching the goal ends the episode and pays 1 more. What the world itself pays does not count.

    Args:
        core: Where to imagine, and to remember.
        goal: The picture, uint8 (H, W, C), such as a frame that was seen before.
        reached: Likeness from which the goal counts as reached.
    """

    def __init__(self, core: ObservingImaginer, goal: NDArray[np.uint8], reached: float = 0.99) -> None:
        super().__init__(core)
        self.goal = to_frames(goal)
        self.reached = reached

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        """See `SimulatorCore.imagine`."""
        frame, after = self.core.imagine(memory, act, keys)
        likeness = self.likeness(frame.obs)
        reached = (likeness >= self.reached).float()
        gain = likeness - self.likeness(self.decode(memory))
        return replace(frame, rew=gain + reached, term_prob=reached), after

    def likeness(self, obs: Tensor) -> Tensor:
        """The share of squares that frames (B, C, H, W) in [-1, 1] have in common with the goal, (B,)."""
        return 1 - differing_patches(obs, self.goal.to(obs.device)).float().mean((1, 2))


class Curious(RewardWrapper):
    """Besides what the world pays, it pays to see squares of a frame that the memory does not know.

    A planner that dreams with one key takes what it dreams of unseen places for the truth, and never looks: in
    MiniGrid-Memory it walks past the cue that it should have remembered. Before a frame is denoised, all that it may be
    is mixed in what is expected of it; squares that become something else, with another key too, were decided on the
    way. What was seen is remembered, and what was dreamt, too: looking again pays nothing.

    Args:
        core: Where to imagine, and to remember; it must take at least two denoising steps, as with one, frames are what
            was expected.
        weight: What a square pays. More than the task pays: look first.
    """

    def __init__(self, core: ObservingImaginer, weight: float = 2.0) -> None:
        super().__init__(core)
        self.weight = weight

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        """See `SimulatorCore.imagine`."""
        frame, after = self.core.imagine(memory, act, keys)
        unknown = _surprising(frame)
        worlds = unknown.flatten(1).any(1).nonzero().flatten()
        if len(worlds):  # what another key does not decide on either: most worlds are spared the second dream
            again, _ = self.core.imagine(memory[worlds], act[worlds], fold(keys[worlds], 1))
            unknown[worlds] &= _surprising(again)
        return replace(frame, rew=frame.rew + self.weight * unknown.float().sum((1, 2))), after


def _surprising(frame: Prediction) -> Tensor:
    """Which squares did not become what was expected of them, bool (B, H / 8, W / 8)."""
    return differing_patches(frame.obs, frame.decode(frame.expected), SURPRISE)


def differing_patches(a: Tensor, b: Tensor, by: float = DIFFERENCE) -> Tensor:
    """Which squares of frames (B, C, H, W) in [-1, 1] differ, by so much on average, bool (B, H / 8, W / 8)."""
    pixels = (a - b).abs().mean(1)  # (B, H, W)
    return F.avg_pool2d(pixels, PATCH, ceil_mode=True) >= by  # at the edge, what there is
