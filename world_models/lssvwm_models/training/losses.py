"""The training loss of a world model, one temporal block after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lssvwm_models.data.batch import Batch
from lssvwm_models.evaluation.state_monitor import scan_states
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.memory.state_size import random_channels
from lssvwm_models.model.config import WorldModelConfig
from lssvwm_models.model.heads import RewardHead, TerminationHead
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.objective import ObjectiveConfig, Streams, noisy_streams
from lssvwm_models.training.perceptual import perceptual_loss
from lssvwm_models.training.regularisers import earlier_frames, state_moments

Logs = dict[str, Tensor]


def check_objective(config: WorldModelConfig, objective: ObjectiveConfig) -> None:
    """Refuse an objective that asks for what a model does not have."""
    if objective.recall > 0 and config.view is None:
        raise ValueError(
            f"recall={objective.recall} asks the memory what was seen at the places of an earlier frame, but with "
            "view=None all frames show the same places; set recall=0, or give the model a view and recorded poses"
        )
    if objective.truncation > 0 and config.network.memory != "scan":
        raise ValueError(
            f"truncation={objective.truncation} puts the channels of scans in order, but this network has none, with "
            f"memory={config.network.memory!r}; set truncation=0"
        )


def drawn_channels(model: WorldModel, batch: int, objective: ObjectiveConfig) -> Tensor | None:
    """How many channels of its memory each sequence may read in each layer, (B, L); None: all of them."""
    if not objective.truncation:
        return None
    network = model.config.network
    drawn = random_channels(batch, len(network.block_sizes), network.headdim, objective.truncation)
    return drawn.to(model.device)


def world_model_loss(
    model: WorldModel, batch: Batch, objective: ObjectiveConfig | None = None, checkpoint_blocks: bool = False
) -> tuple[Tensor, Logs]:
    """The training loss, and its parts by name: the sum of `block_losses`."""
    losses, logs = zip(*block_losses(model, batch, objective, checkpoint_blocks), strict=True)
    return torch.stack(losses).sum(), summed(logs)


def block_losses(
    model: WorldModel, batch: Batch, objective: ObjectiveConfig | None = None, checkpoint_blocks: bool = False
) -> Iterator[tuple[Tensor, Logs]]:
    """The loss of every temporal block and its parts by name, as shares of the loss of the whole sequences.

    Sequences longer than `block_frames` carry their memory from block to block. With `objective.cut_gradients` no two
    blocks share a graph: whoever calls `backward` on each before asking for the next needs the memory of one block,
    however long the sequences are. With `checkpoint_blocks` the activations inside a block are computed again in the
    backward pass, and only the states between blocks are kept.
    """
    objective = objective or ObjectiveConfig()
    check_objective(model.config, objective)
    if model.odometry is not None and batch.pose is None:
        raise ValueError("batch.pose is None, but this model reckons poses; collect with poses or set view=None")
    model.check(batch.obs.shape[0], batch.obs, batch.act, batch.is_first)
    return _block_losses(model, batch, objective, checkpoint_blocks)


def _block_losses(
    model: WorldModel, batch: Batch, objective: ObjectiveConfig, checkpoint_blocks: bool
) -> Iterator[tuple[Tensor, Logs]]:
    latents = model.tokenizer.encode(batch.obs)
    streams, channels = noisy_streams(latents, objective), drawn_channels(model, len(latents), objective)
    weights = {
        "moments_loss": objective.state_moments,
        "recall_loss": objective.recall,
        "perceptual_loss": objective.perceptual,
    }
    state, T = model.initial_state(len(latents)), latents.shape[1]
    for frames in model.temporal_blocks(T):
        arguments = model, state, batch, latents, streams, channels, objective, frames
        if checkpoint_blocks:
            state, logs = checkpoint(_block, *arguments, use_reentrant=False, preserve_rng_state=True)
        else:
            state, logs = _block(*arguments)
        logs = {k: v * (len(range(T)[frames]) / T) for k, v in logs.items()}
        loss = torch.stack([v * weights.get(k, 1.0) for k, v in logs.items()]).sum()
        if objective.cut_gradients:
            state = state.detach()
        yield loss, {k: v.detach() for k, v in logs.items()} | {"loss": loss.detach()}


def summed(logs: Sequence[Logs]) -> Logs:
    """The parts of the loss of whole sequences, from those of their blocks."""
    return {k: torch.stack([log[k] for log in logs]).sum() for k in logs[0]}


def event_losses(
    reward: RewardHead,
    termination: TerminationHead,
    feats: Tensor,
    rew: Tensor,
    terminated: Tensor,
    where: Tensor,
    share: float = 0.5,
) -> Logs:
    """Losses of reward and termination. Both are rare: `share` comes from the frames where there is one of them."""
    event = terminated | (rew != 0)
    quiet, eventful = where & ~event, where & event
    losses = {
        "reward_loss": reward.loss(feats, rew),
        "termination_loss": termination.loss(feats, terminated),
    }
    weights = 2 * (1 - share), 2 * share
    return {n: weights[0] * _mean(loss, quiet) + weights[1] * _mean(loss, eventful) for n, loss in losses.items()}


def _block(
    model: WorldModel,
    state: WorldModelState,
    batch: Batch,
    latents: Tensor,
    streams: Streams,
    channels: Tensor | None,
    objective: ObjectiveConfig,
    frames: slice,
) -> tuple[WorldModelState, Logs]:
    """The state after some frames of (B, T), and the parts of their loss."""
    now, shown = batch[frames], streams[frames]
    pose = now.pose if model.odometry is not None else None
    committed = model.commit(state, latents[:, frames], now.act, now.is_first, pose, shown.latents, shown.tau, channels)
    state = committed.state
    denoised = model.network.denoised(committed.tokens[:, :, shown.target])
    logs = {"frame_loss": _mean(_error(model, denoised, latents[:, frames]), shown.weight)}
    logs |= event_losses(model.reward, model.termination, committed.feats, now.rew, now.terminated, shown.clean)
    if objective.perceptual > 0:
        predicted, true = (model.tokenizer.decode(frame) for frame in (denoised, latents[:, frames]))
        logs["perceptual_loss"] = _mean(perceptual_loss(predicted, true), shown.weight)
    if objective.state_moments > 0 and (states := scan_states(model.network, state.ssm)):
        logs["moments_loss"] = state_moments(list(states.values()))
    if objective.recall > 0:
        so_far = slice(frames.stop)
        logs["recall_loss"] = _recall(model, state, batch[so_far], latents[:, so_far], streams.clean, channels)
    return state, logs


def _recall(
    model: WorldModel, state: WorldModelState, batch: Batch, latents: Tensor, clean: Tensor, channels: Tensor | None
) -> Tensor:
    """What the memory after the last of frames (B, T) has forgotten of a random one before, of the same episode.

    That frame is denoised from pure noise, as the first frame of an episode is: without an action, and with the window
    of the attention hidden. What it looked like then has to be read from the memory of now, at the places it showed.
    """
    index, there_is_one = earlier_frames(batch.is_first)
    rows = torch.arange(len(index), device=index.device)
    frame, counts = latents[rows, index].unsqueeze(1), there_is_one & clean[rows, index]
    assert batch.pose is not None
    lead = len(index), 1
    output = model.network(
        torch.randn_like(frame).unsqueeze(2),
        torch.zeros(*lead, 1, device=frame.device),
        batch.act[rows, index].unsqueeze(1),
        model.network.context(
            model.places(batch.pose[rows, index].unsqueeze(1), lead),
            None,
            torch.ones(lead, dtype=torch.bool, device=frame.device),
            state.age,
            writes=False,
        ),
        state.ssm,
        state.kv,
        channels,
    )
    return _mean(_error(model, model.network.denoised(output.tokens[:, :, 0]), frame)[:, 0], counts)


def _error(model: WorldModel, denoised: Tensor, latents: Tensor) -> Tensor:
    """Squared errors (B, T) of frames (B, T, M, k)."""
    return ((denoised - latents).square() * model.tokenizer.importance()).mean((2, 3))


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    weight = weight.float()
    return (values * weight).sum() / weight.sum().clamp(min=1)
