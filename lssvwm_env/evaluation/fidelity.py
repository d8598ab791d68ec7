"""How true is a world model to the world it was trained on? On MiniGrid this is counted tile by tile.

Every number has the count `n` it rests on and a 95 % interval over sequences. Two questions are asked. *Next frame*:
what comes after these real frames? *Dream*: after the context, `horizon` frames on the model's own memory, along the
recorded actions. A control that repeats the last real frame is judged in the same way.

For each cell in view we know when the place in the world it shows was last seen. So remembering (cells seen before) is
told apart from guessing (cells never seen, where the share of the commonest tile is what guessing gives).

In first person there are no cells to count: frames are compared as pictures, apart by whether the eye was there before.
Dreams are then also moved by the recorded poses, which tells what was forgotten from what was looked for elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from lssvwm_env.evaluation.cells import Grids, cell_report, replay
from lssvwm_env.evaluation.revisits import AGES, NEVER, Revisits, revisits, within
from lssvwm_env.real.minigrid import VIEW, TilePalette, tile_palette, world_cells
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.data.openings import Openings, episode_lengths, openings
from lssvwm_models.data.segments import to_frames
from lssvwm_models.evaluation.dreams import Dream, dream, next_frames, since_first
from lssvwm_models.evaluation.tally import Tally, estimates, precision_recall_f1
from lssvwm_models.evaluation.video_encoder import NAME
from lssvwm_models.evaluation.video_metrics import SSIM_WINDOW, perceptual, psnr, ssim
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.geometry import ego_motion
from lssvwm_models.model.odometry import Odometry
from lssvwm_models.model.world_model import WorldModel

RECENT: Final = 8  # frames; what "seen recently" means


def last_seen(pose: NDArray[Any], visible: NDArray[np.bool_], until: int | None = None) -> NDArray[np.int64]:
    """Tell how long ago each place in view was seen before.

    A place that has changed since still counts as seen, for the actions tell what changed.

    Args:
        pose: x, y and heading of the agent, one episode per sequence, (B, T, 3).
        visible: Whether the agent sees a cell of its view, or the cell is hidden from it, bool (B, T, 7, 7).
        until: Only frames before this one count as seen: the length of the context, where later frames are dreamt.

    Returns:
        Frames since the place under each cell was last visible, at least 1, or -1 if it never was, (B, T, 7, 7).

    Raises:
        ValueError: If the shapes do not fit.
    """
    if pose.shape[-1:] != (3,) or visible.shape != (*pose.shape[:2], VIEW, VIEW):
        raise ValueError(f"pose {pose.shape} and visible {visible.shape} do not fit (B, T, 3) and (B, T, 7, 7).")
    cells = world_cells(pose)  # (B, T, 7, 7, 2)
    cells -= cells.min((1, 2, 3), keepdims=True)
    width, height = cells.max((0, 1, 2, 3)) + 1
    place = cells[..., 0] * height + cells[..., 1]
    latest = np.full((len(pose), width * height), NEVER)  # frame at which each place of each world was last visible
    age = np.empty(visible.shape, np.int64)
    world = np.arange(len(pose))[:, None, None]
    for t in range(pose.shape[1]):
        before = latest[world, place[:, t]]
        age[:, t] = np.where(before == NEVER, NEVER, t - before)
        if until is None or t < until:
            latest[world, place[:, t]] = np.where(visible[:, t], t, before)
    return age


def tile_report(
    frames: NDArray[np.uint8], tiles: NDArray[np.uint8], age: NDArray[np.int64], valid: NDArray[np.bool_]
) -> dict[str, Tally]:
    """Count the right tiles of imagined MiniGrid frames.

    Args:
        frames: Imagined frames, uint8 (B, T, 64, 64, 3).
        tiles: Codes of the real ones, uint8 (B, T, 7, 7, 3).
        age: As `last_seen` gives it, (B, T, 7, 7).
        valid: Which frames count, bool (B, T).

    Returns:
        Tallies by name. `tiles`: share of right tiles. `objects`: share of real objects that are right, of their kind,
        colour and state at their place. `objects_precision`: share of imagined objects that are right. Each of them
        for all cells, and as `..._seen` and `..._recent` for cells whose place was seen before, or within the last 8
        frames (some of which are now hidden, and right if imagined so), and as `..._age_9_32` and so on, one of `AGES`,
        for cells last seen as many frames ago. `tiles_new`: cells in sight whose place was never seen;
        `tiles_new_chance`: the same, had the commonest tile among them been guessed; `objects_new` and
        `objects_new_chance`: likewise for the objects among them. `tiles_illegal`: share of cells that show no tile
        clearly, see `legal_distance`.
    """
    palette = tile_palette()
    truth = palette.encode(tiles)
    guess, distance = palette.decode(frames)
    right = guess == truth
    counted = np.broadcast_to(valid[..., None, None], right.shape)
    tallies = {"tiles_illegal": Tally.of(distance > legal_distance()[guess], counted)}
    spans = {f"_age_{span}": within(age, span) for span in AGES}
    for suffix, seen in (
        {"": True, "_seen": age != NEVER, "_recent": (age != NEVER) & (age <= RECENT)} | spans
    ).items():
        chosen = counted & seen
        tallies[f"tiles{suffix}"] = Tally.of(right, chosen)
        tallies[f"objects{suffix}"] = Tally.of(right, chosen & palette.is_object(truth))
        tallies[f"objects_precision{suffix}"] = Tally.of(right, chosen & palette.is_object(guess))
    new = counted & (age == NEVER) & (truth != TilePalette.UNSEEN)
    for name, chosen in {"tiles_new": new, "objects_new": new & palette.is_object(truth)}.items():
        tallies[name] = Tally.of(right, chosen)
        tallies[f"{name}_chance"] = chance(truth, chosen)
    return tallies


def chance(truth: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Tally:
    """How often the commonest of the chosen ones is right; both (B, T, ...)."""
    return Tally.of(truth == np.bincount(truth[chosen], minlength=1).argmax(), chosen)


@cache
def legal_distance() -> NDArray[np.float64]:
    """How far a picture may be from its nearest tile and still be that tile and no other, per tile id.

    It is half of the distance from this tile to the one most like it: up to there, no other tile can be nearer.
    """
    pictures = tile_palette().images.reshape(len(tile_palette()), -1).astype(np.float64)
    apart = np.linalg.norm(pictures[:, None] - pictures, axis=-1)
    np.fill_diagonal(apart, np.inf)
    nearest: NDArray[np.float64] = apart.min(1)
    return nearest / 2


@dataclass(frozen=True)
class Fidelity:
    """A measurement: the real frames it was made on, what the model dreamt from `context` on, and the numbers.

    The dream went where the model thought that it was.
    """

    real: Openings
    context: int
    dreamt: Dream
    report: dict[str, Any]


def measure(
    model: WorldModel,
    dataset: EpisodeDataset,
    *,
    sequences: int = 32,
    context: int = 64,
    horizon: int = 64,
    steps: int = 1,
    seed: int = 0,
    env: gym.Env[Any, Any] | None = None,
) -> Fidelity:
    """Compare a world model with recorded episodes, both frame by frame and in open-loop dreams.

    Args:
        model: The world model, in eval mode.
        dataset: Episodes that it was not trained on.
        sequences: Episodes to judge, or all that are longer than the context if there are fewer.
        context: Real frames before a dream; a third of the median episode where episodes are shorter than that.
        horizon: Frames to dream; those after the end of an episode do not count.
        steps: Denoising steps per frame.
        seed: Decides which episodes, and the model's noise.
        env: The real environment, if it is MiniGrid by raycaster: then dreams and copies of the nearest pose also have
            the names of `cells.cell_report`. That takes some 0.1 seconds per frame.

    Returns:
        With a report ready for JSON: the settings as used; `next_frame`, `dream` (the mean over its frames),
        `dream_last_frame` (of each sequence), `copy_next_frame` and `copy_dream` (the control that repeats the last
        real frame), each with an estimate `{"value", "low", "high", "n"}` per name: `psnr` in dB, `reward_...` and
        `termination_...` `precision`, `recall` and `f1`; of models with a view `motions`, `motions_unusual` and `way`;
        and on MiniGrid the names of `tile_report`; `dream_per_step`, the value at each dreamt frame per name; and
        `notes` in words. Of frames in first person with poses also those of `picture_tallies`, of dreamt frames by
        their poses (see `revisits`), and two more controls: `nearest_dream`, which copies the frame of the context with
        the nearest pose, and `mean_dream`, the mean of the context. If the model sees in first person, `dream` has the
        names of `pose_errors`; `given_dream` and `given_dream_per_step` are of the same dream moved by the recorded
        poses.

    Raises:
        ValueError: If no episode is longer than the context, or a model in first person knows another kind of poses.
    """
    context = max(1, min(context, int(np.median(episode_lengths(dataset))) // 3))
    real = openings(dataset, sequences, context + horizon, longer_than=context, seed=seed)
    camera = dataset.spec.camera
    seen = None if real.pose is None or camera is None else revisits(real.pose, context, camera.cell)
    on_grid = replace(real, pose=None) if dataset.pose_kind == "plane" else real  # where there are cells and motions
    keys = fold(torch.arange(len(real), device=model.device), seed)
    following = next_frames(model, real.obs, real.act, keys, steps)
    dreamt = dream(model, real.obs, real.act, context, horizon, keys, steps)

    rewards = np.abs(dataset.rew[dataset.rew != 0])
    threshold = float(rewards.min()) / 2 if len(rewards) else 0.5
    next_age: NDArray[np.int64] | None = None
    dream_age: NDArray[np.int64] | None = None
    if on_grid.tiles is not None and on_grid.pose is not None:
        visible = on_grid.tiles[..., 0] != 0  # MiniGrid's code 0 is "unseen"
        next_age = last_seen(on_grid.pose, visible)
        dream_age = last_seen(on_grid.pose, visible, until=context)
    before = np.concatenate([real.obs[:, context - 1 : context], dreamt.obs[:, :-1]], 1)
    one_ahead = _scores(real, 1, following, next_age, threshold)
    one_ahead |= _odometry_scores(model, on_grid, 1, real.obs[:, :-1])
    open_loop = _scores(real, context, dreamt, dream_age, threshold, seen)
    open_loop |= _odometry_scores(model, on_grid, context, before)
    grids = None if env is None else replay(env, real)
    if grids is not None:
        open_loop |= cell_report(grids, dreamt.obs, context)
    given: dict[str, Any] = {}
    view = model.config.view
    if seen is not None and real.pose is not None and isinstance(view, FirstPersonView):
        check_poses(model, dataset)
        open_loop |= pose_errors(dreamt, real.pose, real.valid[:, context:], view.cell)
        moved = dream(model, real.obs, real.act, context, horizon, keys, steps, real.pose)
        scores = _scores(real, context, moved, None, threshold, seen)
        if grids is not None:
            scores |= cell_report(grids, moved.obs, context)
        per_step = {name: tally.per_frame() for name, tally in scores.items()}
        given = {"given_dream": estimates(scores), "given_dream_per_step": per_step}
    copied_ahead = _scores(real, 1, _still(real.obs[:, :-1]), next_age, threshold)
    frozen = _still(copies_of(real, context, horizon)["copy_dream"])
    copied_on = _scores(real, context, frozen, dream_age, threshold, seen)

    dreamed = real.valid[:, context:]
    notes = _notes(one_ahead, context, int(dreamed.sum(1).min()), horizon)
    if seen is not None and not given:
        notes.append("the model has no view in first person, so no dream is moved by the recorded poses")
    last = dreamed & (np.arange(horizon) == dreamed.sum(1, keepdims=True) - 1)
    report = {
        **settings_as_used(dataset, real, context, horizon, steps, seed),
        "reward_threshold": threshold,
        "next_frame": estimates(one_ahead),
        "dream": estimates(open_loop),
        "dream_last_frame": estimates(open_loop, lambda tally: tally.only(last)),
        "dream_per_step": {name: tally.per_frame() for name, tally in open_loop.items()},
        "copy_next_frame": estimates(copied_ahead),
        "copy_dream": estimates(copied_on),
        **given,
        **_camera_controls(real, context, seen, threshold, grids),
        "notes": notes,
    }
    return Fidelity(real, context, dreamt, report)


def settings_as_used(
    dataset: EpisodeDataset, real: Openings, context: int, horizon: int, steps: int, seed: int
) -> dict[str, Any]:
    """What a report says of the dreams it judges."""
    return {
        "env_id": dataset.spec.env_id,
        "split": dataset.spec.split,
        "episode_seeds": real.seeds.tolist(),
        "sequences": len(real),
        "context": context,
        "horizon": horizon,
        "denoising_steps": steps,
        "seed": seed,
    }


def copies_of(real: Openings, context: int, horizon: int, seen: Revisits | None = None) -> dict[str, NDArray[np.uint8]]:
    """The controls, by name: `horizon` frames each, that only copy those of the context.

    The last of them, their mean, and, where it is known what was seen before, those from the nearest poses.
    """
    last = real.obs[:, context - 1 : context]
    mean = real.obs[:, :context].mean(1, keepdims=True).round().astype(np.uint8)
    copies = {"copy_dream": last.repeat(horizon, 1), "mean_dream": mean.repeat(horizon, 1)}
    if seen is not None:
        copies["nearest_dream"] = real.obs[np.arange(len(real))[:, None], seen.nearest]
    return copies


def _camera_controls(
    real: Openings, context: int, seen: Revisits | None, threshold: float, grids: Grids | None
) -> dict[str, Any]:
    """What who only copies would get, where frames have poses in first person."""
    if seen is None:
        return {}
    copies = copies_of(real, context, seen.age.shape[1], seen)
    scores = {
        name: _scores(real, context, _still(copies[name]), None, threshold, seen)
        for name in ("nearest_dream", "mean_dream")
    }
    if grids is not None:
        scores["nearest_dream"] |= cell_report(grids, copies["nearest_dream"], context)
    return {"perceptual_features": NAME} | {name: estimates(tallies) for name, tallies in scores.items()}


def _scores(
    real: Openings,
    first: int,
    imagined: Dream,
    age: NDArray[np.int64] | None,
    threshold: float,
    seen: Revisits | None = None,
) -> dict[str, Tally]:
    """Compare imagined frames with the real ones from frame `first` on."""
    frames = slice(first, first + imagined.obs.shape[1])
    valid = real.valid[:, frames]
    truth = real.obs[:, frames]
    if seen is None:
        tallies = {"psnr": Tally.of(psnr(imagined.obs, truth), valid)}
    else:
        tallies = picture_tallies(imagined.obs, truth, seen, valid)
    events = {
        "reward": (np.abs(imagined.rew) > threshold, np.abs(real.rew[:, frames]) > threshold),
        "termination": (imagined.term_prob > 0.5, real.terminated[:, frames]),
    }
    for event, (predicted, happened) in events.items():
        for name, tally in precision_recall_f1(predicted, happened, valid).items():
            tallies[f"{event}_{name}"] = tally
    if age is not None and real.tiles is not None:
        tallies |= tile_report(imagined.obs, real.tiles[:, frames], age[:, frames], valid)
    return tallies


def picture_tallies(
    imagined: NDArray[np.uint8], truth: NDArray[np.uint8], seen: Revisits, valid: NDArray[np.bool_]
) -> dict[str, Tally]:
    """Compare imagined frames with the true ones as pictures, apart by what was seen before.

    Args:
        imagined: uint8 (B, T, H, W, C).
        truth: The same.
        seen: Which of them were seen from where the eye was before, and how long ago.
        valid: Which frames count, bool (B, T).

    Returns:
        Tallies by name. `psnr` in dB; `ssim`, where frames are as large as one of its windows; and `perceptual`, see
        `video_metrics.perceptual`. Each of them of all frames, and as `..._revisited`, `..._new`, and `..._age_9_32`
        and so on, one of `AGES`.
    """
    qualities = {"psnr": psnr(imagined, truth), "perceptual": perceptual(imagined, truth)}
    if min(truth.shape[-3:-1]) >= SSIM_WINDOW:
        qualities["ssim"] = ssim(imagined, truth)
    spans = {f"_age_{span}": within(seen.age, span) for span in AGES}
    suffixes = {"": valid, "_revisited": seen.revisited, "_new": ~seen.revisited} | spans
    return {
        f"{name}{suffix}": Tally.of(quality, valid & chosen)
        for name, quality in qualities.items()
        for suffix, chosen in suffixes.items()
    }


def check_poses(model: WorldModel, dataset: EpisodeDataset) -> None:
    """Refuse poses of another kind than those that a model in first person was trained on."""
    wanted = "plane" if model.config.in_plane else "grid"
    if dataset.pose_kind != wanted:
        raise ValueError(
            f"the poses of {dataset.folder} are of the kind {dataset.pose_kind}, but the model knows those of the kind "
            f"{wanted}: pass episodes recorded as those that it was trained on."
        )


def pose_errors(dreamt: Dream, pose: NDArray[Any], valid: NDArray[np.bool_], cell: float = 1.0) -> dict[str, Tally]:
    """How far from the truth a dream thought itself.

    Args:
        dreamt: H frames, of a model with odometry.
        pose: Recorded poses (B, T, 3) of the context and of these frames.
        valid: Which of the H frames count, bool (B, H).
        cell: What counts as a cell, in the unit of poses.

    Returns:
        Tallies by name: `cells_off`, in cells, and `degrees_off`, from 0 to 180.
    """
    assert dreamt.pose is not None
    truth = since_first(pose).numpy()[:, -dreamt.pose.shape[1] :]
    off = dreamt.pose.astype(np.float64) - truth
    turned = off[..., 2] * (90 if np.issubdtype(pose.dtype, np.integer) else 180 / np.pi)
    return {
        "cells_off": Tally.of(np.linalg.norm(off[..., :2], axis=-1) / cell, valid),
        "degrees_off": Tally.of(np.abs((turned + 180) % 360 - 180), valid),
    }


def _odometry_scores(model: WorldModel, real: Openings, first: int, before: NDArray[np.uint8]) -> dict[str, Tally]:
    """Is the eye where it was in reality? By the model's odometry on the frames (B, T, H, W, C) before those from
    `first` on.

    `motions`: of single steps. `motions_unusual`: of those that were not what their action mostly does, as a step into
    a wall. `way`: of all steps so far, so in dreams its last frame tells the share of them that never went astray.
    """
    if not isinstance(model.odometry, Odometry) or real.pose is None:
        return {}
    frames = slice(first, first + before.shape[1])
    act = torch.from_numpy(real.act[:, frames]).to(model.device)
    pose = torch.from_numpy(real.pose[:, first - 1 : frames.stop]).long().to(model.device)
    truth = ego_motion(pose[:, :-1], pose[:, 1:])
    with torch.no_grad():
        latents = model.tokenizer.encode(to_frames(before).to(model.device))
        estimated = model.odometry.motions[model.odometry(latents, act).argmax(-1)]
    right = (estimated == truth).all(-1).cpu().numpy()
    valid = real.valid[:, frames]
    tallies = {
        "motions": Tally.of(right, valid),
        "way": Tally.of(np.logical_and.accumulate(right | ~valid, 1), valid),
    }
    if model.config.action.kind == "discrete":
        kinds = np.unique(truth.cpu().numpy().reshape(-1, 3), axis=0, return_inverse=True)[1].reshape(valid.shape)
        counts = np.zeros((int(act.max()) + 1, kinds.max() + 1))
        np.add.at(counts, (real.act[:, frames][valid], kinds[valid]), 1)
        unusual = kinds != counts.argmax(1)[real.act[:, frames]]
        tallies["motions_unusual"] = Tally.of(right, valid & unusual)
    return tallies


def _still(obs: NDArray[np.uint8]) -> Dream:
    """The control: frames of before, in which nothing is earned and nothing ends."""
    nothing = np.zeros(obs.shape[:2], np.float32)
    return Dream(obs, nothing, nothing)


def _notes(tallies: dict[str, Tally], context: int, shortest: int, horizon: int) -> list[str]:
    notes = [
        f"{event}: none in these recordings and none predicted one frame ahead, so its F1 is undefined"
        for event in ("reward", "termination")
        if not tallies[f"{event}_f1"].count.any()
    ]
    if shortest < horizon:
        notes.append(f"some episodes end before frame {context + horizon}: their dreams are judged up to their end")
    return notes
