"""What makes a memory last? One world model per idea, trained on the same frames and judged on the same episodes.

    lssvwm collect --env-id MiniGrid-ObjectRooms-v0 --out data/object-rooms-train --frames 200000 --episode-length 200
    python benchmarks/memory_study.py
    python benchmarks/memory_study.py --steps 600 --variants ours full-attention convolution

Every model is written to `benchmarks/records/study/NAME-STEPS-SEED.json.gz` as soon as it is judged; what has a record
is not made again, and a training that was cut off goes on: several commands may share the work. `python
benchmarks/results.py` makes docs/results.md of the records.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
import tyro
from studies import check_variants, made_with, make_missing

from lssvwm_env.evaluation.memory.suite import ROOMS, Recordings, SuiteSettings, record_suite, run_suite
from lssvwm_env.train import model_config
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.execution.precision import supports_bf16
from lssvwm_models.model.config import WorldModelConfig
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.trainer import Trainer, TrainingConfig

RECORDS: Final = Path(__file__).parent / "records" / "study"


@dataclass(frozen=True)
class Variant:
    """What is different from "ours", in words and in configs. Parameters are matched by the width of the MLP."""

    about: str
    network: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)


# Narrower than what is bundled: many small models tell more than a few large ones, and a CPU trains one in minutes.
WIDTHS: Final = {"d_model": 128, "d_inner": 64, "headdim": 16}
# "ours" is what the study began with; the defaults of the library are what it ended with, "winner".
BEGAN_WITH: Final = {"mixing": "attention", "window": 1, "mlp_ratio": 2}
BEGAN_TRAINED: Final = {"context_noise": 0.2, "state_moments": 0.0, "perceptual": 0.0}
CONVOLUTION: Final = {"mixing": "convolution", "mlp_ratio": 3}
WINNER: Final = Variant(
    "all three, of the frame alone, clean contexts, 64 frames from the start",
    CONVOLUTION | {"window": 0},
    training={"lengths": (64,)},
    objective={"state_moments": 0.01, "perceptual": 0.1, "context_noise": 0.0},
)
VARIANTS: Final = {
    "ours": Variant("two maps, blocks (4, 2, 4, 4), window 1, tokens of 2x2 patches"),
    # The models that the paper compares with: the block stays, the memory is swapped.
    "window": Variant("attention over the last 8 frames", {"memory": "attention", "memory_window": 8}),
    "full-attention": Variant("attention over all frames", {"memory": "attention"}),
    "mamba2": Variant(
        "whole-frame scans addressed by content", {"map_layers": (), "block_sizes": (4, 4, 4, 4), "mlp_ratio": 3}
    ),
    "mamba2-convolution": Variant(
        "the same without local attention",
        {"map_layers": (), "block_sizes": (4, 4, 4, 4), "mixing": "convolution", "mlp_ratio": 3},
    ),
    "blocks-1": Variant("all blocks of size 1", {"map_layers": (), "block_sizes": (1, 1, 1, 1), "mlp_ratio": 3}),
    "paper-blocks": Variant(
        "blocks (1, 1, 2, 4), no maps", {"map_layers": (), "block_sizes": (1, 1, 2, 4), "mlp_ratio": 3}
    ),
    # One choice undone, or one more made.
    "patches": Variant("tokens of one patch", {"merge": 1, "block_sizes": (8, 2, 8, 8), "mlp_ratio": 3}),
    "no-maps": Variant("no maps, same blocks", {"map_layers": (), "mlp_ratio": 3}),
    "all-4": Variant("no small blocks", {"block_sizes": (4, 4, 4, 4)}),
    "overlap": Variant("tubes of the small blocks overlap", {"overlap": True}),
    "convolution": Variant("convolution for local attention", CONVOLUTION),
    "window-0": Variant("local attention to the frame alone", {"window": 0}),
    "window-2": Variant("local attention to 2 earlier frames", {"window": 2}),
    "window-4": Variant("local attention to 4 earlier frames", {"window": 4}),
    "no-curriculum": Variant("64 frames from the start", training={"lengths": (64,)}),
    "plateau": Variant("lengths grow when the loss stalls", training={"curriculum": "plateau", "eval_every": 50}),
    "diffusion-forcing": Variant("the paper's objective", objective={"kind": "diffusion_forcing"}),
    "diffusion-forcing-longer": Variant(
        "the paper's objective, for as many seconds as ours",
        training={"steps": 500},
        objective={"kind": "diffusion_forcing"},
    ),
    "no-clean-prefix": Variant(
        "the paper's objective without clean prefixes", objective={"kind": "diffusion_forcing", "clean_prefix": 0.0}
    ),
    "no-context-noise": Variant("clean contexts", objective={"context_noise": 0.0}),
    "cut-gradients-8": Variant(
        "gradients cut between temporal blocks of 8", model={"block_frames": 8}, objective={"cut_gradients": True}
    ),
    "cut-gradients": Variant(
        "gradients cut between temporal blocks of 16", model={"block_frames": 16}, objective={"cut_gradients": True}
    ),
    "cut-gradients-32": Variant(
        "gradients cut between temporal blocks of 32", model={"block_frames": 32}, objective={"cut_gradients": True}
    ),
    "moments": Variant("states kept near mean 0, variance 1", objective={"state_moments": 0.01}),
    "recall": Variant("older frames recovered from the state", objective={"recall": 0.5}),
    "truncation": Variant("reads see a random number of channels", objective={"truncation": 0.5}),
    "perceptual": Variant("perceptual loss added", objective={"perceptual": 0.1}),
    "convolution-moments": Variant(
        "convolution, and states kept near mean 0, variance 1",
        CONVOLUTION,
        objective={"state_moments": 0.01},
    ),
    "convolution-perceptual": Variant("convolution, and perceptual loss", CONVOLUTION, objective={"perceptual": 0.1}),
    "convolution-moments-perceptual": Variant(
        "all three",
        CONVOLUTION,
        objective={"state_moments": 0.01, "perceptual": 0.1},
    ),
    "winner": WINNER,
    "winner-curriculum": replace(WINNER, about="the same with the curriculum", training={}),
    "adamw": Variant("AdamW for all weights, no Muon", training={"optimizer": "adamw"}),
}


@dataclass
class Args:
    """What to train.

    Attributes:
        variants: Names in VARIANTS; all if none are given.
        seeds: Of the weights, the batches and the noise.
        dataset: Folder of training episodes.
        runs: Folder for the training runs.
        steps: Optimiser steps, of 64 frames each.
        threads: CPU threads.
    """

    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0,)
    dataset: Path = Path("data/object-rooms-train")
    runs: Path = Path("runs/study")
    steps: int = 300
    threads: int = 1


def suite() -> SuiteSettings:
    """How all are judged: training sequences have 64 frames, here memories must last for up to 800."""
    trained_in = tuple(room for room in ROOMS if room.name == "rooms-13")
    return SuiteSettings(
        worlds=trained_in, sequences=8, context=256, continuation=(), questions=0, pose_given=True, bf16=True
    )


def configs(
    variant: Variant, seed: int, args: Args, dataset: EpisodeDataset
) -> tuple[TrainingConfig, WorldModelConfig]:
    """The configs of a variant."""
    base = model_config(dataset, "tiny")
    network = replace(base.network, **(WIDTHS | BEGAN_WITH | variant.network))
    model = replace(base, network=network, **variant.model)
    training = TrainingConfig(
        **{
            "out": Path(),
            "steps": args.steps,
            "lengths": (16, 32, 64),
            "frames_per_step": 64,
            "objective": ObjectiveConfig(**(BEGAN_TRAINED | variant.objective)),
            "eval_every": 200,
            "odometry_steps": 1,  # poses are given to all dreams
            "seed": seed,
            "threads": args.threads,
        }
        | variant.training
    )
    return training, model


def judged(name: str, seed: int, args: Args, dataset: EpisodeDataset, recordings: Recordings) -> dict[str, Any]:
    """Train a variant, or finish its training, and judge it."""
    training, model = configs(VARIANTS[name], seed, args, dataset)
    trainer = Trainer(replace(training, out=args.runs / f"{name}-{args.steps}-{seed}"), model, dataset)
    trained = trainer.run()
    report = slim(run_suite(trained, recordings, suite()))
    return {
        "variant": name,
        "about": VARIANTS[name].about,
        "seed": seed,
        "network": asdict(model.network),
        "training": {k: v for k, v in asdict(training).items() if k not in ("out", "device")},
        "parameters": sum(p.numel() for p in trained.parameters()),
        "state_bytes": trained.initial_state(1).nbytes,
        "precision": "bfloat16" if training.bf16 and supports_bf16("cpu") else "float32",
        "data_hash": dataset.hash(),
        **made_with(),
        "suite": report,
    }


def slim(report: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a report: no more digits and curves than are shown."""
    report = json.loads(json.dumps(report), parse_float=lambda number: round(float(number), 5))
    for found in report["worlds"].values():
        for task in [*found.get("out_and_back", {}).values(), found["revisit"]]:
            task.pop("copy_per_frame", None)
            task["per_frame"] = {name: task["per_frame"][name] for name in ("psnr_seen", "objects_seen")}
    return report


def main(args: Args) -> None:
    """Make the records that are missing."""
    torch.set_num_threads(args.threads)
    check_variants(args.variants, VARIANTS)
    dataset = EpisodeDataset(args.dataset)
    recordings = record_suite(suite())
    make_missing(
        args.variants,
        args.seeds,
        lambda name, seed: RECORDS / f"{name}-{args.steps}-{seed}.json.gz",
        lambda name, seed: judged(name, seed, args, dataset, recordings),
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
