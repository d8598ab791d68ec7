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
from typing import Any

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

Step = Callable[..., tuple[Tensor, ...]]  # of tensors


class RecordedSteps:
    """Steps of a model, recorded and replayed.

    Args:
        model: Its weights may change: what was recorded before is then recorded anew.
        after: Steps of the same number of worlds until they are recorded, which takes as long as some ten of them.
    """

    def __init__(self, model: nn.Module, after: int = 16) -> None:
        self.after = after
        self.steps: dict[Hashable, Step] = {}
        self._seen: Counter[Hashable] = Counter()
        self._lock = threading.Lock()
        self._weights = list(model.parameters())  # to find them takes longer than to look at all of them

    def __call__(self, step: Step, named: dict[str, Tensor], constant: Hashable) -> tuple[Tensor, ...]:
        """What `step` makes of the tensors.

        Args:
            step: Must do the same for all tensors of these names, shapes and types, and the same constant.
            named: The tensors, in the order of its arguments.
            constant: Whatever else it depends on.
        """
        kind = next(iter(named.values())).device.type
        key = (
            constant,
            tuple((name, t.shape, t.dtype, t.device) for name, t in named.items()),
            (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)),
            tuple((p.data_ptr(), p._version) for p in self._weights),
        )
        recorded = self.steps.get(key)
        if recorded is None:
            self._seen[key] += 1
            if self._seen[key] <= self.after:
                return step(*named.values())
            recorded = self._record(key, step, tuple(named.values()))
        return recorded(*named.values())

    def _record(self, key: Hashable, step: Step, tensors: tuple[Tensor, ...]) -> Step:
        """The step as a graph of its operations; as it is, if it cannot be recorded here."""
        with self._lock, warnings.catch_warnings():  # of what is decided once, and of PyTorch's plans
            if key not in self.steps:
                warnings.simplefilter("ignore")
                graph: Any = step
                try:
                    graph = torch.jit.trace(step, tensors, check_trace=False)
                except Exception as error:  # a speed-up shall not stop a program that can run without
                    _log.info("steps are not recorded: %s", error)
                self.steps[key] = graph
        return self.steps[key]
