"""Linear probes: what a memory can be asked about places that are now out of sight.

A world model shows what it remembers of every square of 2x2 cells around the agent. One linear classifier, shared by
all squares, tells from it whether an object lies in the square, of which kind it is, and of which colour. It is fitted
on episodes of the train split and tested on others, on squares that were seen before and are not now in view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from minigrid.core.constants import OBJECT_TO_IDX
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_env.evaluation.memory.recordings import Recording, SuiteSettings
from lssvwm_env.real import world_cells
from lssvwm_env.real.minigrid import AGENT_CELL
from lssvwm_models.data.batch import Batch
from lssvwm_models.data.segments import relative_pose, to_frames
from lssvwm_models.evaluation.tally import Tally
from lssvwm_models.execution.precision import autocast
from lssvwm_models.memory.geometry import surrounding_places
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.objective import ObjectiveConfig
from lssvwm_models.training.parts.heads import head_inputs

_KINDS: Final = [OBJECT_TO_IDX[name] for name in ("key", "ball", "box")]
_EVERY: Final = 16  # frames between the questions of one episode: close ones have nearly the same answers
_NOTHING: Final = -1
_EMPTY: Final = (OBJECT_TO_IDX["empty"], 0)


@dataclass(frozen=True)
class Answers:
    """What lies in each square around the agent, all (B, Q, E): Q questions per episode, E squares.

    Attributes:
        valid: Whether the question makes sense: all four cells were seen before, and none is in view.
        objects: How many objects lie there.
        kind, colour: Of the object, where there is one and no other; else -1.
    """

    valid: NDArray[np.bool_]
    objects: NDArray[np.int64]
    kind: NDArray[np.int64]
    colour: NDArray[np.int64]


def question_frames(frames: int) -> NDArray[np.int64]:
    """The frames of an episode of so many at which questions are asked."""
    return np.arange(min(_EVERY, frames) - 1, frames, _EVERY)


def answers(recording: Recording, at: NDArray[np.int64], map_size: int) -> Answers:
    """The answers at some frames of recorded episodes, from what was last seen of each cell.

    Args:
        recording: B episodes.
        at: Q frames, ascending.
        map_size: Cells along each side of the map around the agent, as for `surrounding_places`; E follows from it.
    """
    B, T = recording.act.shape
    codes = recording.tiles[..., :2].astype(np.int64)
    codes[..., *AGENT_CELL, :] = _EMPTY  # what is seen there is what the agent carries
    pose = torch.from_numpy(recording.pose[:, at]).long()
    centres = surrounding_places(pose, map_size).numpy()  # (B, Q, E, 2), between cells
    corners = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    squares = np.floor(centres).astype(np.int64)[..., None, :] + corners  # (B, Q, E, 4, 2)
    seen_at = world_cells(recording.pose)  # (B, T, 7, 7, 2)
    low = np.minimum(seen_at.min((0, 1, 2, 3)), squares.min((0, 1, 2, 3)))
    width, height = np.maximum(seen_at.max((0, 1, 2, 3)), squares.max((0, 1, 2, 3))) - low + 1
    world = np.full((B, width, height, 2), _NOTHING)  # the last code seen of each cell
    latest = np.full((B, width, height), _NOTHING)  # and when
    row = np.arange(B)[:, None]
    found = []
    out_of_view = []  # seen before, and not now
    for t in range(T):
        x, y = np.moveaxis(seen_at[:, t].reshape(B, -1, 2) - low, -1, 0)
        visible = recording.visible[:, t].reshape(B, -1)
        fresh = np.broadcast_to(row, x.shape)[visible], x[visible], y[visible]
        before = latest.copy() if t in at else latest
        world[fresh] = codes[:, t].reshape(B, -1, 2)[visible]
        latest[fresh] = t
        if t in at:
            x, y = np.moveaxis(squares[:, int(np.searchsorted(at, t))] - low, -1, 0)  # (B, E, 4)
            found.append(world[row[..., None], x, y])
            out_of_view.append((before[row[..., None], x, y] != _NOTHING) & (latest[row[..., None], x, y] != t))
    code = np.stack(found, 1)  # (B, Q, E, 4, 2)
    objects = np.isin(code[..., 0], _KINDS)
    count = objects.sum(-1)
    which = np.take_along_axis(code, objects.argmax(-1)[..., None, None], -2)[..., 0, :]
    single = count == 1
    kind = np.where(single, np.searchsorted(_KINDS, which[..., 0]), _NOTHING)
    valid: NDArray[np.bool_] = np.all(np.stack(out_of_view, 1), axis=-1)
    return Answers(valid, count, kind, np.where(single, which[..., 1], _NOTHING))


@torch.no_grad()
def memories(model: WorldModel, recording: Recording, at: NDArray[np.int64], settings: SuiteSettings) -> Tensor | None:
    """What the model remembers of the squares around, (B, Q, E, D); None if it does not show them."""
    found = []
    for start in range(0, len(recording), settings.batch):
        real = recording[start : start + settings.batch]
        is_first = torch.zeros(real.act.shape, dtype=torch.bool)
        is_first[:, 0] = True
        batch = Batch(
            obs=to_frames(real.frames),
            act=torch.from_numpy(real.act),
            rew=torch.zeros(real.act.shape),
            terminated=torch.zeros_like(is_first),
            is_first=is_first,
            pose=relative_pose(torch.from_numpy(real.pose).long(), is_first),
        )
        noiseless = ObjectiveConfig(context_noise=0)
        with autocast(model.device, settings.bf16):
            _, around = head_inputs(model, batch.to(model.device), noiseless, torch.Generator(model.device))
        if around is None:
            return None
        # Normalised together as `FeatureHead` does, so that what was never seen stays near zero.
        chosen = around[:, torch.from_numpy(at).to(around.device)]
        found.append(F.rms_norm(chosen.float(), around.shape[-2:], eps=1e-5).cpu())
    return torch.cat(found)


def run_probes(model: WorldModel, train: Recording, test: Recording, settings: SuiteSettings) -> dict[str, Any] | None:
    """Fit the probes and test them.

    Returns:
        None if the model does not show its surroundings; else by question, `object` (is there one?), `kind` and
        `colour` (of the only one): `accuracy`, `chance` (always the commonest answer) and `balanced`, the mean of the
        accuracies of all classes by a probe for which they weigh the same. Each is an estimate
        `{"value", "low", "high", "n"}` over episodes, `balanced` without an interval.
    """
    frames = min(settings.probe_frames, train.act.shape[1], test.act.shape[1])
    at = question_frames(frames)
    train = train[:, :frames]
    test = test[:, :frames]
    train_x = memories(model, train, at, settings)
    test_x = memories(model, test, at, settings)
    if train_x is None or test_x is None:
        return None
    map_size = 2 * round(train_x.shape[2] ** 0.5)
    scores = score_probes(train_x, answers(train, at, map_size), test_x, answers(test, at, map_size))
    return {"frames": frames} | scores


def score_probes(train_x: Tensor, train: Answers, test_x: Tensor, test: Answers) -> dict[str, Any]:
    """Fit and test one linear classifier per question on memories (B, Q, E, D); see `run_probes`."""
    report: dict[str, Any] = {}
    for name in ("object", "kind", "colour"):
        x, y, _ = _valid(train_x, train, name)
        test_inputs, truth, where = _valid(test_x, test, name)
        classes = int(max(y.max(initial=0), truth.max(initial=0))) + 1
        if len(np.unique(y)) < 2 or not len(truth):
            report[name] = None
            continue
        plain = fit(x, torch.from_numpy(y), classes, balanced=False)
        even = fit(x, torch.from_numpy(y), classes, balanced=True)
        right = np.zeros(where.shape, np.bool_)
        right[where] = plain(test_inputs).argmax(-1).numpy() == truth
        common = np.zeros(where.shape, np.bool_)
        common[where] = truth == np.bincount(y).argmax()
        guess = even(test_inputs).argmax(-1).numpy()
        recall = [float((guess[truth == c] == c).mean()) for c in np.unique(truth)]
        report[name] = {
            "accuracy": Tally.of(right, where).estimate(),
            "chance": Tally.of(common, where).estimate(),
            "balanced": {"value": float(np.mean(recall)), "low": None, "high": None, "n": len(truth)},
            "balanced_chance": 1 / len(recall),
        }
    return report


def _valid(x: Tensor, facts: Answers, name: str) -> tuple[Tensor, NDArray[np.int64], NDArray[np.bool_]]:
    """Memories (N, D) and answers (N,) of the squares that a question is asked of, and which these are."""
    answer = (facts.objects > 0).astype(np.int64) if name == "object" else getattr(facts, name)
    where = facts.valid & (answer != _NOTHING)
    return x[torch.from_numpy(where)], answer[where], where


def fit(x: Tensor, y: Tensor, classes: int, balanced: bool, decay: float = 1e-3) -> Any:
    """Logistic regression by L-BFGS on standardised inputs (N, D); returns a function of inputs to logits.

    Args:
        balanced: Whether all classes weigh the same, however rare.
        decay: Of the squared weights.
    """
    mean = x.mean(0)
    scale = x.std(0).clamp(min=1e-6)
    inputs = (x - mean) / scale
    count = torch.bincount(y, minlength=classes).clamp(min=1)
    importance = len(y) / (classes * count.float()) if balanced else torch.ones(classes)
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        error = F.cross_entropy(inputs @ weight.T + bias, y, importance) + decay * weight.square().sum()
        error.backward()
        return error

    optimiser.step(loss)
    fitted_weight = weight.detach()
    fitted_bias = bias.detach()
    return lambda new: (new - mean) / scale @ fitted_weight.T + fitted_bias
