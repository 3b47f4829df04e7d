"""Metrics of labels and probabilities; undefined ones are NaN.

The `weighted_` forms are for the bootstrap: they take `(replicates, n)` weights (how often each radiograph
was drawn) and return `(replicates,)` values, vectorized.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics as sklearn_metrics

from pneumokeras.evaluation.arguments import check_labeled, has_both_classes
from pneumokeras.evaluation.types import Curve

CALIBRATION_BINS = 10
SATURATED = 2.0**-24  # a float32 sigmoid cannot come nearer to 1

Count = TypeVar("Count", int, np.ndarray)


class ConfusionCounts(NamedTuple, Generic[Count]):
    """A confusion matrix, in scikit-learn's order.

    Attributes:
        tn: NORMAL predicted NORMAL.
        fp: NORMAL predicted PNEUMONIA.
        fn: PNEUMONIA predicted NORMAL.
        tp: PNEUMONIA predicted PNEUMONIA.
    """

    tn: Count
    fp: Count
    fn: Count
    tp: Count


AnyCounts = ConfusionCounts[int] | ConfusionCounts[np.ndarray]


def confusion_counts(y_true: ArrayLike, probabilities: ArrayLike, threshold: float) -> ConfusionCounts[int]:
    """Count images by true and predicted class; PNEUMONIA is predicted if and only if p >= threshold.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        threshold: in [0, 1].

    Returns:
        Four integers `(tn, fp, fn, tp)`.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """
    tn, fp, fn, tp = _cells(y_true, probabilities, threshold).sum(axis=1).tolist()
    return ConfusionCounts(tn, fp, fn, tp)


def weighted_confusion_counts(
    y_true: ArrayLike, probabilities: ArrayLike, threshold: float, weights: np.ndarray
) -> ConfusionCounts[np.ndarray]:
    """Return `confusion_counts` for each row of `(replicates, n)` weights: four `(replicates,)` arrays."""
    tn, fp, fn, tp = _weighted_totals(_cells(y_true, probabilities, threshold), weights)
    return ConfusionCounts(tn, fp, fn, tp)


def accuracy(counts: AnyCounts) -> np.ndarray:
    """Return the accuracy, (tp + tn) / all: one float or `(replicates,)`; NaN if there are no images."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.tn + counts.fp + counts.fn)


