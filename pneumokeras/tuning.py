"""RandomSearch over a HyperModel, the fit of its winner, and the run folder that holds both."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import keras
import keras_tuner
import numpy as np

from pneumokeras.data.datasets import Splits
from pneumokeras.data.loaders import RadiographDataGenerator
from pneumokeras.errors import DataError, PneumokerasError, RunError, TuningError
from pneumokeras.evaluation import DEFAULT_POINT, OperatingPoint, Predictions, choose_operating_point
from pneumokeras.evaluation.thresholds import operating_points_from_json, operating_points_to_json
from pneumokeras.files import read_csv, read_json, write_csv, write_json
from pneumokeras.inference import predict
from pneumokeras.models.saved import describe, load_model, save_model
from pneumokeras.models.transfer import CALIBRATION_IMAGES
from pneumokeras.runs import Run, default_run, open_run
from pneumokeras.training import OBJECTIVES, TrainingData, best_epoch, fit_on, set_seed

_STATUSES = {"COMPLETED": "completed", "FAILED": "failed", "INVALID": "failed"}
TRIAL_COLUMNS = ("trial", "status", "score", "epochs", "seconds", "reason")

_AUGMENTATIONS = (
    "rotation_range",
    "width_shift_range",
    "height_shift_range",
    "zoom_range",
    "shear_range",
    "horizontal_flip",
    "vertical_flip",
    "brightness_range",
    "channel_shift_range",
    "fill_mode",
)


class HyperModel(Protocol):
    """What `tune` asks of a HyperModel: Keras Tuner's, with an input shape and settings to write down."""

    input_shape: tuple[int, int, int]

    @property
    def settings(self) -> dict[str, Any]:
        """What tells one search from another, with the key `model`."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The compiled model for `hp`."""


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
class TuningResult:
    """A finished run.

    Attributes:
        model: the winner, trained, uncompiled when loaded from disk.
        best_hyperparameters: the winner's.
        trials: every configuration tried, in order.
        history: of the winner's fit; for each figure one float an epoch.
        operating_points: `default` (0.5) and `validation`.
        run: the run folder.
    """

    model: keras.Model
    best_hyperparameters: Mapping[str, Any]
    trials: tuple[Trial, ...]
    history: Mapping[str, list[float]]
    operating_points: Mapping[str, OperatingPoint]
    run: Path


