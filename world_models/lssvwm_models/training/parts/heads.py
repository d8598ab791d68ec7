"""Training the heads of rewards and ends by themselves, on what a finished network makes of events.

Whether an end pays can depend on two things at once. From the few ends in a batch of the main training, in front of a
network that still moves, heads learn the average of all ends, and stay there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from lssvwm_models.data.batch import Batch
from lssvwm_models.execution.precision import autocast
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.foresight import Following, Foresight
from lssvwm_models.training.losses import drawn_channels, event_losses
from lssvwm_models.training.objective import ObjectiveConfig, context_noised
from lssvwm_models.utils.progress import progress
from lssvwm_models.utils.randomness import modules_drawn_from

HEADS: Final = ("features", "reward", "termination")
BATCH_SIZE: Final = 64  # frames
EVENTLESS: Final = 8  # frames drawn from every sequence, besides its events
SETTLED: Final = 0.75  # of the steps, after which events count as rarely as they occur


class HeadExamples(NamedTuple):
    """K frames with an event or without: tokens (K, n, d), surroundings (K, E, d_inner) where the model has some, the
    rewards and ends (K,) that came with the frames, and what followed."""

    tokens: Tensor
    around: Tensor | None
    rew: Tensor
    terminated: Tensor
    following: Following


@torch.no_grad()
def head_inputs(
    model: WorldModel, batch: Batch, objective: ObjectiveConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """What heads see of frames with context noise: tokens (B, T, n, d), and surroundings (B, T, E, d_inner)."""
    latents = context_noised(model.tokenizer.encode(batch.obs), objective, rng)
    channels = drawn_channels(model, len(latents), objective, rng)
    state = model.initial_state(len(latents))
    tokens = []
    around = []
    for frames in model.temporal_blocks(latents.shape[1]):
        block = batch[frames]
        pose = block.pose if model.odometry is not None else None
        committed = model.commit(state, latents[:, frames], block.act, block.is_first, pose, channels=channels)
        state = committed.state
        tokens.append(committed.tokens[:, :, 0])
        if committed.around is not None:
            around.append(committed.around)
    return torch.cat(tokens, 1), torch.cat(around, 1) if around else None


def head_examples(
    model: WorldModel, draw: Callable[[int], tuple[Batch, torch.Generator]], config: TrainingConfig
) -> HeadExamples:
    """Collect what a network makes of the frames of many sequences.

    Events are taken if they have at least half a sequence before them. The others, several of each sequence, are
    anywhere: policies find every place that a head mistakes for one that pays.

    Args:
        model: The network, which stays as it is.
        draw: Gives the sequences with a number, and the stream that their noise is drawn from.
        config: How many sequences, and with which noise.
    """
    length = max(config.lengths)
    count = config.batch_size(length)
    batches = -(-config.head_sequences // count)
    examples: list[HeadExamples] = []
    with progress("heads", batches) as report:
        for number in range(batches):
            batch, rng = draw(number)
            with autocast(config.device, config.bf16):
                tokens, around = head_inputs(model, batch, config.objective, rng)
            chosen = batch.terminated | (batch.rew != 0)
            chosen[:, : length // 2] = False
            rows = torch.arange(count, device=chosen.device)[:, None]
            chosen[rows, torch.randint(length, (count, EVENTLESS), generator=rng, device=rng.device)] = True
            row, frame = chosen.nonzero(as_tuple=True)
            examples.append(
                HeadExamples(
                    tokens[chosen],
                    None if around is None else around[chosen],
                    batch.rew[chosen],
                    batch.terminated[chosen],
                    Following.of(batch, row, frame),
                )
            )
            report(number + 1, "")
    surroundings = [example.around for example in examples if example.around is not None]
    return HeadExamples(
        torch.cat([example.tokens for example in examples]),
        torch.cat(surroundings) if surroundings else None,
        torch.cat([example.rew for example in examples]),
        torch.cat([example.terminated for example in examples]),
        Following.cat([example.following for example in examples]),
    )


def train_heads(
    model: WorldModel, examples: HeadExamples, event_rate: float, config: TrainingConfig
) -> dict[str, float]:
    """Train the heads of a model afresh, in place; the features learn to foresee, too: see `Foresight`.

    Every batch is half events, half other frames. At first they count so, that events are learned at all, and in the
    end as rare as they are: heads that learned that half of all frames pay promise a little everywhere, and a policy
    then lives on that instead of coming to an end.

    Args:
        model: Its network stays as it is.
        examples: What the network makes of recorded frames.
        event_rate: Share of the recorded frames that have an event.
        config: How long, how fast, and with which seed.

    Returns:
        The last losses, by name.
    """
    event = examples.terminated | (examples.rew != 0)
    groups = [group for group in (event.nonzero().flatten(), (~event).nonzero().flatten()) if len(group)]
    rng = torch.Generator().manual_seed(config.seed)
    with modules_drawn_from(rng):
        fresh = WorldModel(model.config)
        foresight = Foresight(model.config.action, model.config.feature_dim)
    parameters: list[nn.Parameter] = list(foresight.to(config.device).parameters())
    for name in HEADS:
        head = getattr(model, name)
        head.load_state_dict(getattr(fresh, name).state_dict())
        parameters += [parameter.requires_grad_() for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    for step in range(config.head_steps):
        optimizer.param_groups[0]["lr"] = config.lr * min(1.0, 2 * (1 - step / config.head_steps))
        drawn = [group[torch.randint(len(group), (BATCH_SIZE // len(groups),), generator=rng)] for group in groups]
        i = torch.cat(drawn)
        around = None if examples.around is None else examples.around[i].float()
        feats = model.features(examples.tokens[i].float(), around)
        share = event_share(step, config.head_steps, event_rate)
        now = head_loss(model, feats, examples.rew[i], examples.terminated[i], share)
        later = foresight.loss(feats, examples.following.at(i))
        optimizer.zero_grad()
        (now + later).backward()
        optimizer.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
    return {"head_loss": float(now.detach()), "foresight_loss": float(later.detach())}


def event_share(step: int, steps: int, event_rate: float) -> float:
    """The share of the loss that comes from events at a step: from half, by a constant factor per step, down to their
    share of all frames."""
    return 0.5 * (2 * event_rate) ** min(1.0, step / (SETTLED * steps))


def head_loss(model: WorldModel, feats: Tensor, rew: Tensor, terminated: Tensor, share: float) -> Tensor:
    """The part of the loss that is about rewards and ends, for the features (..., F) of frames; `share` of it comes
    from the frames with one of them."""
    everywhere = torch.ones_like(terminated)
    losses = event_losses(model.reward, model.termination, feats, rew, terminated, everywhere, share)
    return torch.stack(list(losses.values())).sum()
