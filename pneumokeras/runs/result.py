"""The finished run: what is written to its folder, and how it is read back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from pneumokeras.core.errors import DataError, RunError
from pneumokeras.core.files import read_csv, read_json, write_csv, write_json
from pneumokeras.core.frames import frame_of
from pneumokeras.core.html import table
from pneumokeras.core.words import number_of
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import (
    DEFAULT_POINT,
    BalancedAccuracy,
    OperatingPoint,
    Predictions,
    ThresholdPolicy,
    confusion_counts,
)
from pneumokeras.evaluation.arguments import check_probabilities
from pneumokeras.evaluation.thresholds import operating_points_from_json, operating_points_to_json
from pneumokeras.evaluation.vocabulary import describe_point, format_threshold, one_class_warning
from pneumokeras.models.saving import (
    ModelDescription,
    description_of,
    load_model,
    save_model,
    set_description,
)
from pneumokeras.runs.folder import Run, begin_run, open_run, reading
from pneumokeras.runs.trials import Trial, format_hyperparameters, trials_from_rows

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from pneumokeras.evaluation.displays.training import AccuracyCurvesDisplay, LossCurvesDisplay

HISTORY_COLUMNS = ("learning_rate", "loss", "val_loss", "val_auc")
"""First columns of history.csv after epoch and stage; further scores follow."""

logger = logging.getLogger(__name__)

_TRIALS_SHOWN = 20

_FITTED_SINCE = "the model was fitted since, and has no threshold of its own"


@dataclass(frozen=True, repr=False)
class RunResult:
    """A finished run of `tune`, `train` or `ensemble`; in a notebook it shows itself as a table.

    It stands for its folder where a path is expected, as in `report_run(result)`, and for its model where a
    model is, as in `evaluate(result, splits.test)`.

    Attributes:
        model: the trained model, uncompiled as in its file, whether it was just trained or is found again.
        best_hyperparameters: the search's winner; empty without a search.
        trials: every configuration tried, in order; empty without a search.
        history: one float per epoch for each figure of the model's fit; empty without a fit.
        operating_points: `default` (0.5) and `validation`, chosen for the run's weights. If `fit` changes
            those of `model`, `evaluate` has `default` only; `load_run` returns the run as it was.
        run: the run folder.

    Example:
        >>> result = pk.load_run("tuner_runs/first")
        >>> sorted(result.operating_points)
        ['default', 'validation']
        >>> sorted(result.best_hyperparameters)
        ['depth', 'dropout', 'learning_rate', 'width']
        >>> result.plot_history()
        <LossCurvesDisplay>
    """

    model: keras.Model
    best_hyperparameters: Mapping[str, Any]
    trials: tuple[Trial, ...]
    history: Mapping[str, list[float]]
    operating_points: Mapping[str, OperatingPoint]
    run: Path

    def __fspath__(self) -> str:
        """Return the run folder."""
        return str(self.run)

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept, counted from 1; `None` without a fit or the run folder."""
        run = Run(self.run)
        return run.record().get("best_epoch") if run.record_path.exists() else None

    @property
    def warning(self) -> str:
        """A sentence if the threshold chosen on validation tells none of them apart; else empty."""
        path, classes = Run(self.run).predictions_path("val"), description_of(self.model).classes
        predictions = read_predictions(path, class_names=classes) if path.exists() else None
        if predictions is None or predictions.labels is None:
            return ""
        return _warning(self.operating_points["validation"], predictions)

    def plot_history(
        self, score: str = "loss", ax: Axes | None = None, **kwargs: Any
    ) -> LossCurvesDisplay | AccuracyCurvesDisplay:
        """Draw the loss, or the accuracy, of training and validation over the epochs of the fit.

        Args:
            score: `"loss"` or `"accuracy"`.
            ax: axes to draw into; by default those of a new figure.
            **kwargs: for the curve of training.

        Raises:
            SettingsError: if the history has no such score, as that of an ensemble.
        """
        from pneumokeras.evaluation.displays.training import history_display

        return history_display(self.history, score, best_epoch=self.best_epoch).plot(ax, **kwargs)

    def trials_frame(self) -> pandas.DataFrame:
        """Return the trials as a pandas table, with a column for each hyperparameter, as in trials.csv.

        Raises:
            DataError: if pandas, an optional dependency, is not installed.
        """
        return frame_of([trial.row() for trial in self.trials], instead="trials.csv in the run folder")

    def __repr__(self) -> str:
        """Return one line with the run folder, the model and the threshold."""
        points, described = self._valid_points, description_of(self.model)
        threshold = format_threshold(points.get("validation", points["default"]).threshold)
        since = "" if points == self.operating_points else f" ({_FITTED_SINCE})"
        return f"<RunResult {self.run}: {described.architecture}, threshold {threshold}{since}>"

    @property
    def _valid_points(self) -> Mapping[str, OperatingPoint]:
        """The operating points that hold for the model as it is: none was chosen for weights fitted since."""
        if description_of(self.model).operating_points:
            return self.operating_points
        return {"default": self.operating_points["default"]}

    def _repr_html_(self) -> str:
        valid = self._valid_points
        points = ((f"{name} point", describe_point(point)) for name, point in valid.items())
        facts = [
            ("run", self.run),
            ("model", description_of(self.model).architecture),
            ("best hyperparameters", format_hyperparameters(self.best_hyperparameters)),
            ("epoch kept", self.best_epoch),
            *points,
            ("note", "" if valid == self.operating_points else _FITTED_SINCE),
            ("warning", self.warning if "validation" in valid else ""),
        ]
        shown = table(("", ""), [(name, fact) for name, fact in facts if fact not in ("", None)])
        if not self.trials:
            return shown
        rows = [trial.row() for trial in self.trials]
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[_short(row.get(name)) for name in names] for row in rows[:_TRIALS_SHOWN]]
        more = f", the first {_TRIALS_SHOWN}" if len(rows) > _TRIALS_SHOWN else ""
        return shown + table(names, cells, caption=f"{number_of(len(rows), 'trial')}{more}")


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _warning(point: OperatingPoint, predictions: Predictions) -> str:
    """Return a sentence if a threshold tells no radiographs of labeled predictions apart; else nothing."""
    counts = confusion_counts(predictions.require_labels(), predictions.probabilities, point.threshold)
    return one_class_warning(point, counts, predictions.class_names)


