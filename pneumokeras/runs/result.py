"""A trained model as a finished run folder: what is written down of it, and how it is given back."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import RunError
from pneumokeras.core.files import read_csv, read_json, write_csv, write_json
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import (
    DEFAULT_POINT,
    BalancedAccuracy,
    OperatingPoint,
    Predictions,
    ThresholdPolicy,
)
from pneumokeras.evaluation.thresholds import operating_points_from_json, operating_points_to_json
from pneumokeras.models.saving import description_of, load_model, save_model, set_description
from pneumokeras.runs.folder import Run, default_run, open_run
from pneumokeras.runs.trials import Trial, trials_from_rows
from pneumokeras.training.loop import FitResult


@dataclass(frozen=True)
class TuningResult:
    """A finished run.

    Attributes:
        model: the winner, or the one model that was trained; uncompiled when loaded from disk.
        best_hyperparameters: the winner's; empty if nothing was searched.
        trials: every configuration tried, in order; empty if nothing was searched.
        history: of the model's fit; for each figure one float an epoch; empty if nothing was fitted.
        operating_points: `default` (0.5) and `validation`.
        run: the run folder.
    """

    model: keras.Model
    best_hyperparameters: Mapping[str, Any]
    trials: tuple[Trial, ...]
    history: Mapping[str, list[float]]
    operating_points: Mapping[str, OperatingPoint]
    run: Path


def begin_run(
    run: str | PathLike[str] | None, splits: Splits, *, settings: Mapping[str, Any], seed: int
) -> Run:
    """Start a run, or go on with it.

    Args:
        run: its folder; by default one named after settings and data.
        splits: the radiographs it is about.
        settings: everything that decides the outcome but the data, with the key `model`.
        seed: of splits and training.

    Raises:
        RunError: if the folder holds a run with other settings or data, or something else.
    """
    folder = Run(Path(run)) if run is not None else default_run(settings, splits.fingerprint)
    folder.open(settings=settings, data=splits.record(), command=_command(), seed=seed)
    splits.write_csv(folder.splits_path)
    return folder


def keep_run(
    run: Run,
    fitted: FitResult,
    predictions: Predictions,
    *,
    pad: bool = False,
    policy: ThresholdPolicy | None = None,
    trials: tuple[Trial, ...] = (),
    hyperparameters: Mapping[str, Any] | None = None,
    **facts: Any,
) -> TuningResult:
    """Choose the operating point, write everything down, and call the run finished.

    Args:
        run: a run that was begun.
        fitted: the full model, and the history of its fit, empty if there was none.
        predictions: of the validation radiographs.
        pad: whether radiographs are padded to the square.
        policy: chooses the operating point; by default `BalancedAccuracy()`.
        trials: of a search.
        hyperparameters: the winner's, if something was searched.
        **facts: further ones for run.json, such as `timings`.
    """
    model, policy = fitted.model, policy or BalancedAccuracy()
    assert predictions.labels is not None
    chosen = policy.choose(predictions.labels, predictions.probabilities)
    points = {"default": DEFAULT_POINT, "validation": chosen}
    points_record = operating_points_to_json(points)
    set_description(
        model,
        classes=predictions.class_names,
        pad=pad,
        operating_points=points_record["points"],
    )
    if hyperparameters is not None:
        write_json(run.hyperparameters_path, dict(hyperparameters))
    if fitted.history:
        _write_history(fitted.history, run.history_path)
    write_predictions(predictions, run.predictions_path("val"))
    write_json(run.threshold_path, points_record)
    save_model(model, run.model_path)
    run.checkpoint_path.unlink(missing_ok=True)
    run.finish(model=description_of(model).json(), **facts)
    return TuningResult(model, dict(hyperparameters or {}), trials, fitted.history, points, run.folder)


def load_run(path: str | PathLike[str]) -> TuningResult:
    """Give back a finished run from its folder.

    Args:
        path: the run folder.

    Returns:
        The run as `tune` or `train` returned it, its model uncompiled.

    Raises:
        RunError: if the folder holds no run, or one that is not finished.
    """
    run = open_run(path)
    if not run.finished():
        status = run.record()["status"]
        raise RunError(
            f"{run.folder} is not finished (status {status}). Repeat its command to go on with it."
        )
    searched = run.hyperparameters_path.exists()
    return TuningResult(
        model=load_model(run.model_path),
        best_hyperparameters=read_json(run.hyperparameters_path) if searched else {},
        trials=trials_from_rows(read_csv(run.trials_path)) if searched else (),
        history=_read_history(run.history_path) if run.history_path.exists() else {},
        operating_points=operating_points_from_json(read_json(run.threshold_path)),
        run=run.folder,
    )


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


def read_predictions(path: str | PathLike[str], *, class_names: tuple[str, str]) -> Predictions:
    """Read predictions that `write_predictions` wrote.

    Args:
        path: the CSV file.
        class_names: names of class 0 and class 1.

    Returns:
        The predictions; without labels if one is missing or is neither of the two.
    """
    rows = read_csv(path)
    labels = [row["label"] for row in rows]
    return Predictions(
        names=np.array([row["path"] for row in rows]),
        patients=np.array([row["patient"] for row in rows]),
        labels=np.array([class_names.index(label) for label in labels], dtype=int)
        if set(labels) <= set(class_names)
        else None,
        probabilities=np.array([float(row["probability"]) for row in rows]),
        class_names=class_names,
    )


def _write_history(history: Mapping[str, list[float]], path: Path) -> None:
    first = ("learning_rate", "loss", "val_loss", "val_auc")
    names = [*first, *(name for name in history if name not in (*first, "stage"))]
    count = len(history["loss"])
    rows = (
        {"epoch": i + 1, **{name: history[name][i] for name in names}, "stage": int(history["stage"][i])}
        for i in range(count)
    )
    write_csv(path, ("epoch", "stage", *names), rows)


def _read_history(path: Path) -> dict[str, list[float]]:
    rows = read_csv(path)
    return {name: [float(row[name]) for row in rows] for name in rows[0] if name != "epoch"}


def _command() -> str:
    program = Path(sys.argv[0]).name
    if program in ("pneumokeras", "__main__.py"):
        return shlex.join(["pneumokeras", *sys.argv[1:]])
    return "pneumokeras in Python"
