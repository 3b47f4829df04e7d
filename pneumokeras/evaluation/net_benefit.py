"""Clinical usefulness: net benefit over thresholds, predictive values at another prevalence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.core.former_names import former_arguments
from pneumokeras.evaluation.arguments import check_labeled, check_prevalence
from pneumokeras.evaluation.types import Interval, NetBenefit, PredictiveValues

DECISION_THRESHOLDS = tuple(hundredths / 100 for hundredths in range(1, 100))
"""0.01 to 0.99 by 0.01."""


@former_arguments("thresholds")
def net_benefit(
    y_true: ArrayLike, probabilities: ArrayLike, *, thresholds: Sequence[float] = DECISION_THRESHOLDS
) -> NetBenefit:
    """Return the net benefit, tp / n - fp / n * threshold / (1 - threshold), of the model and of no model.

    To treat from a threshold of 0.2 on is to hold one missed PNEUMONIA as bad as four false positives: the
    threshold states how the two are weighed. Net benefit depends on the set's prevalence.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA; n at least 1.
        probabilities: `(n,)` floats in [0, 1].
        thresholds: in [0, 1).

    Returns:
        `NetBenefit`, one entry per threshold.

    Raises:
        DataError: if the arrays do not match or are empty.
        SettingsError: if a threshold lies outside [0, 1).

    Reference: Vickers & Elkin (2006), Medical Decision Making 26(6).
    """
    labels, values = check_labeled(y_true, probabilities)
    at = np.asarray(thresholds, dtype=np.float64)
    if not ((at >= 0) & (at < 1)).all():
        raise SettingsError(
            f"Expected `thresholds` of net benefit in [0, 1). Received {thresholds}.", parameter="thresholds"
        )
    if not labels.size:
        raise DataError("Expected at least one radiograph for a net benefit, received none.")
    positives, negatives = np.sort(values[labels == 1]), np.sort(values[labels == 0])
    tp = positives.size - np.searchsorted(positives, at, side="left")
    fp = negatives.size - np.searchsorted(negatives, at, side="left")
    odds = at / (1 - at)
    return NetBenefit(
        thresholds=at,
        model=(tp - fp * odds) / labels.size,
        treat_all=(positives.size - negatives.size * odds) / labels.size,
        treat_none=np.zeros_like(at),
    )


def predictive_values(
    sensitivity: Interval | float, specificity: Interval | float, prevalence: float
) -> PredictiveValues:
    """Return the predictive values at a prevalence other than the evaluated set's, by Bayes' theorem.

    The odds of the PPV are those of the prevalence times sensitivity / (1 - specificity), the odds of the NPV
    the inverse odds of the prevalence times specificity / (1 - sensitivity). The intervals of the two ratios
    follow in closed form from those of sensitivity and specificity (MOVER-R), and so allow for patients as
    those do; unlike a bootstrap they are valid for a proportion of 1. Sensitivity and specificity are assumed
    to be independent, which is true unless patients have radiographs of both classes, and to be the same at
    every prevalence, which often is not.

    Args:
        sensitivity: with its interval, or a proportion in [0, 1], which gives no interval.
        specificity: likewise.
        prevalence: share of PNEUMONIA in the target population, strictly between 0 and 1.

    Returns:
        `PredictiveValues`, of method `"mover"`; NaN if no image would be predicted positive, or none
        negative, or a proportion is NaN.

    Raises:
        SettingsError: if the prevalence does not lie between 0 and 1.

    Reference: Donner & Zou (2012), Statistical Methods in Medical Research 21(4); Newcombe (2016), the same
    25(5).
    """
    check_prevalence(prevalence)
    odds = prevalence / (1 - prevalence)
    sensitivity, specificity = _with_interval(sensitivity), _with_interval(specificity)
    return PredictiveValues(
        prevalence=prevalence,
        ppv=_proportion_of(odds, _likelihood_ratio(sensitivity, _complement(specificity))),
        npv=_proportion_of(1 / odds, _likelihood_ratio(specificity, _complement(sensitivity))),
    )


def _with_interval(proportion: Interval | float) -> Interval:
    if isinstance(proportion, Interval):
        return proportion
    return Interval(float(proportion), math.nan, math.nan, "stated")


def _complement(proportion: Interval) -> Interval:
    return Interval(1 - proportion.estimate, 1 - proportion.high, 1 - proportion.low, proportion.method)


def _likelihood_ratio(numerator: Interval, denominator: Interval) -> Interval:
    """Return the ratio of two independent proportions by MOVER-R; infinite if the denominator is 0."""
    if denominator.estimate:
        estimate = numerator.estimate / denominator.estimate
    else:
        estimate = math.inf if numerator.estimate > 0 else math.nan
    if math.isnan(estimate) or math.isnan(numerator.low) or math.isnan(denominator.low):
        return Interval(estimate, math.nan, math.nan, "mover")
    product = numerator.estimate * denominator.estimate
    low, high = 0.0, math.inf
    above, below = _mover_term(numerator, numerator.low), _mover_term(denominator, denominator.high)
    if above > 0:
        low = above / (product + math.sqrt(max(0.0, product**2 - above * below)))
    above, below = _mover_term(numerator, numerator.high), _mover_term(denominator, denominator.low)
    if below > 0:
        high = (product + math.sqrt(max(0.0, product**2 - above * below))) / below
    return Interval(estimate, low, high, "mover")


def _mover_term(proportion: Interval, end: float) -> float:
    """Return the squared estimate minus its squared distance from one end of its interval."""
    return end * (2 * proportion.estimate - end)


def _proportion_of(odds: float, ratio: Interval) -> Interval:
    """Return the proportion whose odds are `odds` times a likelihood ratio."""
    estimate, low, high = (
        1.0 if value == math.inf else odds * value / (1 + odds * value)
        for value in (ratio.estimate, ratio.low, ratio.high)
    )
    return Interval(estimate, low, high, ratio.method)