TuningResult = RunResult
"""The name of `RunResult` in version 0.1, which had no other runs than those of `tune`."""


def result_of_run(
    run: str | PathLike[str] | None,
    splits: Splits,
    work: Callable[[Run], RunResult],
    *,
    settings: Mapping[str, Any],
    seed: int,
    check: Callable[[], None] | None = None,
) -> RunResult:
    """Begin or resume a run and do its work, unless it is finished already.

    Args:
        run: its folder; by default one named after settings and data.
        splits: its radiographs.
        work: trains what the run is about and keeps it with `keep_run`.
        settings: everything that decides the outcome except the data, with the key `model`.
        seed: of splits and training.
        check: called before anything is written, unless the run is finished; raises what would fail it.

    Returns:
        The run's result, from its folder if it was finished.

    Raises:
        RunError: if the folder holds a run with other settings or data, or something else.
    """
    with begin_run(run, splits, settings=settings, seed=seed, check=check) as begun:
        if begun.finished():
            date = begun.record().get("finished", "an unknown date")
            logger.warning("Found the finished run %s of %s: nothing is trained.", begun.folder, date)
            return load_run(begun.folder)
        with begun.noting_failure():
            return work(begun)


def keep_run(
    run: Run,
    model: keras.Model,
    predictions: Predictions,
    *,
    history: Mapping[str, list[float]] | None = None,
    pad: bool = False,
    bits: int | None = None,
    policy: ThresholdPolicy | None = None,
    trials: tuple[Trial, ...] = (),
    hyperparameters: Mapping[str, Any] | None = None,
    **facts: Any,
) -> RunResult:
    """Choose the operating point, write all files of the run, and mark it as finished.

    Args:
        run: a run that was begun.
        model: the full model.
        predictions: of the validation radiographs, with labels.
        history: of the model's fit; by default none.
        pad: whether radiographs are padded to the square.
        bits: the depth of the training images of more than eight bits, if there were any.
        policy: chooses the operating point; by default `BalancedAccuracy()`.
        trials: of a search.
        hyperparameters: of a search's winner.
        **facts: further facts for run.json, such as `timings`.

    Raises:
        DataError: if the predictions have no labels to choose an operating point on.
    """
    if predictions.labels is None:
        raise DataError("The validation radiographs have no labels. Expected a label for each of them.")
    chosen = (policy or BalancedAccuracy()).choose(predictions.labels, predictions.probabilities)
    if warning := _warning(chosen, predictions):
        logger.warning("%s", warning, extra={"of_result": True})
    points = {"default": DEFAULT_POINT, "validation": chosen}
    points_record = operating_points_to_json(points)
    described = set_description(
        model,
        classes=predictions.class_names,
        pad=pad,
        bits=bits,
        operating_points=points_record["points"],
    )
    if described.architecture == ModelDescription.architecture:  # an own model, which the settings name
        set_description(model, architecture=run.record()["settings"]["model"])
    history = dict(history or {})
    if hyperparameters is not None:
        write_json(run.hyperparameters_path, dict(hyperparameters))
    if history:
        _write_history(history, run.history_path)
    write_predictions(predictions, run.predictions_path("val"))
    write_json(run.threshold_path, points_record)
    save_model(model, run.model_path)
    run.checkpoint_path.unlink(missing_ok=True)
    run.finish(model=description_of(model).json(), **facts)
    uncompiled = keras.Model(model.inputs[0], model.outputs[0], name=model.name)  # as in its file
    return RunResult(uncompiled, dict(hyperparameters or {}), trials, history, points, run.folder)


