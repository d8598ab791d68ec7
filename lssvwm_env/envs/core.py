"""The batched core: B simulated worlds side by side, and the only place that moves them.

A world is its memory and a random key. Frame t of a world depends on its memory, the action, the key and t alone, so
B worlds side by side show what each would show on its own, and a saved memory with its key goes on exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypedDict

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lssvwm_env.envs.arguments import LONG, as_actions, as_array, as_flag, as_integer, as_tensor
from lssvwm_env.envs.core_state import CoreState
from lssvwm_env.envs.turns import Turn, in_turn
from lssvwm_env.simulator.simulator import Simulator, tensor_differences
from lssvwm_models.data.segments import to_frames, to_pixels
from lssvwm_models.execution.devices import as_device
from lssvwm_models.execution.noise import fold
from lssvwm_models.execution.precision import autocast
from lssvwm_models.execution.recorded import RecordedSteps
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.model.prediction import Prediction
from lssvwm_models.utils.checks import check_fields, shown

FIRST_FRAME_STEPS: Final = 16  # least denoising steps of a frame that is imagined from nothing
MOST_WORLDS: Final = 2**20
MOST_STEPS: Final = 2**16

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
        return _info(self.term_prob, self.uncertainty)


def _info(term_prob: Tensor, uncertainty: Tensor | None) -> dict[str, NDArray[np.float64]]:
    beliefs = {"term_prob": term_prob} | ({} if uncertainty is None else {"uncertainty": uncertainty})
    return {name: belief.double().cpu().numpy() for name, belief in beliefs.items()}


class CoreOptions(TypedDict, total=False):
    """Keyword arguments that every face of a simulator hands on to `SimulatorCore`, which explains them."""

    denoising_steps: int | None
    device: torch.device | str
    uncertainty_samples: int
    bf16: bool


class SimulatorCore:
    """B simulated worlds that share one model.

    One thread may use them at a time, another one gets a `RuntimeError` meanwhile. A copy, by `copy.deepcopy` or
    `pickle`, has the same future; the former shares the weights.

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
        keys: (B,) long, the worlds' random streams.
        elapsed: (B,) long, steps since their episodes began.
        turn: Held while a thread uses the worlds.
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
        steps = simulator.config.denoising_steps if denoising_steps is None else denoising_steps
        self.simulator = simulator
        self.num_envs = as_integer(num_envs, "num_envs", 1, MOST_WORLDS)
        self.denoising_steps = as_integer(steps, "denoising_steps", 1, MOST_STEPS)
        self.uncertainty_samples = _samples(uncertainty_samples)
        self.bf16 = as_flag(bf16, "bf16")
        self.device = as_device(device)
        on_cpu = self.device.type == "cpu"
        self.model = simulator.model if on_cpu else copy.deepcopy(simulator.model).to(self.device)
        self.observation_space = simulator.observation_space
        self.action_space = simulator.action_space
        self._recorded = RecordedSteps(self.model)
        self._memory = self.model.initial_state(self.num_envs)
        self._lent = False  # whether anyone else may hold the memory
        self.keys = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        self.elapsed = torch.zeros_like(self.keys)
        self.turn = Turn()

    @property
    def memory(self) -> WorldModelState:
        """What the worlds remember. A value: keep it, fork it, imagine from it."""
        self._lent = True
        return self._memory

    @memory.setter
    def memory(self, memory: WorldModelState) -> None:
        self._memory = memory
        self._lent = True

    def _keep(self, memory: WorldModelState) -> None:
        """Go on from a memory that nobody else holds."""
        self._memory = memory
        self._lent = False

    def __copy__(self) -> SimulatorCore:
        return self._with(self.memory, self.keys, self.elapsed)

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatorCore:
        other = copy.copy(self)
        other.observation_space = copy.deepcopy(self.observation_space, memo)  # spaces have random generators
        other.action_space = copy.deepcopy(self.action_space, memo)
        other.turn = copy.deepcopy(self.turn, memo)
        return other

    @in_turn
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
        seed = self._seeds(seeds, len(rows))
        starts = [self.start(s) for s in seed.tolist()] if contexts is None else contexts
        given = self.check_contexts(starts, allow_long_context, len(rows))
        keys = self.keys.index_put((rows,), fold(seed, 0).to(self.device))
        memory = self._memory
        for length in {len(obs) for obs, _ in given.values()}:  # as many scans as there are lengths
            group = [i for i, (obs, _) in given.items() if len(obs) == length]
            obs = np.stack([given[i][0] for i in group])
            act = torch.stack([given[i][1] for i in group])
            memory = self._absorb(memory, rows[group], obs, act, is_first=True)
        if without := [i for i in range(len(rows)) if i not in given]:
            memory = _replace(memory, rows[without], self._imagine_first(keys[rows[without]]))
        frames = to_pixels(self.decode(memory[rows]))
        for i, (obs, _) in given.items():  # real frames as they were, not as the tokenizer gives them back
            frames[i] = torch.from_numpy(obs[-1].copy()).to(self.device)
        self.keys = keys
        if memory is not self._memory:
            self._keep(memory)
        self.elapsed = self.elapsed.index_fill(0, rows, 0)
        return frames

    def check_contexts(
        self, contexts: Sequence[Context | None], allow_long_context: bool | Sequence[bool], count: int
    ) -> dict[int, tuple[NDArray[np.uint8], Tensor]]:
        """The contexts that are there, by their place, as `reset` takes them in.

        Args:
            contexts: As for `reset`.
            allow_long_context: As for `reset`.
            count: How many worlds they are for.

        Raises:
            ValueError: If one does not fit.
        """
        one = isinstance(allow_long_context, bool | np.bool)
        allowed: Any = [allow_long_context] * count if one else allow_long_context
        for name, values in {"contexts": contexts, "allow_long_context": allowed}.items():
            if not isinstance(values, list | tuple):
                raise ValueError(f"{name} is {shown(values)}; expected a list, with one entry per world of ids")
            if len(values) != count:
                raise ValueError(f"{name} has {len(values)} entries; expected {count}, one per world of ids")
        given = {i: self._context(context) for i, context in enumerate(contexts) if context is not None}
        trained = self.simulator.config.trained_length
        for i, (obs, _) in given.items():
            if not as_flag(allowed[i], "allow_long_context") and len(obs) > trained:
                raise ValueError(
                    f"context has {len(obs)} frames, but the model was trained on at most {trained} in one piece; "
                    f"give the last {trained}, or set allow_long_context to True"
                )
        return given

    def start(self, seed: int) -> Context:
        """The start, of the simulator's own, that belongs to a seed of `reset`.

        Raises:
            ValueError: If the seed is no integer of 64 bits.
        """
        starts = self.simulator.starts
        i = int(fold(torch.tensor(as_integer(seed, "seed", -LONG - 1)), 1)) % len(starts)
        return starts.obs[i], starts.act[i]

    @in_turn
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
        actions = as_actions(self.action_space, act, (self.num_envs,), "actions").to(self.device)
        worlds = (self._memory, actions, self.keys)
        uncertainty = None
        if self.uncertainty_samples:
            with self._precision():
                uncertainty = self.model.uncertainty(*worlds, self.uncertainty_samples, max(2, self.denoising_steps))
        prediction = self._dream_on(*worlds)
        step = CoreStep(
            obs=to_pixels(prediction.obs),
            rew=prediction.rew.float(),
            terminated=prediction.term_prob > 0.5,
            term_prob=prediction.term_prob,
            uncertainty=uncertainty,
        )
        self.elapsed = self.elapsed + 1
        return step

    def _dream_on(self, memory: WorldModelState, act: Tensor, keys: Tensor) -> Prediction:
        """Let the worlds come to their next frames, in the place of their memory, unless someone else holds it."""
        donate = not self._lent
        try:
            prediction, after = self.imagine(memory, act, keys, donate)
        except BaseException:
            if donate:  # what is half written is worth nothing
                self._keep(self.initial_memory(self.num_envs))
            raise
        self._keep(after)
        return prediction

    @torch.no_grad()
    def first_info(self) -> dict[str, NDArray[np.float64]]:
        """What `CoreStep.info` would say of the worlds as they stand, (B,) each: for those that have just begun.

        Nothing was predicted there, so nothing is unsure.
        """
        self._check_begun()
        with self._precision():
            term_prob = self.model.termination(self._memory.feats.unsqueeze(1))[:, 0].sigmoid()
        return _info(term_prob, torch.zeros_like(term_prob) if self.uncertainty_samples else None)

    def imagine(
        self, memory: WorldModelState, act: Tensor, keys: Tensor, donate: bool = False
    ) -> tuple[Prediction, WorldModelState]:
        """What `step` dreams, but of any worlds: a function of its arguments, for planners that fork by the thousand.

        Args:
            memory: Of any number N of worlds, such as `self.memory.repeat_interleave(n)`.
            act: Long (N,) or float (N, A).
            keys: (N,) long; worlds that share one differ by their actions alone.
            donate: The memory is not used again, so that it may be written where it is, see `WorldModel.imagine`.
        """
        with self._precision():
            return self.model.imagine(memory, act, keys, self.denoising_steps, recorded=self._recorded, donate=donate)

    def initial_memory(self, num_worlds: int) -> WorldModelState:
        """The memory of worlds that have seen no frame.

        Raises:
            ValueError: If there is less than one, or their number is no integer.
        """
        return self.model.initial_state(as_integer(num_worlds, "num_worlds", 1, MOST_WORLDS))

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
            frames = to_frames(as_array(obs, "obs")).to(self.device)
            return self.model.observe(memory, frames, act, is_first)[0]

    @in_turn
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
        actions = as_actions(self.action_space, act, frames.shape[:2], "actions")
        self._keep(self._absorb(self._memory, rows, frames, actions, is_first=False))
        return torch.from_numpy(frames[:, -1].copy()).to(self.device)

    def frames(self) -> Tensor:
        """The last frame of every world as its memory holds it, uint8 (B, H, W, C)."""
        self._check_begun()
        return to_pixels(self.decode(self._memory))

    def decode(self, memory: WorldModelState) -> Tensor:
        """The last frames of any memory, float (N, C, H, W) in [-1, 1]."""
        return self.model.tokenizer.decode(memory.latents)

    def features(self) -> Tensor:
        """What the model reads off the last frame of every world and the memory around it, float32 (B, F)."""
        self._check_begun()
        return self._memory.feats

    @in_turn
    def save_state(self, include_rng: bool = True) -> CoreState:
        """The worlds as they are now, with or without their random streams.

        Raises:
            ResetNeeded: If a world was never reset.
            ValueError: If `include_rng` is neither True nor False.
        """
        self._check_begun()
        keys = self.keys if as_flag(include_rng, "include_rng") else None
        return CoreState(self.memory, keys, self.simulator.weights_sha256, self.elapsed)

    @in_turn
    def load_state(self, state: CoreState) -> None:
        """Go on from a saved state; without random streams in it, the core keeps its own.

        Step counts that it does not have begin anew.

        Raises:
            TypeError: If it is no `CoreState`.
            ValueError: If it is of another simulator, or of another number of worlds; nothing is changed then.
        """
        if not isinstance(state, CoreState):
            raise TypeError(f"state is {shown(state)}; expected a CoreState, as save_state() gives")
        try:
            check_fields(state)
            check_fields(state.memory)
        except ValueError as error:
            raise ValueError(f"state is none that save_state() gives: {error}") from error
        if state.weights_sha256 != self.simulator.weights_sha256:
            raise ValueError(
                f"state was dreamed with weights {state.weights_sha256[:12]}..., but this simulator has "
                f"{self.simulator.weights_sha256[:12]}...: load the simulator that it was saved with"
            )
        if state.memory.batch_size != self.num_envs:
            raise ValueError(f"state holds {state.memory.batch_size} worlds, but this core has {self.num_envs}")
        numbers = {"keys": state.keys, "elapsed": state.elapsed}
        found = state.memory.tensors() | {name: t for name, t in numbers.items() if t is not None}
        wanted = self._memory.tensors() | {name: self.keys for name in numbers.keys() & found.keys()}
        if differences := tensor_differences(found, wanted):
            raise ValueError(f"state does not fit this simulator:\n{differences}")
        elapsed = torch.zeros_like(self.elapsed) if state.elapsed is None else state.elapsed
        self.memory = state.memory.to(self.device)
        self.elapsed = elapsed.to(self.device)
        if state.keys is not None:
            self.keys = state.keys.to(self.device)

    @in_turn
    def fork(self, n: int) -> SimulatorCore:
        """A core with n children of every world, side by side; this one is left as it is.

        All children start from the state of their parent. Child 0 keeps its random stream, so it dreams what the
        parent would have; child i > 0 has its own, a function of the parent's stream and i.

        Raises:
            ResetNeeded: If a world was never reset.
            ValueError: If n is no integer, or less than 1.
        """
        self._check_begun()
        n = as_integer(n, "n", 1, MOST_WORLDS // self.num_envs)
        child = torch.arange(n, device=self.device).repeat(self.num_envs)
        keys = self.keys.repeat_interleave(n)
        streams = torch.where(child == 0, keys, fold(keys, child))
        return self._with(self.memory.repeat_interleave(n), streams, self.elapsed.repeat_interleave(n))

    def split(self) -> list[SimulatorCore]:
        """Every world as a core of its own, with the same weights; this one is left as it is."""
        return [self._with(self.memory[[i]], self.keys[[i]], self.elapsed[[i]]) for i in range(self.num_envs)]

    def _with(self, memory: WorldModelState, keys: Tensor, elapsed: Tensor) -> SimulatorCore:
        """A core of other worlds with the same weights."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.num_envs = len(keys)
        other.memory = memory
        other.keys = keys
        other.elapsed = elapsed
        other.turn = Turn()
        return other

    def _absorb(
        self, memory: WorldModelState, rows: Tensor, obs: NDArray[np.uint8], act: Tensor, is_first: bool
    ) -> WorldModelState:
        """The memory with frames (n, T, H, W, C) in n of its worlds; is_first: they begin an episode."""
        first = torch.zeros(obs.shape[:2], dtype=torch.bool, device=self.device)
        first[:, 0] = is_first
        return _replace(memory, rows, self.update_memory(memory[rows], obs, act.to(self.device), first))

    def _precision(self) -> torch.autocast:
        return autocast(self.device, self.bf16)

    def _imagine_first(self, keys: Tensor) -> WorldModelState:
        """The memory of worlds that have seen one frame, imagined from nothing.

        Nothing is certain there, and few denoising steps would give a mixture of all worlds.
        """
        discrete = isinstance(self.action_space, gym.spaces.Discrete)
        dtype = torch.long if discrete else torch.float32
        ignored = torch.zeros((len(keys), *(self.action_space.shape or ())), dtype=dtype, device=self.device)
        steps = max(self.denoising_steps, FIRST_FRAME_STEPS)
        return self.model.imagine(self.initial_memory(len(keys)), ignored, keys, steps)[1]

    def _rows(self, ids: Sequence[int]) -> Tensor:
        rows = as_array(list(ids) if isinstance(ids, range) else ids, "ids")
        ints = rows.ndim == 1 and rows.dtype.kind in "iu"
        if not ints or len(set(rows.tolist())) != rows.size or not ((rows >= 0) & (rows < self.num_envs)).all():
            raise ValueError(f"ids is {rows.tolist()}; expected different world numbers from 0 to {self.num_envs - 1}")
        return torch.tensor(rows.tolist(), device=self.device)

    def _seeds(self, seeds: Sequence[int], count: int) -> Tensor:
        seed = as_array(seeds, "seeds")
        if seed.shape != (count,) or seed.dtype.kind not in "iu" or (seed > LONG).any():
            raise ValueError(f"seeds is {shown(seeds)}; expected {count} integers of 64 bits, one per world of ids")
        return torch.from_numpy(seed.astype(np.int64))

    def _context(self, context: Context) -> tuple[NDArray[np.uint8], Tensor]:
        if not isinstance(context, list | tuple) or len(context) != 2:
            raise ValueError(f"context is a {type(context).__name__}; expected a pair (obs, act)")
        obs, act = context
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
        frames = as_array(obs, name)
        frame = self.observation_space.shape
        length = frames.shape[len(lead)] if frames.ndim > len(lead) else 0
        if frames.dtype != np.uint8 or frames.shape != (*lead, length, *frame) or not length:
            want = ", ".join(map(str, (*lead, "T", *frame)))
            raise ValueError(f"{name} is {frames.dtype} {frames.shape}; expected uint8 ({want}) with T >= 1 frames")
        return frames

    def begun(self) -> Tensor:
        """Whether each world was reset, bool (B,): one that was has seen a frame."""
        return self._memory.age > 0

    def _check_begun(self) -> None:
        """Raise unless every world was reset."""
        if fresh := (~self.begun()).nonzero().flatten().tolist():
            raise gym.error.ResetNeeded(f"call reset() first: worlds {fresh} have not begun")


def _replace(memory: WorldModelState, rows: Tensor, others: WorldModelState) -> WorldModelState:
    """The memory with other worlds in some rows."""
    named = others.tensors()
    return WorldModelState.from_tensors({k: t.index_copy(0, rows, named[k]) for k, t in memory.tensors().items()})


def _samples(number: Any) -> int:
    try:
        samples = as_integer(number, "uncertainty_samples", 0, MOST_STEPS - 1)
    except ValueError as error:
        raise ValueError(f"uncertainty_samples is {shown(number)}; expected 0 for none, or at least 2") from error
    if samples == 1:
        raise ValueError("uncertainty_samples is 1; expected 0 for none, or at least 2")
    return samples
