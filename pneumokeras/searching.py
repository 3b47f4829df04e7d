"""Keras Tuner's RandomSearch with our fit in each trial, and what is written down of its trials."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras
import keras_tuner
import numpy as np

from pneumokeras.errors import PneumokerasError, TuningError
from pneumokeras.files import write_csv
from pneumokeras.runs import Run
from pneumokeras.training import OBJECTIVES, TrainingData, best_epoch, best_of, fit_on, set_seed

TRIAL_COLUMNS = ("trial", "status", "score", "epochs", "seconds", "reason")

logger = logging.getLogger(__name__)

_STATUSES = {"COMPLETED": "completed", "FAILED": "failed", "INVALID": "failed"}

Data = TypeVar("Data", bound=TrainingData)

Build = Callable[[keras_tuner.HyperParameters], keras.Model]
"""Makes the compiled model that a trial fits."""


@dataclass(frozen=True)
class Trial:
    """One configuration tried.

    Attributes:
        number: counted from 1.
        status: `"completed"` or `"failed"`.
        score: the objective at its best epoch; `None` if it failed.
        epochs: how many were trained.
        seconds: wall time.
        reason: why it failed; empty if it did not.
        hyperparameters: the values tried.
    """

    number: int
    status: str
    score: float | None
    epochs: int | None
    seconds: float | None
    reason: str
    hyperparameters: Mapping[str, Any]

    def row(self) -> dict[str, Any]:
        """The trial as trials.csv has it: one flat mapping."""
        figures = {name: getattr(self, name) for name in TRIAL_COLUMNS[1:]}
        return {"trial": self.number, **figures, **self.hyperparameters}


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


def search(
    build: Build, data: TrainingData, settings: Mapping[str, Any], run: Run, reporter: Reporter
) -> RandomSearch:
    """Try configurations, or go on trying where an earlier process stopped.

    Args:
        build: makes the compiled model of a trial.
        data: what it is fitted on.
        settings: `objective`, `max_trials`, `epochs` and `seed`.
        run: where Keras Tuner's files and trials.csv are kept.
        reporter: told of each epoch.

    Returns:
        The search, with at least one completed trial.

    Raises:
        TuningError: if every trial failed; the message gives the first reason.
    """
    run.tuner_folder.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints when it reloads
        try:
            search = RandomSearch(build, data, settings, run, reporter)
        except PneumokerasError:
            raise
        except Exception as error:
            raise TuningError(f"The HyperModel cannot be built: {type(error).__name__}: {error}") from error
    search.save()  # else a search killed in its first trial is not found again
    reporter.scores = [trial.score for trial in trials_of(search.oracle) if trial.score is not None]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)  # the scores of a failed trial
        search.search(verbose=0)
    trials = trials_of(search.oracle)
    if not any(trial.status == "completed" for trial in trials):
        raise TuningError(f"All {len(trials)} trials failed. The first: {trials[0].reason}")
    return search


class RandomSearch(keras_tuner.RandomSearch):
    """Keras Tuner's RandomSearch, with our fit in each trial and no copy of each trial's weights."""

    def __init__(
        self,
        build: Build,
        data: TrainingData,
        settings: Mapping[str, Any],
        run: Run,
        reporter: Reporter,
    ):
        self._data = data
        self._settings = settings
        self._run = run
        self._reporter = reporter
        super().__init__(
            build,
            objective=keras_tuner.Objective(settings["objective"], OBJECTIVES[settings["objective"]]),
            max_trials=settings["max_trials"],
            seed=settings["seed"] + 1,  # Keras Tuner takes 0 for "no seed"
            max_consecutive_failed_trials=settings["max_trials"] + 1,
            directory=str(run.tuner_folder.parent),
            project_name=run.tuner_folder.name,
        )

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Build and fit the trial's model; return its figures at the best epoch."""
        started = time.perf_counter()
        self._reporter.begin_trial(int(trial.trial_id) + 1)
        objective, epochs = self._settings["objective"], self._settings["epochs"]
        try:
            set_seed(self._settings["seed"])
            model = self.hypermodel.build(trial.hyperparameters)
            history = fit_on(
                model,
                in_tuned_batches(self._data, trial.hyperparameters),
                epochs=epochs,
                objective=objective,
                callbacks=[AfterEpoch(self._reporter)],
            ).history
            at = best_epoch(history, objective)
        except Exception as error:
            # Keras Tuner prints the traceback of what it catches; a score of NaN fails a trial quietly.
            logger.info("Trial %s failed", trial.trial_id, exc_info=True)
            trial.message = _first_line(error)
            return {objective: float("nan")}
        figures = {name: history[name][at] for name in OBJECTIVES}
        return figures | {"epochs": len(history["loss"]), "seconds": time.perf_counter() - started}

    def on_trial_end(self, trial: Any) -> None:
        """Let Keras Tuner keep its files, then keep ours."""
        super().on_trial_end(trial)
        ended = self.oracle.get_trial(trial.trial_id)
        if ended.score is not None and np.isfinite(ended.score):
            self._reporter.scores.append(float(ended.score))
        self._reporter.end()
        _write_trials(trials_of(self.oracle), self._run.trials_path)


def in_tuned_batches(data: Data, hp: keras_tuner.HyperParameters) -> Data:
    """The data in batches of the size that `hp` draws, if it draws one."""
    return data.batched(hp.values["batch_size"]) if "batch_size" in hp.values else data


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


def in_words(hyperparameters: Mapping[str, Any]) -> str:
    """Such as "units 128, dropout 0.3"."""
    values = (f"{value:.4g}" if isinstance(value, float) else value for value in hyperparameters.values())
    return ", ".join(f"{name} {value}" for name, value in zip(hyperparameters, values, strict=True))


def trials_of(oracle: Any) -> tuple[Trial, ...]:
    """The trials that Keras Tuner's oracle knows to be over, in order."""
    ended = [trial for _, trial in sorted(oracle.trials.items()) if trial.status in _STATUSES]
    return tuple(_trial(trial) for trial in ended)


def _trial(trial: Any) -> Trial:
    def figure(name: str) -> float | None:
        return float(trial.metrics.get_best_value(name)) if trial.metrics.exists(name) else None

    status, epochs, seconds = _STATUSES[trial.status], figure("epochs"), figure("seconds")
    return Trial(
        number=int(trial.trial_id) + 1,
        status=status,
        score=float(trial.score) if status == "completed" else None,
        epochs=None if epochs is None else int(epochs),
        seconds=None if seconds is None else round(seconds, 2),
        reason="" if status == "completed" else trial.message or "the score is not a number",
        hyperparameters=dict(trial.hyperparameters.values),
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]


def _write_trials(trials: tuple[Trial, ...], path: Path) -> None:
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    write_csv(path, (*TRIAL_COLUMNS, *names), (trial.row() for trial in trials))


def trials_from_rows(rows: list[dict[str, str]]) -> tuple[Trial, ...]:
    """The trials in the rows of a trials.csv."""
    return tuple(
        Trial(
            number=int(row["trial"]),
            status=row["status"],
            score=float(row["score"]) if row["score"] else None,
            epochs=int(row["epochs"]) if row["epochs"] else None,
            seconds=float(row["seconds"]) if row["seconds"] else None,
            reason=row["reason"],
            hyperparameters={
                name: _value(text) for name, text in row.items() if text and name not in TRIAL_COLUMNS
            },
        )
        for row in rows
    )


def _value(text: str) -> float | int | bool | str:
    """A hyperparameter's value from its cell."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