@dataclass(frozen=True)
class TuningProgress:
    """Where a search stands, after each epoch.

    Attributes:
        stage: `"search"`, or `"fit"` of the winner.
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


def tune(
    hypermodel: HyperModel,
    splits: Splits,
    *,
    max_trials: int = 10,
    epochs: int = 10,
    batch_size: int = 32,
    views: int | None = 4,
    generator: Any = None,
    objective: str = "val_auc",
    seed: int = 0,
    run: str | PathLike[str] | None = None,
    progress: Callable[[TuningProgress], None] | None = None,
) -> TuningResult:
    """Search for the best configuration by random search, train it, and keep everything in a run folder.

    Each trial and the final fit are class-weighted and stop early; the score is the objective at the best
    epoch. A trial that fails is a row with its reason. Called again with the same arguments, it goes on
    where it was interrupted, or gives back the finished run.

    Args:
        hypermodel: a HyperModel of this package, or your own with `input_shape` and `settings`.
        splits: radiographs; test is not touched.
        max_trials: how many configurations to try.
        epochs: at most so many for each trial and for the final fit.
        batch_size: radiographs a step.
        views: versions of each radiograph, epoch e showing view e mod `views`; 1 is no augmentation;
            `None` augments anew every epoch.
        generator: the augmentation; by default `RadiographDataGenerator()`.
        objective: `"val_auc"`, `"val_accuracy"` or `"val_loss"`.
        seed: of search, initial weights, order and augmentation. Keras' initialisers follow global states
            only, so these are set by `set_seed` before each trial.
        run: the run folder; by default one under `tuner_runs/`, named after the settings and the data.
        progress: called after every epoch.

    Returns:
        The finished run.

    Raises:
        RunError: if the folder holds a run with other settings or data.
        TuningError: if every trial failed; the message gives the first reason.
        DataError: if a number is out of range or a radiograph cannot be read.
        ModelError: if the model cannot be built.
    """
    if max_trials < 1 or epochs < 1:
        raise DataError(f"Expected max_trials and epochs of at least 1. Received {max_trials} and {epochs}.")
    if objective not in OBJECTIVES:
        raise DataError(f"Unknown objective {objective!r}. Expected one of {', '.join(OBJECTIVES)}.")
    generator = RadiographDataGenerator() if generator is None else generator
    settings = {
        **hypermodel.settings,
        "max_trials": max_trials,
        "epochs": epochs,
        "batch_size": batch_size,
        "views": views,
        "augmentation": _augmentation_settings(generator),
        "objective": objective,
        "seed": seed,
    }
    folder = Run(Path(run)) if run is not None else default_run(settings, splits.fingerprint)
    folder.open(settings=settings, data=_data_record(splits), command=_command(), seed=seed)
    if folder.finished():
        return load_run(folder.folder)
    try:
        return _search_and_fit(hypermodel, splits, settings, generator, folder, progress)
    except PneumokerasError as error:
        folder.note(status="failed", reason=str(error))
        raise


def load_run(path: str | PathLike[str]) -> TuningResult:
    """Give back a finished run from its folder.

    Args:
        path: the run folder.

    Returns:
        The run as `tune` returned it, its model uncompiled.

    Raises:
        RunError: if the folder holds no run, or one that is not finished.
    """
    run = open_run(path)
    if not run.finished():
        status = run.record()["status"]
        raise RunError(
            f"{run.folder} is not finished (status {status}). Repeat its command to go on with it."
        )
    history = read_csv(run.history_path)
    return TuningResult(
        model=load_model(run.model_path),
        best_hyperparameters=read_json(run.hyperparameters_path),
        trials=_trials_from_rows(read_csv(run.trials_path)),
        history={
            name: [float(row[name]) for row in history]
            for name in history[0]
            if name not in ("epoch", "stage")
        },
        operating_points=operating_points_from_json(read_json(run.threshold_path)),
        run=run.folder,
    )


def in_words(hyperparameters: Mapping[str, Any]) -> str:
    """Such as "units 128, dropout 0.3"."""
    values = (f"{value:.4g}" if isinstance(value, float) else value for value in hyperparameters.values())
    return ", ".join(f"{name} {value}" for name, value in zip(hyperparameters, values, strict=True))


def write_predictions(predictions: Predictions, path: str | PathLike[str]) -> None:
    """Write predictions as CSV: path, patient, label, probability."""
    labels = [""] * len(predictions.names) if predictions.labels is None else predictions.labels
    rows = (
        {
            "path": name,
            "patient": patient,
            "label": "" if label == "" else predictions.class_names[int(label)],
            "probability": repr(float(probability)),
        }
        for name, patient, label, probability in zip(
            predictions.names, predictions.patients, labels, predictions.probabilities, strict=True
        )
    )
    write_csv(path, ("path", "patient", "label", "probability"), rows)


def _search_and_fit(
    hypermodel: HyperModel,
    splits: Splits,
    settings: Mapping[str, Any],
    generator: Any,
    run: Run,
    progress: Callable[[TuningProgress], None] | None,
) -> TuningResult:
    started = time.perf_counter()
    splits.write_csv(run.splits_path)
    _calibrate(hypermodel, splits, settings["seed"])
    data = TrainingData.from_sets(
        splits.train,
        splits.val,
        image_size=hypermodel.input_shape[:2],
        batch_size=settings["batch_size"],
        views=settings["views"],
        generator=generator,
        class_weights=splits.train.class_weights(),
        seed=settings["seed"],
    )
    reporter = _Reporter(progress, settings)
    search = _search(hypermodel, data, settings, run, reporter)
    searched = time.perf_counter()

    best = search.oracle.get_best_trials(1)[0].hyperparameters
    reporter.begin_fit()
    set_seed(settings["seed"])
    model = hypermodel.build(best)
    fitted = fit_on(
        model,
        data,
        epochs=settings["epochs"],
        objective=settings["objective"],
        checkpoint=run.checkpoint_path,
        callbacks=[_AfterEpoch(reporter)],
    )
    reporter.end()
    predictions = predict(fitted.model, splits.val)
    points = {
        "default": DEFAULT_POINT,
        "validation": choose_operating_point(splits.val.require_labels(), predictions.probabilities),
    }
    points_record = operating_points_to_json(points)
    describe(fitted.model, classes=splits.train.class_names, operating_points=points_record["points"])

    write_json(run.hyperparameters_path, best.values)
    _write_history(fitted.history, run.history_path)
    write_predictions(predictions, run.predictions_path("val"))
    write_json(run.threshold_path, points_record)
    save_model(fitted.model, run.model_path)
    run.checkpoint_path.unlink(missing_ok=True)
    run.finish(
        timings={"search": searched - started, "fit": time.perf_counter() - searched},
        best_epoch=best_epoch(fitted.history, settings["objective"]) + 1,
        model=describe(fitted.model).json(),
    )
    return TuningResult(
        model=fitted.model,
        best_hyperparameters=dict(best.values),
        trials=_trials(search.oracle),
        history=fitted.history,
        operating_points=points,
        run=run.folder,
    )


def _search(
    hypermodel: HyperModel, data: TrainingData, settings: Mapping[str, Any], run: Run, reporter: _Reporter
) -> _Search:
    run.tuner_folder.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints when it reloads
        try:
            search = _Search(hypermodel, data, settings, run, reporter)
        except PneumokerasError:
            raise
        except Exception as error:
            raise TuningError(f"The HyperModel cannot be built: {type(error).__name__}: {error}") from error
    search.save()  # else a search killed in its first trial is not found again
    reporter.scores = [trial.score for trial in _trials(search.oracle) if trial.score is not None]
    search.search(verbose=0)
    trials = _trials(search.oracle)
    if not any(trial.status == "completed" for trial in trials):
        raise TuningError(f"All {len(trials)} trials failed. The first: {trials[0].reason}")
    return search


class _Search(keras_tuner.RandomSearch):
    """Keras Tuner's RandomSearch, with our fit in each trial and no copy of each trial's weights."""

    def __init__(
        self,
        hypermodel: HyperModel,
        data: TrainingData,
        settings: Mapping[str, Any],
        run: Run,
        reporter: _Reporter,
    ):
        self._data = data
        self._settings = settings
        self._run = run
        self._reporter = reporter
        super().__init__(
            hypermodel,
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
            keras.backend.clear_session()
            set_seed(self._settings["seed"])
            model = self.hypermodel.build(trial.hyperparameters)
            history = fit_on(
                model, self._data, epochs=epochs, objective=objective, callbacks=[_AfterEpoch(self._reporter)]
            ).history
            at = best_epoch(history, objective)
        except DataError:
            raise
        except Exception as error:
            raise keras_tuner.errors.FailedTrialError(f"{type(error).__name__}: {error}") from error
        figures = {name: history[name][at] for name in OBJECTIVES}
        return figures | {"epochs": len(history["loss"]), "seconds": time.perf_counter() - started}

    def on_trial_end(self, trial: Any) -> None:
        """Let Keras Tuner keep its files, then keep ours."""
        super().on_trial_end(trial)
        ended = self.oracle.get_trial(trial.trial_id)
        if ended.score is not None and np.isfinite(ended.score):
            self._reporter.scores.append(float(ended.score))
        self._reporter.end()
        _write_trials(_trials(self.oracle), self._run.trials_path)


class _Reporter:
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
        self._trial = number
        self._epoch = 0

    def begin_fit(self) -> None:
        self._stage = "fit"
        self._epoch = 0

    def epoch(self) -> None:
        self._epoch += 1
        self._epochs_seen += 1
        self._tell()

    def end(self) -> None:
        self._tell(ended=True)

    def _tell(self, ended: bool = False) -> None:
        if self._progress is None:
            return
        pending = 0 if ended else self._epochs - self._epoch
        if self._stage == "search":
            pending += (self._trials - self._trial + 1) * self._epochs  # the winner's fit is one more
        best = max if OBJECTIVES[self._objective] == "max" else min
        seconds = (time.perf_counter() - self._started) / max(self._epochs_seen, 1)
        self._progress(
            TuningProgress(
                stage=self._stage,
                trial=self._trial,
                trials=self._trials,
                epoch=self._epoch,
                epochs=self._epochs,
                objective=self._objective,
                best=best(self.scores) if self.scores else None,
                seconds_left=pending * seconds,
                trial_ended=ended,
            )
        )


class _AfterEpoch(keras.callbacks.Callback):
    def __init__(self, reporter: _Reporter):
        super().__init__()
        self._reporter = reporter

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._reporter.epoch()


def _calibrate(hypermodel: HyperModel, splits: Splits, seed: int) -> None:
    """Show a HyperModel some training radiographs, if it asks for them."""
    calibrate = getattr(hypermodel, "calibrate", None)
    if calibrate is None:
        return
    chosen = np.random.default_rng(seed).permutation(len(splits.train))[:CALIBRATION_IMAGES]
    calibrate(splits.train.subset(np.sort(chosen)).pixels(hypermodel.input_shape[:2]))


def _trials(oracle: Any) -> tuple[Trial, ...]:
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
        reason="" if status == "completed" else _reason(trial.message),
        hyperparameters=dict(trial.hyperparameters.values),
    )


def _reason(message: str | None) -> str:
    """The reason inside the traceback that Keras Tuner keeps of a failed trial."""
    if not message:
        return "the score is not a number"
    lines = [line for line in message.splitlines() if "FailedTrialError: " in line]
    return lines[-1].partition("FailedTrialError: ")[2] if lines else message.strip().splitlines()[-1]


def _write_trials(trials: tuple[Trial, ...], path: Path) -> None:
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    write_csv(path, (*TRIAL_COLUMNS, *names), (trial.row() for trial in trials))


def _trials_from_rows(rows: list[dict[str, str]]) -> tuple[Trial, ...]:
    return tuple(
        Trial(
            number=int(row["trial"]),
            status=row["status"],
            score=float(row["score"]) if row["score"] else None,
            epochs=int(row["epochs"]) if row["epochs"] else None,
            seconds=float(row["seconds"]) if row["seconds"] else None,
            reason=row["reason"],
            hyperparameters={
                name: _number(value) for name, value in row.items() if name not in TRIAL_COLUMNS
            },
        )
        for row in rows
    )


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _write_history(history: Mapping[str, list[float]], path: Path) -> None:
    first = ("learning_rate", "loss", "val_loss", "val_auc")
    names = [*first, *(name for name in history if name not in first)]
    count = len(history["loss"])
    rows = ({"epoch": i + 1, "stage": 1} | {name: history[name][i] for name in names} for i in range(count))
    write_csv(path, ("epoch", "stage", *names), rows)


def _augmentation_settings(generator: Any) -> dict[str, Any]:
    values = {name: getattr(generator, name, None) for name in _AUGMENTATIONS}
    return {"generator": type(generator).__name__} | {
        name: np.asarray(value).tolist() if isinstance(value, list | tuple | np.ndarray) else value
        for name, value in values.items()
    }


def _data_record(splits: Splits) -> dict[str, Any]:
    counts = {
        name: radiographs.counts
        for name, radiographs in (("train", splits.train), ("val", splits.val), ("test", splits.test))
    }
    return {
        "path": str(Path(splits.source).absolute()),
        "fingerprint": splits.fingerprint,
        "classes": list(splits.train.class_names),
        "counts": counts,
        "notices": list(splits.notices),
    }


def _command() -> str:
    program = Path(sys.argv[0]).name
    return (
        shlex.join([program, *sys.argv[1:]])
        if program == "pneumokeras"
        else "pneumokeras.tune(...) in Python"
    )
