"""A 5x5 room whose best plans are known: as a perfect model, and as the real thing, which may be otherwise."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_agents import Budget, PlanRequest
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction

SIZE = 5
GOAL = (4, 4)
RIGHT, DOWN, LEFT, UP, WAIT = range(5)
MOVES = torch.tensor([(1, 0), (0, 1), (-1, 0), (0, -1), (0, 0)])
Cell = tuple[int, int]


class Room:
    """A perfect model of a walled room. Each step on the goal pays `reward` and ends the episode with `term_prob`.

    A frame (3, 5, 5) is black but for the agent's cell. The memory is the cell x, y, as `latents` (B, 1, 2). With
    continuous actions the agent moves by them, and the goal is within half a cell.
    """

    def __init__(self, reward: float = 1.0, term_prob: float = 1.0, luck: float = 0.0, kind: str = "discrete") -> None:
        self.discrete = kind == "discrete"
        box = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(len(MOVES)) if self.discrete else box
        self.reward = reward
        self.term_prob = term_prob
        self.luck = luck
        self.keys_seen: list[Tensor] = []
        self.imagined = 0

    def initial_memory(self, num_worlds: int) -> WorldModelState:
        return make_state(torch.zeros(num_worlds, 2), torch.zeros(num_worlds, dtype=torch.long))

    def update_memory(
        self, memory: WorldModelState, obs: NDArray[np.uint8], act: Tensor, is_first: Tensor
    ) -> WorldModelState:
        cell = torch.from_numpy(obs[:, -1, ..., 0].reshape(len(obs), -1).argmax(1))
        age = torch.where(is_first[:, 0], 0, memory.age) + obs.shape[1]
        return make_state(torch.stack([cell % SIZE, cell // SIZE], 1), age)

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        self.keys_seen.append(keys)
        self.imagined += len(act)
        cell = (memory.latents[:, 0] + (MOVES[act] if self.discrete else act)).clamp(0, SIZE - 1)
        at_goal = ((cell - torch.tensor(GOAL)).abs() < 0.5).all(1).float()
        luck = self.luck * (keys % 1000).float()
        after = make_state(cell, memory.age + 1)
        feats = torch.zeros(len(cell), 1)
        paid = self.reward * at_goal + luck
        ended = self.term_prob * at_goal
        return Prediction(self.decode(after), self.decode(after), paid, ended, feats, lambda obs: obs), after

    def decode(self, memory: WorldModelState) -> Tensor:
        cell = memory.latents[:, 0].round().long()
        obs = torch.full((len(cell), 3, SIZE * SIZE), -1.0)
        obs[torch.arange(len(cell)), :, cell[:, 0] + SIZE * cell[:, 1]] = 1
        return obs.view(-1, 3, SIZE, SIZE)


class LargeRoom(Room):
    """The room of 5x5 cells, with 8x8 pixels each."""

    def decode(self, memory: WorldModelState) -> Tensor:
        return super().decode(memory).repeat_interleave(8, -1).repeat_interleave(8, -2)


class RealRoom(gym.Env[NDArray[np.uint8], np.int64]):
    """The same room, with what that model knows nothing of: walls, and a floor on which every third step slips."""

    observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def __init__(
        self, walls: set[Cell] | None = None, slippery: bool = False, limit: int = 40, actions: int = len(MOVES)
    ) -> None:
        self.walls = walls or set()
        self.slippery = slippery
        self.limit = limit
        self.action_space = gym.spaces.Discrete(actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        self.cell = (0, 0)
        self.time = 0
        return picture(self.cell), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        x, y = (min(max(a + b, 0), SIZE - 1) for a, b in zip(self.cell, MOVES[action].tolist(), strict=True))
        self.time += 1
        if (x, y) not in self.walls and not (self.slippery and self.time % 3 == 0):
            self.cell = (x, y)
        done = self.cell == GOAL
        return picture(self.cell), float(done), done, self.time >= self.limit, {}


def picture(cell: Cell) -> NDArray[np.uint8]:
    """What is seen from a cell."""
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    frame[cell[1], cell[0]] = 255
    return frame


def make_state(cell: Tensor, age: Tensor) -> WorldModelState:
    pose = torch.zeros(len(cell), 3, dtype=torch.long)
    return WorldModelState((), (), cell.float().unsqueeze(1), torch.zeros(len(cell), 1), pose, age)


def room_state(*cells: Cell) -> WorldModelState:
    return make_state(torch.tensor(cells), torch.ones(len(cells), dtype=torch.long))


def keys(count: int = 1, seed: int = 0) -> Tensor:
    return torch.arange(count) + 1000 * seed


def request(
    *cells: Cell, room: Room | None = None, horizon: int = 10, steps: int = 1000, warm_start: Tensor | None = None
) -> PlanRequest:
    """A plan for each of some worlds, whose agents are in these cells; (0, 0) by default."""
    state = room_state(*(cells or ((0, 0),)))
    budget = Budget(imagined_steps=steps)
    return PlanRequest(room or Room(), state, horizon, budget, keys(state.batch_size), warm_start)
