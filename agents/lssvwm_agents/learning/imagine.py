"""`lssvwm imagine`: teach an actor-critic in dreams alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from lssvwm_agents.learning.imagination import POLICY, ImaginationConfig, ImaginationTrainer
from lssvwm_agents.policies.actor_critic import ActorCritic
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.real.policies import policy_words
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_env.utils.command import command
from lssvwm_env.utils.provenance import provenance
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.execution.devices import as_device
from lssvwm_models.execution.threads import set_threads
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.json_files import write_json


@dataclass(frozen=True)
class ImagineConfig:
    """Where to dream, and how to learn there.

    Attributes:
        simulator: Id or name of a simulator, or its folder.
        dataset: Folder of recorded episodes of the same environment: what dreams begin from.
        imagination: How; `policy.safetensors` goes into its `out`, and `policy.json`, which says how it came about.
        denoising_steps: Network passes per imagined frame. A single one dreams the mean of all that is possible where
            nothing was seen yet, and so the same in every dream; it takes at least 2 to draw one of them.
        bf16: Compute the model's matrix products in bfloat16.
        threads: CPU threads of torch.
        device: Where to dream.
    """

    simulator: str
    dataset: Path
    imagination: Annotated[ImaginationConfig, tyro.conf.arg(name="")]
    denoising_steps: int = 2
    bf16: bool = True
    threads: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_fields(self, denoising_steps=1, threads=1)
        as_device(self.device)  # refused before anything is loaded


def imagine(config: ImagineConfig) -> ActorCritic:
    """Train a policy, or go on with a training that was cut off.

    Raises:
        SimulatorError: If there is no such simulator, or it is damaged.
        DatasetError: If the dataset is incomplete or damaged.
        ValueError: If the dataset does not fit, or `out` holds another run.
    """
    set_threads(config.threads)
    simulator = Simulator.load(config.simulator)
    core = SimulatorCore(simulator, 1, config.denoising_steps, config.device, bf16=config.bf16)
    trainer = ImaginationTrainer(config.imagination, core, EpisodeDataset(config.dataset))
    policy = trainer.run()
    file = write_report(command("imagine", config), config, trainer, trainer.imagined_steps, trainer.seconds)
    print(
        f"{trainer.imagined_steps:,} imagined steps in {trainer.seconds / 60:.0f} minutes; the policy is in {file}. "
        f"Judge it with:\n  lssvwm judge --simulator {config.simulator} --agent policy --policy {file} --out runs/judge"
    )
    return policy


def write_report(
    command_line: str, config: Any, trainer: ImaginationTrainer, imagined_steps: int, seconds: float
) -> Path:
    """Write beside a trainer's policy how it came about, for `lssvwm judge` to repeat; returns the policy's file.

    Args:
        command_line, config: What the user ran, as a command and as a dataclass.
        trainer: What made the policy, with its data.
        imagined_steps, seconds: Of learning in dreams, in all.
    """
    file = trainer.config.out / POLICY
    report = {
        "command": command_line,
        "recorded_frames": len(trainer.dataset),
        "recorded_by": policy_words(trainer.dataset.spec.policy),
        "imagined_steps": imagined_steps,
        "minutes": round(seconds / 60, 1),
        "data_hash": trainer.dataset.hash(),
        "weights_sha256": trainer.core.simulator.weights_sha256,
        **provenance(config, trainer.core.device),
    }
    write_json(file.with_suffix(".json"), report)
    return file