def precision(counts: AnyCounts) -> np.ndarray:
    """Return the precision, tp / (tp + fp): one float or `(replicates,)`; NaN without predicted positives."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def sensitivity(counts: AnyCounts) -> np.ndarray:
    """Return the sensitivity, tp / (tp + fn): one float or `(replicates,)`; NaN without PNEUMONIA."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: AnyCounts) -> np.ndarray:
    """Return the specificity, tn / (tn + fp): one float or `(replicates,)`; NaN without NORMAL."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def balanced_accuracy(counts: AnyCounts) -> np.ndarray:
    """Return the mean of sensitivity and specificity: one float or `(replicates,)`; NaN without a class."""
    return (sensitivity(counts) + specificity(counts)) / 2


def f1(counts: AnyCounts) -> np.ndarray:
    """Return the F1 of PNEUMONIA, 2 tp / (2 tp + fp + fn): one float or `(replicates,)`.

    NaN if no image is PNEUMONIA and none is predicted PNEUMONIA.
    """
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def mcc(counts: AnyCounts) -> np.ndarray:
    """Return the Matthews correlation coefficient, in [-1, 1]: one float or `(replicates,)`.

    NaN unless both classes are present; 0, its limit, if they are and every image is predicted the same.

    Reference: Matthews (1975), Biochimica et Biophysica Acta 405(2).
    """
    tn, fp, fn, tp = (np.asarray(count, dtype=np.float64) for count in counts)
    positives, negatives, predicted_positive, predicted_negative = tp + fn, tn + fp, tp + fp, tn + fn
    # Counts are whole, so 1 only replaces 0, and the numerator is 0 already if all predictions are the same.
    spread = np.sqrt(np.maximum(predicted_positive * predicted_negative, 1))
    return _ratio(tp * tn - fp * fn, np.sqrt(positives * negatives) * spread)


def roc_auc(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that PNEUMONIA scores above NORMAL, ties counting half.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        Float in [0, 1]; NaN unless both classes are present.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.

    Reference: Hanley & McNeil (1982), Radiology 143(1).
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not has_both_classes(y_true):
        return np.nan
    return float(sklearn_metrics.roc_auc_score(y_true, probabilities))


def average_precision(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the average precision: precision at each distinct probability, weighted by the gain in recall.

    This is scikit-learn's definition, without interpolation.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        Float in [0, 1]; NaN unless both classes are present. A random model gets the prevalence.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not has_both_classes(y_true):
        return np.nan
    return float(sklearn_metrics.average_precision_score(y_true, probabilities))


def weighted_ranking(
    y_true: ArrayLike, probabilities: ArrayLike, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return `roc_auc` and `average_precision` for each row of `(replicates, n)` weights, in one pass.

    Returns:
        Two `(replicates,)` arrays.
    """
    tp_step, fp_step = _weights_by_probability(y_true, probabilities, weights)
    tp = np.cumsum(tp_step, axis=1)
    predicted_positive = tp + np.cumsum(fp_step, axis=1)
    positives, negatives = tp[:, -1], predicted_positive[:, -1] - tp[:, -1]
    precision = np.divide(tp, predicted_positive, out=np.zeros_like(tp), where=predicted_positive > 0)
    gained = np.einsum("rk,rk->r", tp_step, precision)
    concordant = np.einsum("rk,rk->r", fp_step, tp) - np.einsum("rk,rk->r", fp_step, tp_step) / 2
    return (
        _ratio(concordant, positives * negatives),
        _ratio(gained, np.where(negatives > 0, positives, 0)),
    )


