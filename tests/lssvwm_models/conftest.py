"""Shared fixtures: recorded episodes so small that a model learns them in seconds."""

import numpy as np
import pytest

from lssvwm_models.data import DatasetSpec, Episode, EpisodeDataset, write_shard, write_spec


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Episodes of a dot on a ring of 16 pixels' width: action 1 moves it right, 0 leaves it. Frames show the dot."""
    folder, rng = tmp_path_factory.mktemp("dots"), np.random.default_rng(0)
    episodes = []
    for seed in range(12):
        act = rng.integers(0, 2, 20)
        act[0] = 0
        x = (rng.integers(16) + act.cumsum()) % 16
        obs = np.zeros((20, 16, 16, 3), np.uint8)
        obs[np.arange(20), :, x] = 255
        pose = np.stack([act.cumsum(), 0 * act, 0 * act], 1).astype(np.int32)
        end = np.arange(20) == 19
        rew = np.where(np.arange(20) > 0, x == 0, 0).astype(np.float32)
        episodes.append(Episode(obs, act, rew, end & (seed % 2 == 0), end & (seed % 2 == 1), seed, pose))
    write_shard(folder / "shard-00000.npz", episodes)
    space = {"type": "Box", "low": 0, "high": 255, "shape": [16, 16, 3], "dtype": "uint8"}
    spec = DatasetSpec("Dots-v0", {}, space, {"type": "Discrete", "n": 2}, "none", "uniform", 0, "train", 20, 240, 8192,
                       "make dots", True, ["shard-00000.npz"])  # fmt: skip
    write_spec(folder, spec)
    return EpisodeDataset(folder)
