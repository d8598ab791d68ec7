"""Episodes on disk and in memory."""

from lssvwm_models.data.episodes import NO_SEED, Episode, EpisodeDataset, write_shard
from lssvwm_models.data.spec import DatasetError, DatasetOrigin, DatasetSpec, read_spec, write_spec
from lssvwm_models.data.writing import join_datasets, write_dataset

__all__ = [
    "NO_SEED",
    "DatasetError",
    "DatasetOrigin",
    "DatasetSpec",
    "Episode",
    "EpisodeDataset",
    "join_datasets",
    "read_spec",
    "write_dataset",
    "write_shard",
    "write_spec",
]
