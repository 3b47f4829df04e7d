"""DeLong's interval of a ROC AUC and paired test of two, for patients with one or several radiographs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation.arguments import check_labeled, has_both_classes, patients_or_images
from pneumokeras.evaluation.intervals import Z
from pneumokeras.evaluation.types import Interval, PairedTest

JUST_BELOW_1 = 1 - 1e-12  # for an AUC of 1, 1 solves Newcombe's equation too, but is not its lower end
NO_VARIANCE = 1e-24  # smaller variances are rounding errors; a single discordant pair gives far more

_ROUNDING = 1e-12
"""Share of two variances below which the variance of a difference is a rounding error."""


class _Components(NamedTuple):
    """Structural components of ROC AUCs: how each radiograph ranks among those of the other class.

    Attributes:
        positives: `(models, m)` floats, for each PNEUMONIA the share of NORMAL below it.
        negatives: `(models, n)` floats, for each NORMAL the share of PNEUMONIA above it.
        positive_patients: `(m,)` integers, the patient of each PNEUMONIA.
        negative_patients: `(n,)` integers, the patient of each NORMAL.
    """

    positives: np.ndarray
    negatives: np.ndarray
    positive_patients: np.ndarray
    negative_patients: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """The ROC AUCs, `(models,)` floats."""
        return self.positives.mean(axis=1)


def delong_interval(
    y_true: ArrayLike, probabilities: ArrayLike, patients: ArrayLike | None = None
) -> Interval:
    """Return the ROC AUC with DeLong's interval on the logit scale, which keeps it in [0, 1].

    With patients, the variance is Obuchowski's, which sums the structural components of each patient; with
    one radiograph per patient it is DeLong's.

    If that variance is 0, as at an AUC of 1, or a class has one patient only, the radiographs do not show how
    uncertain the AUC is. The interval is then Newcombe's score interval, which is valid there, at the numbers
    of patients (as if the radiographs of a patient were identical, the worst case). With one discordant pair
    DeLong's applies again; with so few it is too narrow.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        patients: `(n,)` the patient of each radiograph; by default each is a patient of its own.

    Returns:
        `Interval` of method `"delong"` or `"newcombe"`; all NaN unless both classes are present.

    Raises:
        DataError: if the arrays do not match.

    References: DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44(3); Obuchowski (1997), Biometrics 53(2);
    Pepe (2003), The Statistical Evaluation of Medical Tests, chapter 5 (logit scale); Newcombe (2006),
    Statistics in Medicine 25(4), method 5.
    """
    components = _components(y_true, [probabilities], patients)
    if components is None:
        return Interval(math.nan, math.nan, math.nan, "delong")
    area, variance = float(components.areas[0]), float(_covariance(components)[0, 0])
    if not variance >= NO_VARIANCE:
        return _newcombe(
            area, np.unique(components.positive_patients).size, np.unique(components.negative_patients).size
        )
    half_width = Z * math.sqrt(variance) / (area * (1 - area))
    low, high = expit(logit(area) - half_width), expit(logit(area) + half_width)
    return Interval(area, float(low), float(high), "delong")


def delong_test(
    y_true: ArrayLike, a: ArrayLike, b: ArrayLike, patients: ArrayLike | None = None
) -> PairedTest:
    """Compare the ROC AUCs of two models on the same radiographs.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        a: `(n,)` floats in [0, 1], the first model's probabilities.
        b: `(n,)` floats in [0, 1], the second's.
        patients: `(n,)` the patient of each radiograph; by default each is a patient of its own. With
            patients, the variance is Obuchowski's.

    Returns:
        `PairedTest` of AUC(b) - AUC(a), its interval symmetric and cut off at -1 and 1. If the difference has
        no variance, interval and statistic are NaN; the p-value is 1 for a difference of 0, NaN otherwise.

    Raises:
        DataError: if the arrays do not match.

    References: DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44(3); Obuchowski (1997), Biometrics 53(2);
    Sun & Xu (2014), IEEE Signal Processing Letters 21(11), for the algorithm.
    """
    components = _components(y_true, [a, b], patients)
    if components is None:
        return PairedTest(Interval(math.nan, math.nan, math.nan, "delong"), math.nan, math.nan, "delong")
    difference = float(components.areas[1] - components.areas[0])
    covariance = _covariance(components)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if not variance >= max(NO_VARIANCE, _ROUNDING * float(covariance[0, 0] + covariance[1, 1])):
        p_value = 1.0 if difference == 0 else math.nan
        return PairedTest(Interval(difference, math.nan, math.nan, "delong"), math.nan, p_value, "delong")
    error = math.sqrt(variance)
    ends = (max(-1.0, difference - Z * error), min(1.0, difference + Z * error))
    statistic = difference / error
    return PairedTest(
        Interval(difference, *ends, "delong"), statistic, float(2 * norm.sf(abs(statistic))), "delong"
    )


def _components(y_true: ArrayLike, models: list[ArrayLike], patients: ArrayLike | None) -> _Components | None:
    """Return each model's components, from midranks; `None` unless both classes are present."""
    checked = [check_labeled(y_true, probabilities) for probabilities in models]
    labels = checked[0][0]
    groups = patients_or_images(patients, labels.size)
    if groups.shape != labels.shape:
        raise DataError(f"Expected one patient per label, received {groups.size} and {labels.size}.")
    if not has_both_classes(labels):
        return None
    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    among_positives, among_negatives = [], []
    for _, probabilities in checked:
        ranks = rankdata(probabilities)
        among_positives.append((ranks[positive] - rankdata(probabilities[positive])) / n)
        among_negatives.append(1 - (ranks[~positive] - rankdata(probabilities[~positive])) / m)
    patient_index = np.unique(groups, return_inverse=True)[1]
    return _Components(
        np.stack(among_positives),
        np.stack(among_negatives),
        patient_index[positive],
        patient_index[~positive],
    )


