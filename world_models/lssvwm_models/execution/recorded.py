"""Steps that are taken often, replayed without Python between their operations.

A step of a small model is some two thousand small operations, and between any two of them Python holds the lock that
the other threads want. The operations of a step are the same every time, for worlds that have begun: those of a number
of worlds that is asked for often are recorded, and replayed from then on. The numbers are the same, to the last bit.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

Step = Callable[..., tuple[Tensor, ...]]  # of tensors

_PASSES: Final = ("constant_propagation_immutable_types", "cse", "peephole", "dce")
_RECORDING: Final = threading.Lock()  # of all models, as warnings are silenced for the whole process


class RecordedSteps:
    """Steps of a model, recorded and replayed.

    A recording takes as long as some thirty steps and holds megabytes, so few are kept, and only for what is asked for
    often: more than `after` times in the last `(after + 1) * kept` calls. No more than `kept` steps can be asked for so
    often at once, and the one that gives way to a new one is asked for least: planners whose numbers of worlds keep
    changing do not record the same steps again and again, but take them as they are.

    A copy, also by pickle, has nothing recorded yet.

    Args:
        model: Its weights may change: what was recorded before is then forgotten.
        after: Recent calls of a step until it is recorded.
        kept: The most steps that are kept.
    """

    def __init__(self, model: nn.Module, after: int = 16, kept: int = 8) -> None:
        self.after = after
        self.kept = kept
        self.steps: dict[Hashable, Step | None] = {}  # None: what cannot be recorded
        self._model = model
        self._recent: deque[Hashable] = deque(maxlen=(after + 1) * kept)
        self._lock = threading.Lock()
        self._weights = list(model.parameters())  # to find them takes longer than to look at all of them
        self._versions: Hashable = ()
        self._version = 0

    def __reduce__(self) -> tuple[type[RecordedSteps], tuple[nn.Module, int, int]]:
        return RecordedSteps, (self._model, self.after, self.kept)

    def __call__(self, step: Step, named: dict[str, Tensor], constant: Hashable) -> tuple[Tensor, ...]:
        """What `step` makes of the tensors.

        Args:
            step: Must do the same for all tensors of these names, shapes and types, and the same constant.
            named: The tensors, in the order of its arguments.
            constant: Whatever else it depends on.
        """
        tensors = tuple(named.values())
        kind = tensors[0].device.type
        key = (
            self._weights_version(),
            constant,
            tuple((name, t.shape, t.dtype, t.device) for name, t in named.items()),
            (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)),
        )
        if self._note(key) and _RECORDING.acquire(blocking=False):  # while another thread records, steps are taken
            try:
                self._keep(key, _record(step, tensors))
            finally:
                _RECORDING.release()
        recorded = self.steps.get(key)
        if recorded is None:
            return step(*tensors)
        # Casts are among what was recorded, but not where autocast was off: it is off for all of it. And it runs as it
        # is: PyTorch's own plans take longer to make, twice the memory, and may fuse what then rounds otherwise.
        with torch.autocast(kind, enabled=False), torch.jit.optimized_execution(False):
            return recorded(*tensors)

    def _weights_version(self) -> int:
        """How often the weights were found changed; what was recorded before is let go."""
        versions = tuple((p.data_ptr(), p._version) for p in self._weights)
        with self._lock:
            if versions != self._versions:
                self.steps.clear()
                self._versions = versions
                self._version += 1
            return self._version

    def _note(self, key: Hashable) -> bool:
        """Take note of a call; whether it is to be recorded, as there were many like it."""
        with self._lock:
            self._recent.append(key)
            return key not in self.steps and self._recent.count(key) > self.after

    def _keep(self, key: Hashable, recorded: Step | None) -> None:
        with self._lock:
            if len(self.steps) >= self.kept:
                del self.steps[min(self.steps, key=self._recent.count)]
            self.steps[key] = recorded


def _record(step: Step, tensors: tuple[Tensor, ...]) -> Step | None:
    """The step as a graph of its operations; None, if it cannot be recorded here.

    `torch.jit.trace` would enter the graph in a list of the whole process, which nothing ever leaves.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of what is decided once
        try:
            copies = tuple(t.clone() for t in tensors)  # a step may write into what it is given
            graph: Any = torch._C._create_graph_by_tracing(step, copies, lambda value: "", True, False)[0]
            for name in _PASSES:
                getattr(torch._C, f"_jit_pass_{name}")(graph)
            recorded: Step = torch._C._create_function_from_graph("step", graph)
        except Exception as error:  # a speed-up shall not stop a program that can run without
            _log.info("steps are not recorded: %s", error)
            return None
    return recorded
