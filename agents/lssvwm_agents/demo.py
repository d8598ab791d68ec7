"""The whole system in three minutes: a dream beside reality, counted; and a plan made in a dream, acted out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from gymnasium.wrappers import TimeLimit
from rich.console import Console
from rich.table import Table

from lssvwm_agents.judging.films import film_gif
from lssvwm_agents.planning.mcts import MCTS
from lssvwm_agents.planning.mpc import EpisodeRecord, MPCAgent, run_episode
from lssvwm_agents.planning.protocols import Budget
from lssvwm_agents.planning.rewards import Curious
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.evaluation.compare import CompareConfig, compare
from lssvwm_env.real import make_recorded
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data.splits import SPLITS
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.files import write_bytes
from lssvwm_models.utils.json_files import write_json


@dataclass(frozen=True)
class DemoConfig:
    """What to show.

    Attributes:
        out: Folder to write `dream_vs_real.gif`, `fidelity.png`, `plan.gif` and `report.json` into.
        rooms: Simulator to dream in and to compare with its real environment.
        memory: Simulator of a MiniGrid-Memory world to plan in.
        sequences: Episodes to compare.
        episodes: Real episodes to act in.
        seed: Decides everything; real layouts are of the test split.
    """

    out: Path = Path("runs/demo")
    rooms: str = "LSSVWM/ObjectRooms-v0"
    memory: str = "LSSVWM/MiniGrid-MemoryS9-v0"
    sequences: int = 12
    episodes: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, sequences=1, episodes=1)


def demo(config: DemoConfig) -> None:
    """Compare dreams with reality, then plan in a dream and act in reality; write pictures and numbers."""
    began = time.perf_counter()
    console = Console()
    console.print("[bold]1/2[/bold] Dreaming in ObjectRooms along recorded actions, beside what really happened ...")
    compared = compare(CompareConfig(config.rooms, config.out, sequences=config.sequences, seed=config.seed))
    console.print("[bold]2/2[/bold] Planning in the dream of MiniGrid-Memory, acting in the real one ...")
    simulator = Simulator.load(config.memory)
    records = [act(simulator, config.seed + episode) for episode in range(config.episodes)]
    gif = film_gif(records)
    write_bytes(config.out / "plan.gif", gif)
    plans = [
        {
            "return": float(r.rewards.sum()),
            "steps": len(r.actions),
            "terminated": r.terminated,
            "imagined_steps": r.imagined_steps,
        }
        for r in records
    ]
    seconds = round(time.perf_counter() - began, 1)
    write_json(config.out / "report.json", compared | {"plans": plans, "demo_seconds": seconds})
    _print_plans(console, plans)
    console.print(f"{seconds:.0f} s. Look at plan.gif, dream_vs_real.gif and fidelity.png in {config.out}.")


def act(simulator: Simulator, seed: int) -> EpisodeRecord:
    """One real episode of an agent that plans in the simulator of the same world, and is paid for looking."""
    world = Curious(SimulatorCore(simulator, 1, denoising_steps=2), 0.5)
    planner = MCTS(gamma=0.97, action_probs=(0.34, 0.33, 0.33, 0.0, 0.0, 0.0, 0.0))  # left, right, forward do it all
    agent = MPCAgent(world, planner, horizon=16, budget=Budget(imagined_steps=300), seed=seed, replan_every=2)
    real = TimeLimit(make_recorded(simulator.config), 60)
    return run_episode(agent, real, seed=SPLITS["test"].start + seed)


def _print_plans(console: Console, plans: list[dict[str, float]]) -> None:
    table = Table("episode", "real return", "real steps", "imagined steps", title="Planned in a dream")
    for i, p in enumerate(plans):
        table.add_row(str(i), f"{p['return']:.2f}", str(p["steps"]), f"{p['imagined_steps']:,}")
    console.print(table)
