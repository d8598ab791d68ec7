"""The world model: observe real frames, and imagine new ones. See `WorldModel`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lssvwm_models.execution.noise import fold, frame_noise
from lssvwm_models.execution.precision import in_float32
from lssvwm_models.execution.recorded import RecordedSteps
from lssvwm_models.execution.threads import by_thread
from lssvwm_models.memory.first_person.keyframes import Keyframes, Shown, after, pictures, recent, show
from lssvwm_models.memory.first_person.rays import FirstPersonView, Sight, sight
from lssvwm_models.memory.first_person.rendering import Renderer
from lssvwm_models.memory.frame_context import FrameContext
from lssvwm_models.memory.geometry import ego_motion, patch_places, surrounding_places
from lssvwm_models.memory.state import LAST_MOTIONS, WorldModelState
from lssvwm_models.model.config import WorldModelConfig
from lssvwm_models.model.heads import FeatureHead, RewardHead, TerminationHead
from lssvwm_models.model.network import Network
from lssvwm_models.model.odometry import Odometry, PlaneOdometry
from lssvwm_models.model.prediction import Prediction
from lssvwm_models.model.sampler import Sample, sample
from lssvwm_models.model.tokenizer import PatchTokenizer

Reads = tuple[Tensor | None, ...]


class Committed(NamedTuple):
    """What `WorldModel.commit` makes of frames: the memory after them, the tokens (B, T, S, n, d) of all streams,
    features (B, T, F), the surroundings (B, T, E, d_inner) that these are made of besides the tokens, and what
    keyframes showed of the frames, as in `FrameContext`."""

    state: WorldModelState
    tokens: Tensor
    feats: Tensor
    around: Tensor | None
    rendered: Tensor | None


class Seen(NamedTuple):
    """What was seen before frames, in first person: what is shown of it, and the voxels of all but the last of them."""

    shown: Shown
    voxels: Tensor


class WorldModel(nn.Module):
    """A video world model with a fixed-size state-space memory.

    The memory is only ever written by committed frames: a frame is denoised while reading the memory of the frames
    before it, and only the finished frame is written.
    """

    @in_float32()
    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.feature_dim
        self.tokenizer = PatchTokenizer(config.patch, config.channels, config.latent_dim, config.codebook_size)
        self.odometry = _odometry(config)
        self.network = Network(config.network, config.grid, config.latent_dim, config.action, config.view)
        self.renderer = _renderer(config)
        self.features = FeatureHead(
            self.network.tokens,
            config.network.d_model,
            self.network.parts,
            self.network.surroundings,
            config.network.d_inner,
            width,
        )
        self.reward = RewardHead(width)
        self.termination = TerminationHead(width)

    @classmethod
    def fitted(cls, config: WorldModelConfig, frames: Tensor) -> WorldModel:
        """An untrained model whose tokenizer is fitted to frames (N, C, H, W) in [-1, 1].

        `config.latent_dim` is the most latents per patch; the model's own config tells how many were needed.
        """
        tokenizer = PatchTokenizer.fit(frames, config.patch, config.latent_dim)
        model = cls(replace(config, latent_dim=tokenizer.latent_dim))
        model.tokenizer = tokenizer
        return model

    def set_codebook(self, patches: Tensor) -> None:
        """Let dreamt frames be made of these patches (N, C, patch, patch) in [-1, 1], and of no others."""
        self.tokenizer.codebook = self.tokenizer.encode(patches)[:, 0]
        self.config = replace(self.config, codebook_size=len(patches))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.position.device

    @property
    def pose_dtype(self) -> torch.dtype:
        """Of poses: cells and quarter turns are whole numbers."""
        return torch.float32 if self.config.in_plane else torch.long

    def initial_state(self, batch_size: int) -> WorldModelState:
        """The memory of worlds that have seen nothing."""
        ssm, kv = self.network.initial_state(batch_size, self.device)
        sizes = batch_size, self.config.grid**2, self.config.latent_dim
        latents = torch.zeros(sizes, dtype=torch.float32, device=self.device)
        feats = torch.zeros(batch_size, self.config.feature_dim, dtype=torch.float32, device=self.device)
        age = torch.zeros(batch_size, dtype=torch.long, device=self.device)
        pose = torch.zeros(batch_size, 3, dtype=self.pose_dtype, device=self.device)
        motions = pose.new_zeros(batch_size, LAST_MOTIONS, 3) if self.config.in_plane else None
        count = self.config.network.keyframes
        keyframes = Keyframes.none(batch_size, count, *sizes[1:], self.device) if count else None
        voxels = None if self.renderer is None else self.renderer.voxels.empty(batch_size)
        return WorldModelState(ssm, kv, latents, feats, pose, age, motions, keyframes, voxels)

    @torch.no_grad()
    def observe(
        self, state: WorldModelState, obs: Tensor, act: Tensor, is_first: Tensor, pose: Tensor | None = None
    ) -> tuple[WorldModelState, Tensor]:
        """Take real frames into the memory, in parallel over each temporal block.

        Args:
            obs: (B, T, C, H, W) in [-1, 1].
            act: (B, T) or (B, T, A), the action that led to each frame.
            is_first: (B, T) bool; the memory is emptied before such a frame.
            pose: (B, T, 3) of the eye where it is known, on the axes of `state.pose`, or of the first frames (see
                `data.segments.relative_pose`); otherwise odometry estimates it.

        Returns:
            the state after the last frame, and features (B, T, F) of every frame.
        """
        self.check(state.batch_size, obs, act, is_first)
        self._check_placed(pose)
        latents = self.tokenizer.encode(obs)
        feats: list[Tensor] = []
        for frames in self.temporal_blocks(latents.shape[1]):
            block = latents[:, frames], act[:, frames], is_first[:, frames]
            here = self._track(state, *block) if pose is None else pose[:, frames]
            committed = self.commit(state, *block, here)
            state = committed.state
            feats.append(committed.feats)
        return state, torch.cat(feats, 1)

    @torch.no_grad()
    def imagine(
        self,
        state: WorldModelState,
        act: Tensor,
        rng: Tensor,
        steps: int = 1,
        pose: Tensor | None = None,
        recorded: RecordedSteps | None = None,
        donate: bool = False,
    ) -> tuple[Prediction, WorldModelState]:
        """Generate the next frame of every world: of one that has seen nothing, the first of an episode.

        Args:
            act: (B,) or (B, A).
            rng: (B,) long, one key per world (see `noise`): the same state, action and key give the same frame.
            steps: denoising steps.
            pose: (B, 3) of the eye in the next frame where it is known, on the axes of `state.pose`; otherwise odometry
                estimates it.
            recorded: replays steps that it has recorded.
            donate: the state is not used again, nor is any that shares memory with it, so that the largest of its
                tensors may be written where they are: in first person, where a copy of them takes longer than all else.
        """
        self._check_ahead(state, act, rng)
        self._check_placed(pose)
        make = self._imagine if recorded is None else partial(self._imagine_recorded, recorded)

        def imagined(worlds: slice) -> tuple[Prediction, WorldModelState]:
            here = None if pose is None else pose[worlds]
            return make(state[worlds], act[worlds], rng[worlds], steps, here, donate)

        parts = by_thread(imagined, state.batch_size) if self.device.type == "cpu" else [imagined(slice(None))]
        if len(parts) == 1:
            return parts[0]
        frames, states = zip(*parts, strict=True)
        return Prediction.cat(frames), WorldModelState.cat(states, written=state if donate else None)

    def _imagine(
        self, state: WorldModelState, act: Tensor, rng: Tensor, steps: int, pose: Tensor | None, donate: bool
    ) -> tuple[Prediction, WorldModelState]:
        """`imagine`, in one thread, without checks."""
        act, is_first, estimated = self._ahead(state, act)
        pose = estimated if pose is None else pose.unsqueeze(1)
        frames, seen = self._context(state, is_first, pose, donate=donate)
        sampled, reads = self._sample(state, act, frames, rng.unsqueeze(1), steps)
        after = self._write(state, sampled.x, act, frames, seen, pose, reads=reads, donate=donate)
        rew = self.reward(after.feats)[:, 0]
        term_prob = self.termination(after.feats)[:, 0].sigmoid()
        frame = sampled.x[:, 0], sampled.expected[:, 0], rew, term_prob, after.state.feats
        return Prediction(*frame, self.tokenizer.decode), after.state

    def _imagine_recorded(
        self,
        recorded: RecordedSteps,
        state: WorldModelState,
        act: Tensor,
        rng: Tensor,
        steps: int,
        pose: Tensor | None,
        donate: bool,
    ) -> tuple[Prediction, WorldModelState]:
        """`_imagine`, replayed without Python between its operations where these are the same every time."""
        # Worlds that begin take other operations, and attention over earlier frames reaches as far as they go.
        if self.config.network.memory != "scan" or bool((state.age == 0).any()):
            return self._imagine(state, act, rng, steps, pose, donate)
        named = state.tensors() | {"act": act, "rng": rng} | ({} if pose is None else {"pose given": pose})

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            given = dict(zip(named, tensors, strict=True))
            inputs = given.pop("act"), given.pop("rng"), steps, given.pop("pose given", None), donate
            frame, memory = self._imagine(WorldModelState.from_tensors(given), *inputs)
            return frame.latents, frame.expected, frame.rew, frame.term_prob, *memory.tensors().values()

        latents, expected, rew, term_prob, *after = recorded(step, named, (steps, donate))
        memory = WorldModelState.from_tensors(dict(zip(state.tensors(), after, strict=True)))
        return Prediction(latents, expected, rew, term_prob, memory.feats, self.tokenizer.decode), memory

    @torch.no_grad()
    def uncertainty(self, state: WorldModelState, act: Tensor, rng: Tensor, samples: int = 4, steps: int = 2) -> Tensor:
        """How far samples of the next frame of every world are from each other.

        Args:
            act: as for `imagine`.
            rng: as for `imagine`.
            samples: of each frame, at least 2.
            steps: denoising steps, at least 2, as a single step from pure noise gives the mean of all frames that are
                possible.

        Returns:
            (B,) the standard deviation over samples, root mean square over pixels, as a share of full brightness.
        """
        if samples < 2 or steps < 2:
            raise ValueError(f"samples={samples} and steps={steps} must be at least 2: less cannot disagree")
        self._check_ahead(state, act, rng)
        act, is_first, pose = self._ahead(state, act)
        keys = torch.stack([fold(rng, i) for i in range(samples)], 1)
        frames, _ = self._context(state, is_first, pose)
        sampled, _ = self._sample(state, act, frames, keys, steps)
        return self.tokenizer.decode(sampled.x).var(1).mean((1, 2, 3)).sqrt() / 2

    def _check_ahead(self, state: WorldModelState, act: Tensor, rng: Tensor) -> None:
        self.check(state.batch_size, None, act.unsqueeze(1), (state.age == 0).unsqueeze(1))
        if rng.dtype != torch.long or tuple(rng.shape) != (state.batch_size,):
            raise ValueError(
                f"rng is {rng.dtype} {tuple(rng.shape)}; expected one int64 key per world, ({state.batch_size},)"
            )

    def _check_placed(self, pose: Tensor | None) -> None:
        if pose is None:
            return
        if self.odometry is None:
            raise ValueError("pose is given, but this model has no view to place; leave pose=None")
        if pose.dtype != self.pose_dtype or pose.shape[-1] != 3:
            wanted = "x, y and an angle in radians" if self.config.in_plane else "cells and quarter turns"
            raise ValueError(f"pose is {pose.dtype} {tuple(pose.shape)}; expected {self.pose_dtype} (..., 3): {wanted}")
        if pose.is_floating_point() and not bool(pose.isfinite().all()):
            raise ValueError("pose has numbers that are not finite")

    def _ahead(self, state: WorldModelState, act: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """act (B, 1, ...), is_first (B, 1) and pose (B, 1, 3) of the frame to imagine."""
        act = act.unsqueeze(1)
        is_first = (state.age == 0).unsqueeze(1)
        return act, is_first, self._track(state, state.latents.unsqueeze(1), act, is_first)

    def _sample(
        self, state: WorldModelState, act: Tensor, frames: FrameContext, keys: Tensor, steps: int
    ) -> tuple[Sample, Reads]:
        """Latents (B, S, M, k) of the next frame, denoised from the noise of keys (B, S): S streams in one pass.

        Returns them with what was read of the memory on the way, which does not depend on the noise.
        """
        batch, S = keys.shape
        unwritten = replace(frames, writes=False)
        rendered = None if frames.rendered is None else frames.rendered.unsqueeze(2)  # for all streams
        reads: Reads | None = None

        def denoise(x_tau: Tensor, tau: Tensor) -> Tensor:
            nonlocal reads
            streams = x_tau.unsqueeze(1), tau.view(batch, 1, 1).expand(batch, 1, S)
            output = self.network(*streams, act, unwritten, state.ssm, state.kv, reads=reads)
            reads = output.reads
            return self.network.denoised(output.tokens, rendered)[:, 0]

        noise = frame_noise(keys.flatten(), state.age.repeat_interleave(S), state.latents.shape[1:])
        sampled = sample(denoise, noise.unflatten(0, (batch, S)), steps)
        assert reads is not None
        return sampled._replace(x=self.tokenizer.quantize(sampled.x)), reads

    def commit(
        self,
        state: WorldModelState,
        latents: Tensor,
        act: Tensor,
        is_first: Tensor,
        pose: Tensor | None,
        streams: tuple[Tensor, Tensor] | None = None,
        channels: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> Committed:
        """Write frames (B, T, M, k) into the memory.

        Training passes its own streams (B, T, S, M, k) and their levels tau (B, T, S), of which the first is written,
        and may let reads see only the first `channels` (B, L) of the memory in each layer, and hide the latest
        `hidden` (B, T) of the frames that are shown.
        """
        written = latents if streams is None else streams[0][:, :, 0]
        frames, seen = self._context(state, is_first, pose, written, hidden)
        return self._write(state, latents, act, frames, seen, pose, streams, channels)

    def _write(
        self,
        state: WorldModelState,
        latents: Tensor,
        act: Tensor,
        frames: FrameContext,
        seen: Seen | None,
        pose: Tensor | None,
        streams: tuple[Tensor, Tensor] | None = None,
        channels: Tensor | None = None,
        reads: Reads | None = None,
        donate: bool = False,
    ) -> Committed:
        """`commit`, given the context of the frames, and perhaps what the layers have read already."""
        if streams is None:
            clean = torch.ones(*latents.shape[:2], 1, dtype=torch.float32, device=latents.device)
            streams = latents.unsqueeze(2), clean
        output = self.network(*streams, act, frames, state.ssm, state.kv, channels, reads)
        feats = self.features(output.tokens[:, :, 0], output.around)
        T = latents.shape[1]
        last_first = torch.where(frames.is_first, torch.arange(T, device=latents.device), -1).amax(1)
        age = torch.where(last_first >= 0, T - last_first, state.age + T)
        last_pose = state.pose if pose is None else pose[:, -1]
        motions = None if pose is None or state.motions is None else _last_motions(state, pose, frames.is_first)
        keyframes = None
        voxels = None
        if seen is not None:
            assert state.keyframes is not None
            keyframes = after(state.keyframes, recent(state.latents, streams[0][:, :, 0]), seen.shown, donate)
            voxels = seen.voxels
        last = latents[:, -1], feats[:, -1].float(), last_pose, age, motions, keyframes, voxels
        state = WorldModelState(output.ssm, output.kv, *last)
        return Committed(state, output.tokens, feats, output.around, frames.rendered)

    def temporal_blocks(self, T: int) -> Iterator[slice]:
        """The temporal blocks of T frames."""
        size = self.config.block_frames
        return (slice(start, start + size) for start in range(0, T, size))

    def _context(
        self,
        state: WorldModelState,
        is_first: Tensor,
        pose: Tensor | None,
        written: Tensor | None = None,
        hidden: Tensor | None = None,
        donate: bool = False,
    ) -> tuple[FrameContext, Seen | None]:
        """The context of frames (B, T) that are to be written, and in first person what was seen before them.

        Of several frames it must be known what will have been `written`, (B, T, M, k).
        """
        here = torch.zeros(*is_first.shape, 3, dtype=self.pose_dtype, device=self.device) if pose is None else pose
        before = None
        if isinstance(self.config.view, FirstPersonView):
            before = None if pose is None else _poses_before(state, pose, is_first)
            here = self.config.view.in_cells(here)
        around = surrounding_places(here, self.config.network.map_size)
        places = self.places(pose, is_first.shape, before)
        frames = self.network.context(places, around, is_first, state.age, writes=True)
        if self.renderer is None:
            return frames, None
        assert (
            isinstance(places, Sight) and state.keyframes is not None and isinstance(self.config.view, FirstPersonView)
        )
        last = self.config.view.eye(state.pose)
        shown = show(state.keyframes, last, places.eye, frames.past, is_first, hidden)
        rendered, voxels = self._rendered(state, written, shown, places.eye, frames.past, donate)
        return replace(frames, rendered=rendered), Seen(shown, voxels)

    @torch.no_grad()
    def _rendered(
        self, state: WorldModelState, written: Tensor | None, shown: Shown, eyes: Tensor, past: Tensor, donate: bool
    ) -> tuple[Tensor, Tensor]:
        """What is shown to frames seen by `eyes` (B, T, 3), as latents and the share of patches that is not shown,
        (B, T, M, k + 1), and the voxels with all but the last of them. The renderer is trained by itself."""
        assert self.renderer is not None and state.keyframes is not None and state.voxels is not None
        B, T = eyes.shape[:2]
        earlier = pictures(state.keyframes, recent(state.latents, written), shown)
        frames = self.tokenizer.decode(earlier)  # (B, T, K, C, H, W), the frame before first
        voxels, found = self.renderer.voxels.followed(
            state.voxels, frames[:, :, 0], shown.eyes[:, :, 0], eyes, past > 0, donate
        )
        told = (part.flatten(0, 1) for part in (frames, shown.there, shown.eyes, eyes, shown.age))
        view, unseen = self.renderer(*told, self.renderer.voxels.rendered(found.flatten(0, 1)))
        rendered = torch.cat([self.tokenizer.encode(view), unseen.unsqueeze(-1)], -1).unflatten(0, (B, T))
        return rendered, voxels

    def _track(self, state: WorldModelState, latents: Tensor, act: Tensor, is_first: Tensor) -> Tensor | None:
        if self.odometry is None:
            return None
        return self.odometry.track(state, latents, act, is_first)

    def places(self, pose: Tensor | None, lead: tuple[int, ...], before: Tensor | None = None) -> Tensor | Sight:
        """Where the patches of frames seen from poses (*lead, 3) are: (*lead, M, 2), or where they may be.

        The frames before them were seen from poses `before`; None: from the same.
        """
        view = self.config.view
        if isinstance(view, FirstPersonView):
            assert pose is not None
            before = pose if before is None else before
            return sight(pose, before, view, self.config.grid, self.config.grid // self.config.network.merge)
        places = patch_places(pose, view, self.config.grid, self.config.patch, tuple(lead))
        return places.to(self.device)

    def check(self, batch_size: int, obs: Tensor | None, act: Tensor, is_first: Tensor) -> None:
        """Refuse frames of another size or type than this model's, or of another number of worlds."""
        c = self.config
        lead = tuple(is_first.shape)
        if obs is not None and tuple(obs.shape) != (*lead, c.channels, c.frame_size, c.frame_size):
            raise ValueError(
                f"obs has shape {tuple(obs.shape)}; expected {(*lead, c.channels, c.frame_size, c.frame_size)}, "
                "that is (batch, time, channels, height, width)"
            )
        if obs is not None and not obs.is_floating_point():
            raise ValueError(f"obs has dtype {obs.dtype}; expected float in [-1, 1] (see data.segments.to_frames)")
        if is_first.dtype != torch.bool:
            raise ValueError(f"is_first has dtype {is_first.dtype}; expected bool")
        if tuple(act.shape[:2]) != lead:
            raise ValueError(f"act has shape {tuple(act.shape)}; expected {lead} first, as is_first")
        if batch_size != lead[0]:
            raise ValueError(f"state holds {batch_size} worlds, but the inputs are for {lead[0]}")
        c.action.check(act)


