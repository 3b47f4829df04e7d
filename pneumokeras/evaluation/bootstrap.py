"""Replicates of the figures whose intervals are bootstrapped over patients."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.evaluation import metrics
from pneumokeras.evaluation.arguments import patients_or_images
from pneumokeras.evaluation.intervals import patient_bootstrap, percentile_interval
from pneumokeras.evaluation.types import Interval, OperatingPoint

REPLICATES = 2000

HEADLINE_METRICS = {
    "roc_auc": metrics.roc_auc,
    "average_precision": metrics.average_precision,
    "brier": metrics.brier_score,
    "calibration_error": metrics.expected_calibration_error,
}

BOOTSTRAPPED_SCORES = {"f1": metrics.f1, "balanced_accuracy": metrics.balanced_accuracy, "mcc": metrics.mcc}


def replicated_headline(
    y_true: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the figures that need no threshold for each row of weights: `(replicates,)` floats each.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        weights: `(replicates, n)` floats.
    """
    roc_auc, average_precision = metrics.weighted_ranking(y_true, probabilities, weights)
    return {
        "roc_auc": roc_auc,
        "average_precision": average_precision,
        "brier": metrics.weighted_brier_score(y_true, probabilities, weights),
        "calibration_error": metrics.weighted_expected_calibration_error(y_true, probabilities, weights),
    }


def headline_interval(
    name: str, y_true: np.ndarray, probabilities: np.ndarray, patients: ArrayLike | None = None
) -> Interval:
    """Return one of `HEADLINE_METRICS` with the interval that `evaluate_predictions` gives it by default.

    Args:
        name: of the figure.
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        patients: `(n,)` the patient of each radiograph; by default each is a patient of its own.
    """
    replicated = patient_bootstrap(
        partial(replicated_headline, y_true, probabilities),
        patients_or_images(patients, y_true.size),
        replicates=REPLICATES,
        rng=np.random.default_rng(0),
    )
    return percentile_interval(HEADLINE_METRICS[name](y_true, probabilities), replicated[name])


def bootstrapped_figures(
    y_true: np.ndarray, probabilities: np.ndarray, points: Mapping[str, OperatingPoint], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return every bootstrapped figure, `(replicates,)` floats each; those at a point as `point/score`."""
    figures = replicated_headline(y_true, probabilities, weights)
    for name, point in points.items():
        counts = metrics.weighted_confusion_counts(y_true, probabilities, point.threshold, weights)
        figures |= {f"{name}/{score}": function(counts) for score, function in BOOTSTRAPPED_SCORES.items()}
    return figures
