"""Metrics of labels and probabilities, undefined ones NaN.

Each metric has one form for the set itself and a `weighted_` form for the bootstrap, which takes
`(replicates, n)` weights (how often each radiograph was drawn) and gives `(replicates,)` values, vectorized.
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
    """Images by truth and call, in scikit-learn's order.

    Attributes:
        tn: NORMAL, not called PNEUMONIA.
        fp: NORMAL, called PNEUMONIA.
        fn: PNEUMONIA, not called.
        tp: PNEUMONIA, called.
    """

    tn: Count
    fp: Count
    fn: Count
    tp: Count


AnyCounts = ConfusionCounts[int] | ConfusionCounts[np.ndarray]


def confusion_counts(y_true: ArrayLike, probabilities: ArrayLike, threshold: float) -> ConfusionCounts[int]:
    """Count images by truth and call; PNEUMONIA is called if and only if p >= threshold.

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
    """`confusion_counts` for each row of `(replicates, n)` weights: four `(replicates,)` arrays."""
    tn, fp, fn, tp = _weighted_totals(_cells(y_true, probabilities, threshold), weights)
    return ConfusionCounts(tn, fp, fn, tp)


def accuracy(counts: AnyCounts) -> np.ndarray:
    """Share of right calls, (tp + tn) / all: one float or `(replicates,)`; NaN without any image."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.tn + counts.fp + counts.fn)


def precision(counts: AnyCounts) -> np.ndarray:
    """Share of calls that are right, tp / (tp + fp): one float or `(replicates,)`; NaN without any."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def sensitivity(counts: AnyCounts) -> np.ndarray:
    """Share of PNEUMONIA that is called, tp / (tp + fn): one float or `(replicates,)`; NaN without any."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: AnyCounts) -> np.ndarray:
    """Share of NORMAL that is not called, tn / (tn + fp): one float or `(replicates,)`; NaN without any."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def balanced_accuracy(counts: AnyCounts) -> np.ndarray:
    """Mean of sensitivity and specificity: one float or `(replicates,)`; NaN where a class is missing."""
    return (sensitivity(counts) + specificity(counts)) / 2


def f1(counts: AnyCounts) -> np.ndarray:
    """F1 of PNEUMONIA, 2 tp / (2 tp + fp + fn): one float or `(replicates,)`.

    NaN where there is no PNEUMONIA and none is called.
    """
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def mcc(counts: AnyCounts) -> np.ndarray:
    """Matthews correlation coefficient of truth and call, in [-1, 1]: one float or `(replicates,)`.

    NaN unless both classes are there; 0, its limit, where both are and every call is the same.

    Reference: Matthews (1975), Biochimica et Biophysica Acta 405(2).
    """
    tn, fp, fn, tp = (np.asarray(count, dtype=np.float64) for count in counts)
    positives, negatives, called, not_called = tp + fn, tn + fp, tp + fp, tn + fn
    # Counts are whole, so 1 only stands in for 0: where every call is the same the numerator is 0 already.
    spread = np.sqrt(np.maximum(called * not_called, 1))
    return _ratio(tp * tn - fp * fn, np.sqrt(positives * negatives) * spread)


