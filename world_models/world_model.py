"""The world model: observe real frames, imagine new ones, learn from both. See `WorldModel`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from world_models.actions import ActionSpec
from world_models.geometry import EgoView, patch_places, surrounding_places
from world_models.heads import FeatureHead, RewardHead, TerminationHead
from world_models.layers import Frames
from world_models.losses import block_losses, check_objective, drawn_channels, event_losses, summed
from world_models.network import PRESETS, Network, NetworkConfig
from world_models.noise import fold, frame_noise
from world_models.objective import ObjectiveConfig, context_noised
from world_models.odometry import Odometry
from world_models.prediction import Prediction
from world_models.recorded import RecordedSteps
from world_models.sampler import Sample, sample
from world_models.state import WorldModelState
from world_models.threads import by_thread
from world_models.tokenizer import PatchTokenizer


@dataclass(frozen=True)
class WorldModelConfig:
    """What a world model is made of.

    Attributes:
        action: the action space.
        frame_size, channels: frames are (channels, frame_size, frame_size).
        patch: side of a patch, in pixels. latent_dim: k, numbers per patch (see `WorldModel.fitted`).
        network: sizes of the network.
        feature_dim: length of the feature vector read off each frame.
        block_frames: frames per temporal block; longer sequences are processed block by block with the memory carried.
        view: for top-down worlds seen from a moving agent: enables dead reckoning. None: the camera stands still.
    """

    action: ActionSpec
    frame_size: int = 64
    channels: int = 3
    patch: int = 8
    latent_dim: int = 32
    network: NetworkConfig = field(default_factory=NetworkConfig)
    feature_dim: int = 128
    block_frames: int = 32
    view: EgoView | None = None

    def __post_init__(self) -> None:
        if self.frame_size % self.patch:
            raise ValueError(
                f"frame_size is {self.frame_size}, not divisible by patch {self.patch}; resize or pad the frames"
            )

    @property
    def grid(self) -> int:
        """Patches per side of a frame."""
        return self.frame_size // self.patch


@dataclass(frozen=True)
class Batch:
    """B sequences of T recorded frames.

    `obs` (B, T, C, H, W) in [-1, 1]; `act` (B, T) long or (B, T, A) float, the action that led to each frame;
    `rew` (B, T); `terminated`, `is_first` (B, T) bool; `pose` (B, T, 3) long, or None where none was recorded.
    """

    obs: Tensor
    act: Tensor
    rew: Tensor
    terminated: Tensor
    is_first: Tensor
    pose: Tensor | None = None

    def __getitem__(self, frames: slice) -> Batch:
        """Some of the frames of every sequence."""
        return self._map(lambda v: v[:, frames])

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device."""
        return self._map(lambda v: v.to(device))

    def _map(self, f: Callable[[Tensor], Tensor]) -> Batch:
        pose = None if self.pose is None else f(self.pose)
        return Batch(f(self.obs), f(self.act), f(self.rew), f(self.terminated), f(self.is_first), pose)


