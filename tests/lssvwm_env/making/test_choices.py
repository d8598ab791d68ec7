"""Choices follow from episodes, speeds and the budget."""

from types import SimpleNamespace

import numpy as np
import pytest

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.making import choices
from lssvwm_env.making.choices import Speeds, frames_to_collect, horizon, refuse_what_teaches_nothing, within
from lssvwm_models.training.config import TrainingConfig

SPEED = Speeds(network=1.0, evaluation=5.0, odometry=0.1, renderer=0.0)


def seconds(plan, speed):
    """What a plan takes, without `compare`."""
    heads = plan.head_sequences * max(plan.lengths) * speed.network / 3 / plan.frames_per_step
    fitted = plan.odometry_steps * speed.odometry + plan.render_steps * speed.renderer
    evaluations = -(-plan.steps // plan.eval_every) * speed.evaluation
    return plan.steps * speed.network + evaluations + heads + fitted


@pytest.mark.parametrize("minutes", [5, 20, 45, 90])
@pytest.mark.parametrize(
    "speed", [SPEED, Speeds(0.3, 2.0, 0.02, 0.8), Speeds(2.0, 9.0, 0.0, 0.0)], ids=["grid", "first person", "still"]
)
def test_a_plan_uses_its_time_and_no_more(tmp_path, minutes, speed):
    plan = within(60.0 * minutes, TrainingConfig(tmp_path), speed)
    left = 60 * minutes - seconds(plan, speed)
    assert min(60, 0.1 * 60 * minutes) < left
    capped = plan.steps == choices.MOST_STEPS or plan.odometry_steps == 2400 or plan.head_sequences == 1024
    assert left < 0.4 * 60 * minutes or capped


def test_more_time_means_more_of_everything_up_to_what_is_enough(tmp_path):
    short, long, endless = (within(60.0 * minutes, TrainingConfig(tmp_path), SPEED) for minutes in (10, 45, 10_000))
    for name in ("steps", "odometry_steps", "head_sequences"):
        assert getattr(short, name) < getattr(long, name) <= getattr(endless, name)
    assert (endless.steps, endless.odometry_steps, endless.head_sequences, endless.eval_every) == (
        6000,
        2400,
        1024,
        250,
    )
    assert within(10.0, TrainingConfig(tmp_path), SPEED).steps == 1


def test_a_tenth_of_the_time_is_for_the_data():
    assert frames_to_collect(100.0, 2, 600.0) == (
        12_000,
        "2 processes make 200 a second, and 10% of the time is for them",
    )
    assert frames_to_collect(1.0, 1, 60.0)[0] == 2_000 and frames_to_collect(1e6, 2, 600.0)[0] == 100_000


def test_the_speed_of_a_real_environment_is_told_by_steps_of_it(monkeypatch):
    clock = iter(np.arange(0, 100, 0.25))
    monkeypatch.setattr(choices.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(choices, "PROBE_SECONDS", 2.0)
    assert choices.real_speed("MiniGrid-Empty-5x5-v0", {}, None) == pytest.approx(7 / 2.25)


def test_what_teaches_nothing_is_refused(tmp_path):
    asked = CollectConfig("MiniGrid-Empty-5x5-v0", tmp_path / "data", 60, policy="uniform", workers=1)
    data = collect(asked)
    refuse_what_teaches_nothing(data)
    stuck = SimpleNamespace(folder="data", obs=np.zeros_like(data.obs), act=data.act, is_first=data.is_first)
    with pytest.raises(
        ValueError, match=r"data: only 0.00% of its pictures differ .*Try --render .* or another --policy"
    ):
        refuse_what_teaches_nothing(stuck)
    one = SimpleNamespace(folder="data", obs=data.obs, act=np.where(data.is_first, 0, 3), is_first=data.is_first)
    with pytest.raises(ValueError, match=r"data: the only action ever taken is 3\. .*such as sticky"):
        refuse_what_teaches_nothing(one)


def test_what_changes_at_resets_alone_does_not_change():
    is_first = np.arange(40) % 4 == 0
    obs = np.repeat(np.arange(10, dtype=np.uint8), 4)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="only 0.00%"):
        refuse_what_teaches_nothing(SimpleNamespace(folder="x", obs=obs, act=np.arange(40), is_first=is_first))


def test_a_dream_lasts_as_long_as_the_real_environment_lets_one(tmp_path):
    assert choices.time_limit("MiniGrid-Empty-5x5-v0", {}) == 100
    assert choices.time_limit("CartPole-v1", {"render_frames": True}) == 500
    assert choices.time_limit("MiniGrid-ObjectRooms-v0", {}) is None
    dataset = SimpleNamespace(episode_starts=np.array([0, 30]), __len__=lambda: 50)
    assert horizon(dataset, 100) == (100, "the real environment ends episodes after 100")
    assert horizon(dataset, 5000)[0] == 1000


def test_seconds_of_every_part_are_timed(tmp_path):
    data = collect(CollectConfig("MiniGrid-Empty-5x5-v0", tmp_path / "data", 400, policy="uniform", workers=1))
    training = TrainingConfig(tmp_path / "run", lengths=(8,), frames_per_step=8, threads=1)
    found = choices.speeds(training, data, "debug")
    assert found.network > 0 and found.evaluation > 0 and found.odometry > 0 and found.renderer == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("frames", "length", "start"), [(8, 8, 2), (40, 40, 10), (300, 64, 16), (3, 3, 1)])
def test_sequences_and_starts_are_no_longer_than_episodes(tmp_path, frames, length, start):
    world = "MiniGrid-ObjectRooms-v0"
    data = collect(CollectConfig(world, tmp_path / "data", 300, policy="uniform", workers=1, episode_length=frames))
    assert choices.how_to_train(data, tmp_path, 1, 0).lengths == (length,) and choices.start_frames(data) == start


def test_worlds_in_first_person_are_trained_on_longer_sequences_and_worse_frames(tmp_path):
    world = "FirstPerson/MiniGrid-ObjectRooms-v0"
    data = collect(CollectConfig(world, tmp_path / "data", 200, workers=1, episode_length=200))
    training = choices.how_to_train(data, tmp_path, 1, 7)
    assert training.lengths == (128,) and training.seed == 7
    assert (training.objective.context_noise, training.objective.pure_noise) == (0.2, 0.8)