def roc_auc(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a PNEUMONIA scores above a NORMAL, ties counting half.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        Float in [0, 1]; NaN unless both classes are there.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.

    Reference: Hanley & McNeil (1982), Radiology 143(1).
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not has_both_classes(y_true):
        return np.nan
    return float(sklearn_metrics.roc_auc_score(y_true, probabilities))


def weighted_roc_auc(y_true: ArrayLike, probabilities: ArrayLike, weights: np.ndarray) -> np.ndarray:
    """`roc_auc` for each row of `(replicates, n)` weights: `(replicates,)` floats."""
    return weighted_ranking(y_true, probabilities, weights)[0]


def average_precision(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Average precision of PNEUMONIA: precision at each distinct probability, by the recall gained there.

    scikit-learn's step definition: no interpolation.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        Float in [0, 1]; a model that knows nothing gets the prevalence; NaN unless both classes are there.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not has_both_classes(y_true):
        return np.nan
    return float(sklearn_metrics.average_precision_score(y_true, probabilities))


def weighted_average_precision(
    y_true: ArrayLike, probabilities: ArrayLike, weights: np.ndarray
) -> np.ndarray:
    """`average_precision` for each row of `(replicates, n)` weights: `(replicates,)` floats."""
    return weighted_ranking(y_true, probabilities, weights)[1]


def weighted_ranking(
    y_true: ArrayLike, probabilities: ArrayLike, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`roc_auc` and `average_precision` for each row of `(replicates, n)` weights, in one pass over them.

    Returns:
        Two `(replicates,)` arrays.
    """
    tp_step, fp_step = _weights_by_probability(y_true, probabilities, weights)
    tp = np.cumsum(tp_step, axis=1)
    called = tp + np.cumsum(fp_step, axis=1)
    positives, negatives = tp[:, -1], called[:, -1] - tp[:, -1]
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    gained = np.einsum("rk,rk->r", tp_step, precision)
    concordant = np.einsum("rk,rk->r", fp_step, tp) - np.einsum("rk,rk->r", fp_step, tp_step) / 2
    return (
        _ratio(concordant, positives * negatives),
        _ratio(gained, np.where(negatives > 0, positives, 0)),
    )


def brier_score(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Brier score: mean squared error of a probability.

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
    """`brier_score` for each row of `(replicates, n)` weights: `(replicates,)` floats."""
    y_true, probabilities = check_labeled(y_true, probabilities)
    (squared_error,) = _weighted_totals((probabilities - y_true)[np.newaxis] ** 2, weights)
    return _ratio(squared_error, weights.sum(axis=1))


def expected_calibration_error(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Expected calibration error: how far the probabilities lie from the share of PNEUMONIA, on average.

    The probabilities fall into 10 bins of equal width, [0, 0.1), [0.1, 0.2), ... [0.9, 1]; the gaps between a
    bin's mean probability and its share of PNEUMONIA are averaged, each bin counting by its number of images.
    Chance alone opens gaps, so on a small set even a calibrated model reads above 0.

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
    """`expected_calibration_error` for each row of `(replicates, n)` weights: `(replicates,)` floats."""
    y_true, probabilities = check_labeled(y_true, probabilities)
    bins = probability_bins(probabilities, CALIBRATION_BINS)
    residual_by_bin = np.zeros((CALIBRATION_BINS, y_true.size))
    residual_by_bin[bins, np.arange(y_true.size)] = y_true - probabilities
    gaps = np.abs(_weighted_totals(residual_by_bin, weights))
    return _ratio(gaps.sum(axis=0), weights.sum(axis=1))


def probability_bins(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """Which bin of equal width each probability falls into, `(n,)` integers from 0; 1 falls into the last."""
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def log_loss(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean cross-entropy in nats.

    Probabilities of exactly 0 or 1 count as `SATURATED` away from it: the float32 sigmoid of a model says 1
    of whatever has a logit above 17, and one such mistake would make the loss infinite.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        Float from 0; lower is better; NaN without any image.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.

    Reference: Good (1952), Journal of the Royal Statistical Society B 14(1).
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not y_true.size:
        return np.nan
    said = unsaturated(probabilities)
    return float(-np.log(np.where(y_true == 1, said, 1 - said)).mean())


def unsaturated(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities at least `SATURATED` away from 0 and 1, so that each has a logit."""
    return np.clip(probabilities, SATURATED, 1 - SATURATED)


def roc_curve(y_true: ArrayLike, probabilities: ArrayLike) -> Curve:
    """ROC curve by scikit-learn: x = false positive rate, y = true positive rate.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        `Curve` from (0, 0) to (1, 1), thresholds falling from infinity; empty unless both classes are there.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not has_both_classes(y_true):
        return _empty_curve()
    return Curve(*sklearn_metrics.roc_curve(y_true, probabilities))


def precision_recall_curve(y_true: ArrayLike, probabilities: ArrayLike) -> Curve:
    """Precision-recall curve of PNEUMONIA by scikit-learn: x = recall, y = precision.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        `Curve` from recall 1 to recall 0, where nothing is called and precision is set to 1, thresholds
        rising to infinity; empty unless both classes are there.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """
    y_true, probabilities = check_labeled(y_true, probabilities)
    if not has_both_classes(y_true):
        return _empty_curve()
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(y_true, probabilities)
    return Curve(x=recall, y=precision, thresholds=np.append(thresholds, np.inf))


def _cells(y_true: ArrayLike, probabilities: ArrayLike, threshold: float) -> np.ndarray:
    """Which radiographs are tn, fp, fn, tp: `(4, n)` booleans."""
    y_true, probabilities = check_labeled(y_true, probabilities)
    positive, called = y_true == 1, probabilities >= threshold
    return np.stack([~positive & ~called, ~positive & called, positive & ~called, positive & called])


def _weighted_totals(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Total of each row of `(k, n)` values under each row of `(replicates, n)` weights: `(k, replicates)`."""
    # Not `@`: threaded BLAS stalls where other work keeps the cores busy (2 s became 88 s for 20,000 images).
    return np.einsum("kn,rn->kr", values.astype(np.float64), weights)


def _weights_by_probability(
    y_true: ArrayLike, probabilities: ArrayLike, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of PNEUMONIA and of NORMAL at each distinct probability, the highest first.

    Returns:
        Two `(replicates, k)` arrays for k distinct probabilities: tied radiographs enter together.
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
    """Elementwise ratio, NaN where the denominator is 0; a float for two numbers."""
    denominator = np.asarray(denominator, dtype=np.float64)
    undefined = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)[()]


def _each_once(y_true: ArrayLike) -> np.ndarray:
    return np.ones((1, np.size(y_true)))


def _empty_curve() -> Curve:
    return Curve(x=np.empty(0), y=np.empty(0), thresholds=np.empty(0))