def _odometry(config: WorldModelConfig) -> Odometry | PlaneOdometry | None:
    """What reckons how the eye moves; nothing if the camera stands still."""
    if config.view is None:
        return None
    if config.in_plane:
        return PlaneOdometry(config.action, config.grid, config.latent_dim)
    return Odometry(config.view, config.action, config.grid, config.patch, config.latent_dim)


def _renderer(config: WorldModelConfig) -> Renderer | None:
    """What shows keyframes from elsewhere; nothing if none are kept."""
    if not config.network.keyframes:
        return None
    assert isinstance(config.view, FirstPersonView)
    return Renderer(config.frame_size, config.channels, config.patch, config.view.fov, config.network.voxels)


def _poses_before(state: WorldModelState, pose: Tensor, is_first: Tensor) -> Tensor:
    """Where the frames before those with poses (B, T, 3) were seen from; whoever begins has not moved."""
    before = torch.cat([state.pose.unsqueeze(1), pose[:, :-1]], 1)
    return torch.where(is_first.unsqueeze(-1), pose, before)


def _last_motions(state: WorldModelState, pose: Tensor, is_first: Tensor) -> Tensor:
    """The motions (B, LAST_MOTIONS, 3) to the last of the frames with poses (B, T, 3), none from before an episode."""
    assert state.motions is not None
    motions = torch.cat([state.motions, ego_motion(_poses_before(state, pose, is_first), pose)], 1)
    begins = torch.cat([is_first.new_zeros(state.motions.shape[:2]), is_first], 1)[:, -LAST_MOTIONS:]
    left = begins.flip(1).cumsum(1).flip(1) == 0  # no episode begins from here on
    return motions[:, -LAST_MOTIONS:] * left.unsqueeze(-1)
