"""The batched core: B simulated worlds side by side, and the only place that moves them.

A world is its memory and a random key. Frame t of a world depends on its memory, the action, the key and t alone, so
B worlds side by side show what each would show on its own, and a saved memory with its key goes on exactly.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lssvwm_env.envs.actions import as_actions, as_tensor
from lssvwm_env.simulator.simulator import Simulator, tensor_differences
from lssvwm_models.data.segments import to_frames, to_pixels
from lssvwm_models.execution.devices import as_device
from lssvwm_models.execution.noise import fold
from lssvwm_models.execution.precision import autocast
from lssvwm_models.execution.recorded import RecordedSteps
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction
from lssvwm_models.utils.checks import check_at_least

STATE_FORMAT: Final = "lssvwm-state"
FIRST_FRAME_STEPS: Final = 16  # least denoising steps of a frame that is imagined from nothing

Context = tuple[ArrayLike, ArrayLike]
"""Real frames, uint8 (T, H, W, C), and the actions that led to them, (T,) or (T, A); the first action is ignored."""


class CoreStep(NamedTuple):
    """What one step of B worlds gives, on the core's device.

    `obs` uint8 (B, H, W, C), `rew` float32 (B,), `terminated` bool (B,), `term_prob` float32 (B,), and `uncertainty`
    float32 (B,), if the core was asked for it.
    """

    obs: Tensor
    rew: Tensor
    terminated: Tensor
    term_prob: Tensor
    uncertainty: Tensor | None = None

    def info(self) -> dict[str, NDArray[np.float64]]:
        """What users find in `info`, (B,) each."""
        beliefs = {"term_prob": self.term_prob}
        if self.uncertainty is not None:
            beliefs["uncertainty"] = self.uncertainty
        return {name: belief.double().cpu().numpy() for name, belief in beliefs.items()}


@dataclass(frozen=True)
class CoreState:
    """B worlds at one moment, as a value whose size does not depend on their history.

    Attributes:
        memory: What the worlds remember.
        keys: (B,) long, their random streams; None where these were left out.
        weights_sha256: The weights they were dreamed with.
    """

    memory: WorldModelState
    keys: Tensor | None
    weights_sha256: str

    def __getitem__(self, ids: Tensor | slice | list[int]) -> CoreState:
        """Some of the worlds; ids as for a tensor's first dimension, which is kept."""
        return CoreState(self.memory[ids], None if self.keys is None else self.keys[ids], self.weights_sha256)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, whole or not at all."""
        keys = None if self.keys is None else self.keys.tolist()
        metadata = {"format": STATE_FORMAT, "weights_sha256": self.weights_sha256, "keys": json.dumps(keys)}
        self.memory.save(path, metadata)

    @staticmethod
    def load(path: str | Path) -> CoreState:
        """Read a file of `save`.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is another file.
        """
        memory, metadata = WorldModelState.load(path)
        if metadata.get("format") != STATE_FORMAT:
            raise ValueError(f"{path} holds a memory, but not of simulated worlds; save it with save_state()")
        keys = json.loads(metadata["keys"])
        return CoreState(memory, None if keys is None else torch.tensor(keys), metadata["weights_sha256"])


class CoreOptions(TypedDict, total=False):
    """Keyword arguments that every face of a simulator hands on to `SimulatorCore`, which explains them."""

    denoising_steps: int | None
    device: torch.device | str
    uncertainty_samples: int
    bf16: bool


class SimulatorCore:
    """B simulated worlds that share one model.

    Args:
        simulator: What is simulated. Its model is shared, or copied where `device` is not the CPU.
        num_envs: B.
        denoising_steps: Network passes per frame, >= 1; None takes the simulator's own number.
        device: Where the worlds are computed: "cpu", "cuda", "cuda:1", ...; "auto" is CUDA where there is some, and
            else the CPU.
        uncertainty_samples: Samples of every frame, whose disagreement is its `uncertainty`, a share of full brightness
            (see `WorldModel.uncertainty`). Each costs as much as two denoising steps; 0 turns it off.
        bf16: Compute matrix products in bfloat16 where the hardware has it: faster in large batches, but worlds side by
            side then show only nearly what they would on their own.

    Attributes:
        memory: What the worlds remember. A value: keep it, fork it, imagine from it.
        keys: (B,) long, the worlds' random streams.
    """

    def __init__(
        self,
        simulator: Simulator,
        num_envs: int,
        denoising_steps: int | None = None,
        device: torch.device | str = "cpu",
        uncertainty_samples: int = 0,
        bf16: bool = False,
    ) -> None:
        self.simulator = simulator
        self.num_envs = num_envs
        self.denoising_steps = simulator.config.denoising_steps if denoising_steps is None else denoising_steps
        for name in ("num_envs", "denoising_steps"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name}={getattr(self, name)!r} must be an integer")
        check_at_least(self, num_envs=1, denoising_steps=1)
        if uncertainty_samples not in range(1 << 16) or uncertainty_samples == 1:
            raise ValueError(f"uncertainty_samples is {uncertainty_samples!r}; expected 0 for none, or at least 2")
        self.uncertainty_samples = uncertainty_samples
        self.bf16 = bf16
        self.device = as_device(device)
        on_cpu = self.device.type == "cpu"
        self.model = simulator.model if on_cpu else copy.deepcopy(simulator.model).to(self.device)
        self.observation_space = simulator.observation_space
        self.action_space = simulator.action_space
        self._recorded = RecordedSteps(self.model)
        self.memory = self.model.initial_state(num_envs)
        self.keys = torch.zeros(num_envs, dtype=torch.long, device=self.device)

    def reset(
        self,
        ids: Sequence[int],
        seeds: Sequence[int],
        contexts: Sequence[Context | None] | None = None,
        allow_long_context: bool | Sequence[bool] = False,
    ) -> Tensor:
        """Begin new episodes in some worlds; the others are left as they are.

        Args:
            ids: Which worlds, each once.
            seeds: One int64 per world: its random stream and, without contexts, its start follow from it.
            contexts: Real frames and actions that each world goes on from, instead of one of the simulator's starts;
                None in the place of a context: no frames, so that the first one is imagined too.
            allow_long_context: Accept more frames than the model was trained on in one piece; for all worlds of `ids`,
                or one per world.

        Returns:
            The last frame of each context, or the imagined one, uint8 (len(ids), H, W, C).

        Raises:
            ValueError: If an argument has another shape, type or range than stated; nothing is changed then.
        """
        rows = self._rows(ids)
        count = len(rows)
        seed = torch.as_tensor(seeds)
        if seed.dtype != torch.long or seed.shape != rows.shape:
            raise ValueError(f"seeds is {seeds!r}; expected {count} integers of 64 bits, one per world of ids")
        if contexts is None:
            contexts = [self.start(s) for s in seed.tolist()]
        allowed = [allow_long_context] * count if isinstance(allow_long_context, bool) else allow_long_context
        for name, values in {"contexts": contexts, "allow_long_context": allowed}.items():
            if len(values) != count:
                raise ValueError(f"{name} has {len(values)} entries; expected {count}, one per world of ids")
        given = {i: self._context(*context) for i, context in enumerate(contexts) if context is not None}
        trained = self.simulator.config.trained_length
        for i, (obs, _) in given.items():
            if len(obs) > trained and not allowed[i]:
                raise ValueError(
                    f"context has {len(obs)} frames, but the model was trained on at most {trained} in one piece; "
                    f"give the last {trained}, or set allow_long_context to True"
                )
        self.keys = self.keys.index_put((rows,), fold(seed, 0).to(self.device))
        for length in {len(obs) for obs, _ in given.values()}:  # as many scans as there are lengths
            group = [i for i, (obs, _) in given.items() if len(obs) == length]
            obs = np.stack([given[i][0] for i in group])
            act = torch.stack([given[i][1] for i in group])
            self._absorb(rows[group], obs, act, is_first=True)
        if without := [i for i in range(count) if i not in given]:
            self._imagine_first(rows[without])
        frames = to_pixels(self.decode(self.memory[rows]))
        for i, (obs, _) in given.items():  # real frames as they were, not as the tokenizer gives them back
            frames[i] = torch.from_numpy(obs[-1].copy()).to(self.device)
        return frames

    def start(self, seed: int) -> Context:
        """The start, of the simulator's own, that belongs to a seed of `reset`."""
        starts = self.simulator.starts
        i = int(fold(torch.tensor(seed), 1)) % len(starts)
        return starts.obs[i], starts.act[i]

    def step(self, act: ArrayLike | Tensor) -> CoreStep:
        """Dream one frame on in every world.

        A world that has terminated dreams on until it is reset: what it shows then means nothing.

        Args:
            act: Integers (B,) or floats (B, A).

        Raises:
            ResetNeeded: If a world was never reset.
            ValueError: If `act` is not in the action space; no world has moved then.
        """
        self._check_begun()
        actions = as_actions(self.action_space, act, (self.num_envs,), "act").to(self.device)
        worlds = (self.memory, actions, self.keys)
        prediction, self.memory = self.imagine(*worlds)
        uncertainty = None
        if self.uncertainty_samples:
            with self._precision():
                uncertainty = self.model.uncertainty(*worlds, self.uncertainty_samples, max(2, self.denoising_steps))
        return CoreStep(
            obs=to_pixels(prediction.obs),
            rew=prediction.rew.float(),
            terminated=prediction.term_prob > 0.5,
            term_prob=prediction.term_prob,
            uncertainty=uncertainty,
        )

    def imagine(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> tuple[Prediction, WorldModelState]:
        """What `step` dreams, but of any worlds: a function of its arguments, for planners that fork by the thousand.

        Args:
            memory: Of any number N of worlds, such as `self.memory.repeat_interleave(n)`.
            act: Long (N,) or float (N, A).
            keys: (N,) long; worlds that share one differ by their actions alone.
        """
        with self._precision():
            return self.model.imagine(memory, act, keys, self.denoising_steps, recorded=self._recorded)

    def initial_memory(self, num_worlds: int) -> WorldModelState:
        """The memory of worlds that have seen no frame."""
        return self.model.initial_state(num_worlds)

    def update_memory(
        self, memory: WorldModelState, obs: NDArray[np.uint8], act: Tensor, is_first: Tensor
    ) -> WorldModelState:
        """What `observe` takes in, but into any memory: a function of its arguments, for agents that carry their own.

        Args:
            memory: Of any number N of worlds, such as `initial_memory(N)`.
            obs: Real frames, uint8 (N, T, H, W, C).
            act: The actions that led to them, long (N, T) or float (N, T, A).
            is_first: (N, T) bool; the memory is emptied before such a frame.
        """
        with self._precision():
            return self.model.observe(memory, to_frames(obs).to(self.device), act, is_first)[0]

    def observe(self, obs: ArrayLike, act: ArrayLike | Tensor, ids: Sequence[int] | None = None) -> Tensor:
        """Let worlds see what really happened next, in the middle of an episode.

        The frames follow the last one a world has seen or dreamed. To put the truth in the place of a dream, load the
        state from before it first.

        Args:
            obs: Real frames, uint8 (len(ids), T, H, W, C).
            act: The actions that led to them, all of them counting, (len(ids), T) or (len(ids), T, A).
            ids: Which worlds, each once; None: all.

        Returns:
            The last of the frames, uint8 (len(ids), H, W, C).

        Raises:
            ResetNeeded: If a world was never reset.
            ValueError: If an argument has another shape, type or range than stated; nothing is changed then.
        """
        self._check_begun()
        rows = self._rows(range(self.num_envs) if ids is None else ids)
        frames = self._frames(obs, (len(rows),), "obs")
        actions = as_actions(self.action_space, act, frames.shape[:2], "act")
        self._absorb(rows, frames, actions, is_first=False)
        return torch.from_numpy(frames[:, -1].copy()).to(self.device)

    def frames(self) -> Tensor:
        """The last frame of every world as its memory holds it, uint8 (B, H, W, C)."""
        self._check_begun()
        return to_pixels(self.decode(self.memory))

    def decode(self, memory: WorldModelState) -> Tensor:
        """The last frames of any memory, float (N, C, H, W) in [-1, 1]."""
        return self.model.tokenizer.decode(memory.latents)

    def features(self) -> Tensor:
        """What the model reads off the last frame of every world and the memory around it, float32 (B, F)."""
        self._check_begun()
        return self.memory.feats

    def save_state(self, include_rng: bool = True) -> CoreState:
        """The worlds as they are now, with or without their random streams.

        Raises:
            ResetNeeded: If a world was never reset.
        """
        self._check_begun()
        return CoreState(self.memory, self.keys if include_rng else None, self.simulator.weights_sha256)

    def load_state(self, state: CoreState) -> None:
        """Go on from a saved state; without random streams in it, the core keeps its own.

        Raises:
            ValueError: If it is of another simulator, or of another number of worlds; nothing is changed then.
        """
        if state.weights_sha256 != self.simulator.weights_sha256:
            raise ValueError(
                f"state was dreamed with weights {state.weights_sha256[:12]}..., but this simulator has "
                f"{self.simulator.weights_sha256[:12]}...: load the simulator that it was saved with"
            )
        if state.memory.batch_size != self.num_envs:
            raise ValueError(f"state holds {state.memory.batch_size} worlds, but this core has {self.num_envs}")
        found = state.memory.tensors() | ({} if state.keys is None else {"keys": state.keys})
        wanted = self.memory.tensors() | ({} if state.keys is None else {"keys": self.keys})
        if differences := tensor_differences(found, wanted):
            raise ValueError(f"state does not fit this simulator:\n{differences}")
        self.memory = state.memory.to(self.device)
        if state.keys is not None:
            self.keys = state.keys.to(self.device)

    def fork(self, n: int) -> SimulatorCore:
        """A core with n children of every world, side by side; this one is left as it is.

        All children start from the state of their parent. Child 0 keeps its random stream, so it dreams what the
        parent would have; child i > 0 has its own, a function of the parent's stream and i.

        Raises:
            ResetNeeded: If a world was never reset.
            ValueError: If n is less than 1.
        """
        self._check_begun()
        if n < 1:
            raise ValueError(f"n={n} must be at least 1")
        child = torch.arange(n, device=self.device).repeat(self.num_envs)
        keys = self.keys.repeat_interleave(n)
        return self._with(self.memory.repeat_interleave(n), torch.where(child == 0, keys, fold(keys, child)))

    def split(self) -> list[SimulatorCore]:
        """Every world as a core of its own, with the same weights; this one is left as it is."""
        return [self._with(self.memory[[i]], self.keys[[i]]) for i in range(self.num_envs)]

    def _with(self, memory: WorldModelState, keys: Tensor) -> SimulatorCore:
        """A core of other worlds with the same weights."""
        other = copy.copy(self)
        other.num_envs = len(keys)
        other.memory = memory
        other.keys = keys
        return other

    def _absorb(self, rows: Tensor, obs: NDArray[np.uint8], act: Tensor, is_first: bool) -> None:
        """Take frames (n, T, H, W, C) into the memory of n worlds; is_first: they begin an episode."""
        first = torch.zeros(obs.shape[:2], dtype=torch.bool, device=self.device)
        first[:, 0] = is_first
        self._replace(rows, self.update_memory(self.memory[rows], obs, act.to(self.device), first))

    def _precision(self) -> torch.autocast:
        return autocast(self.device, self.bf16)

    def _imagine_first(self, rows: Tensor) -> None:
        """Give worlds the memory of one frame, imagined from nothing.

        Nothing is certain there, and few denoising steps would give a mixture of all worlds.
        """
        discrete = isinstance(self.action_space, gym.spaces.Discrete)
        dtype = torch.long if discrete else torch.float32
        ignored = torch.zeros((len(rows), *(self.action_space.shape or ())), dtype=dtype, device=self.device)
        steps = max(self.denoising_steps, FIRST_FRAME_STEPS)
        _, memory = self.model.imagine(self.initial_memory(len(rows)), ignored, self.keys[rows], steps)
        self._replace(rows, memory)

    def _replace(self, rows: Tensor, memory: WorldModelState) -> None:
        index = torch.arange(self.num_envs, device=self.device)
        index[rows] = self.num_envs + torch.arange(len(rows), device=self.device)
        self.memory = WorldModelState.cat([self.memory, memory])[index]

    def _rows(self, ids: Sequence[int]) -> Tensor:
        rows = list(ids)
        if not rows or len(set(rows)) < len(rows) or not all(0 <= i < self.num_envs for i in rows):
            raise ValueError(f"ids is {rows}; expected different world numbers from 0 to {self.num_envs - 1}")
        return torch.tensor(rows, device=self.device)

    def _context(self, obs: ArrayLike, act: ArrayLike) -> tuple[NDArray[np.uint8], Tensor]:
        frames = self._frames(obs, (), "context obs")
        actions = as_tensor(act, "context act")
        if actions.shape[:1] != (len(frames),):
            raise ValueError(
                f"context act has shape {tuple(actions.shape)}; expected one action per frame, {len(frames)}"
            )
        # Nothing led to the first frame, so whatever stands there need not be an action.
        later = as_actions(self.action_space, actions[1:], (len(frames) - 1,), "context act[1:]")
        return frames, torch.cat([later.new_zeros(1, *later.shape[1:]), later])

    def _frames(self, obs: ArrayLike, lead: tuple[int, ...], name: str) -> NDArray[np.uint8]:
        """Frames (*lead, T, H, W, C), checked."""
        frames = np.asarray(obs)
        frame = self.observation_space.shape
        length = frames.shape[len(lead)] if frames.ndim > len(lead) else 0
        if frames.dtype != np.uint8 or frames.shape != (*lead, length, *frame) or not length:
            want = ", ".join(map(str, (*lead, "T", *frame)))
            raise ValueError(f"{name} is {frames.dtype} {frames.shape}; expected uint8 ({want}) with T >= 1 frames")
        return frames

    def _check_begun(self) -> None:
        """Raise unless every world was reset: one that was has seen a frame."""
        if fresh := (self.memory.age == 0).nonzero().flatten().tolist():
            raise gym.error.ResetNeeded(f"call reset() first: worlds {fresh} have not begun")
