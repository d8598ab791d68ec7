"""Model-predictive control: remember what is seen, imagine what could follow, act, and look again."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_agents.planning.protocols import Budget, Imaginer, Planner, PlanRequest
from lssvwm_models.data.segments import to_uint8
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.utils.checks import check_counts

FrameArray = NDArray[np.uint8]  # (..., H, W, C)


class ObservingImaginer(Imaginer, Protocol):
    """A world to plan in that also takes in real frames, such as a `SimulatorCore`."""

    def initial_memory(self, num_worlds: int) -> WorldModelState:
        """The memory of worlds that have seen nothing."""

    def update_memory(self, memory: WorldModelState, obs: FrameArray, act: Tensor, is_first: Tensor) -> WorldModelState:
        """Take real frames into a memory; see `SimulatorCore.update_memory`."""


@dataclass(frozen=True)
class MPCState:
    """What an agent carries from step to step, for each of B worlds. A value, as memories are.

    Attributes:
        memory: What it has seen.
        action: Long (B,) or float (B, A), what it did last.
        plan: (B, H) or (B, H, A), of which the first `length` (B,) actions are meant, and the first `used` (B,) done.
        value: (B,), what the plan was worth when it was made.
        keys: (B,), of all that is random in the plans of each world.
        decisions: (B,), how many plans were made since the agent began.
        imagined_steps: (B,), frames imagined for them; worlds that planned together share what they cost.
    """

    memory: WorldModelState
    action: Tensor
    plan: Tensor
    length: Tensor
    value: Tensor
    used: Tensor
    keys: Tensor
    decisions: Tensor
    imagined_steps: Tensor

    def __getitem__(self, rows: Tensor) -> MPCState:
        """The states of some worlds."""
        return MPCState(*(getattr(self, field.name)[rows] for field in fields(self)))


class MPCAgent:
    """Acts in real environments by planning in a world model that remembers the real frames.

    What is left of the last plan is a candidate of the next one, and wins if nothing is worth more. So an agent whose
    plans are all worth the same keeps going where it goes, rather than dithering.

    `predict` is that of Stable-Baselines3, whose `evaluate_policy` judges this agent as it is.

    Args:
        core: Remembers and imagines.
        planner: Plans from the memory.
        horizon: Actions per plan.
        budget: What a decision may cost.
        seed: Fixes all plans: those of world i are those of an agent of one world with seed + i.
        replan_every: Steps of a plan to take before making the next; a plan that runs out is replaced earlier.

    Raises:
        ValueError: If `replan_every` or `horizon` are below 1.
    """

    def __init__(
        self,
        core: ObservingImaginer,
        planner: Planner,
        horizon: int,
        budget: Budget,
        seed: int = 0,
        replan_every: int = 1,
    ) -> None:
        self.core = core
        self.planner = planner
        self.horizon = horizon
        self.budget = budget
        self.seed = seed
        self.replan_every = replan_every
        check_counts(self, replan_every=1, horizon=1)

    def predict(
        self,
        observation: FrameArray,
        state: MPCState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], MPCState]:
        """Look, and choose the next action of every world.

        Args:
            observation: What is seen now, uint8 (B, H, W, C).
            state: What the last call gave; None: all episodes begin now.
            episode_start: bool (B,), where `observation` is the first of an episode; None: nowhere, once there is a
                state.
            deterministic: Of no effect: plans follow from the seed.

        Returns:
            actions, int64 (B,) or float32 (B, A), and the state to give to the next call.

        Raises:
            ValueError: If `observation` is no batch of frames, or `state` is of another number of worlds.
        """
        B = self._check(observation, state)
        state = self._initial_state(B) if state is None else state
        first = state.memory.age == 0
        if episode_start is not None:
            first = first | torch.as_tensor(np.asarray(episode_start, bool), device=first.device)
        memory = self.core.update_memory(state.memory, observation[:, None], state.action[:, None], first[:, None])
        over = first | (state.used >= state.length.clamp(max=self.replan_every))
        state = replace(state, memory=memory)
        if bool(over.any()):
            state = self._replanned(state, over, first)
        action = state.plan[torch.arange(B, device=over.device), state.used]
        return action.cpu().numpy(), replace(state, action=action, used=state.used + 1)

    def state_after(self, memory: WorldModelState, action: Tensor) -> MPCState:
        """The state of an agent that has seen what is in a memory of B worlds, and just did `action`, (B,) or (B, A).

        So an agent can take over in the middle of an episode: `predict` then wants the frame that the action led to.
        """
        return replace(self._initial_state(memory.batch_size), memory=memory, action=action)

    def predict_frames(self, state: MPCState) -> FrameArray:
        """Imagine the frames (B, H, W, C) that the actions just chosen lead to."""
        frame, _ = self.core.imagine(state.memory, state.action, state.keys)
        return to_uint8(frame.obs)

    def _replanned(self, state: MPCState, over: Tensor, first: Tensor) -> MPCState:
        """New plans where the old one is `over`; at the first frame of an episode, without what was left of it."""
        plan = state.plan.clone()
        length = state.length.clone()
        value = state.value.clone()
        imagined = state.imagined_steps.clone()
        keys = fold(state.keys, state.decisions)
        left = torch.where(first, 0, state.length - state.used)
        for rest in left[over].unique().tolist():  # all of a batch have as long a warm start
            rows = (over & (left == rest)).nonzero().flatten()
            steps = state.used[rows, None] + torch.arange(rest, device=over.device)
            warm_start = state.plan[rows[:, None], steps] if rest else None
            request = PlanRequest(self.core, state.memory[rows], self.horizon, self.budget, keys[rows], warm_start)
            found = self.planner.plan(request)
            h = found.actions.shape[1]
            length[rows] = h
            plan[rows, :h] = found.actions
            value[rows] = found.value
            imagined[rows] += found.imagined_steps / len(rows)
        return replace(
            state,
            plan=plan,
            length=length,
            value=value,
            used=torch.where(over, 0, state.used),
            decisions=state.decisions + over,
            imagined_steps=imagined,
        )

    def _initial_state(self, num_worlds: int) -> MPCState:
        """The state of an agent that has seen and done nothing."""
        space = self.core.action_space
        memory = self.core.initial_memory(num_worlds)
        device = memory.age.device
        dtype = torch.long if isinstance(space, gym.spaces.Discrete) else torch.float32
        shape = space.shape or ()
        none = torch.zeros(num_worlds, dtype=torch.long, device=device)
        return MPCState(
            memory=memory,
            action=torch.zeros(num_worlds, *shape, dtype=dtype, device=device),
            plan=torch.zeros(num_worlds, self.horizon, *shape, dtype=dtype, device=device),
            length=none,
            value=none.float(),
            used=none,
            keys=fold(self.seed + torch.arange(num_worlds, device=device), 0),
            decisions=none,
            imagined_steps=none.float(),
        )

    def _check(self, observation: FrameArray, state: MPCState | None) -> int:
        """The number of worlds."""
        if observation.dtype != np.uint8 or observation.ndim != 4:
            raise ValueError(
                f"observation is {observation.dtype} of shape {observation.shape}; expected uint8 frames "
                "(worlds, height, width, channels). Wrap the env so that it returns the frames the model was trained on"
            )
        if state is not None and state.memory.batch_size != len(observation):
            raise ValueError(
                f"observation is of {len(observation)} worlds, but state of {state.memory.batch_size}; give the state "
                "that the last call returned, or None to begin"
            )
        return len(observation)


@dataclass(frozen=True)
class EpisodeRecord:
    """An episode of T steps, and what the agent thought.

    Attributes:
        frames: (T + 1, H, W, C) uint8, the real frames.
        predicted_frames: (T, H, W, C) uint8; `predicted_frames[t]` was imagined for `frames[t + 1]` before acting.
        actions: (T,) int64, or (T, A) float32.
        rewards: (T,) float32.
        terminated: Whether the episode ended by itself; otherwise it was truncated.
        values: (T,) float32, the imagined return of the plan that each action belongs to, from where it was made.
        seconds: (T,) float32, what each decision took.
        imagined_steps: Frames imagined for planning.
    """

    frames: FrameArray
    predicted_frames: FrameArray
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    terminated: bool
    values: NDArray[np.float32]
    seconds: NDArray[np.float32]
    imagined_steps: int


def run_episode(agent: MPCAgent, env: gym.Env[Any, Any], seed: int | None = None) -> EpisodeRecord:
    """Let an agent act in `env`, reset with `seed`, until the episode terminates or is truncated.

    Raises:
        ValueError: If the actions of `env` are not those of the model.
    """
    if env.action_space != agent.core.action_space:
        raise ValueError(
            f"env has the action space {env.action_space}; the model was trained on {agent.core.action_space}"
        )
    obs, _ = env.reset(seed=seed)
    frames = [obs]
    predicted_frames = list[FrameArray]()
    actions = list[Any]()
    rewards = list[float]()
    values = list[float]()
    seconds = list[float]()
    state: MPCState | None = None
    terminated = False
    truncated = False
    while not (terminated or truncated):
        began = time.perf_counter()
        action, state = agent.predict(obs[None], state)
        seconds.append(time.perf_counter() - began)
        predicted_frames.append(agent.predict_frames(state)[0])
        actions.append(action[0])
        values.append(float(state.value[0]))
        obs, reward, terminated, truncated, _ = env.step(action[0])
        frames.append(obs)
        rewards.append(float(reward))
    assert state is not None  # every episode has a step
    return EpisodeRecord(
        frames=np.stack(frames),
        predicted_frames=np.stack(predicted_frames),
        actions=np.array(actions),
        rewards=np.array(rewards, np.float32),
        terminated=terminated,
        values=np.array(values, np.float32),
        seconds=np.array(seconds, np.float32),
        imagined_steps=int(state.imagined_steps[0]),
    )
