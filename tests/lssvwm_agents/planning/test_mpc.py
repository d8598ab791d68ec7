"""Acting in a real room by planning in a model of it, which may be wrong."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from lssvwm_agents import CEM, Budget, EpisodeRecord, MPCAgent, PlanRequest, PlanResult, run_episode
from lssvwm_models.execution.noise import fold
from tests.lssvwm_agents.room import DOWN, RIGHT, SIZE, WAIT, RealRoom, Room, picture


class Script:
    """Always plans the same actions, and notes when it was asked and with what warm start."""

    def __init__(self, *actions: int) -> None:
        self.actions = torch.tensor([actions])
        self.ages: list[int] = []
        self.warm_starts: list[list[int] | None] = []
        self.keys: list[list[int]] = []

    def plan(self, request: PlanRequest) -> PlanResult:
        self.ages += request.state.age.tolist()
        self.keys.append(request.keys.tolist())
        B = len(request.keys)
        self.warm_starts += [None] * B if request.warm_start is None else request.warm_start.tolist()
        return PlanResult(self.actions.expand(B, -1), torch.ones(B), 10)


def scripted(*actions: int, replan_every: int = 1) -> tuple[MPCAgent, Script]:
    planner = Script(*actions)
    return MPCAgent(Room(), planner, 10, Budget(imagined_steps=10), replan_every=replan_every), planner


def cem_agent(seed: int = 0, replan_every: int = 1) -> MPCAgent:
    return MPCAgent(Room(), CEM(), 10, Budget(imagined_steps=4 * 640), seed, replan_every)


def same(a: EpisodeRecord, b: EpisodeRecord) -> bool:
    return all(np.array_equal(value, getattr(b, name)) for name, value in vars(a).items() if name != "seconds")


@pytest.mark.parametrize("replan_every", [1, 3, 100])
def test_an_agent_with_a_true_model_goes_straight_to_the_goal(replan_every: int) -> None:
    record = run_episode(cem_agent(replan_every=replan_every), RealRoom())
    assert record.terminated and record.rewards.tolist() == [0] * 7 + [1]
    assert sorted(record.actions.tolist()) == [RIGHT] * 4 + [DOWN] * 4
    assert np.array_equal(record.predicted_frames, record.frames[1:])
    assert record.values[0] == pytest.approx(0.99**7)
    assert 0 < record.imagined_steps <= 4 * 640 * -(-8 // min(replan_every, 10))


@pytest.mark.parametrize("replan_every", [1, 4])
def test_surprises_are_met_by_planning_again(replan_every: int) -> None:
    record = run_episode(cem_agent(replan_every=replan_every), RealRoom(slippery=True))
    assert record.terminated
    assert not np.array_equal(record.predicted_frames, record.frames[1:])


def test_an_episode_that_cannot_be_won_is_truncated() -> None:
    record = run_episode(cem_agent(), RealRoom(walls={(3, 4), (4, 3)}, limit=12))
    assert not record.terminated and len(record.actions) == 12
    assert record.frames.shape == (13, SIZE, SIZE, 3) and record.frames.dtype == np.uint8
    assert record.predicted_frames.shape == (12, SIZE, SIZE, 3) and record.predicted_frames.dtype == np.uint8
    assert record.values.shape == record.rewards.shape == record.seconds.shape == (12,)


def test_the_seed_fixes_the_episode() -> None:
    env = RealRoom(walls={(3, 4), (4, 3)}, limit=12)
    assert same(run_episode(cem_agent(seed=5), env), run_episode(cem_agent(seed=5), env))


@pytest.mark.parametrize("replan_every, asked_at", [(1, [1, 2, 3, 4, 5, 6]), (2, [1, 3, 5]), (3, [1, 4]), (9, [1, 4])])
def test_plans_are_followed_for_replan_every_steps_or_until_they_run_out(
    replan_every: int, asked_at: list[int]
) -> None:
    agent, planner = scripted(RIGHT, DOWN, WAIT, replan_every=replan_every)
    record = run_episode(agent, RealRoom(limit=6))
    assert planner.ages == asked_at
    assert record.actions.tolist() == ([RIGHT, DOWN, WAIT][: min(replan_every, 3)] * 6)[:6]
    assert record.imagined_steps == 10 * len(asked_at)


def test_the_rest_of_a_plan_warms_the_next_but_not_the_next_episode() -> None:
    agent, planner = scripted(RIGHT, DOWN, WAIT, replan_every=2)
    state = None
    for start in (True, False, False, True, False):
        _, state = agent.predict(picture((0, 0))[None], state, np.array([start]))
    assert planner.warm_starts == [None, [WAIT], None]
    assert planner.ages == [1, 3, 1]  # the memory was emptied in between


def test_a_warm_start_is_all_that_is_left_of_the_plan() -> None:
    agent, planner = scripted(RIGHT, DOWN, WAIT)
    _, state = agent.predict(picture((0, 0))[None])
    agent.predict(picture((1, 0))[None], state)
    assert planner.warm_starts == [None, [DOWN, WAIT]]


def test_every_decision_of_every_world_has_a_key_of_its_own() -> None:
    planner = Script(RIGHT)
    agent = MPCAgent(Room(), planner, 10, Budget(imagined_steps=10), seed=7)
    state = None
    for _ in range(3):
        _, state = agent.predict(np.stack([picture((0, 0))] * 2), state)
    own = fold(torch.tensor([7, 8]), 0)
    assert planner.keys == [fold(own, decision).tolist() for decision in range(3)]
    assert state is not None and state.decisions.tolist() == [3, 3]


def test_worlds_that_plan_together_share_what_it_costs() -> None:
    agent, _ = scripted(RIGHT)
    _, state = agent.predict(np.stack([picture((0, 0))] * 4))
    assert state.imagined_steps.tolist() == [2.5] * 4


def test_agents_begin_with_seed_0_and_plan_at_every_step() -> None:
    agent = MPCAgent(Room(), CEM(), 10, Budget(imagined_steps=10))
    assert (agent.seed, agent.replan_every) == (0, 1)


def test_continuous_actions_are_acted_on() -> None:
    agent = MPCAgent(Room(kind="box"), CEM(), 4, Budget(imagined_steps=400))
    actions, state = agent.predict(np.stack([picture((3, 4)), picture((4, 3))]))
    assert actions.dtype == np.float32 and actions.shape == (2, 2) and state.plan.shape == (2, 4, 2)
    assert actions[0, 0] > 0.4 and actions[1, 1] > 0.4  # the goal is to the right of one, and below the other


def test_what_an_agent_carries_and_thought_is_a_value() -> None:
    agent, _ = scripted(RIGHT)
    _, state = agent.predict(picture((0, 0))[None])
    with pytest.raises(FrozenInstanceError):
        state.used = state.length  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        run_episode(agent, RealRoom(limit=1)).terminated = True  # type: ignore[misc]


def test_worlds_side_by_side_are_played_as_alone() -> None:
    cells = [[(0, 0), (1, 0), (2, 2)], [(3, 3), (3, 4), (0, 1)], [(4, 0), (4, 1), (4, 2)]]
    starts = [[True, False, False], [True, False, True], [True, True, False]]

    def play(worlds: list[int], seed: int) -> list[list[int]]:
        agent = cem_agent(seed, replan_every=2)
        state = None
        played = []
        for t in range(3):
            seen = np.stack([picture(cells[w][t]) for w in worlds])
            actions, state = agent.predict(seen, state, np.array([starts[w][t] for w in worlds]))
            played.append(actions.tolist())
        return played

    together = play([0, 1, 2], seed=7)
    alone = [[actions[0] for actions in play([w], seed=7 + w)] for w in range(3)]
    assert together == [list(row) for row in zip(*alone, strict=True)]


def test_an_agent_takes_over_in_the_middle_of_an_episode() -> None:
    def frames(*cells: tuple[int, int]) -> NDArray[np.uint8]:
        return np.stack([picture(cell) for cell in cells])[None]

    agent, planner = scripted(RIGHT)
    seen = agent.core.update_memory(
        agent.core.initial_memory(1), frames((0, 0), (0, 1)), torch.tensor([[0, DOWN]]), torch.tensor([[True, False]])
    )
    _, state = agent.predict(frames((1, 1))[:, 0], agent.state_after(seen, torch.tensor([RIGHT])))
    assert planner.ages == [3] and state.action.tolist() == [RIGHT]


def test_stable_baselines_judges_it_as_it_is() -> None:
    env = DummyVecEnv([lambda: RealRoom(), lambda: RealRoom(slippery=True)])
    returns, lengths = evaluate_policy(cem_agent(), env, n_eval_episodes=4, return_episode_rewards=True, warn=False)  # type: ignore[arg-type]
    assert returns == [1.0] * 4 and min(lengths) == 8


@pytest.mark.parametrize("obs", [np.zeros((1, 5, 5, 3), np.float32), np.zeros((5, 5, 3), np.uint8)])
def test_observations_that_are_no_frames_are_refused(obs: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="expected uint8 frames"):
        cem_agent().predict(obs)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="replan_every=0 must be at least 1"):
        cem_agent(replan_every=0)
    with pytest.raises(ValueError, match="horizon=0 must be at least 1"):
        MPCAgent(Room(), CEM(), 0, Budget(1))
    with pytest.raises(ValueError, match=r"Discrete\(3\); the model was trained on Discrete\(5\)"):
        run_episode(cem_agent(), RealRoom(actions=3))
    _, state = cem_agent().predict(picture((0, 0))[None])
    with pytest.raises(ValueError, match="observation is of 2 worlds, but state of 1"):
        cem_agent().predict(np.stack([picture((0, 0))] * 2), state)


def test_only_worlds_whose_plan_is_over_are_planned_for_anew() -> None:
    agent, planner = scripted(RIGHT, DOWN, WAIT)
    frames = np.stack([picture((0, 0))] * 2)
    state = agent.predict(frames, None, np.ones(2, bool))[1]
    planner.warm_starts.clear()
    again = agent._replanned(state, torch.tensor([True, False]), torch.tensor([False, False]))
    assert planner.warm_starts == [[DOWN, WAIT]]  # what is left of the first plan; the other world has as much left
    assert again.decisions.tolist() == [2, 1] and again.used.tolist() == [0, 1]
    assert again.imagined_steps[0] > again.imagined_steps[1]
