"""Steps that are taken often, replayed without Python between their operations.

A step of a small model is some two thousand small operations, and between any two of them Python holds the lock that
the other threads want. The operations of a step are the same every time, for worlds that have begun: after some steps
of a number of worlds they are recorded, and replayed from then on. The numbers are the same.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from world_models.prediction import Prediction
from world_models.state import WorldModelState

if TYPE_CHECKING:
    from world_models.world_model import WorldModel

_log = logging.getLogger(__name__)

Step = Callable[..., tuple[Tensor, ...]]  # of tensors


class RecordedSteps:
    """`WorldModel.imagine_alone`, recorded and replayed.

    Args:
        model: Its weights may change: what was recorded before is then recorded anew.
        after: Steps of the same number of worlds until they are recorded, which takes as long as some ten of them.
    """

    def __init__(self, model: WorldModel, after: int = 16) -> None:
        self.model, self.after = model, after
        self.steps: dict[Hashable, Step] = {}
        self._seen: Counter[Hashable] = Counter()
        self._lock = threading.Lock()
        self._weights = list(model.parameters())  # to find them takes longer than to look at all of them
        # Attention over earlier frames reaches as far as they go, which is another operation every time.
        self._can = model.config.network.memory == "scan"

    def __call__(
        self, state: WorldModelState, act: Tensor, rng: Tensor, steps: int, pose: Tensor | None
    ) -> tuple[Prediction, WorldModelState]:
        """See `WorldModel.imagine_alone`."""
        if not self._can or bool((state.age == 0).any()):
            return self.model.imagine_alone(state, act, rng, steps, pose)
        named = state.tensors() | {"act": act, "rng": rng} | ({} if pose is None else {"pose given": pose})
        kind = state.age.device.type
        key = (
            steps,
            tuple((name, t.shape, t.dtype, t.device) for name, t in named.items()),
            (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)),
            tuple((p.data_ptr(), p._version) for p in self._weights),
        )
        step = self.steps.get(key)
        if step is None:
            self._seen[key] += 1
            if self._seen[key] <= self.after:
                return self.model.imagine_alone(state, act, rng, steps, pose)
            step = self._recorded(key, named, steps)
        latents, expected, rew, term_prob, *after = step(*named.values())
        memory = WorldModelState.from_tensors(dict(zip(state.tensors(), after, strict=True)))
        return Prediction(latents, expected, rew, term_prob, memory.feats, self.model.tokenizer.decode), memory

    def _recorded(self, key: Hashable, named: dict[str, Tensor], steps: int) -> Step:
        """The step, as a graph of its operations; as it is, if it cannot be recorded here."""

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            given = dict(zip(named, tensors, strict=True))
            act, rng, pose = given.pop("act"), given.pop("rng"), given.pop("pose given", None)
            frame, memory = self.model.imagine_alone(WorldModelState.from_tensors(given), act, rng, steps, pose)
            return frame.latents, frame.expected, frame.rew, frame.term_prob, *memory.tensors().values()

        with self._lock, warnings.catch_warnings():  # of what is decided once, and of PyTorch's plans
            if key not in self.steps:
                warnings.simplefilter("ignore")
                made: Any = step
                try:
                    made = torch.jit.trace(step, tuple(named.values()), check_trace=False)
                except Exception as error:  # a speed-up shall not stop a program that can run without
                    _log.info("steps are not recorded: %s", error)
                self.steps[key] = made
        return self.steps[key]