def _covariance(components: _Components) -> np.ndarray:
    """Return the covariance of the ROC AUCs, `(models, models)`; NaN if a class has one patient only.

    Obuchowski's three sums: over patients with PNEUMONIA, over patients with NORMAL, and over all patients
    for the covariance of the two classes within a patient.
    """
    patients = 1 + max(components.positive_patients.max(), components.negative_patients.max())
    totals = []
    factors = []
    for values, patient_index in (
        (components.positives, components.positive_patients),
        (components.negatives, components.negative_patients),
    ):
        residuals = (values - components.areas[:, np.newaxis]) / patient_index.size
        totals.append(
            np.stack([np.bincount(patient_index, weights=row, minlength=patients) for row in residuals])
        )
        factors.append(_unbiased(np.unique(patient_index).size))
    shared = _unbiased(patients) * totals[0] @ totals[1].T
    return factors[0] * totals[0] @ totals[0].T + factors[1] * totals[1] @ totals[1].T + shared + shared.T


def _unbiased(count: int) -> float:
    """Return the factor that makes a variance over `count` patients unbiased; NaN for one patient."""
    return count / (count - 1) if count > 1 else math.nan


def _newcombe(area: float, positives: int, negatives: int) -> Interval:
    """Return Newcombe's score interval: the AUCs at most 1.96 of their standard errors from `area`."""
    low = _newcombe_low(area, positives, negatives)
    return Interval(area, low, 1 - _newcombe_low(1 - area, positives, negatives), "newcombe")


def _newcombe_low(area: float, positives: int, negatives: int) -> float:
    if area == 0:
        return 0.0
    balanced = (positives + negatives) / 2 - 1

    def gap(candidate: float) -> float:
        spread = 1 + balanced * ((1 - candidate) / (2 - candidate) + candidate / (1 + candidate))
        variance = candidate * (1 - candidate) / (positives * negatives) * spread
        return area - candidate - Z * math.sqrt(variance)

    return float(brentq(gap, 0.0, min(area, JUST_BELOW_1)))
