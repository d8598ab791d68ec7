"""How good are the frames that a world model makes? Predictions beside recordings, and counts with intervals.

Nothing here knows an environment. What is particular to one, such as tiles, is counted on top of this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_models.data.segments import recorded_pose, relative_pose, to_frames, to_uint8
from lssvwm_models.model.prediction import Prediction
from lssvwm_models.model.world_model import WorldModel


@dataclass(frozen=True)
class Dream:
    """Imagined frames: `obs` uint8 (B, T, H, W, C), `rew` and `term_prob` float32 (B, T).

    `pose` (B, T, 3), int64 on a grid and float32 in the plane, is where the dream thought it was, from the first frame
    of the context on; None where nothing is dreamt on, or by a model without odometry.
    """

    obs: NDArray[np.uint8]
    rew: NDArray[np.float32]
    term_prob: NDArray[np.float32]
    pose: NDArray[Any] | None = None


@torch.no_grad()
def next_frames(model: WorldModel, obs: NDArray[np.uint8], act: NDArray[Any], keys: Tensor, steps: int = 1) -> Dream:
    """Imagine every frame from the memory of the real frames before it.

    Args:
        model: The world model.
        obs: Real frames, uint8 (B, T, H, W, C); each sequence begins with the first frame of an episode.
        act: Actions that led to them, (B, T) or (B, T, A).
        keys: Noise keys, long (B,).
        steps: Denoising steps per frame.

    Returns:
        T - 1 frames, the first of which is to be compared with `obs[:, 1]`.

    Raises:
        ValueError: If there is no second frame to imagine.
    """
    if obs.shape[1] < 2:
        raise ValueError(f"obs has shape {obs.shape}: the time axis (the second) must hold at least 2 frames.")
    actions = torch.from_numpy(act).to(model.device)
    state = model.initial_state(len(obs))
    predictions = []
    for t in range(1, obs.shape[1]):
        before = slice(t - 1, t)
        is_first = torch.full((len(obs), 1), t == 1, device=model.device)
        state, _ = model.observe(state, to_frames(obs[:, before]).to(model.device), actions[:, before], is_first)
        prediction, _ = model.imagine(state, actions[:, t], keys, steps)
        predictions.append(_on_cpu(prediction))
    return _stack(predictions)


@torch.no_grad()
def dream(
    model: WorldModel,
    obs: NDArray[np.uint8],
    act: NDArray[Any],
    context_len: int,
    horizon: int,
    keys: Tensor,
    steps: int = 1,
    pose: NDArray[Any] | None = None,
) -> Dream:
    """Show the model some real frames, then let it dream on along the recorded actions, open loop.

    Args:
        model: The world model.
        obs: Real frames, uint8 (B, T, H, W, C); those from `context_len` on are not looked at.
        act: Actions that led to them, (B, T) or (B, T, A).
        context_len: Real frames that the model observes, the first frame of the episode among them.
        horizon: Frames to dream.
        keys: Noise keys, long (B,).
        steps: Denoising steps per frame.
        pose: Recorded poses (B, T, 3) to move by, as the paper's models do (section 5.1), rather than by the model's
            dead reckoning; unused by models without a view.

    Returns:
        `horizon` frames, the first of which is to be compared with `obs[:, context_len]`.

    Raises:
        ValueError: If `context_len` or `horizon` is below 1, or there are fewer actions than needed.
    """
    if context_len < 1 or horizon < 1 or context_len + horizon > act.shape[1]:
        raise ValueError(
            f"context_len={context_len} and horizon={horizon} need {context_len + horizon} actions per sequence, each "
            f"being at least 1; act has shape {act.shape}. Pass longer sequences, or ask for fewer frames."
        )
    actions = torch.from_numpy(act).to(model.device)
    is_first = torch.zeros(len(obs), context_len, dtype=torch.bool, device=model.device)
    is_first[:, 0] = True
    context = to_frames(obs[:, :context_len]).to(model.device)
    recorded = None
    if pose is not None and model.odometry is not None:
        recorded = since_first(pose[:, : context_len + horizon]).to(model.device)
    observed = None if recorded is None else recorded[:, :context_len]
    state, _ = model.observe(model.initial_state(len(obs)), context, actions[:, :context_len], is_first, observed)
    predictions = []
    poses = []
    for t in range(context_len, context_len + horizon):
        here = None if recorded is None else recorded[:, t]
        prediction, state = model.imagine(state, actions[:, t], keys, steps, here, donate=True)
        predictions.append(_on_cpu(prediction))
        if model.odometry is not None:
            poses.append(state.pose)
    dreamt = _stack(predictions)
    return replace(dreamt, pose=torch.stack(poses, 1).cpu().numpy()) if poses else dreamt


def since_first(pose: NDArray[Any]) -> Tensor:
    """Recorded poses (B, T, 3) as a model knows them that is shown the frames: from (0, 0, 0) at the first on."""
    first = torch.arange(pose.shape[1]).expand(len(pose), -1) == 0
    return relative_pose(recorded_pose(pose), first)


def _on_cpu(prediction: Prediction) -> tuple[NDArray[Any], ...]:
    # Frames are kept as bytes, a quarter of their size as floats.
    rew = prediction.rew.float().cpu().numpy()
    term_prob = prediction.term_prob.float().cpu().numpy()
    return to_uint8(prediction.obs), rew, term_prob


def _stack(predictions: list[tuple[NDArray[Any], ...]]) -> Dream:
    return Dream(*(np.stack(parts, axis=1) for parts in zip(*predictions, strict=True)))
