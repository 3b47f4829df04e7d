"""From predictions to everything a report says of them: figures with intervals, curves, operating points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from pneumokeras.errors import DataError
from pneumokeras.evaluation import metrics
from pneumokeras.evaluation.checks import has_both_classes
from pneumokeras.evaluation.intervals import patient_bootstrap, percentile_interval, proportion_interval
from pneumokeras.evaluation.presentation import TextReport, evaluation_html, report_text
from pneumokeras.evaluation.results import (
    Curve,
    Interval,
    Misclassified,
    OperatingPoint,
    OperatingPointResult,
    Predictions,
)
from pneumokeras.evaluation.thresholds import DEFAULT_POINT, oracle_point

REPORT_SCHEMA = 1

HEADLINE_METRICS = {
    "roc_auc": (metrics.roc_auc, metrics.weighted_roc_auc),
    "average_precision": (metrics.average_precision, metrics.weighted_average_precision),
    "brier": (metrics.brier_score, metrics.weighted_brier_score),
    "calibration_error": (metrics.expected_calibration_error, metrics.weighted_expected_calibration_error),
}
BOOTSTRAPPED_SCORES = {"f1": metrics.f1, "balanced_accuracy": metrics.balanced_accuracy, "mcc": metrics.mcc}


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How good a model's predictions of one set are.

    Attributes:
        split: which set, such as `"test"`.
        predictions: what was evaluated.
        operating_points: what happens at `default` (0.5), at each given point, and at `oracle`, chosen on
            these very predictions and so no result; without `oracle` where a class is missing.
        roc_auc: area under the ROC curve.
        average_precision: of PNEUMONIA.
        brier: mean squared error of the probabilities.
        calibration_error: expected calibration error, 10 bins.
        roc: ROC curve.
        precision_recall: precision-recall curve.
        patients: number of patients.
        prevalence: share of PNEUMONIA, in [0, 1].
        run: the run folder's name, if there is one.
        data: the path of the radiographs, if they are not the run's own.
    """

    split: str
    predictions: Predictions
    operating_points: Mapping[str, OperatingPointResult]
    roc_auc: Interval
    average_precision: Interval
    brier: Interval
    calibration_error: Interval
    roc: Curve
    precision_recall: Curve
    patients: int
    prevalence: float
    run: str | None = None
    data: str | None = None

    @property
    def chosen(self) -> str:
        """Name of the operating point to speak of first: `validation` if there is one, else `default`."""
        return "validation" if "validation" in self.operating_points else "default"

    def json(self) -> dict[str, Any]:
        """The content of report.json: plain numbers and strings, `None` for what is undefined."""
        return {
            "schema": REPORT_SCHEMA,
            "run": self.run,
            "split": self.split,
            "data": self.data,
            "images": len(self.predictions),
            "patients": self.patients,
            "prevalence": self.prevalence,
            **{name: getattr(self, name).json() for name in HEADLINE_METRICS},
            "operating_points": {name: result.json() for name, result in self.operating_points.items()},
        }

    def report(self, point: str | None = None) -> TextReport:
        """Headline figures, scores and scikit-learn's report at one operating point, as a text.

        Args:
            point: name of the operating point; by default `chosen`.

        Raises:
            DataError: if there is no such point.
        """
        if point is None:
            point = self.chosen
        self._result(point)
        return TextReport(report_text(self, point))

    def classification_report(self, point: str = "default") -> str:
        """scikit-learn's classification report at one operating point; `nan` for what is undefined.

        Raises:
            DataError: if there is no such point.
        """
        called = self._result(point).point.calls(self.predictions.probabilities)
        return sklearn_metrics.classification_report(
            self.predictions.labels,
            called.astype(int),
            labels=[0, 1],
            target_names=self.predictions.class_names,
            zero_division=np.nan,
        )

    def misclassified(self, point: str = "default") -> Misclassified:
        """Which radiographs are called wrong at one operating point, the most confident mistake first.

        Raises:
            DataError: if there is no such point.
        """
        probabilities = self.predictions.probabilities
        called = self._result(point).point.calls(probabilities)
        positive = self.predictions.labels == 1
        rising = np.argsort(probabilities, kind="stable")
        falling = np.argsort(-probabilities, kind="stable")
        return Misclassified(
            false_negatives=rising[(positive & ~called)[rising]],
            false_positives=falling[(~positive & called)[falling]],
        )

    def __repr__(self) -> str:
        """One line: the set and its ROC AUC."""
        return f"<Evaluation of {self.split}: {len(self.predictions)} radiographs, ROC AUC {self.roc_auc}>"

    def _repr_html_(self) -> str:
        return evaluation_html(self)

    def _result(self, point: str) -> OperatingPointResult:
        if point not in self.operating_points:
            raise DataError(
                f"Expected one of the operating points {list(self.operating_points)}, received {point!r}."
            )
        return self.operating_points[point]


