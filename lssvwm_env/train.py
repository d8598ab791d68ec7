"""From recorded episodes to a simulator folder: train, choose starts, write the card."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure

from lssvwm_env.real.minigrid import AGENT_CELL, TILE
from lssvwm_env.real.policies import policy_words
from lssvwm_env.simulator.folder import CONFIG, CURVES
from lssvwm_env.simulator.simulator import (
    MOST_DENOISING_STEPS,
    Simulator,
    SimulatorConfig,
    Starts,
    action_spec,
    read_simulator_config,
)
from lssvwm_env.utils.command import command
from lssvwm_env.utils.json_types import space_from_json
from lssvwm_env.utils.provenance import hardware
from lssvwm_env.utils.strangers import markdown
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.data.openings import episode_lengths
from lssvwm_models.data.segments import extent, motions
from lssvwm_models.data.values import pose_jump
from lssvwm_models.evaluation.state_monitor import state_png
from lssvwm_models.execution.threads import set_threads
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.config import PRESETS, WorldModelConfig, in_first_person
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.trainer import Trainer, TrainingConfig
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.figures import png, tidy
from lssvwm_models.utils.files import write_bytes

GRID: Final = 8  # patches per side of a frame, as the presets' block sizes want it
LARGEST_MAP: Final = 40  # cells per side: its square is what a frame costs to remember
MOST_LATENTS: Final = 96  # per patch in first person, where no two patches are the same


@dataclass(frozen=True)
class TrainConfig:
    """What to train, and on what.

    Attributes:
        dataset: Folder of training episodes.
        training: How; the run, and at last `simulator/` inside it, go into its `out`.
        preset: Size of the model, unless it begins as another: `debug` takes seconds, `micro` (for small worlds) half
            an hour of a CPU core, `tiny` up to two hours on two of them, `small` a GPU.
        starts: Number of episode openings that the simulator begins dreams from.
        start_frames: Real frames in each of them.
        horizon: Most steps in an episode of the simulator.
        denoising_steps: Network passes per frame, unless the simulator's user asks otherwise.
    """

    dataset: Path
    training: Annotated[TrainingConfig, tyro.conf.arg(name="")]
    preset: Literal["debug", "micro", "tiny", "small"] = "tiny"
    starts: int = 64
    start_frames: int = 16
    horizon: int = 1000
    denoising_steps: int = 1

    def __post_init__(self) -> None:
        check_fields(self, starts=1, start_frames=1, horizon=1, denoising_steps=(1, MOST_DENOISING_STEPS))
        if self.start_frames > max(self.training.lengths):
            raise ValueError(
                f"start_frames={self.start_frames}, but the longest of lengths={self.training.lengths} is less: "
                "a simulator begins with no more than it was trained on"
            )


def train(config: TrainConfig) -> Simulator:
    """Train a world model, or go on with a run that was cut off, and write it as a simulator.

    Raises:
        DatasetError: If the dataset is incomplete or damaged.
        ValueError: If it is too small, or `out` holds a run with another configuration.
    """
    set_threads(config.training.threads)
    dataset = EpisodeDataset(config.dataset)
    opening_frames(dataset, config.starts, config.start_frames)  # refuses before hours of training
    sizes = model_config(dataset, config.preset)
    if (init := config.training.init) is not None and (init.parent / CONFIG).is_file():
        initial = read_simulator_config(init.parent / CONFIG)[1].model
        sizes = replace(initial, view=sizes.view, action=sizes.action)  # motions are numbered by the data
    sequence = max(config.training.lengths)
    longest = int(episode_lengths(dataset).max())
    if sequence > longest:
        print(
            f"Sequences of {sequence} frames run over the ends of episodes, the longest of which has {longest}: "
            "nothing is remembered from one to the next, so no memory is trained for longer than that. If it should "
            "be, collect with a larger --episode-length."
        )
    trainer = Trainer(config.training, sizes, dataset)
    model = forgetting(trainer.run(), max(config.horizon, sequence))
    spec = dataset.spec
    trained_length = max(trainer.lengths())  # a curriculum of plateaus may not have come to the longest
    simulator = Simulator(
        model,
        SimulatorConfig(
            env_id=spec.env_id,
            model=model.config,
            observation_space=spec.observation_space,
            action_space=spec.action_space,
            trained_length=trained_length,
            horizon=config.horizon,
            denoising_steps=config.denoising_steps,
            data_hash=dataset.hash(),
            env_kwargs=spec.env_kwargs,
            preprocessing=spec.preprocessing,
        ),
        opening_frames(dataset, config.starts, min(config.start_frames, trained_length)),
    )
    folder = config.training.out / "simulator"
    if (folder / CURVES).is_file():
        earlier = Simulator.load(folder)
        if (earlier.weights_sha256, earlier.config) == (simulator.weights_sha256, simulator.config):
            return earlier  # nothing new to say, and its card may hold measurements
    metrics = trainer.folder.metrics()
    write_bytes(config.training.out / "states.png", state_png(metrics))
    simulator.save(folder, card(simulator, trainer, config))
    write_bytes(folder / CURVES, curves_png(metrics))  # last: with it, all is written
    print(
        f"The simulator is in {folder}. Judge it with:\n  lssvwm compare --simulator {folder} --out runs/compare --card"
    )
    return simulator


def forgetting(model: WorldModel, frames: int) -> WorldModel:
    """The same model, whose memory fades in dreams that go on for longer than so many frames.

    Else it would add up without an end, beyond what the network has learned to read.
    """
    network = replace(model.config.network, memory_frames=frames)
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
        copy = WorldModel(replace(model.config, network=network))
    copy.load_state_dict(model.state_dict())
    return copy


def model_config(dataset: EpisodeDataset, size: str) -> WorldModelConfig:
    """The configuration of a model for the spaces of a dataset; it will reckon poses where it can use them.

    Poses that it cannot use are left out, with a line that says so.
    """
    frame = dataset.obs.shape[1:]
    action = action_spec(space_from_json(dataset.spec.action_space, "action_space"))
    view: EgoView | FirstPersonView | None = None
    network = PRESETS[size]
    on_grid = dataset.pose_kind == "grid"
    if on_grid and dataset.tiles is not None:  # recorded in MiniGrid
        view = EgoView(TILE, *AGENT_CELL, motions(dataset))
    elif dataset.pose_kind is not None and (camera := dataset.spec.camera) is not None:
        view = FirstPersonView(camera.fov, motions(dataset) if on_grid else None, camera.ahead, camera.cell)
        if (jump := pose_jump(dataset.pose, dataset.is_first)) is not None:
            print(f"{dataset.folder}, {jump}.")
        network = in_first_person(network)
    elif dataset.pose_kind is not None:
        print(
            f"The poses of {dataset.folder} are not used: models know MiniGrid's view from above, and first person "
            "with a known camera, but these are of another view. This one goes by what it sees, as if the camera "
            "stood still. If it is first person, let the environment say metadata['camera'] = {'fov': degrees}."
        )
    if view is not None:
        network = replace(network, map_size=map_size(dataset, view, network.map_size))
    patch = max(1, frame[0] // GRID)
    latents = MOST_LATENTS if isinstance(view, FirstPersonView) else WorldModelConfig.latent_dim
    return WorldModelConfig(action, frame[0], frame[2], patch, latents, network=network, view=view)


def map_size(dataset: EpisodeDataset, view: EgoView | FirstPersonView, least: int) -> int:
    """Cells per side of a map on which no two places of an episode are one; of what is larger, a line is printed."""
    cells = extent(dataset) / (view.cell if isinstance(view, FirstPersonView) else 1)
    needed = 2 * math.ceil((cells + 3) / 2)  # the walls around, and even
    if needed > LARGEST_MAP:
        print(
            f"Episodes of {dataset.folder} reach over {cells:.0f} cells. The map tells places apart that are up to "
            f"{LARGEST_MAP} cells from one another: what is further away may be taken for something near."
        )
    return max(least, min(needed, LARGEST_MAP))


def opening_frames(dataset: EpisodeDataset, count: int, length: int) -> Starts:
    """The first frames of up to `count` episodes that are long enough, evenly picked."""
    long_enough = dataset.episode_starts[episode_lengths(dataset) > length]
    if not len(long_enough):
        raise ValueError(f"no episode of {dataset.folder} is longer than start_frames={length}; lower it")
    chosen = long_enough[np.linspace(0, len(long_enough) - 1, min(count, len(long_enough))).astype(int)]
    index = chosen[:, None] + np.arange(length)
    return Starts(dataset.obs[index], dataset.act[index])


def card(simulator: Simulator, trainer: Trainer, config: TrainConfig) -> str:
    """The text of `CARD.md`; `lssvwm compare --card` adds what was measured."""
    spec = trainer.dataset.spec
    training = config.training
    parameters = sum(p.numel() for p in simulator.model.parameters()) / 1e6
    state = simulator.model.initial_state(1).nbytes / 1e6
    frames = len(trainer.dataset)
    episodes = len(trainer.dataset.episode_starts)
    origin = f"{markdown(policy_words(spec.policy))}, {spec.split} split, seed {spec.seed}"
    world = markdown(spec.env_id, code=True)
    made_with = f" with {markdown(spec.env_kwargs)}" if spec.env_kwargs else ""
    lengths = ", then ".join(map(str, trainer.lengths()))
    return f"""# {markdown(spec.env_id)}, simulated

