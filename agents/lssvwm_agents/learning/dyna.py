"""The Dyna loop: act, learn the world from what came of it, learn to act in its dreams, and act again.

After Sutton 1990, and DreamerV3 (Hafner et al. 2023), which learns all the time; here it goes in rounds, as what is
learned in one piece can be resumed, measured and kept. A round is a folder in which everything follows from the seed
and the round's number:

| in `round-00/` | content                                                                              |
|----------------|--------------------------------------------------------------------------------------|
| `collected/`   | the real episodes of this round                                                      |
| `data/`        | those of all rounds up to this one, as one dataset of hard links                     |
| `model/`       | the run of the world model; `model/simulator` is what came of it                     |
| `agent/`       | the run of the actor-critic; `agent/policy.safetensors` is what came of it, and      |
|                | `agent/policy.json` how                                                              |
| `report.json`  | what it took, and how the agent fared in real episodes of the validation split; with |
|                | it, the round is done                                                                |
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from gymnasium.wrappers import TimeLimit
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lssvwm_agents.judging.outcomes import play_episodes, summary
from lssvwm_agents.learning.dyna_config import DynaConfig
from lssvwm_agents.learning.exploring import agent_player
from lssvwm_agents.learning.imagination import POLICY, ImaginationTrainer
from lssvwm_agents.learning.imagine import write_report
from lssvwm_agents.learning.transfer import transfer_policy
from lssvwm_agents.policies.actor_critic import ActorCritic
from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.envs.wrappers import MemoryFeatures
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.train import TrainConfig, train
from lssvwm_env.utils.command import command
from lssvwm_models.data import EpisodeDataset, join_datasets
from lssvwm_models.data.openings import episode_lengths
from lssvwm_models.data.segments import to_frames, to_uint8
from lssvwm_models.data.splits import SPLITS, Split
from lssvwm_models.evaluation.video_metrics import psnr
from lssvwm_models.execution.threads import set_threads
from lssvwm_models.utils.json_files import read_json, write_json
from lssvwm_models.utils.run_folder import RunFolder

PARTS: Final = ("collect", "model", "agent", "judge")
ENDS: Final = ("value", "low", "high")  # of an estimate
REPORT: Final = "report.json"
START_FRAMES: Final = 16
# The rounds are looked at, and settings and rounds chosen by them: so nothing of the test split, which `lssvwm judge`
# keeps for what was chosen.
JUDGED_ON: Final[Split] = "validation"

Report = dict[str, Any]


def dyna(config: DynaConfig) -> list[Report]:
    """Go through the rounds, or on with those that were cut off; returns their reports.

    Raises:
        ValueError: If the environment cannot be made or recorded, or `out` holds another run.
    """
    set_threads(config.model.threads)
    config.make_env().close()  # refused before there is a run in the way
    run = RunFolder(config.out, config.described())
    reports: list[Report] = []
    for number in range(config.rounds):
        this = Round(config, number)
        file = this.folder / REPORT
        if not file.is_file():
            run.rewind(reports[-1]["real_frames"] if reports else 0)
            report = this.run(reports[-1] if reports else None)
            run.log(report["real_frames"], _curves(report))
            # Last: with its report a round is done, and is not begun again.
            write_json(file, report)
        reports.append(read_json(file))
        print_reports(reports)
    return reports


@dataclass(frozen=True)
class Round:
    """A round of the loop, and the stages it has. Each goes on from wherever its files stand."""

    config: DynaConfig
    number: int

    @property
    def folder(self) -> Path:
        """Where all of it is."""
        return self.config.out / f"round-{self.number:02d}"

    @property
    def seed(self) -> int:
        """Of all that is random here."""
        return int(np.random.SeedSequence((self.config.seed, self.number)).generate_state(1)[0])

    @property
    def before(self) -> Round | None:
        """The round before this one."""
        return Round(self.config, self.number - 1) if self.number else None

    def run(self, last: Report | None) -> Report:
        """All stages, after a round with the report `last`."""
        with self._timed("collect"):
            data = self.collect()
        with self._timed("model"):
            simulator = self.train(data)
        with self._timed("agent"):
            trainer = self.imagine(simulator, data)
        imagined_steps = trainer.imagined_steps + (last["imagined_steps"] if last else 0)
        seconds = sum(Round(self.config, i)._seconds()["agent"] for i in range(self.number + 1))
        write_report(command("dyna", self.config), self.config, trainer, imagined_steps, seconds)
        with self._timed("judge"):
            judged = self.judge()
        return {
            "round": self.number,
            "real_frames": len(data),
            "real_steps": len(data) - len(data.episode_starts),
            "imagined_steps": imagined_steps,
            "tokenizer_psnr": tokenizer_psnr(simulator, data),
            "judged": judged,
            "seconds": self._seconds(),
        }

    def collect(self) -> EpisodeDataset:
        """Add real frames to those of the rounds before."""
        config = self.config
        parts = [EpisodeDataset(Round(config, i).folder / "collected") for i in range(self.number)]
        frames = max(1, (self.number + 1) * config.frames_per_round - sum(map(len, parts)))
        collection = CollectConfig(
            config.env_id,
            self.folder / "collected",
            frames,
            policy=config.policy,
            seed=self.seed,
            episode_length=config.episode_length,
            workers=1,
            env_kwargs=config.env_kwargs,
        )
        player = None
        command_line = command("dyna", config)
        if self.before is not None:
            simulator, agent = self.before.outcome()
            player = agent_player(agent, simulator, collection, config.explore, command_line, config.model.device)
        parts.append(collect(collection, player))
        return join_datasets(self.folder / "data", parts, command_line)

    def train(self, data: EpisodeDataset) -> Simulator:
        """Train the world model on."""
        training = replace(self.config.model, out=self.folder / "model", seed=self.seed)
        if self.before is not None:
            weights = self.before.folder / "model" / "simulator" / "model.safetensors"
            training = replace(training, init=weights, pretrained_ssm=None)
        longest = int(episode_lengths(data).max())
        opening = min(START_FRAMES, max(training.lengths), longest - 1)
        horizon = self.config.episode_length - 1
        return train(TrainConfig(data.folder, training, self.config.preset, start_frames=opening, horizon=horizon))

    def imagine(self, simulator: Simulator, data: EpisodeDataset) -> ImaginationTrainer:
        """Train the actor-critic on, in dreams that go on from all that was ever seen."""
        core = self._core(simulator)
        initial = None
        if self.before is not None:
            older, agent = self.before.outcome()
            initial = transfer_policy(agent, self._core(older), core, data, self.seed)
        config = replace(self.config.agent, out=self.folder / "agent", seed=self.seed)
        trainer = ImaginationTrainer(config, core, data, initial)
        trainer.run()
        return trainer

    def _core(self, simulator: Simulator) -> SimulatorCore:
        model = self.config.model
        return SimulatorCore(simulator, 1, self.config.denoising_steps, model.device, bf16=model.bf16)

    def judge(self) -> Report:
        """Let the agent play real episodes of the validation split, which nobody learns from."""
        config = self.config
        simulator, agent = self.outcome()

        def real() -> MemoryFeatures:
            env = TimeLimit(config.make_env(), config.episode_length - 1)
            return MemoryFeatures(env, simulator, device=config.model.device)

        outcomes = play_episodes(agent, real, SPLITS[JUDGED_ON][: config.episodes])
        steps = sum(len(outcome.rewards) for outcome in outcomes)
        return summary(outcomes, config.agent.gamma) | {"split": JUDGED_ON, "real_steps": steps}

    def outcome(self) -> tuple[Simulator, ActorCritic]:
        """The simulator and the agent that came of this round."""
        simulator = Simulator.load(self.folder / "model" / "simulator")
        return simulator, ActorCritic.load(self.folder / "agent" / POLICY, simulator)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Add what a part takes to what it took before it was cut off."""
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = self._seconds()
            seconds[part] += time.perf_counter() - began
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "seconds.json", seconds)

    def _seconds(self) -> dict[str, float]:
        file = self.folder / "seconds.json"
        seconds: dict[str, float] = read_json(file) if file.is_file() else dict.fromkeys(PARTS, 0.0)
        return seconds