def evaluate_predictions(
    predictions: Predictions,
    *,
    operating_points: Mapping[str, OperatingPoint] | None = None,
    split: str = "test",
    run: str | None = None,
    data: str | None = None,
    seed: int = 0,
    replicates: int = 2000,
) -> Evaluation:
    """Evaluate a model's predictions of a labelled set, each figure with its 95 % interval.

    Args:
        predictions: at least one radiograph, with labels. If only one class is there, what needs both is NaN.
        operating_points: thresholds chosen elsewhere, by name, such as `validation`. `default` (0.5) is
            added, and where both classes are there `oracle`, chosen on these very predictions.
        split: which set this is, for the record.
        run: the run folder's name, for the record.
        data: the path of the radiographs, for the record, if they are not the run's own.
        seed: of the bootstrap over patients.
        replicates: how many bootstrap samples.

    Returns:
        `Evaluation`.

    Raises:
        DataError: if there are no labels, no radiographs, or a given point takes a name that is not its own.
    """
    y_true, probabilities = _labelled(predictions)
    points = _all_points(y_true, probabilities, operating_points or {}, split)
    patient_names, patients = np.unique(predictions.patients, return_inverse=True)
    replicated = patient_bootstrap(
        partial(_bootstrapped_figures, y_true, probabilities, points),
        patients,
        replicates=replicates,
        rng=np.random.default_rng(seed),
    )
    return Evaluation(
        split=split,
        predictions=predictions,
        operating_points={
            name: OperatingPointResult(
                point,
                *metrics.confusion_counts(y_true, probabilities, point.threshold),
                scores=_scores(name, point, y_true, probabilities, patients, replicated),
            )
            for name, point in points.items()
        },
        **{
            name: percentile_interval(metric(y_true, probabilities), replicated[name])
            for name, (metric, _) in HEADLINE_METRICS.items()
        },
        roc=metrics.roc_curve(y_true, probabilities),
        precision_recall=metrics.precision_recall_curve(y_true, probabilities),
        patients=patient_names.size,
        prevalence=float(y_true.mean()),
        run=run,
        data=data,
    )


def _labelled(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    if predictions.labels is None:
        raise DataError(
            "Expected predictions with labels, received none."
            " Put the radiographs into one folder per class, or give the manifest a column 'label'."
        )
    if not len(predictions):
        raise DataError("Expected at least one radiograph to evaluate, received none.")
    return predictions.labels, predictions.probabilities


def _all_points(
    y_true: np.ndarray, probabilities: np.ndarray, given: Mapping[str, OperatingPoint], split: str
) -> dict[str, OperatingPoint]:
    """`default`, the given points, `oracle`, in that order."""
    if "oracle" in given or given.get("default", DEFAULT_POINT) != DEFAULT_POINT:
        raise DataError(
            "Expected no operating point named 'oracle', and 'default' at 0.5 only; received "
            + ", ".join(f"{name!r} at {point.threshold:g}" for name, point in given.items())
            + ". Give it another name."
        )
    points = {"default": DEFAULT_POINT, **given}
    if has_both_classes(y_true):
        points["oracle"] = oracle_point(y_true, probabilities, split=split)
    return points


def _bootstrapped_figures(
    y_true: np.ndarray, probabilities: np.ndarray, points: Mapping[str, OperatingPoint], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Every figure that is bootstrapped, `(replicates,)` floats each; those at a point as `point/score`."""
    figures = {
        name: weighted(y_true, probabilities, weights) for name, (_, weighted) in HEADLINE_METRICS.items()
    }
    for name, point in points.items():
        counts = metrics.weighted_confusion_counts(y_true, probabilities, point.threshold, weights)
        figures |= {f"{name}/{score}": function(counts) for score, function in BOOTSTRAPPED_SCORES.items()}
    return figures


def _scores(
    name: str,
    point: OperatingPoint,
    y_true: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    replicated: Mapping[str, np.ndarray],
) -> dict[str, Interval]:
    counts = metrics.confusion_counts(y_true, probabilities, point.threshold)
    return _proportions(y_true == 1, point.calls(probabilities), patients) | {
        score: percentile_interval(float(function(counts)), replicated[f"{name}/{score}"])
        for score, function in BOOTSTRAPPED_SCORES.items()
    }


def _proportions(positive: np.ndarray, called: np.ndarray, patients: np.ndarray) -> dict[str, Interval]:
    """The scores that are a share of images: of which images, and what is counted among them."""
    everyone = np.ones_like(positive)
    questions = {
        "accuracy": (everyone, called == positive),
        "sensitivity": (positive, called),
        "specificity": (~positive, ~called),
        "precision": (called, positive),
        "npv": (~called, ~positive),
    }
    return {
        name: proportion_interval(counted[among], patients[among])
        for name, (among, counted) in questions.items()
    }
