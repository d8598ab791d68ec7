"""The training loss of a world model, one temporal block after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lssvwm_models.data.batch import Batch
from lssvwm_models.evaluation.state_monitor import scan_states
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.memory.state_size import random_channels
from lssvwm_models.model.config import WorldModelConfig
from lssvwm_models.model.heads import RewardHead, TerminationHead
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.objective import ObjectiveConfig, Streams, noisy_streams
from lssvwm_models.training.perceptual import perceptual_loss
from lssvwm_models.training.regularisers import earlier_frames, hidden_frames, state_moments
from lssvwm_models.utils.randomness import normal_like

Logs = dict[str, Tensor]


class Sequences(NamedTuple):
    """B whole sequences of T frames: as recorded, as latents (B, T, M, k), as streams with noise, how many `channels`
    (B, L) of the memory they may read, or None for all, and how many of the latest frames are `hidden` (B, T) from what
    is shown to them."""

    batch: Batch
    latents: Tensor
    streams: Streams
    channels: Tensor | None
    hidden: Tensor | None

    def block(self, frames: slice) -> Sequences:
        """Some of the frames of every sequence."""
        hidden = None if self.hidden is None else self.hidden[:, frames]
        return Sequences(self.batch[frames], self.latents[:, frames], self.streams[frames], self.channels, hidden)


class RecallTask(NamedTuple):
    """An earlier frame of every sequence to make again from memory: its number (B,), whether there is one (B,), and
    the noise (B, 1, 1, M, k) to begin with."""

    frame: Tensor
    exists: Tensor
    noise: Tensor


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


def drawn_channels(model: WorldModel, batch: int, objective: ObjectiveConfig, rng: torch.Generator) -> Tensor | None:
    """How many channels of its memory each sequence may read in each layer, (B, L); None: all of them."""
    if not objective.truncation:
        return None
    network = model.config.network
    return random_channels(batch, len(network.block_sizes), network.headdim, objective.truncation, rng)


def world_model_loss(
    model: WorldModel,
    batch: Batch,
    rng: torch.Generator,
    objective: ObjectiveConfig | None = None,
    checkpoint_blocks: bool = False,
) -> tuple[Tensor, Logs]:
    """The training loss, and its parts by name: the sum of `block_losses`."""
    losses, logs = zip(*block_losses(model, batch, rng, objective, checkpoint_blocks), strict=True)
    return torch.stack(losses).sum(), summed(logs)


def block_losses(
    model: WorldModel,
    batch: Batch,
    rng: torch.Generator,
    objective: ObjectiveConfig | None = None,
    checkpoint_blocks: bool = False,
) -> Iterator[tuple[Tensor, Logs]]:
    """The loss of every temporal block and its parts by name, as shares of the loss of the whole sequences.

    All noise is drawn from `rng`, which is on the model's device.

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
    return _block_losses(model, batch, rng, objective, checkpoint_blocks)


