"""What the three faces of a simulator share: kinds of observations, and how an episode may begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import gymnasium as gym
import numpy as np
from torch import Tensor

from lssvwm_env.envs.arguments import as_flag
from lssvwm_env.envs.core import Context, SimulatorCore
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.utils.checks import of_type, shown

ObservationKind = Literal["frames", "features", "both"]
"""Frames uint8 (H, W, C); features float32 (F,), read off the frame and the memory around it; or a dict of both."""

RESET_OPTIONS: Final = ("allow_long_context", "context", "start")


def observation_space(simulator: Simulator, kind: ObservationKind) -> gym.spaces.Box | gym.spaces.Dict:
    """The space of one world's observations.

    Raises:
        ValueError: If there is no such kind.
    """
    if not of_type(ObservationKind, kind):
        raise ValueError(f"observation is {shown(kind)}; expected one of {', '.join(get_args(ObservationKind))}")
    width = simulator.config.model.feature_dim
    limit = width**0.5 * float(simulator.model.features.norm.weight.abs().max())  # their mean square is 1, then scaled
    features = gym.spaces.Box(-limit, limit, (width,), np.float32)
    if kind == "both":
        return gym.spaces.Dict({"features": features, "frames": simulator.observation_space})
    return features if kind == "features" else simulator.observation_space


def observation(kind: ObservationKind, frames: Tensor, feats: Tensor) -> Tensor | dict[str, Tensor]:
    """Observations of B worlds, of their frames (B, H, W, C) and features (B, F)."""
    both = {"features": feats, "frames": frames}
    return both if kind == "both" else both[kind]


def as_arrays(tensors: Tensor | dict[str, Tensor], worlds: int | slice = slice(None)) -> Any:
    """Observations of one world, or of several, as arrays for the user to keep."""
    if isinstance(tensors, dict):
        return {name: as_arrays(part, worlds) for name, part in tensors.items()}
    return tensors[worlds].cpu().numpy().copy()


def begin(
    core: SimulatorCore,
    ids: Sequence[int],
    rngs: Sequence[np.random.Generator],
    options: Sequence[dict[str, Any] | None],
) -> Tensor:
    """Begin episodes in the worlds `ids`, whose seeds are drawn from their own generators.

    Args:
        options: Per world, as `check_options` says.

    Returns:
        The last frame of each context, or the imagined one, uint8 (len(ids), H, W, C).

    Raises:
        ValueError: If the options are none of these, or a context does not fit; nothing has changed then.
    """
    check_options(core, options)
    states = [rng.bit_generator.state for rng in rngs]
    try:
        seeds = [int(rng.integers(2**63 - 1)) for rng in rngs]
        beginnings = [_beginning(core, o or {}) for o in options]
        contexts = [core.start(s) if b == "any" else b for s, b in zip(seeds, beginnings, strict=True)]
        return core.reset(ids, seeds, contexts, [_allowed(o) for o in options])
    except BaseException:
        for rng, state in zip(rngs, states, strict=True):
            rng.bit_generator.state = state
        raise


def check_options(core: SimulatorCore, options: Sequence[dict[str, Any] | None]) -> None:
    """Refuse options of `reset` that are none, or do not fit.

    Args:
        options: Per world: `"context"`: real frames and actions `(obs, act)` to go on from, uint8 (T, H, W, C) and (T,)
            or (T, A), where `act[t]` led to frame t and `act[0]` is ignored. `"start"`: the number of one of the
            simulator's starts, or "nothing": then the first frame is imagined, too. `"allow_long_context"`: True
            accepts more frames than the model was trained on in one piece.

    Raises:
        ValueError: Naming the option.
    """
    for each in options:
        if each is not None and not isinstance(each, dict):
            raise ValueError(f"options is {shown(each)}; expected a dict, or None")
    beginnings = [_beginning(core, each or {}) for each in options]
    contexts = [None if beginning == "any" else beginning for beginning in beginnings]
    core.check_contexts(contexts, [_allowed(each) for each in options], len(options))


def _allowed(options: dict[str, Any] | None) -> bool:
    return as_flag((options or {}).get("allow_long_context", False), "options['allow_long_context']")


def _beginning(core: SimulatorCore, options: dict[str, Any]) -> Context | Literal["any"] | None:
    """What a world is to begin from; None: nothing."""
    if unknown := [name for name in options if name not in RESET_OPTIONS]:
        hint = "; a reset_mask is one dict's, for all worlds" if "reset_mask" in unknown else ""
        raise ValueError(f"options has the unknown keys {unknown}; known are {', '.join(RESET_OPTIONS)}{hint}")
    context = options.get("context")
    start = options.get("start")
    starts = core.simulator.starts
    if context is not None and start is not None:
        raise ValueError("options has both a context and a start; give one of them")
    if context is not None:
        if not isinstance(context, tuple | list) or len(context) != 2:
            raise ValueError(f"options['context'] is a {type(context).__name__}; expected a pair (obs, act)")
        return context[0], context[1]
    if start is None or (isinstance(start, str) and start == "nothing"):
        return "any" if start is None else None
    if isinstance(start, bool) or not isinstance(start, int | np.integer) or not 0 <= start < len(starts):
        wanted = f"'nothing', or a number from 0 to {len(starts) - 1}"
        raise ValueError(f"options['start'] is {shown(start)}; expected {wanted}")
    return starts.obs[start], starts.act[start]