class WorldModel(nn.Module):
    """A video world model with a fixed-size state-space memory.

    The memory is only ever written by committed frames: a frame is denoised while reading the memory of the frames
    before it, and only the finished frame is written.
    """

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.feature_dim
        self.tokenizer = PatchTokenizer(config.patch, config.channels, config.latent_dim)
        sizes = config.action, config.grid, config.patch, config.latent_dim
        self.odometry = Odometry(config.view, *sizes) if config.view else None
        self.network = Network(config.network, config.grid, config.latent_dim, config.action)
        self.features = FeatureHead(
            self.network.tokens,
            config.network.d_model,
            self.network.parts,
            self.network.surroundings,
            config.network.d_inner,
            width,
        )
        self.reward, self.termination = RewardHead(width), TerminationHead(width)

    @classmethod
    def fitted(cls, config: WorldModelConfig, frames: Tensor) -> WorldModel:
        """An untrained model whose tokenizer is fitted to frames (N, C, H, W) in [-1, 1].

        `config.latent_dim` is the most latents per patch; the model's own config tells how many were needed.
        """
        tokenizer = PatchTokenizer.fit(frames, config.patch, config.latent_dim)
        model = cls(replace(config, latent_dim=tokenizer.latent_dim))
        model.tokenizer = tokenizer
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.position.device

    def initial_state(self, batch_size: int) -> WorldModelState:
        """The memory of worlds that have seen nothing."""
        ssm, kv = self.network.initial_state(batch_size, self.device)
        latents = torch.zeros(batch_size, self.config.grid**2, self.config.latent_dim, device=self.device)
        pose = torch.zeros(batch_size, 3, dtype=torch.long, device=self.device)
        feats = torch.zeros(batch_size, self.config.feature_dim, device=self.device)
        return WorldModelState(ssm, kv, latents, feats, pose, pose[:, 0].clone())

    @torch.no_grad()
    def observe(
        self, state: WorldModelState, obs: Tensor, act: Tensor, is_first: Tensor, pose: Tensor | None = None
    ) -> tuple[WorldModelState, Tensor]:
        """Take real frames into the memory, in parallel over each temporal block.

        Args:
            obs: (B, T, C, H, W) in [-1, 1]. act: (B, T) or (B, T, A), the action that led to each frame.
            is_first: (B, T) bool; the memory is emptied before such a frame.
            pose: (B, T, 3) of the eye where it is known, on the axes of `state.pose`, or of the first frames (see
                `data.segments.relative_pose`); otherwise it is reckoned.

        Returns:
            the state after the last frame, and features (B, T, F) of every frame.
        """
        self._check(state.batch_size, obs, act, is_first)
        self._check_placed(pose)
        latents = self.tokenizer.encode(obs)
        feats: list[Tensor] = []
        for frames in self.temporal_blocks(latents.shape[1]):
            block = latents[:, frames], act[:, frames], is_first[:, frames]
            here = self._track(state, *block) if pose is None else pose[:, frames]
            state, _, f, _ = self.commit(state, *block, here)
            feats.append(f)
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
    ) -> tuple[Prediction, WorldModelState]:
        """Generate the next frame of every world: of one that has seen nothing, the first of an episode.

        Args:
            act: (B,) or (B, A). rng: (B,) long, one key per world (see `noise`): the same state, action and key give
                the same frame. steps: denoising steps. pose: (B, 3) of the eye in the next frame where it is known, on
                the axes of `state.pose`; otherwise it is reckoned. recorded: replays steps that it has recorded.
        """
        self._check_ahead(state, act, rng)
        self._check_placed(pose)
        make = self.imagine_alone if recorded is None else recorded

        def of(worlds: slice) -> tuple[Prediction, WorldModelState]:
            here = None if pose is None else pose[worlds]
            return make(state[worlds], act[worlds], rng[worlds], steps, here)

        made = by_thread(of, state.batch_size) if self.device.type == "cpu" else [of(slice(None))]
        if len(made) == 1:
            return made[0]
        frames, states = zip(*made, strict=True)
        return Prediction.cat(frames), WorldModelState.cat(states)

    def imagine_alone(
        self, state: WorldModelState, act: Tensor, rng: Tensor, steps: int, pose: Tensor | None
    ) -> tuple[Prediction, WorldModelState]:
        """`imagine`, in one thread, without checks."""
        act, is_first, reckoned = self._ahead(state, act)
        pose = reckoned if pose is None else pose.unsqueeze(1)
        frames = self._frames(state, is_first, pose)
        latents, expected = self._sample(state, act, frames, rng.unsqueeze(1), steps)
        state, _, feats, _ = self._write(state, latents, act, frames, pose)
        rew, term = self.reward(feats)[:, 0], self.termination(feats)[:, 0].sigmoid()
        return Prediction(latents[:, 0], expected[:, 0], rew, term, state.feats, self.tokenizer.decode), state

    @torch.no_grad()
    def uncertainty(self, state: WorldModelState, act: Tensor, rng: Tensor, samples: int = 4, steps: int = 2) -> Tensor:
        """How far samples of the next frame of every world are from each other.

        Args:
            act, rng: as for `imagine`. samples: of each frame, at least 2. steps: denoising steps, at least 2, as a
                single step from pure noise gives the mean of all frames that are possible.

        Returns:
            (B,) the standard deviation over samples, root mean square over pixels, as a share of full brightness.
        """
        if samples < 2 or steps < 2:
            raise ValueError(f"samples={samples} and steps={steps} must be at least 2: less cannot disagree")
        self._check_ahead(state, act, rng)
        act, is_first, pose = self._ahead(state, act)
        keys = torch.stack([fold(rng, i) for i in range(samples)], 1)
        latents = self._sample(state, act, self._frames(state, is_first, pose), keys, steps).x
        return self.tokenizer.decode(latents).var(1).mean((1, 2, 3)).sqrt() / 2

    def _check_ahead(self, state: WorldModelState, act: Tensor, rng: Tensor) -> None:
        self._check(state.batch_size, None, act.unsqueeze(1), (state.age == 0).unsqueeze(1))
        if rng.dtype != torch.long or tuple(rng.shape) != (state.batch_size,):
            raise ValueError(
                f"rng is {rng.dtype} {tuple(rng.shape)}; expected one int64 key per world, ({state.batch_size},)"
            )

    def _check_placed(self, pose: Tensor | None) -> None:
        if pose is not None and self.odometry is None:
            raise ValueError("pose is given, but this model has no view to place; leave pose=None")

    def _ahead(self, state: WorldModelState, act: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """act (B, 1, ...), is_first (B, 1) and pose (B, 1, 3) of the frame to imagine."""
        act, is_first = act.unsqueeze(1), (state.age == 0).unsqueeze(1)
        return act, is_first, self._track(state, state.latents.unsqueeze(1), act, is_first)

    def _sample(self, state: WorldModelState, act: Tensor, frames: Frames, keys: Tensor, steps: int) -> Sample:
        """Latents (B, S, M, k) of the next frame, denoised from the noise of keys (B, S): S streams in one pass."""
        batch, S = keys.shape
        unwritten = replace(frames, writes=False)

        def denoise(x_tau: Tensor, tau: Tensor) -> Tensor:
            noisy = x_tau.unsqueeze(1), tau.view(batch, 1, 1).expand(batch, 1, S)
            tokens, *_ = self.network(*noisy, act, unwritten, state.ssm, state.kv)
            return self.network.denoised(tokens)[:, 0]

        noise = frame_noise(keys.flatten(), state.age.repeat_interleave(S), state.latents.shape[1:])
        return sample(denoise, noise.unflatten(0, (batch, S)), steps)

    def losses(
        self, batch: Batch, objective: ObjectiveConfig | None = None, checkpoint_blocks: bool = False
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """The training loss, temporal block by temporal block, and the parts of each by name; see `block_losses`.

        Sequences longer than `block_frames` carry their memory from block to block.
        """
        objective = objective or ObjectiveConfig()
        check_objective(self.config, objective)
        if self.odometry is not None and batch.pose is None:
            raise ValueError("batch.pose is None, but this model reckons poses; collect with poses or set view=None")
        self._check(batch.obs.shape[0], batch.obs, batch.act, batch.is_first)
        return block_losses(self, batch, objective, checkpoint_blocks)

    def loss(
        self, batch: Batch, objective: ObjectiveConfig | None = None, checkpoint_blocks: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The training loss, and its parts by name: the sum of `losses`."""
        losses, logs = zip(*self.losses(batch, objective, checkpoint_blocks), strict=True)
        return torch.stack(losses).sum(), summed(logs)

    @torch.no_grad()
    def shown(self, batch: Batch, objective: ObjectiveConfig | None = None) -> tuple[Tensor, Tensor | None]:
        """What heads see of frames with context noise: tokens (B, T, n, d), and surroundings (B, T, E, d_inner)."""
        objective = objective or ObjectiveConfig()
        latents = context_noised(self.tokenizer.encode(batch.obs), objective)
        channels = drawn_channels(self, len(latents), objective)
        pose = batch.pose if self.odometry is not None else None
        state, tokens, around = self.initial_state(len(latents)), [], []
        for frames in self.temporal_blocks(latents.shape[1]):
            block = latents[:, frames], batch.act[:, frames], batch.is_first[:, frames]
            here = None if pose is None else pose[:, frames]
            state, t, _, a = self.commit(state, *block, here, channels=channels)
            tokens.append(t[:, :, 0])
            around += [] if a is None else [a]
        return torch.cat(tokens, 1), torch.cat(around, 1) if around else None

    def head_loss(self, feats: Tensor, rew: Tensor, terminated: Tensor, share: float) -> Tensor:
        """The part of the loss that is about rewards and ends, for the features (..., F) of frames; `share` of it comes
        from the frames with one of them."""
        losses = event_losses(self, feats, rew, terminated, torch.ones_like(terminated), share)
        return torch.stack(list(losses.values())).sum()

    def commit(
        self,
        state: WorldModelState,
        latents: Tensor,
        act: Tensor,
        is_first: Tensor,
        pose: Tensor | None,
        streams: Tensor | None = None,
        tau: Tensor | None = None,
        channels: Tensor | None = None,
    ) -> tuple[WorldModelState, Tensor, Tensor, Tensor | None]:
        """Write frames (B, T, M, k) into the memory; returns it, the tokens of all streams, features (B, T, F), and the
        surroundings (B, T, E, d_inner) that these are made of besides the tokens.

        Training passes its own streams (B, T, S, M, k) at levels tau (B, T, S), the first of which is written, and may
        let reads see only the first `channels` (B, L) of the memory in each layer.
        """
        return self._write(state, latents, act, self._frames(state, is_first, pose), pose, streams, tau, channels)

    def _write(
        self,
        state: WorldModelState,
        latents: Tensor,
        act: Tensor,
        frames: Frames,
        pose: Tensor | None,
        streams: Tensor | None = None,
        tau: Tensor | None = None,
        channels: Tensor | None = None,
    ) -> tuple[WorldModelState, Tensor, Tensor, Tensor | None]:
        """`commit`, when it is known what the layers are told."""
        if streams is None or tau is None:
            streams, tau = latents.unsqueeze(2), torch.ones(*latents.shape[:2], 1, device=latents.device)
        tokens, remembered, ssm, kv = self.network(streams, tau, act, frames, state.ssm, state.kv, channels)
        feats = self.features(tokens[:, :, 0], remembered)
        T = latents.shape[1]
        last_first = torch.where(frames.is_first, torch.arange(T, device=latents.device), -1).amax(1)
        age = torch.where(last_first >= 0, T - last_first, state.age + T)
        last_pose = state.pose if pose is None else pose[:, -1]
        state = WorldModelState(ssm, kv, latents[:, -1], feats[:, -1].float(), last_pose, age)
        return state, tokens, feats, remembered

    def temporal_blocks(self, T: int) -> Iterator[slice]:
        """The temporal blocks of T frames."""
        size = self.config.block_frames
        return (slice(start, start + size) for start in range(0, T, size))

    def _frames(self, state: WorldModelState, is_first: Tensor, pose: Tensor | None) -> Frames:
        """What the layers are told of frames (B, T) that are to be written."""
        here = torch.zeros(*is_first.shape, 3, dtype=torch.long, device=self.device) if pose is None else pose
        around = surrounding_places(here, self.config.network.map_size)
        return self.network.frames(self.places(pose, is_first.shape), around, is_first, state.age, writes=True)

    def _track(self, state: WorldModelState, latents: Tensor, act: Tensor, is_first: Tensor) -> Tensor | None:
        if self.odometry is None:
            return None
        return self.odometry.track(state.pose, latents, state.latents, act, is_first)

    def places(self, pose: Tensor | None, lead: tuple[int, ...]) -> Tensor:
        """Where the patches of frames seen from poses (*lead, 3) are: (*lead, M, 2)."""
        places = patch_places(pose, self.config.view, self.config.grid, self.config.patch, tuple(lead))
        return places.to(self.device)

    def _check(self, batch_size: int, obs: Tensor | None, act: Tensor, is_first: Tensor) -> None:
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


def preset(name: str, action: ActionSpec, **changes: object) -> WorldModelConfig:
    """A config by the name of its network in `network.PRESETS`."""
    if name not in PRESETS:
        raise ValueError(f"no preset is named {name!r}; choose from {', '.join(PRESETS)}")
    return replace(WorldModelConfig(action, network=PRESETS[name]), **changes)  # type: ignore[arg-type]
