"""The loop that all trainings share: steps, metrics, evaluations, and checkpoints to go on from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lssvwm_models.utils.progress import progress
from lssvwm_models.utils.run_folder import RunFolder


@dataclass(frozen=True)
class Schedule:
    """When a training does what, in steps. All is done after the last step, too.

    Attributes:
        title: of what is shown of its progress.
        steps: until the training is done.
        log_every, eval_every, checkpoint_every: between lines of metrics, evaluations, and checkpoints.
    """

    title: str
    steps: int
    log_every: int
    eval_every: int
    checkpoint_every: int


class TrainingLoop(ABC):
    """A training in a run folder, which goes on from its last checkpoint as if it had never stopped.

    Attributes:
        folder: The run folder.
        schedule: When what is done.
        step: Steps done so far.
        seconds: What these took.
    """

    def __init__(self, folder: RunFolder, schedule: Schedule) -> None:
        self.folder = folder
        self.schedule = schedule
        self.step = 0
        self.seconds = 0.0

    @abstractmethod
    def train_step(self) -> dict[str, float]:
        """Do one step, and count it; returns its metrics, which are logged as means over several steps."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides `step` and `seconds`: tensors and plain values."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of a checkpoint."""

    @abstractmethod
    def status(self, metrics: dict[str, float]) -> str:
        """What is shown of the last means of metrics, beside how far it is."""

    def totals(self) -> dict[str, float]:
        """What is logged beside the means, as it stands now."""
        return {}

    def resume(self) -> None:
        """Go on from the checkpoint in the run folder, if there is one."""
        if (checkpoint := self.folder.load_checkpoint()) is not None:
            try:
                self.step = checkpoint["step"]
                self.seconds = checkpoint["seconds"]
                self.load_state(checkpoint)
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.folder.checkpoint} is not of this training, or of another release ({error!r}): delete it "
                    "to begin anew"
                ) from error
        # What was logged after the checkpoint is going to be logged again.
        self.folder.rewind(self.step)

    def checkpoint(self) -> None:
        """Write everything that is needed to go on as if the training had never stopped."""
        self.folder.save_checkpoint({"step": self.step, "seconds": self.seconds, **self.state()})

    def loop(self, evaluate: Callable[[], dict[str, float]] | None = None) -> None:
        """Do the steps that are left. `evaluate` gives metrics that are logged as they are."""
        schedule = self.schedule
        recent: list[dict[str, float]] = []
        with progress(schedule.title, schedule.steps, self.step) as report:
            while self.step < schedule.steps:
                recent.append(self.train_step())
                if self._is_due(schedule.log_every):
                    means = {name: float(np.mean([metrics[name] for metrics in recent])) for name in recent[0]}
                    recent.clear()
                    self.folder.log(self.step, means | self.totals())
                    report(self.step, self.status(means))
                if evaluate is not None and self._is_due(schedule.eval_every):
                    self.folder.log(self.step, evaluate())
                # Last, so that a run which is killed while it evaluates evaluates again.
                if self._is_due(schedule.checkpoint_every):
                    self.checkpoint()
                report(self.step)

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.schedule.steps