def brier_score(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the Brier score: the mean squared error of the probabilities.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        Float in [0, 1]; lower is better; NaN without any image.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.

    Reference: Brier (1950), Monthly Weather Review 78(1).
    """
    return float(weighted_brier_score(y_true, probabilities, _each_once(y_true))[0])


def weighted_brier_score(y_true: ArrayLike, probabilities: ArrayLike, weights: np.ndarray) -> np.ndarray:
    """Return `brier_score` for each row of `(replicates, n)` weights: `(replicates,)` floats."""
    y_true, probabilities = check_labeled(y_true, probabilities)
    (squared_error,) = _weighted_totals((probabilities - y_true)[np.newaxis] ** 2, weights)
    return _ratio(squared_error, weights.sum(axis=1))


def expected_calibration_error(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the expected calibration error: the mean gap of probabilities and observed share of PNEUMONIA.

    The probabilities are binned into 10 bins of equal width, [0, 0.1), [0.1, 0.2), ... [0.9, 1]. The gaps
    between a bin's mean probability and its share of PNEUMONIA are averaged, weighted by the number of
    images. Chance alone opens gaps, so that even a calibrated model has an error above 0 on a small set.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        Float in [0, 1]; lower is better; NaN without any image.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.

    Reference: Naeini, Cooper & Hauskrecht (2015), AAAI 29.
    """
    return float(weighted_expected_calibration_error(y_true, probabilities, _each_once(y_true))[0])


def weighted_expected_calibration_error(
    y_true: ArrayLike, probabilities: ArrayLike, weights: np.ndarray
) -> np.ndarray:
    """Return `expected_calibration_error` for each row of `(replicates, n)` weights: `(replicates,)`."""
    y_true, probabilities = check_labeled(y_true, probabilities)
    bins = probability_bins(probabilities, CALIBRATION_BINS)
    residual_by_bin = np.zeros((CALIBRATION_BINS, y_true.size))
    residual_by_bin[bins, np.arange(y_true.size)] = y_true - probabilities
    gaps = np.abs(_weighted_totals(residual_by_bin, weights))
    return _ratio(gaps.sum(axis=0), weights.sum(axis=1))


def probability_bins(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of equal width of each probability, `(n,)` integers from 0; 1 is in the last bin."""
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def log_loss(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean cross-entropy in nats.

    Probabilities are clipped to at least `SATURATED` from 0 and 1: a float32 sigmoid is exactly 1 for every
    logit above 17, and one such mistake would make the loss infinite.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        Float of at least 0; lower is better; NaN without any image.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.

    Reference: Good (1952), Journal of the Royal Statistical Society B 14(1).
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not y_true.size:
        return np.nan
    # Not `callbacks.cross_entropy`, which clips to 1e-7 as Keras does and is NaN for a diverged model.
    clipped = unsaturated(probabilities)
    return float(-np.log(np.where(y_true == 1, clipped, 1 - clipped)).mean())


def unsaturated(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities clipped to at least `SATURATED` from 0 and 1, so that each has a finite logit."""
    return np.clip(probabilities, SATURATED, 1 - SATURATED)


def roc_curve(y_true: ArrayLike, probabilities: ArrayLike) -> Curve:
    """Return scikit-learn's ROC curve: x = false positive rate, y = true positive rate.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        `Curve` from (0, 0) to (1, 1), thresholds falling from infinity; empty if a class is missing.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not has_both_classes(y_true):
        return _empty_curve()
    return Curve(*sklearn_metrics.roc_curve(y_true, probabilities))


def precision_recall_curve(y_true: ArrayLike, probabilities: ArrayLike) -> Curve:
    """Return scikit-learn's precision-recall curve of PNEUMONIA: x = recall, y = precision.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        `Curve` from recall 1 to recall 0, where no image is predicted positive and precision is set to 1,
        thresholds rising to infinity; empty if a class is missing.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not has_both_classes(y_true):
        return _empty_curve()
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(y_true, probabilities)
    return Curve(x=recall, y=precision, thresholds=np.append(thresholds, np.inf))


def _cells(y_true: ArrayLike, probabilities: ArrayLike, threshold: float) -> np.ndarray:
    """Return which radiographs are tn, fp, fn and tp: `(4, n)` booleans."""
    y_true, probabilities = check_labeled(y_true, probabilities)
    positive, predicted = y_true == 1, probabilities >= threshold
    return np.stack(
        [~positive & ~predicted, ~positive & predicted, positive & ~predicted, positive & predicted]
    )


def _weighted_totals(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the totals of `(k, n)` values under `(replicates, n)` weights: `(k, replicates)` floats."""
    # Not `@`: threaded BLAS stalls while other work keeps the cores busy (2 s became 88 s for 20,000 images).
    return np.einsum("kn,rn->kr", values.astype(np.float64), weights)


def _weights_by_probability(
    y_true: ArrayLike, probabilities: ArrayLike, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of PNEUMONIA and of NORMAL at each distinct probability, the highest first.

    Returns:
        Two `(replicates, k)` arrays for k distinct probabilities; tied radiographs are summed.
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    order = np.argsort(-probabilities, kind="stable")
    first_of_ties = np.flatnonzero(np.diff(probabilities[order], prepend=2))
    ordered = weights[:, order]
    positive = ordered * y_true[order]
    negative = ordered - positive
    if first_of_ties.size == order.size:
        return positive, negative
    return np.add.reduceat(positive, first_of_ties, axis=1), np.add.reduceat(negative, first_of_ties, axis=1)


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """Divide elementwise, NaN where the denominator is 0; return a float for two numbers."""
    denominator = np.asarray(denominator, dtype=np.float64)
    undefined = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)[()]


def _each_once(y_true: ArrayLike) -> np.ndarray:
    return np.ones((1, np.size(y_true)))


def _empty_curve() -> Curve:
    return Curve(x=np.empty(0), y=np.empty(0), thresholds=np.empty(0))
