"""Progress of a search and of fits, for whoever wants to show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from pneumokeras.training.objectives import best_of


@dataclass(frozen=True)
class TuningProgress:
    """Where a search stands, after each epoch.

    Attributes:
        stage: `"search"`, `"fit"` of the winner, or what is fine-tuned, such as `"stage5"`.
        trial: the current trial, counted from 1.
        trials: how many there will be.
        epoch: epochs done of this trial or fit.
        epochs: how many it may take.
        objective: what is being chosen by, such as `"val_auc"`.
        best: the best score so far; `None` before the first.
        seconds_left: an estimate that assumes that no trial stops early.
        trial_ended: whether this trial or fit is over.
    """

    stage: str
    trial: int
    trials: int
    epoch: int
    epochs: int
    objective: str
    best: float | None
    seconds_left: float
    trial_ended: bool = False


class Reporter:
    """Turns epochs into `TuningProgress`."""

    def __init__(self, progress: Callable[[TuningProgress], None] | None, settings: Mapping[str, Any]):
        self._progress = progress
        self._trials = settings["max_trials"]
        self._epochs = settings["epochs"]
        self._objective = settings["objective"]
        self._stage = "search"
        self._trial = 0
        self._epoch = 0
        self._epochs_seen = 0
        self._started = time.perf_counter()
        self.scores: list[float] = []

    def begin_trial(self, number: int) -> None:
        """Note that a trial starts, counted from 1."""
        self._trial = number
        self._epoch = 0

    def begin_fit(self) -> None:
        """Note that the winner's fit starts."""
        self._stage = "fit"
        self._epoch = 0

    def begin_fine_tuning(self, trainable: str, epochs: int) -> None:
        """Note that a stage of fine-tuning starts, whose epochs take another time than those before."""
        if self._epochs_seen:
            self.end()
        self._stage, self._epoch, self._epochs = trainable, 0, epochs
        self._epochs_seen, self._started = 0, time.perf_counter()

    def epoch(self) -> None:
        """Note the end of an epoch, and tell."""
        self._epoch += 1
        self._epochs_seen += 1
        self._tell()

    def end(self) -> None:
        """Tell that the trial or the fit is over."""
        self._tell(ended=True)

    def _tell(self, ended: bool = False) -> None:
        if self._progress is None:
            return
        pending = 0 if ended else self._epochs - self._epoch
        if self._stage == "search":
            pending += (self._trials - self._trial + 1) * self._epochs  # the winner's fit is one more
        seconds = (time.perf_counter() - self._started) / max(self._epochs_seen, 1)
        self._progress(
            TuningProgress(
                stage=self._stage,
                trial=self._trial,
                trials=self._trials,
                epoch=self._epoch,
                epochs=self._epochs,
                objective=self._objective,
                best=best_of(self.scores, self._objective),
                seconds_left=pending * seconds,
                trial_ended=ended,
            )
        )


class AfterEpoch(keras.callbacks.Callback):
    """Passes the end of each epoch on to a reporter."""

    def __init__(self, reporter: Reporter):
        super().__init__()
        self._reporter = reporter

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Pass it on."""
        self._reporter.epoch()
