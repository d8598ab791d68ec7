"""A simulator in first person that was never trained, of a recorded MiniGrid world."""

from pathlib import Path

import numpy as np

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.simulator.simulator import Simulator, SimulatorConfig, Starts
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel


def untrained(folder: Path, denoising_steps: int) -> EpisodeDataset:
    """Record two episodes into `folder`/eye, and save a simulator of their world as `folder`/simulator."""
    dataset = collect(
        CollectConfig("FirstPerson/MiniGrid-MemoryS9-v0", folder / "eye", 24, "test", workers=1, episode_length=12)
    )
    camera = dataset.spec.camera
    assert camera is not None
    view = FirstPersonView(camera.fov, ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)), camera.ahead)
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=view))
    config = SimulatorConfig(
        env_id=dataset.spec.env_id,
        model=model.config,
        observation_space=dataset.spec.observation_space,
        action_space=dataset.spec.action_space,
        trained_length=8,
        horizon=100,
        denoising_steps=denoising_steps,
        data_hash="none",
    )
    starts = Starts(dataset.obs[None, :1], np.zeros((1, 1), np.int64))
    Simulator(model, config, starts).save(folder / "simulator", "untrained")
    return dataset