def tokenizer_psnr(simulator: Simulator, data: EpisodeDataset, count: int = 500) -> float:
    """How well the tokenizer, fitted in the first round, encodes frames of all rounds: the PSNR of the worst one.

    What the first round never saw may be lost in its latents, and is then not dreamt.
    """
    frames = data.obs[np.linspace(0, len(data) - 1, min(count, len(data))).astype(int)]
    tokenizer = simulator.model.tokenizer
    return float(psnr(to_uint8(tokenizer.decode(tokenizer.encode(to_frames(frames)))), frames).min())


def _curves(report: Report) -> dict[str, float]:
    """The numbers of a report as a line of metrics."""
    judged = report["judged"]
    line = {name: report[name] for name in ("round", "real_steps", "imagined_steps")}
    for name in ("success", "return"):
        line |= {name: judged[name]["value"]} | {f"{name}_{end}": judged[name][end] for end in ("low", "high")}
    return line | {f"seconds/{part}": seconds for part, seconds in report["seconds"].items()}


def print_reports(reports: list[Report]) -> None:
    """Print a line for every round."""
    table = Table("round", "real", "dreamt", "success %", "return", f"seconds to {', '.join(PARTS)}", box=SIMPLE)
    table.title = f"{reports[0]['judged']['episodes']} {JUDGED_ON} episodes after each round, with 95 % intervals"
    for r in reports:
        success = [r["judged"]["success"][key] for key in ENDS]
        returned = [r["judged"]["return"][key] for key in ENDS]
        table.add_row(
            str(r["round"]),
            f"{r['real_frames']:,}",
            f"{r['imagined_steps']:,}",
            "{:.0f} [{:.0f}, {:.0f}]".format(*(100 * share for share in success)),
            "{:.2f} [{:.2f}, {:.2f}]".format(*returned),
            " + ".join(f"{r['seconds'][part]:.0f}" for part in PARTS),
        )
    Console().print(table)
