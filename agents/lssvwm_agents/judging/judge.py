"""`lssvwm judge`: let an agent play in the real environment, on layouts nobody trained on, and say what it earned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.table import Table

from lssvwm_agents.judging.films import film_gif
from lssvwm_agents.judging.outcomes import Agent, Outcome, play_episodes, promised_and_paid, summary
from lssvwm_agents.planning.follow_policy import FollowPolicy
from lssvwm_agents.planning.mcts import MCTS
from lssvwm_agents.planning.mpc import MPCAgent, ObservingImaginer, run_episode
from lssvwm_agents.planning.protocols import Budget, Planner
from lssvwm_agents.planning.rewards import Curious
from lssvwm_agents.planning.shooting import CEM, MPPI, RandomShooting
from lssvwm_agents.policies.actor_critic import ActorCritic, bundled_policy
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.real import make_recorded
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.command import command
from lssvwm_env.utils.provenance import provenance
from lssvwm_env.utils.strangers import Screen
from lssvwm_models.data.splits import SPLITS
from lssvwm_models.execution.threads import set_threads
from lssvwm_models.utils.checks import SHARE, check_fields
from lssvwm_models.utils.figures import png, tidy
from lssvwm_models.utils.files import write_bytes
from lssvwm_models.utils.json_files import read_json, write_json

ROWS: Final = (  # of the table: name in the report, label, unit, digits
    ("success", "success %", 100, 1),
    ("return", "return", 1, 2),
    ("steps", "steps", 1, 1),
)


@dataclass(frozen=True)
class JudgeConfig:
    """Who plays, how long it may think, and where the report goes.

    Attributes:
        simulator: Id or name of a simulator, or its folder: what the agent remembers and dreams with, and the real
            environment is the one it simulates.
        out: Folder for `report.json`, `promises.png` and films of the most broken promises.
        agent: "policy" does what an actor-critic does, "mcts", "cem", "mppi" and "shooting" plan, "uniform"
            acts at random.
        policy: An actor-critic, as `lssvwm imagine` writes it, or "bundled" for the one that comes with this library:
            followed by "policy"; planners ask its critic, and nothing else of it, what is still to be earned at the
            horizon. None: "bundled" for "policy", and for planners nothing.
        episodes: Real episodes.
        split: Of which seeds: "validation" to choose agents and settings by, "test" for numbers to publish.
        max_steps: Real steps after which an episode is given up; None: the simulator's horizon.
        horizon: Actions per plan; of a policy, steps of the dreams that say what it promises.
        imagined_steps, seconds: What a decision may cost; planners need at least one of them.
        replan_every: Real steps between decisions.
        action_probs: Probability of each discrete action in the plans that are tried; None: all alike.
        curiosity: What it pays to see a square that the memory does not know, see `Curious`; 0: nothing.
        deterministic: Let a policy take its likeliest actions, and not draw them.
        dreams: Dreams per decision of a policy: what it promises is their mean.
        gamma: Discount per step.
        denoising_steps: Network passes per imagined frame. With a single one, what was never seen is much the same in
            every dream; it takes at least 2 to draw one of all that is possible.
        num_envs: Episodes played side by side.
        films: How many of the worst episodes to film.
        bf16: Compute the model's matrix products in bfloat16.
        threads: CPU threads of torch.
        seed: Of the plans.
        env_id: The id of the real environment, once more, if it names a module: its code runs, so only what is typed
            here is imported.
    """

    simulator: str
    out: Path
    agent: Literal["policy", "mcts", "cem", "mppi", "shooting", "uniform"] = "policy"
    policy: Literal["bundled"] | Path | None = None
    episodes: int = 200
    split: Literal["validation", "test"] = "test"
    max_steps: int | None = None
    horizon: int = 12
    imagined_steps: int | None = None
    seconds: float | None = None
    replan_every: int = 1
    action_probs: tuple[float, ...] | None = None
    curiosity: float = 0.0
    deterministic: bool = False
    dreams: int = 8
    gamma: float = 0.99
    denoising_steps: int = 2
    num_envs: int = 8
    films: int = 3
    bf16: bool = True
    threads: int = 2
    seed: int = 0
    env_id: str | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            episodes=1,
            max_steps=1,
            horizon=1,
            imagined_steps=1,
            replan_every=1,
            action_probs=SHARE,
            dreams=1,
            gamma=SHARE,
            denoising_steps=1,
            num_envs=1,
            threads=1,
        )
        seeds = len(SPLITS[self.split])
        if self.episodes > seeds:
            raise ValueError(f"episodes is {self.episodes}; there are {seeds} seeds in the {self.split} split")


class UniformAgent:
    """Acts at random: what is earned by luck."""

    def __init__(self, space: gym.Space[Any], seed: int) -> None:
        self.space = space
        self.space.seed(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], None]:
        """See `Agent`."""
        return np.stack([self.space.sample() for _ in observation]), None


def judge(config: JudgeConfig) -> dict[str, Any]:
    """Play, report, and film the episodes in which plans promised most more than was paid.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
        ValueError: If the policy is of another simulator, or the settings do not fit.
    """
    set_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    simulator = Simulator.load(config.simulator)
    core = SimulatorCore(simulator, 1, config.denoising_steps, bf16=config.bf16)
    file = policy_file(config, simulator.config.env_id)
    make = planning_agent(config, core, file)
    seeds = SPLITS[config.split][: config.episodes]

    def real() -> gym.Env[Any, Any]:
        env = make_recorded(simulator.config, config.env_id)
        return TimeLimit(env, config.max_steps or simulator.config.horizon)

    outcomes = list[Outcome]()
    for first in range(0, len(seeds), config.num_envs):
        # What is random in an episode follows from the episode's number, so it does not matter who plays beside it.
        seed = config.seed + first
        agent: Agent = UniformAgent(simulator.action_space, seed) if make is None else make(seed)
        outcomes += play_episodes(agent, real, seeds[first : first + config.num_envs])
    report: dict[str, Any] = {"command": command("judge", config), "env_id": simulator.config.env_id}
    report |= provenance(config, core.device) | summary(outcomes, config.gamma)
    if file is not None and (about := file.with_suffix(".json")).is_file():
        report["training"] = read_json(about)
    report["lengths"] = {"won": sorted_lengths(outcomes, True), "lost": sorted_lengths(outcomes, False)}
    write_json(config.out / "report.json", report)
    if make is not None:
        write_bytes(config.out / "promises.png", promises_png(outcomes, config.gamma))
        for seed in report["overpromised"][: config.films]:
            record = run_episode(make(config.seed + seeds.index(seed)), real(), seed)
            write_bytes(config.out / f"overpromised-{seed}.gif", film_gif([record]))
    print_report(report)
    return report


def policy_file(config: JudgeConfig, env_id: str) -> Path | None:
    """The actor-critic that is asked for."""
    if config.policy == "bundled" or (config.policy is None and config.agent == "policy"):
        return bundled_policy(env_id)
    return config.policy


def planning_agent(config: JudgeConfig, core: SimulatorCore, policy: Path | None) -> Callable[[int], MPCAgent] | None:
    """The agent of a seed; None for one that does not think."""
    actor_critic = None if policy is None else ActorCritic.load(policy, core.simulator).to(core.device)
    if config.agent == "uniform":
        return None
    planner: Planner
    steps = config.imagined_steps
    if config.agent == "policy":
        assert actor_critic is not None  # `policy_file` finds one, or raises
        planner = FollowPolicy(actor_critic, config.gamma, config.deterministic, config.dreams)
        steps = steps or config.horizon * config.dreams
    else:
        kind = {"mcts": MCTS, "cem": CEM, "mppi": MPPI, "shooting": RandomShooting}[config.agent]
        value = None if actor_critic is None else actor_critic.critic
        planner = kind(gamma=config.gamma, action_probs=config.action_probs, value=value)
    if config.curiosity and core.denoising_steps < 2:
        raise ValueError(
            f"curiosity is {config.curiosity} and denoising_steps is {core.denoising_steps}; expected at least 2: with "
            "one step a frame is what was expected of it, and nothing is to be found out"
        )
    world: ObservingImaginer = Curious(core, config.curiosity) if config.curiosity else core
    budget = Budget(steps, config.seconds)
    return lambda seed: MPCAgent(world, planner, config.horizon, budget, seed, config.replan_every)


def sorted_lengths(outcomes: list[Outcome], won: bool) -> list[int]:
    """Steps of the episodes that paid, or of those that did not, sorted."""
    return sorted(len(o.rewards) for o in outcomes if o.success == won)


def promises_png(outcomes: list[Outcome], gamma: float) -> bytes:
    """What every plan promised, against what was paid from there on."""
    promised, paid = promised_and_paid(outcomes, gamma)
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axis = figure.subplots()
    numbers = [0.0, *promised, *paid]
    ends = [min(numbers), max(numbers)]
    axis.plot(ends, ends, "--", color="grey", linewidth=1)
    axis.scatter(promised, paid, s=8, alpha=0.3, linewidths=0)
    axis.set(xlabel="promised by the plan", ylabel="paid in reality from there on")
    tidy(axis)
    return png(figure)


def print_report(report: dict[str, Any]) -> None:
    """Print what was found."""
    config = report["config"]
    title = f"{config['agent']} in {report['env_id']}: {config['episodes']} {config['split']} episodes"
    table = Table("", "value", "95 % interval", title=title, box=SIMPLE)
    for name, label, unit, digits in ROWS:
        value, low, high = (f"{unit * report[name][key]:.{digits}f}" for key in ("value", "low", "high"))
        table.add_row(label, value, f"{low} to {high}")
    if "decision_seconds" in report:
        seconds = report["decision_seconds"]
        table.add_row("seconds per decision", f"{seconds['mean']:.2f}", f"at most {seconds['most']:.2f}")
    if report.get("rank_correlation") is not None:
        table.add_row("promised and paid: rank correlation", f"{report['rank_correlation']:.2f}", "")
    if recorded := report.get("training", {}).get("recorded_by"):
        table.caption = f"learned from {report['training']['recorded_frames']:,} real frames: {recorded}"
    Screen().print(table)
