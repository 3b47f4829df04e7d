"""Keras Tuner's RandomSearch with our fit in each trial, and the record of its trials."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import keras_tuner
import numpy as np

from pneumokeras.core.errors import PneumokerasError, TuningError, first_line
from pneumokeras.core.files import read_json
from pneumokeras.runs.folder import Run, reading
from pneumokeras.runs.trials import Trial, write_trials
from pneumokeras.training.callbacks import copies_for
from pneumokeras.training.data_adapters import TrainingData
from pneumokeras.training.loop import fit_on, set_seed
from pneumokeras.training.objectives import OBJECTIVES, kept_epoch_of
from pneumokeras.training.progress import AfterEpoch, Reporter
from pneumokeras.training.settings import SearchSettings

logger = logging.getLogger(__name__)
_STATUSES = {"COMPLETED": "completed", "FAILED": "failed", "INVALID": "failed"}

Data = TypeVar("Data", bound=TrainingData)

Build = Callable[[keras_tuner.HyperParameters], keras.Model]
"""Returns the compiled model that a trial fits."""


def search(
    build: Build,
    data: TrainingData,
    settings: SearchSettings,
    run: Run,
    reporter: Reporter,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras_tuner.Oracle:
    """Try configurations, or resume a search that was interrupted.

    Args:
        build: returns the compiled model of a trial.
        data: the batches it is fitted on.
        settings: objective, number of trials, epochs and seed.
        run: holds Keras Tuner's files and trials.csv.
        reporter: informed of trials and epochs.
        callbacks: of the caller's; each trial gets copies.

    Returns:
        Keras Tuner's oracle, with at least one completed trial.

    Raises:
        TuningError: if every trial failed; the message gives the first reason.
        RunError: if a file of an interrupted search is damaged.
    """
    run.tuner_folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(run.tuner_folder.rglob("*.json")):
        with reading(file):
            read_json(file)
    with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints when it reloads
        try:
            tuner = RandomSearch(build, data, settings, run, reporter, callbacks=callbacks)
        except PneumokerasError:
            raise
        except Exception as error:
            raise TuningError(
                f"The HyperModel cannot be built: {type(error).__name__}: {first_line(error)}"
            ) from error
    tuner.save()  # otherwise a search killed in its first trial is not found again
    before = [trial for trial in trials_of(tuner.oracle) if trial.status in ("completed", "failed")]
    if before:
        logger.warning("Resumed: %d of %d trials were finished.", len(before), settings.max_trials)
    reporter.begin_search(trial.score for trial in trials_of(tuner.oracle) if trial.score is not None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)  # the scores of a failed trial
        tuner.search(verbose=0)
    trials = trials_of(tuner.oracle)
    if not any(trial.status == "completed" for trial in trials):
        raise TuningError(f"All {len(trials)} trials failed. The first: {trials[0].reason}")
    return tuner.oracle


class RandomSearch(keras_tuner.RandomSearch):
    """Keras Tuner's RandomSearch, with our fit in each trial and no copy of each trial's weights.

    `run_trial` is replaced as Keras Tuner documents it, rather than `HyperModel.fit`: its own `run_trial`
    calls `keras.backend.clear_session()` before each model is built, which would reset the user's dtype
    policy and turn Keras' progress bars on again, and what `build` raises is printed with its traceback.
    """

    def __init__(
        self,
        build: Build,
        data: TrainingData,
        settings: SearchSettings,
        run: Run,
        reporter: Reporter,
        *,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        self._callbacks = callbacks
        self._data = data
        self._settings = settings
        self._run = run
        self._reporter = reporter
        super().__init__(
            build,
            objective=keras_tuner.Objective(settings.objective, OBJECTIVES[settings.objective]),
            max_trials=settings.max_trials,
            seed=settings.seed + 1,  # Keras Tuner takes 0 for "no seed"
            max_consecutive_failed_trials=settings.max_trials + 1,
            directory=str(run.tuner_folder.parent),
            project_name=run.tuner_folder.name,
        )

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Build and fit the trial's model; return its figures at the epoch whose weights it keeps."""
        started = time.perf_counter()
        self._reporter.begin_trial(int(trial.trial_id) + 1)
        objective, schedule = self._settings.objective, self._settings.schedule
        try:
            set_seed(self._settings.seed)
            history = fit_on(
                self.hypermodel.build(trial.hyperparameters),
                in_tuned_batches(self._data, trial.hyperparameters),
                epochs=self._settings.epochs,
                objective=objective,
                schedule=schedule,
                callbacks=[
                    AfterEpoch(self._reporter),
                    *copies_for(self._callbacks, f"trial_{int(trial.trial_id) + 1}"),
                ],
            ).history
            best = kept_epoch_of(history, objective, schedule.keep)
        except Exception as error:
            # Keras Tuner prints the traceback of what it catches; a score of NaN fails a trial quietly.
            logger.info("Trial %s failed", trial.trial_id, exc_info=True)
            trial.message = _reason(error)
            return {objective: float("nan")}
        figures = {name: history[name][best] for name in OBJECTIVES}
        return figures | {"epochs": len(history["loss"]), "seconds": time.perf_counter() - started}

    def on_trial_end(self, trial: Any) -> None:
        """Write Keras Tuner's files, then trials.csv."""
        super().on_trial_end(trial)
        score = self.oracle.get_trial(trial.trial_id).score
        self._reporter.end_trial(float(score) if score is not None and np.isfinite(score) else None)
        write_trials(trials_of(self.oracle), self._run.trials_path)


def in_tuned_batches(data: Data, hp: keras_tuner.HyperParameters) -> Data:
    """Return the data in batches of the size that `hp` holds, if it holds one."""
    return data.batched(hp.values["batch_size"]) if "batch_size" in hp.values else data


def trials_of(oracle: keras_tuner.Oracle) -> tuple[Trial, ...]:
    """Return the finished trials of a Keras Tuner oracle, in order."""
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


def _reason(error: Exception) -> str:
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"
