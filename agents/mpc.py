"""Model-predictive control: remember what is seen, imagine what could follow, act, and look again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.planners import Imaginer, Planner, PlanResult, num_actions
from world_models.data.segments import to_frames, to_uint8
from world_models.state import WorldModelState

Frame = NDArray[np.uint8]  # (H, W, C)


class Rememberer(Imaginer, Protocol):
    """A model that also takes in real frames, such as a `WorldModel`."""

    def initial_state(self, batch_size: int) -> WorldModelState:
        """The memory of worlds that have seen nothing."""

    def observe(
        self, state: WorldModelState, obs: Tensor, act: Tensor, is_first: Tensor
    ) -> tuple[WorldModelState, Tensor]:
        """Take real frames into the memory; see `WorldModel.observe`."""


class MPCAgent:
    """Acts in a real environment by planning in a world model that remembers the real frames.

    Per episode: `reset(obs)`, and then `act()` and `observe(obs)` by turns.

    What is left of the last plan is a candidate of the next one, and wins if nothing is worth more. So an agent whose
    plans are all worth the same keeps going where it goes, rather than dithering.

    Args:
        model: Remembers and imagines. Its actions must be discrete.
        planner: Plans from the memory.
        seed: Fixes all of the agent's plans, over all of its episodes.
        replan_every: Steps of a plan to take before making the next; a plan that runs out is replaced earlier.

    Attributes:
        state: The memory, of one world.
        plan: The plan being followed; None before the first `act` of an episode.
        imagined_steps: Frames imagined for planning since the agent was made.

    Raises:
        ValueError: If `replan_every` is below 1, or the model's actions are not discrete.
    """

    state: WorldModelState
    plan: PlanResult | None

    def __init__(self, model: Rememberer, planner: Planner, seed: int = 0, replan_every: int = 1) -> None:
        if replan_every < 1:
            raise ValueError(f"replan_every is {replan_every}; expected at least 1")
        self.num_actions = num_actions(model)
        self.model, self.planner, self.replan_every = model, planner, replan_every
        self.imagined_steps = 0
        self._rng = torch.Generator().manual_seed(seed)
        self._display_key = torch.tensor([seed])
        self._turn: str | None = None  # the method that must come next

    def reset(self, obs: Frame) -> None:
        """Begin an episode with an empty memory, and take in its first frame (H, W, C)."""
        self.state, self.plan, self._used = self.model.initial_state(1), None, 0
        self._remember(obs, action=0, first=True)
        self._turn = "act"

    def act(self) -> int:
        """Choose the next action; plan if the current plan has been followed for long enough."""
        self._expect("act")
        if self.plan is None or self._used >= min(self.replan_every, self.plan.actions.shape[1]):
            rest = None if self.plan is None else self.plan.actions[:, self._used :]
            self.plan, self._used = self.planner.plan(self.model, self.state, self._rng, warm_start=rest), 0
            self.imagined_steps += self.plan.imagined_steps
        self._action = int(self.plan.actions[0, self._used])
        self._used += 1
        self._turn = "observe"
        return self._action

    def foresee(self) -> Frame:
        """Imagine the frame (H, W, C) that the action just chosen leads to; changes nothing."""
        self._expect("observe")
        device = self.state.age.device
        act = torch.tensor([self._action], device=device)
        frame, _ = self.model.imagine(self.state, act, self._display_key.to(device), self.planner.steps)
        return to_uint8(frame.obs[0])

    def observe(self, obs: Frame) -> None:
        """Take in the real frame (H, W, C) that the chosen action led to."""
        self._expect("observe")
        self._remember(obs, self._action, first=False)
        self._turn = "act"

    def _remember(self, obs: Frame, action: int, first: bool) -> None:
        if obs.dtype != np.uint8 or obs.ndim != 3:
            raise ValueError(
                f"obs is {obs.dtype} of shape {obs.shape}; expected a uint8 frame (height, width, channels). "
                "Wrap the env so that it returns the frames the model was trained on"
            )
        device = self.state.age.device
        frame = to_frames(obs)[None, None].to(device)
        act, is_first = torch.tensor([[action]], device=device), torch.tensor([[first]], device=device)
        self.state, _ = self.model.observe(self.state, frame, act, is_first)

    def _expect(self, turn: str) -> None:
        if self._turn != turn:
            due = f"{self._turn}()" if self._turn else "reset(obs)"
            raise RuntimeError(f"call {due} first: an episode is reset, and then act() and observe(obs) take turns")


@dataclass(frozen=True)
class EpisodeRecord:
    """An episode of T steps, and what the agent thought.

    Attributes:
        frames: (T + 1, H, W, C) uint8, the real frames.
        foreseen: (T, H, W, C) uint8; `foreseen[t]` was imagined for `frames[t + 1]` before acting.
        actions: (T,) int64.
        rewards: (T,) float32.
        terminated: Whether the episode ended by itself; otherwise it was truncated.
        values: (T,) float32, the imagined return of the plan that each action belongs to, from where it was made.
        imagined_steps: Frames imagined for planning.
    """

    frames: Frame
    foreseen: Frame
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    terminated: bool
    values: NDArray[np.float32]
    imagined_steps: int


def run_episode(agent: MPCAgent, env: gym.Env[Any, Any], seed: int | None = None) -> EpisodeRecord:
    """Let an agent act in `env`, reset with `seed`, until the episode terminates or is truncated.

    Raises:
        ValueError: If the actions of `env` are not those of the model.
    """
    expected = gym.spaces.Discrete(agent.num_actions)
    if env.action_space != expected:
        raise ValueError(f"env has the action space {env.action_space}; the model was trained on {expected}")
    imagined_before = agent.imagined_steps
    obs, _ = env.reset(seed=seed)
    agent.reset(obs)
    frames, foreseen, actions, rewards, values = [obs], [], [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        actions.append(agent.act())
        assert agent.plan is not None  # act() has just followed it
        values.append(float(agent.plan.value[0]))
        foreseen.append(agent.foresee())
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        agent.observe(obs)
        frames.append(obs)
        rewards.append(float(reward))
    return EpisodeRecord(
        frames=np.stack(frames),
        foreseen=np.stack(foreseen),
        actions=np.array(actions, np.int64),
        rewards=np.array(rewards, np.float32),
        terminated=terminated,
        values=np.array(values, np.float32),
        imagined_steps=agent.imagined_steps - imagined_before,
    )
