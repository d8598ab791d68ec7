"""Acting in a real room by planning in a model of it, which may be wrong."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents import CategoricalCEM, EpisodeRecord, MPCAgent, PlanResult, run_episode
from tests.agents.test_planners import DOWN, GOAL, MOVES, RIGHT, SIZE, WAIT, Room

Cell = tuple[int, int]


class RealRoom(gym.Env[NDArray[np.uint8], np.int64]):
    """The room of `Room`, with what that model knows nothing of: walls, and a floor on which every third step slips."""

    observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def __init__(
        self, walls: set[Cell] | None = None, slippery: bool = False, limit: int = 40, actions: int = len(MOVES)
    ) -> None:
        self.walls, self.slippery, self.limit = walls or set(), slippery, limit
        self.action_space = gym.spaces.Discrete(actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        self.cell, self.time = (0, 0), 0
        return self._frame(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        x, y = (min(max(a + b, 0), SIZE - 1) for a, b in zip(self.cell, MOVES[action].tolist(), strict=True))
        self.time += 1
        if (x, y) not in self.walls and not (self.slippery and self.time % 3 == 0):
            self.cell = (x, y)
        done = self.cell == GOAL
        return self._frame(), float(done), done, self.time >= self.limit, {}

    def _frame(self) -> NDArray[np.uint8]:
        frame = np.zeros((SIZE, SIZE, 3), np.uint8)
        frame[self.cell[1], self.cell[0]] = 255
        return frame


class Script:
    """Always plans the same actions, and notes when it was asked and with what warm start."""

    steps = 1

    def __init__(self, *actions: int) -> None:
        self.actions = torch.tensor([actions])
        self.ages: list[int] = []
        self.warm_starts: list[list[int] | None] = []

    def plan(self, model: Any, state: Any, rng: torch.Generator, warm_start: torch.Tensor | None = None) -> PlanResult:
        self.ages.append(int(state.age))
        self.warm_starts.append(None if warm_start is None else warm_start[0].tolist())
        return PlanResult(self.actions, torch.ones(1), 10)


def cem_agent(seed: int = 0, replan_every: int = 1) -> MPCAgent:
    planner = CategoricalCEM(num_samples=64, horizon=10, num_elites=8, num_iterations=4)
    return MPCAgent(Room(), planner, seed, replan_every)


def same(a: EpisodeRecord, b: EpisodeRecord) -> bool:
    return all(np.array_equal(value, getattr(b, name)) for name, value in vars(a).items())


@pytest.mark.parametrize("replan_every", [1, 3, 100])
def test_an_agent_with_a_true_model_goes_straight_to_the_goal(replan_every: int) -> None:
    record = run_episode(cem_agent(replan_every=replan_every), RealRoom())
    assert record.terminated and record.rewards.tolist() == [0] * 7 + [1]
    assert sorted(record.actions.tolist()) == [RIGHT] * 4 + [DOWN] * 4
    assert np.array_equal(record.foreseen, record.frames[1:])
    assert record.values[0] == pytest.approx(0.99**7)
    assert record.imagined_steps == 64 * 10 * 4 * -(-8 // min(replan_every, 10))


@pytest.mark.parametrize("replan_every", [1, 4])
def test_surprises_are_met_by_planning_again(replan_every: int) -> None:
    record = run_episode(cem_agent(replan_every=replan_every), RealRoom(slippery=True))
    assert record.terminated
    assert not np.array_equal(record.foreseen, record.frames[1:])


def test_an_episode_that_cannot_be_won_is_truncated() -> None:
    record = run_episode(cem_agent(), RealRoom(walls={(3, 4), (4, 3)}, limit=12))
    assert not record.terminated and len(record.actions) == 12
    assert record.frames.shape == (13, SIZE, SIZE, 3) and record.frames.dtype == np.uint8
    assert record.foreseen.shape == (12, SIZE, SIZE, 3) and record.foreseen.dtype == np.uint8
    assert record.values.shape == record.rewards.shape == (12,)


def test_the_seed_fixes_the_episode() -> None:
    env = RealRoom(walls={(3, 4), (4, 3)}, limit=12)
    assert same(run_episode(cem_agent(seed=5), env), run_episode(cem_agent(seed=5), env))


def test_foreseeing_changes_nothing() -> None:
    agents = [cem_agent(), cem_agent()]
    env = RealRoom()
    obs, _ = env.reset()
    for agent in agents:
        agent.reset(obs)
    for _ in range(8):
        actions = [agent.act() for agent in agents]
        agents[0].foresee()
        assert actions[0] == actions[1]
        obs, *_ = env.step(np.int64(actions[0]))
        for agent in agents:
            agent.observe(obs)


@pytest.mark.parametrize("replan_every, asked_at", [(1, [1, 2, 3, 4, 5, 6]), (2, [1, 3, 5]), (3, [1, 4]), (9, [1, 4])])
def test_plans_are_followed_for_replan_every_steps_or_until_they_run_out(
    replan_every: int, asked_at: list[int]
) -> None:
    planner = Script(RIGHT, DOWN, WAIT)
    record = run_episode(MPCAgent(Room(), planner, replan_every=replan_every), RealRoom(limit=6))
    assert planner.ages == asked_at
    assert record.actions.tolist() == ([RIGHT, DOWN, WAIT][: min(replan_every, 3)] * 6)[:6]
    assert record.imagined_steps == 10 * len(asked_at)


def test_the_rest_of_a_plan_warms_the_next_but_not_the_next_episode() -> None:
    planner = Script(RIGHT, DOWN, WAIT)
    agent = MPCAgent(Room(), planner, replan_every=2)
    run_episode(agent, RealRoom(limit=3))
    assert run_episode(agent, RealRoom(limit=3)).imagined_steps == 20
    assert planner.warm_starts == [None, [WAIT], None, [WAIT]]
    assert planner.ages == [1, 3, 1, 3]  # the memory was emptied in between


def test_calls_out_of_turn_are_refused() -> None:
    agent, frame = cem_agent(), np.zeros((SIZE, SIZE, 3), np.uint8)
    with pytest.raises(RuntimeError, match=r"call reset\(obs\) first"):
        agent.act()
    agent.reset(frame)
    with pytest.raises(RuntimeError, match=r"call act\(\) first"):
        agent.observe(frame)
    with pytest.raises(RuntimeError, match=r"call act\(\) first"):
        agent.foresee()
    agent.act()
    with pytest.raises(RuntimeError, match=r"call observe\(\) first"):
        agent.act()


@pytest.mark.parametrize("obs", [np.zeros((5, 5, 3), np.float32), np.zeros((5, 5), np.uint8)])
def test_observations_that_are_no_frames_are_refused(obs: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="expected a uint8 frame"):
        cem_agent().reset(obs)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="replan_every is 0; expected at least 1"):
        cem_agent(replan_every=0)
    with pytest.raises(ValueError, match="discrete actions only"):
        MPCAgent(Room(kind="box"), Script(WAIT))
    with pytest.raises(ValueError, match=r"Discrete\(3\); the model was trained on Discrete\(5\)"):
        run_episode(cem_agent(), RealRoom(actions=3))
