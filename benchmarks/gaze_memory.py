"""What can a memory that is addressed by gazes bring back at all? Nothing is trained here.

    lssvwm collect --env-id FirstPerson/MiniGrid-ObjectRooms-v0 --out data/eye --frames 8000 --episode-length 400
    python benchmarks/gaze_memory.py --dataset data/eye

The columns of recorded frames, cut down to 128 numbers, are written by where the eye was and which way each column
looked: added up, as Mamba-2 does where nothing is forgotten, or by the delta rule. Then the columns of the next frames
are read. What is printed is the share of their variance that comes back at poses of before: 1 is all of it, and 0 is no
better than the mean. What is read is first multiplied by the one factor that suits it best, as a network learns to.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import tyro
from rich.box import SIMPLE
from rich.table import Table
from torch import Tensor

from lssvwm_env.evaluation.revisits import revisits
from lssvwm_env.utils.strangers import Screen
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.data.openings import Openings, openings
from lssvwm_models.data.segments import recorded_pose, to_frames
from lssvwm_models.memory.delta_rule import delta_scan
from lssvwm_models.memory.geometry import place_rotation
from lssvwm_models.memory.ray_scans import CAUTION
from lssvwm_models.memory.rays import FirstPersonView, gaze_frequencies, sight

COLUMNS: Final = 8
WIDTH: Final = 128  # of what is remembered of a column
FEATURES: Final = (256, 512, 1024, 2048)


@dataclass
class Args:
    """What to measure.

    Attributes:
        dataset: Folder of episodes in first person, with poses.
        sequences: Episodes.
        context: Frames that are written.
        horizon: Frames that are read afterwards.
    """

    dataset: Path
    sequences: int = 8
    context: int = 192
    horizon: int = 96


def main(args: Args) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    dataset = EpisodeDataset(args.dataset)
    camera = dataset.spec.camera
    if camera is None or dataset.pose is None:
        raise SystemExit(f"{args.dataset} has no camera, or no poses: record a world in first person")
    length = args.context + args.horizon
    real = openings(dataset, args.sequences, length, longer_than=length - 1)
    assert real.pose is not None
    columns = _columns(real)
    pose = recorded_pose(real.pose)
    gazes = sight(pose, pose, FirstPersonView(camera.fov, None, camera.ahead, camera.cell), COLUMNS, COLUMNS).gazes
    seen = revisits(real.pose, args.context, camera.cell)
    there = torch.from_numpy(seen.revisited)
    later = columns[:, args.context :]
    nearest = columns[torch.arange(len(columns))[:, None], torch.from_numpy(seen.nearest)]

    title = f"{dataset.spec.env_id}: share of variance that comes back at poses of before"
    table = Table(title=title, box=SIMPLE)
    for heading in ("length of the keys", "added up", "delta rule"):
        table.add_column(heading, justify="right")
    for features in FEATURES:
        rotation = place_rotation(gazes, gaze_frequencies(features // 2))
        keys = torch.cat([rotation.cos, rotation.sin], -1) * (features / 2) ** -0.5  # (B, T, columns, N), of length 1
        shares = (_share(_read(rule, keys, columns, args.context), later, there) for rule in ("added", "delta"))
        table.add_row(f"{features}", *(f"{share:.2f}" for share in shares))
    table.caption = f"Copy of the nearest pose: {_share(nearest, later, there):.2f}"
    Screen().print(table)


def _columns(real: Openings) -> Tensor:
    """The columns (B, T, columns, WIDTH) of frames: their principal components, without the mean."""
    frames = to_frames(real.obs)  # (B, T, C, H, W)
    pixels = frames.unflatten(-1, (COLUMNS, -1)).movedim(-2, 2).flatten(3)
    pixels = pixels - pixels.mean((0, 1, 2))
    some = pixels.flatten(0, 2)[
        torch.randperm(pixels[..., 0].numel(), generator=torch.Generator().manual_seed(0))[:4000]
    ]
    _, _, directions = torch.linalg.svd(some, full_matrices=False)
    return pixels @ directions[:WIDTH].T


def _read(rule: str, keys: Tensor, columns: Tensor, context: int) -> Tensor:
    """What is read of the columns from frame `context` on, after those before were written."""
    x = columns[:, :context]
    written = keys[:, :context]
    if rule == "added":
        memory = torch.einsum("btmp,btmn->bpn", x, written)
    else:
        B = len(columns)
        empty = torch.zeros(B, 1, WIDTH, keys.shape[-1])
        kept = torch.zeros(B, context, 1)
        first = torch.zeros(B, context, dtype=torch.bool)
        strength = torch.ones(*x.shape[:3], 1)
        caution = torch.tensor(CAUTION)
        _, state = delta_scan(written[:, :, :0], x.unsqueeze(3), strength, kept, written, caution, empty, first)
        memory = state[:, 0]
    return torch.einsum("btmn,bpn->btmp", keys[:, context:], memory)


def _share(read: Tensor, truth: Tensor, there: Tensor) -> float:
    """Of the variance of (B, T, columns, WIDTH), at some of the frames (B, T)."""
    read = read[there]
    truth = truth[there]
    factor = (read * truth).sum() / read.square().sum()
    return 1 - float((factor * read - truth).square().sum() / truth.square().sum())


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