A world model of {parameters:.2f} M parameters, trained on recorded frames and actions of {world}{made_with}.
Its memory takes {state:.2f} MB per world, whatever the history.

## Training

| | |
|---|---|
| data | {markdown(spec.command, code=True)} |
| | {frames:,} frames in {episodes:,} episodes; {origin} |
| data hash | `{simulator.config.data_hash}` |
| training | {markdown(command("train", config), code=True)} |
| seed | {training.seed} |
| steps | {training.steps:,} ({trainer.frames:,} frames seen), sequences of {lengths} frames |
| objective | {training.objective.kind} |
| time | {trainer.seconds / 60:.0f} minutes with {training.threads} thread(s) on {hardware(training.device)} |
| versions | {", ".join(f"{k} {v}" for k, v in simulator.config.versions.items())} |

![Losses on training and held-out episodes]({CURVES})
"""


def curves_png(metrics: list[dict[str, Any]]) -> bytes:
    """Plot the losses of a run; beside that of frames those of rewards and ends, where there are any."""
    events = ["reward_loss", "termination_loss"]
    occur = any(line.get(prefix + name, 0) > 0 for line in metrics for name in events for prefix in ("", "validation/"))
    panels = [["frame_loss"], events] if occur else [["frame_loss"]]
    figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
    for axis, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for i, name in enumerate(names):
            for prefix, style in (("", "-"), ("validation/", "o--")):
                points = [(line["step"], line[prefix + name]) for line in metrics if prefix + name in line]
                if points:
                    label = f"{name.replace('_', ' ')}{' (held out, one step from noise)' if prefix else ''}"
                    axis.plot(*zip(*points, strict=True), style, color=f"C{i}", markersize=4, label=label)
        axis.set(xlabel="optimiser step", yscale="log")
        if axis.lines:
            axis.legend(frameon=False, fontsize=8)
        tidy(axis)
    return png(figure)
