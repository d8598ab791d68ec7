"""Who remembers in first person? One world model per memory, on the same frames, asked by the paper's two protocols.

    lssvwm collect --env-id MemoryMaze/9x9-v0 --policy roam --out data/maze-train --frames 64000 --episode-length 500
    lssvwm collect --env-id MemoryMaze/9x9-v0 --policy roam --out data/maze-test --split test --frames 16000
    python benchmarks/first_person_study.py

All are moved by the recorded poses, as the paper's are. Those that keep keyframes share one renderer, which is trained
first. Every model is written to `benchmarks/records/first-person/WORLD-NAME-STEPS-SEED.json.gz` as soon as it is
judged; what has a record is not made again, and a training that was cut off goes on.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
import tyro
from safetensors.torch import save_file
from studies import check_variants, made_with, make_missing

from lssvwm_env.evaluation.recall import measure_recall
from lssvwm_env.train import model_config
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.model.config import WorldModelConfig
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.trainer import Trainer, TrainingConfig

RECORDS: Final = Path(__file__).parent / "records" / "first-person"
SHARED: Final = ("renderer.", "tokenizer.")  # by the models that keep keyframes


@dataclass(frozen=True)
class Variant:
    """What is different from "ours", in words and in the network's config. The width of the MLP, or of all, is such
    that all networks have as many parameters."""

    about: str
    network: dict[str, Any] = field(default_factory=dict)


ATTENTION: Final = {"memory": "attention", "map_layers": (), "keyframes": 0, "mlp_ratio": 6}
SCANS: Final = {"map_layers": (), "keyframes": 0, "block_sizes": (4, 4), "mlp_ratio": 7}
VARIANTS: Final = {
    "ours": Variant("keyframes, a map, and a scan addressed by content"),
    # The models that the paper compares with.
    "full-attention": Variant("attention over all frames", ATTENTION),
    "window-192": Variant("attention over the last 192 frames", ATTENTION | {"memory_window": 192}),
    "mamba2": Variant("whole-frame scans addressed by content", SCANS),
    "mamba2-attention": Variant("the same, and frame-local attention", SCANS | {"mixing": "attention"}),
    "paper-blocks": Variant(
        "blocks (1, 1, 2, 4), and frame-local attention",
        SCANS | {"block_sizes": (1, 1, 2, 4), "mixing": "attention", "d_model": 96, "mlp_ratio": 5},
    ),
    # One part of ours left out.
    "no-keyframes": Variant("no keyframes", {"keyframes": 0}),
    "no-map": Variant("no map", {"map_layers": (), "mlp_ratio": 7}),
    "no-content": Variant(
        "maps alone, nothing addressed by content",
        {"map_layers": (0, 1), "block_sizes": (4, 4), "d_model": 96},
    ),
}


@dataclass(frozen=True)
class Task:
    """A question of `lssvwm eval recall`."""

    protocol: Any
    context: int
    horizon: int


@dataclass
class Args:
    """What to train, and how to judge it.

    Attributes:
        variants: Names in VARIANTS; all if none are given.
        seeds: Of the weights, the batches and the noise.
        dataset: Folder of training episodes.
        test: Folder of episodes to judge by.
        runs: Folder for the training runs.
        world: What the world is called in the names of records.
        steps: Optimiser steps, of 128 frames each.
        render_steps: Steps that the renderer of keyframes is trained for.
        sequences: Test episodes per question.
        scale: Of the lengths of all questions; below 1 to try them out.
        threads: CPU threads.
    """

    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0,)
    dataset: Path = Path("data/maze-train")
    test: Path = Path("data/maze-test")
    runs: Path = Path("runs/first-person-study")
    world: str = "maze"
    steps: int = 400
    render_steps: int = 1200
    sequences: int = 8
    scale: float = 1.0
    threads: int = 1

    def tasks(self) -> dict[str, Task]:
        """What is asked, by name."""
        lengths = {
            "96 after 192": ("reasoning", 192, 96),
            "retrieval": ("retrieval", 400, 399),
            "reasoning": ("reasoning", 576, 224),
        }
        return {
            name: Task(protocol, max(3, int(self.scale * context)), max(2, int(self.scale * horizon)))
            for name, (protocol, context, horizon) in lengths.items()
        }


def configs(
    variant: Variant, seed: int, args: Args, dataset: EpisodeDataset
) -> tuple[TrainingConfig, WorldModelConfig]:
    """The configs of a variant."""
    base = model_config(dataset, "tiny")
    model = replace(base, network=replace(base.network, **variant.network))
    training = TrainingConfig(
        Path(),
        steps=args.steps,
        lengths=(128,),
        frames_per_step=128,
        objective=ObjectiveConfig(context_noise=0.2, pure_noise=0.8),
        eval_every=200,
        odometry_steps=1,  # poses are given to all dreams
        render_steps=0,
        head_sequences=1,
        head_steps=1,
        seed=seed,
        threads=args.threads,
    )
    return training, model


def renderer(args: Args, dataset: EpisodeDataset) -> Path:
    """The weights of a renderer, which is trained if there is none yet."""
    path = args.runs / f"{args.world}-renderer.safetensors"
    if not path.exists():
        training, model = configs(VARIANTS["ours"], 0, args, dataset)
        training = replace(training, out=args.runs / f"{args.world}-renderer", render_steps=args.render_steps)
        trainer = Trainer(training, model, dataset)
        if not trainer.renderer_trained:
            trainer.fit_renderer()
            trainer.checkpoint()
        weights = {k: v.contiguous() for k, v in trainer.ema.state_dict().items() if k.startswith(SHARED)}
        save_file(weights, path)
    return path


def trained(name: str, seed: int, args: Args, dataset: EpisodeDataset) -> tuple[WorldModel, TrainingConfig]:
    """A variant, from wherever its run stands."""
    training, model = configs(VARIANTS[name], seed, args, dataset)
    training = replace(training, out=args.runs / f"{args.world}-{name}-{args.steps}-{seed}")
    if model.network.keyframes:
        training = replace(training, init=renderer(args, dataset))
    return Trainer(training, model, dataset).run(), training


def judged(name: str, seed: int, args: Args, dataset: EpisodeDataset, test: EpisodeDataset) -> dict[str, Any]:
    """Train a variant, or finish its training, and judge it."""
    model, training = trained(name, seed, args, dataset)
    answers = {
        task: measure_recall(model, test, asked.protocol, asked.context, asked.horizon, sequences=args.sequences).report
        for task, asked in args.tasks().items()
    }
    return {
        "variant": name,
        "about": VARIANTS[name].about,
        "world": args.world,
        "env_id": dataset.spec.env_id,
        "seed": seed,
        "network": asdict(model.config.network),
        "training": {k: v for k, v in asdict(training).items() if k not in ("out", "device", "init")},
        "render_steps": args.render_steps if model.config.network.keyframes else 0,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "state_bytes": model.initial_state(1).nbytes,
        "data_hash": dataset.hash(),
        "test_hash": test.hash(),
        **made_with(),
        "answers": answers,
    }


def main(args: Args) -> None:
    """Make the records that are missing."""
    torch.set_num_threads(args.threads)
    check_variants(args.variants, VARIANTS)
    dataset = EpisodeDataset(args.dataset)
    test = EpisodeDataset(args.test)
    make_missing(
        args.variants,
        args.seeds,
        lambda name, seed: RECORDS / f"{args.world}-{name}-{args.steps}-{seed}.json.gz",
        lambda name, seed: judged(name, seed, args, dataset, test),
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
