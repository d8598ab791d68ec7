"""Training in dreams of a corridor whose best policy is known."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_agents.learning.imagination import (
    ImaginationConfig,
    ImaginationTrainer,
    ImaginedRollout,
    context_ends,
    largest_return,
)
from lssvwm_agents.policies.actor_critic import ActorCritic
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data.episodes import Episode, EpisodeDataset, write_shard
from lssvwm_models.data.spec import DatasetSpec, write_spec
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction

CELLS, GOAL = 8, 7
LEFT, RIGHT, WAIT = range(3)
DISCRETE = {"type": "Discrete", "n": 3}
BOX = {"type": "Box", "low": -1.0, "high": 1.0, "shape": [1], "dtype": "float32"}


class Corridor:
    """A core with a perfect model of a corridor; its features say where the agent is, as a one-hot vector.

    Actions are LEFT, RIGHT and WAIT, or how far to go right. To step on the goal pays 1 and ends the episode.
    """

    device, denoising_steps = torch.device("cpu"), 1

    def __init__(self, space: dict[str, Any] = DISCRETE) -> None:
        self.discrete = space["type"] == "Discrete"
        about = SimpleNamespace(model=SimpleNamespace(feature_dim=CELLS), action_space=space, trained_length=4)
        self.simulator = SimpleNamespace(config=about, weights_sha256="corridor")
        self.keys_seen: list[Tensor] = []

    def initial_memory(self, num_worlds: int) -> WorldModelState:
        return corridor_state(torch.zeros(num_worlds, dtype=torch.long))

    def update_memory(
        self, memory: WorldModelState, obs: NDArray[np.uint8], act: Tensor, is_first: Tensor
    ) -> WorldModelState:
        assert is_first[:, 0].all() and len(memory.age) == len(act) == len(obs)
        return corridor_state(torch.from_numpy(obs[:, -1, 0, :, 0].argmax(-1)))

    def imagine(
        self, memory: WorldModelState, act: Tensor, keys: Tensor, donate: bool = False
    ) -> tuple[Prediction, WorldModelState]:
        self.keys_seen.append(keys)
        move = torch.tensor([-1, 1, 0])[act] if self.discrete else act[:, 0].round().long()
        seen = corridor_state((memory.feats.argmax(-1) + move).clamp(0, CELLS - 1))
        paid = seen.feats[:, GOAL]
        frame = torch.zeros(len(act), 3, 1, CELLS)
        return Prediction(frame, frame, paid, paid, seen.feats, lambda obs: obs), seen


def corridor_state(cell: Tensor) -> WorldModelState:
    feats = torch.nn.functional.one_hot(cell, CELLS).float()
    return WorldModelState((), (), feats, feats, torch.zeros(len(cell), 3, dtype=torch.long), cell)


def write_dataset(folder: Path, episodes: list[Episode], space: dict[str, Any]) -> EpisodeDataset:
    write_shard(folder / "shard-00000.npz", episodes)
    frames = {"type": "Box", "low": 0, "high": 255, "shape": list(episodes[0].obs.shape[1:]), "dtype": "uint8"}
    spec = DatasetSpec("Corridor-v0", {}, frames, space, "none", "uniform", 0, "train", 8, 100, 8192, "make corridor",
                       True, ["shard-00000.npz"])  # fmt: skip
    write_spec(folder, spec)
    return EpisodeDataset(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """Random walks through the left half of the corridor, but for one that comes to the goal. Frames show the agent."""
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.integers(-1, 2, 8)).clip(0, CELLS // 2) for _ in range(11)] + [np.arange(CELLS)]
    episodes = []
    for seed, cell in enumerate(walks):
        obs = np.zeros((8, 1, CELLS, 3), np.uint8)
        obs[np.arange(8), 0, cell] = 255
        paid, end = cell == GOAL, np.arange(8) == 7
        act = np.where(np.arange(8) > 0, 1, 0)
        episodes.append(Episode(obs, act, paid.astype(np.float32), end & paid, end & ~paid, seed))
    return write_dataset(tmp_path_factory.mktemp("corridor"), episodes, DISCRETE)


def config(out: Path, **changes: Any) -> ImaginationConfig:
    values = {"updates": 100, "num_dreams": 32, "horizon": 5, "refresh": 8, "minibatches": 2, "lr": 3e-3, "width": 32,
              "passes": 2, "log_every": 20, "eval_every": 1000}  # fmt: skip
    return ImaginationConfig(out, **(values | changes))


def trainer(out: Path, dataset: Any, core: Any = None, **changes: Any) -> ImaginationTrainer:
    return ImaginationTrainer(config(out, **changes), core or Corridor(), dataset)


def walk(actor_critic: ActorCritic, corridor: Corridor, steps: int = 12) -> list[int]:
    """Where its best actions lead it, from the left end until the goal."""
    memory, cells = corridor.initial_memory(1), [0]
    for _ in range(steps):
        if cells[-1] == GOAL:
            break
        act = torch.from_numpy(actor_critic.predict(memory.feats.numpy(), deterministic=True)[0])
        _, memory = corridor.imagine(memory, act, torch.zeros(1, dtype=torch.long))
        cells.append(int(memory.feats.argmax()))
    return cells


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# --- learning ---


@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_it_learns_to_go_where_reward_is_from_beyond_a_dream(
    space: dict[str, Any], dataset: EpisodeDataset, tmp_path: Path
) -> None:
    """The goal is seven steps away from the left end, and a dream five long: the critic must carry it further."""
    core = Corridor(space)
    made = trainer(tmp_path, dataset, core)
    at_goal = made.actor_critic.actor[0].weight[:, GOAL].clone()
    trained = made.run()
    assert walk(trained, core) == list(range(CELLS))
    values = trained.critic(torch.eye(CELLS)[:GOAL])
    truth = 0.99 ** torch.arange(GOAL - 1, -1, -1.0)
    torch.testing.assert_close(values.detach(), truth, atol=0.1, rtol=0)
    assert torch.equal(trained.actor[0].weight[:, GOAL], at_goal)  # dreams go on there, but nothing is learned of it
    last = lines(tmp_path)[-1]
    assert last["spread"] < 0.6 and last["return"] > 0.8


def test_dreamer_s_single_gradient_learns_too(dataset: EpisodeDataset, tmp_path: Path) -> None:
    trained = trainer(tmp_path, dataset, updates=300, passes=1, minibatches=1).run()
    assert walk(trained, Corridor()) == list(range(CELLS))


def test_a_policy_that_is_too_sure_is_made_less_so(dataset: EpisodeDataset, tmp_path: Path) -> None:
    free, held = (trainer(tmp_path / str(least), dataset, spread=(least, least)).run() for least in (0.0, 0.7))
    feats = torch.eye(CELLS)[: GOAL - 1]
    assert free.policy(feats).normalized_entropy().mean() < 0.4 and held.policy(feats).normalized_entropy().mean() > 0.6
    assert lines(tmp_path / "0.7")[-1]["entropy_coef"] > 10 * lines(tmp_path / "0.0")[-1]["entropy_coef"]


# --- what is learned of a dream ---


def rollout(rew: list[float], cont: list[float], worlds: int = 32) -> ImaginedRollout:
    """The same steps in every world, from the left end to the right; the agent stays where it is."""
    steps = len(rew)
    feats = torch.eye(CELLS)[: steps + 1, None].expand(-1, worlds, -1).contiguous()
    raw = torch.full((steps, worlds), WAIT)
    return ImaginedRollout(feats, raw, *(torch.tensor(x)[:, None].expand(-1, worlds) for x in (rew, cont)))


def test_small_advantages_are_left_as_they_are_and_large_ones_scaled_by_the_range_of_returns(
    dataset: EpisodeDataset, tmp_path: Path
) -> None:
    """New critics expect nothing, so that advantages are returns; of these, 5 % may be above the range."""
    made = trainer(tmp_path, dataset, gamma=1.0, lambda_=1.0)
    small = rollout([0.0, 0.1, 0.2], [1.0, 1.0, 1.0])  # returns 0.3, 0.3, 0.2: a range of 0.1
    targets = made._targets(small)
    assert made.scale == pytest.approx(0.1)
    torch.testing.assert_close(targets.advantages[:, 0], torch.tensor([0.3, 0.3, 0.2]))
    made.scale = 0.0
    large = rollout([0.0, 10.0, 20.0], [1.0, 1.0, 1.0])
    targets = made._targets(large)
    assert made.scale == pytest.approx(10.0)
    torch.testing.assert_close(targets.advantages[:, 0], torch.tensor([3.0, 3.0, 2.0]))


def test_the_range_of_returns_is_averaged_over_updates(dataset: EpisodeDataset, tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset, gamma=1.0, lambda_=1.0)
    made._targets(rollout([0.0, 10.0, 20.0], [1.0, 1.0, 1.0]))
    made.step = 1
    made._targets(rollout([0.0, 110.0, 20.0], [1.0, 1.0, 1.0]))
    assert made.scale == pytest.approx(0.99 * 10 + 0.01 * 110)


def test_few_large_returns_are_outside_of_the_range(dataset: EpisodeDataset, tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset, gamma=1.0, lambda_=1.0)
    plain = rollout([0.0, 10.0, 20.0], [1.0, 1.0, 1.0])
    rew = plain.rew.clone()
    rew[2, 0] = 1000.0  # in one of 32 worlds
    made._targets(plain._replace(rew=rew))
    assert made.scale == pytest.approx(10.0)


def test_steps_count_by_the_chance_that_the_world_was_still_there(dataset: EpisodeDataset, tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset, gamma=0.5, lambda_=1.0)
    targets = made._targets(rollout([1.0, 2.0, 4.0], [0.5, 0.25, 1.0]))
    assert targets.alive[:, 0].tolist() == [1.0, 0.5, 0.125]  # the end comes with the frame after a step
    assert targets.returns[:, 0].tolist() == [1 + 0.25 * (2 + 0.125 * 4), 2 + 0.125 * 4, 4.0]


def test_returns_are_estimated_with_the_slow_critic(dataset: EpisodeDataset, tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset)
    torch.nn.init.normal_(made.actor_critic.critic.mlp[-1].weight)
    dream = rollout([0.0, 0.0], [1.0, 1.0])
    assert made.actor_critic.critic(dream.feats).abs().max() > 0.01
    torch.testing.assert_close(made._targets(dream).values, torch.zeros(3, 32))  # as both were at first


@pytest.mark.parametrize(
    ("advantage", "log_ratio", "moves"),
    [
        *((1, 0.5, False), (1, -0.5, True), (-1, 0.5, True), (-1, -0.5, False)),
        *((1, 0.1, True), (1, -0.1, True), (-1, 0.1, True), (-1, -0.1, True)),
    ],
)
def test_an_action_that_is_already_much_more_or_less_probable_is_not_made_more_so(
    dataset: EpisodeDataset, tmp_path: Path, advantage: float, log_ratio: float, moves: bool
) -> None:
    made = trainer(tmp_path, dataset, spread=(0.0, 0.0), entropy_coef=0.0, clip_range=0.2)
    dream = rollout([0.0, 0.0], [1.0, 1.0])
    targets = made._targets(dream)
    targets = targets._replace(advantages=torch.full((2, 32), float(advantage)), log_prob=targets.log_prob - log_ratio)
    before = [parameter.clone() for parameter in made.actor_critic.actor.parameters()]
    made._gradient_step(dream, targets, torch.arange(32))
    after = made.actor_critic.actor.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) == moves


def test_the_least_spread_declines_and_what_is_missing_weighs_the_entropy(
    dataset: EpisodeDataset, tmp_path: Path
) -> None:
    made = trainer(tmp_path, dataset, updates=100, spread=(0.5, 0.1), entropy_coef=0.01)
    assert [made.config.least_spread(update) for update in (0, 50, 100)] == pytest.approx([0.5, 0.3, 0.1])
    made.step = 50
    assert made._entropy_coef(0.3) == made._entropy_coef(0.9) == pytest.approx(0.01)
    assert made._entropy_coef(0.1) == pytest.approx(0.01 + 1.0 * 0.2)


def test_the_slow_critic_follows_with_every_gradient(dataset: EpisodeDataset, tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset, slow=0.75, passes=1, minibatches=1)
    expected = made.slow_critic.state_dict()["mlp.0.weight"].clone()
    for _ in range(3):
        made.train_step()
        expected.lerp_(made.actor_critic.state_dict()["critic.mlp.0.weight"], 0.25)
    torch.testing.assert_close(made.slow_critic.state_dict()["mlp.0.weight"], expected)


# --- dreams ---


def test_dreams_follow_the_policy_from_where_contexts_end(dataset: EpisodeDataset, tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset)
    start = corridor_state(torch.arange(CELLS).repeat(4))
    dream = made.dream(start, torch.Generator().manual_seed(0))
    assert dream.feats.shape == (6, 32, CELLS) and torch.equal(dream.feats[0], start.feats)
    cell = dream.feats.argmax(-1)
    moved = (cell[:-1] + torch.tensor([-1, 1, 0])[dream.raw]).clamp(0, CELLS - 1)
    assert torch.equal(moved, cell[1:])
    assert torch.equal(dream.rew, (cell[1:] == GOAL).float()) and torch.equal(dream.cont, 1 - dream.rew)


def test_every_dream_has_chances_of_its_own(dataset: EpisodeDataset, tmp_path: Path) -> None:
    core = Corridor()
    made = trainer(tmp_path, dataset, core)
    made.train_step()
    made.train_step()
    assert len(torch.stack(core.keys_seen).unique()) == 2 * 32  # the frame's number is folded in by the model


def test_contexts_end_anywhere_but_at_an_end(dataset: EpisodeDataset) -> None:
    points, eventful = context_ends(dataset, context=4, horizon=3)
    assert points.tolist() == list(range(3, 95))  # the last of 96 frames is the goal
    assert eventful.tolist() == [92, 93, 94]
    assert context_ends(dataset, context=4, horizon=100)[1].tolist() == list(range(88, 95))  # of its own episode


def test_defaults_are_those_that_published_policies_learned_with() -> None:
    defaults = asdict(ImaginationConfig(Path("runs/policy")))
    assert defaults == {
        "out": Path("runs/policy"),
        "updates": 500,
        "num_dreams": 256,
        "horizon": 15,
        "context": None,
        "refresh": 16,
        "event_share": 0.25,
        "start_share": 0.25,
        "passes": 3,
        "minibatches": 4,
        "clip_range": 0.2,
        "gamma": 0.99,
        "lambda_": 0.95,
        "lr": 3e-4,
        "clip": 1.0,
        "slow": 0.98,
        "entropy_coef": 3e-4,
        "spread": (0.5, 0.1),
        "width": 256,
        "depth": 2,
        "log_every": 10,
        "eval_every": 100,
        "seed": 0,
    }


def test_the_least_of_everything_is_enough() -> None:
    counts = [
        "updates",
        "num_dreams",
        "horizon",
        "context",
        "refresh",
        "passes",
        "minibatches",
        "log_every",
        "eval_every",
        "width",
        "depth",
    ]
    shares = ["event_share", "start_share", "clip_range", "gamma", "lambda_", "slow", "entropy_coef"]
    least = dict.fromkeys(counts, 1) | dict.fromkeys([*shares, "lr", "clip", "seed"], 0)
    ImaginationConfig(Path("runs/policy"), **least)
    for name in counts:
        with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
            ImaginationConfig(Path("runs/policy"), **least | {name: 0})


def test_the_end_of_the_recording_is_no_event() -> None:
    class Frames:
        """Two episodes of five frames, of which the first alone pays."""

        folder = Path("frames")
        terminated = np.zeros(10, bool)
        is_first = np.arange(10) % 5 == 0
        events = np.array([3])

        def __len__(self) -> int:
            return 10

    points, eventful = context_ends(Frames(), context=1, horizon=2)
    assert points.tolist() == list(range(10)) and eventful.tolist() == [1, 2]


def test_a_part_of_the_contexts_is_replaced_by_every_update(dataset: EpisodeDataset, tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset, event_share=1.0, start_share=0.0, num_dreams=6, refresh=2)
    pools = []
    for _ in range(3):
        pools.append(made._starts().age)
        made.train_step()
    assert pools[0].min() >= 2  # within five steps of the goal, in the walk that comes to it
    assert torch.equal(pools[0][2:], pools[1][:4]) and torch.equal(pools[1][2:], pools[2][:4])


def test_dreams_begin_where_episodes_do(dataset: EpisodeDataset, tmp_path: Path) -> None:
    shares = {"event_share": 0.5, "start_share": 0.5, "num_dreams": 8, "refresh": 4}
    cells = trainer(tmp_path / "starts", dataset, **shares)._starts().age.view(2, 4)  # rounds of 4 contexts
    assert (cells[:, :2] >= 2).all() and (cells[:, 2:] <= 1).all()  # near the goal, and where walks begin
    odd = shares | {"num_dreams": 6, "refresh": 3}
    assert len(trainer(tmp_path / "odd", dataset, **odd)._starts().age) == 6
    with pytest.raises(ValueError, match="event_share=0.5 and start_share=0.6 .* at most 1"):
        config(tmp_path, event_share=0.5, start_share=0.6)


# --- runs ---


def test_a_resumed_run_repeats_an_unbroken_one(dataset: EpisodeDataset, tmp_path: Path) -> None:
    changes = {"updates": 7, "log_every": 2, "eval_every": 3}

    def interrupt(actor_critic: ActorCritic) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "broken", dataset, **changes).run(interrupt)
    resumed = trainer(tmp_path / "broken", dataset, **changes)
    assert resumed.step == 2
    runs = [resumed, trainer(tmp_path / "unbroken", dataset, **changes)]
    for run in runs:
        run.run(lambda actor_critic: {"judged": 1.0})
    for name in ("actor_critic", "slow_critic"):
        a, b = (getattr(run, name).state_dict() for run in runs)
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert resumed.scale == runs[1].scale
    logs = [[{k: v for k, v in line.items() if k not in ("time", "seconds")} for line in lines(run.config.out)]
            for run in runs]  # fmt: skip
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0] if "judged" in line] == [3, 6, 7]
    saved = ActorCritic.load(tmp_path / "broken" / "policy.safetensors")
    assert saved.config.weights_sha256 == "corridor"
    assert torch.equal(saved.state_dict()["actor.0.weight"], resumed.actor_critic.state_dict()["actor.0.weight"])
    assert trainer(tmp_path / "broken", dataset, **changes).run() is not None  # there is nothing left to do


def test_what_it_cost_is_counted(dataset: EpisodeDataset, tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset, updates=3)
    assert made.imagined_steps == made.real_frames == 0
    made.run()
    last = lines(tmp_path)[-1]
    assert last["imagined_steps"] == 3 * 32 * 5
    assert last["real_frames"] == (32 + 2 * 8) * 4
    assert last["seconds"] > 0


def test_training_neither_reads_nor_moves_the_global_streams(dataset: EpisodeDataset, tmp_path: Path) -> None:
    before = torch.get_rng_state().tolist(), repr(np.random.get_state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one = trainer(tmp_path / "one", dataset, updates=1).run()
    other = trainer(tmp_path / "other", dataset, updates=1).run()
    assert (torch.get_rng_state().tolist(), repr(np.random.get_state())) == before
    assert one.sha256() == other.sha256()


def test_it_dreams_in_simulators(toy_simulator: Simulator, toy_box_simulator: Simulator, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def noise(act: NDArray[Any]) -> Episode:
        end = np.arange(len(act)) == len(act) - 1
        obs = rng.integers(0, 256, (len(act), 64, 64, 3), np.uint8)
        return Episode(obs, act, np.zeros(len(act), np.float32), end & False, end, 0)

    for simulator in (toy_simulator, toy_box_simulator):
        box = simulator is toy_box_simulator
        out, core = tmp_path / str(box), SimulatorCore(simulator, 1)
        (out / "data").mkdir(parents=True)
        act = rng.uniform(-1, 1, (8, 2)).astype(np.float32) if box else rng.integers(0, 7, 8)
        act[0] = 0
        data = write_dataset(out / "data", [noise(act)], simulator.config.action_space)
        small = {"updates": 2, "num_dreams": 4, "refresh": 2, "horizon": 2}
        made = trainer(out / "run", data, core, **small)
        known = SimulatorCore(simulator, 1)
        known.reset([0], [0], [(data.obs, data.act)])  # eight frames: there is but one context
        torch.testing.assert_close(made._starts().feats, known.features().expand(4, -1), atol=1e-4, rtol=1e-4)
        trained = made.run()
        assert trained.config.feature_dim == simulator.config.model.feature_dim
        assert (core.memory.age == 0).all()  # the core's own worlds are left alone


def test_it_can_begin_as_another_that_was_trained_before(dataset: EpisodeDataset, tmp_path: Path) -> None:
    first = trainer(tmp_path / "first", dataset, updates=40).run()
    on = ImaginationTrainer(config(tmp_path / "on", updates=1), Corridor(), dataset, first)
    assert on.actor_critic.sha256() == first.sha256()
    slow = on.slow_critic.state_dict()
    assert all(torch.equal(slow[key], value) for key, value in first.critic.state_dict().items())
    on.run()
    assert on.actor_critic.sha256() != first.sha256()
    resumed = ImaginationTrainer(config(tmp_path / "on", updates=1), Corridor(), dataset, first)
    assert resumed.step == 1 and resumed.actor_critic.sha256() == on.actor_critic.sha256()
    with pytest.raises(ValueError, match="initial: .* there, None now"):
        trainer(tmp_path / "on", dataset, updates=1)
    with pytest.raises(ValueError, match="initial has width 32, not 16: give one of the same environment"):
        ImaginationTrainer(config(tmp_path / "other", width=16), Corridor(), dataset, first)
    assert not (tmp_path / "other").exists()


# --- errors ---


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"updates": 0}, "updates=0 must be at least 1"),
        ({"gamma": 1.5}, "gamma=1.5 must be a share"),
        ({"spread": (0.5, 2.0)}, r"spread=\(0.5, 2.0\) must be a share"),
        ({"refresh": 5}, "refresh=5 must be a divisor of num_dreams=32"),
        ({"minibatches": 64}, "minibatches=64 must be at most num_dreams=32"),
        ({"entropy_coef": -1.0}, "entropy_coef=-1.0 must be a share"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_contexts_that_are_not_to_be_had_are_refused(dataset: EpisodeDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="context is 5; expected 1 to 4 frames"):
        trainer(tmp_path, dataset, context=5)
    with pytest.raises(ValueError, match="contexts of 200 frames were asked of 96 frames of .*collect more"):
        context_ends(dataset, 200, 5)
    assert not list(tmp_path.iterdir())  # there is no run in the way of the next try


def test_another_run_is_not_continued(dataset: EpisodeDataset, tmp_path: Path) -> None:
    trainer(tmp_path, dataset, updates=1).run()
    with pytest.raises(ValueError, match=r"imagination.horizon: 5 there, 6 now"):
        trainer(tmp_path, dataset, updates=1, horizon=6)


def test_the_critic_reaches_twice_as_far_as_any_recorded_return(dataset: EpisodeDataset, tmp_path: Path) -> None:
    rew = np.array([0, 1, 0, -4, 0, 0, 2], np.float32)
    first = np.array([1, 0, 0, 1, 0, 0, 0], bool)
    toy = SimpleNamespace(rew=rew, is_first=first)
    assert largest_return(toy, 0.5) == pytest.approx(4 - 2 * 0.5**3)  # from the loss on, there is the gain to come
    assert largest_return(SimpleNamespace(rew=0 * rew, is_first=first), 0.5) == 1
    assert trainer(tmp_path / "one", dataset).actor_critic.config.reach == 2  # the corridor pays 1
    paid = copy(dataset)
    paid.rew = 5 * dataset.rew
    assert trainer(tmp_path / "five", paid).actor_critic.config.reach == 10