def load_run(path: str | PathLike[str]) -> RunResult:
    """Load a finished run from its folder.

    Args:
        path: the run folder.

    Returns:
        The run as `tune`, `train` or `ensemble` returned it, its model uncompiled.

    Raises:
        RunError: if the folder holds no run, or one that is not finished, or a file is missing or damaged.
        ModelError: if the model cannot be loaded.

    Example:
        >>> result = pk.load_run("tuner_runs/first")
        >>> result.model.input_shape
        (None, 32, 32, 1)
    """
    run = open_run(path)
    if not run.finished():
        status = run.record()["status"]
        raise RunError(
            f"{run.folder} is not finished (status {status}). Repeat its command to resume it.",
            path=run.folder,
        )
    record = run.record()
    searched = "max_trials" in record["settings"] or run.hyperparameters_path.exists()
    return RunResult(
        operating_points=_read_operating_points(run.threshold_path),
        best_hyperparameters=_read_hyperparameters(run.hyperparameters_path) if searched else {},
        trials=_read_trials(run.trials_path) if searched else (),
        history=_read_history(run.history_path, record["best_epoch"]) if "best_epoch" in record else {},
        model=load_model(run.model_path),
        run=run.folder,
    )


def write_predictions(predictions: Predictions, path: str | PathLike[str]) -> None:
    """Write predictions as CSV: path, patient, label, probability."""
    write_csv(path, ("path", "patient", "label", "probability"), predictions.rows())


def read_predictions(path: str | PathLike[str], *, class_names: tuple[str, str]) -> Predictions:
    """Read predictions that `write_predictions` wrote.

    Args:
        path: the CSV file.
        class_names: names of class 0 and class 1.

    Returns:
        The predictions; without labels if one is missing or is neither of the two.

    Raises:
        RunError: if the file is missing or damaged.
    """
    with reading(Path(path)):
        rows = read_csv(path)
        labels = [row["label"] for row in rows]
        return Predictions(
            names=np.array([row["path"] for row in rows]),
            patients=np.array([row["patient"] for row in rows]),
            labels=np.array([class_names.index(label) for label in labels], dtype=int)
            if set(labels) <= set(class_names)
            else None,
            probabilities=check_probabilities([float(row["probability"]) for row in rows]),
            class_names=class_names,
        )


def _write_history(history: Mapping[str, list[float]], path: Path) -> None:
    names = [*HISTORY_COLUMNS, *(name for name in history if name not in (*HISTORY_COLUMNS, "stage"))]
    count = len(history["loss"])
    rows = (
        {"epoch": i + 1, **{name: history[name][i] for name in names}, "stage": int(history["stage"][i])}
        for i in range(count)
    )
    write_csv(path, ("epoch", "stage", *names), rows)


def _read_history(path: Path, best_epoch: int) -> dict[str, list[float]]:
    with reading(path):
        rows = read_csv(path)
        history = {name: [float(row[name]) for row in rows] for name in rows[0] if name != "epoch"}
        for name in ("stage", *HISTORY_COLUMNS):
            history[name][best_epoch - 1]
    return history


def _read_hyperparameters(path: Path) -> dict[str, Any]:
    with reading(path):
        return dict(read_json(path))


def _read_trials(path: Path) -> tuple[Trial, ...]:
    with reading(path):
        trials = trials_from_rows(read_csv(path))
        if not trials:
            raise ValueError("no rows")
    return trials


def _read_operating_points(path: Path) -> dict[str, OperatingPoint]:
    with reading(path):
        points = operating_points_from_json(read_json(path))
        points["default"], points["validation"]
    return points
