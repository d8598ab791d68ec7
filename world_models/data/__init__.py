"""Episodes on disk and in memory."""

from world_models.data.episodes import Episode, EpisodeDataset, write_shard
from world_models.data.spec import DatasetError, DatasetSpec, read_spec, write_spec

__all__ = [
    "DatasetError",
    "DatasetSpec",
    "Episode",
    "EpisodeDataset",
    "read_spec",
    "write_shard",
    "write_spec",
]