def _block_losses(
    model: WorldModel, batch: Batch, rng: torch.Generator, objective: ObjectiveConfig, checkpoint_blocks: bool
) -> Iterator[tuple[Tensor, Logs]]:
    latents = model.tokenizer.encode(batch.obs)
    streams = noisy_streams(latents, objective, rng)
    hidden = None if model.renderer is None else hidden_frames(batch.is_first, rng)
    sequences = Sequences(batch, latents, streams, drawn_channels(model, len(latents), objective, rng), hidden)
    weights = {
        "moments_loss": objective.state_moments,
        "recall_loss": objective.recall,
        "perceptual_loss": objective.perceptual,
    }
    state = model.initial_state(len(latents))
    T = latents.shape[1]
    for frames in model.temporal_blocks(T):
        # Drawn here and not inside the block: what is computed again must meet the same chances.
        recall = _recall_task(batch.is_first[:, : frames.stop], latents, rng) if objective.recall > 0 else None
        arguments = model, state, sequences, objective, frames, recall
        if checkpoint_blocks:
            state, logs = checkpoint(_block, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            state, logs = _block(*arguments)
        # Parts are means over the frames of a block, and the last block may be shorter than the others.
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
    """Losses of reward and termination, of features (..., F) of frames (...) that count `where` they do.

    Both are rare: `share` of each loss comes from the frames that have one of them, and the rest from the others. With
    half, that is the sum of the two means.
    """
    event = terminated | (rew != 0)
    losses = {
        "reward_loss": reward.loss(feats, rew),
        "termination_loss": termination.loss(feats, terminated),
    }
    quiet_weight = 2 * (1 - share)
    event_weight = 2 * share
    return {
        name: quiet_weight * _mean(loss, where & ~event) + event_weight * _mean(loss, where & event)
        for name, loss in losses.items()
    }


def _block(
    model: WorldModel,
    state: WorldModelState,
    sequences: Sequences,
    objective: ObjectiveConfig,
    frames: slice,
    recall: RecallTask | None,
) -> tuple[WorldModelState, Logs]:
    """The state after some frames of the sequences, and the parts of their loss."""
    batch, latents, streams, channels, hidden = sequences.block(frames)
    pose = batch.pose if model.odometry is not None else None
    dealt = streams.latents, streams.tau
    committed = model.commit(state, latents, batch.act, batch.is_first, pose, dealt, channels, hidden)
    state = committed.state
    denoised = model.network.denoised(committed.tokens[:, :, streams.target], committed.rendered)
    logs = {"frame_loss": _mean(frame_error(model, denoised, latents, objective), streams.weight)}
    told = streams.clean if batch.backwards is None else streams.clean & ~batch.backwards
    logs |= event_losses(model.reward, model.termination, committed.feats, batch.rew, batch.terminated, told)
    if objective.perceptual > 0:
        predicted = model.tokenizer.decode(denoised)
        true = model.tokenizer.decode(latents)  # not the recorded frame: what the tokenizer loses is not asked for
        logs["perceptual_loss"] = _mean(perceptual_loss(predicted, true), streams.weight)
    if objective.state_moments > 0 and (states := scan_states(model.network, state.ssm)):
        logs["moments_loss"] = state_moments(list(states.values()))
    if recall is not None:
        logs["recall_loss"] = _recall_loss(model, state, sequences, recall, objective)
    return state, logs


def _recall_task(is_first: Tensor, latents: Tensor, rng: torch.Generator) -> RecallTask:
    """Draw an earlier frame for each of the sequences whose frames (B, T) so far are these."""
    index, exists = earlier_frames(is_first, rng)
    rows = torch.arange(len(index), device=index.device)
    return RecallTask(index, exists, normal_like(latents[rows, index], rng)[:, None, None])


def _recall_loss(
    model: WorldModel, state: WorldModelState, sequences: Sequences, task: RecallTask, objective: ObjectiveConfig
) -> Tensor:
    """What the memory of now has forgotten of an earlier frame of the same episode.

    That frame is denoised from pure noise, as the first frame of an episode is: without an action, and with the window
    of the attention hidden. What it looked like then has to be read from the memory of now, at the places it showed.
    """
    batch, latents, streams, channels, _ = sequences
    index = task.frame
    rows = torch.arange(len(index), device=index.device)
    frame = latents[rows, index].unsqueeze(1)  # (B, 1, M, k)
    counts = task.exists & streams.clean[rows, index]  # a frame that was written as noise cannot be remembered
    assert batch.pose is not None
    lead = len(index), 1
    frames = model.network.context(
        model.places(batch.pose[rows, index].unsqueeze(1), lead),
        None,
        torch.ones(lead, dtype=torch.bool, device=frame.device),
        state.age,
        writes=False,
    )
    if model.renderer is not None:  # keyframes do not forget: nothing of them is shown
        frames = replace(frames, rendered=torch.cat([torch.zeros_like(frame), torch.ones_like(frame[..., :1])], -1))
    output = model.network(
        task.noise,
        torch.zeros(*lead, 1, device=frame.device),
        batch.act[rows, index].unsqueeze(1),
        frames,
        state.ssm,
        state.kv,
        channels,
    )
    return _mean(frame_error(model, model.network.denoised(output.tokens[:, :, 0]), frame, objective)[:, 0], counts)


def frame_error(model: WorldModel, denoised: Tensor, latents: Tensor, objective: ObjectiveConfig) -> Tensor:
    """Squared errors (B, T) of frames (B, T, M, k)."""
    power = objective.variance_power
    if power is None:
        power = 0.75 if isinstance(model.config.view, FirstPersonView) else 0.25
    return ((denoised - latents).square() * model.tokenizer.importance(power)).mean((2, 3))


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    weight = weight.float()
    return (values * weight).sum() / weight.sum().clamp(min=1)
