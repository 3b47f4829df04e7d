"""What calls are worth: net benefit over thresholds, predictive values at another prevalence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation.arguments import check_labeled, check_prevalence
from pneumokeras.evaluation.types import Interval, NetBenefit, PredictiveValues

DECISION_THRESHOLDS = tuple(hundredths / 100 for hundredths in range(1, 100))
"""0.01 to 0.99 by 0.01."""


def net_benefit(
    y_true: ArrayLike, probabilities: ArrayLike, thresholds: Sequence[float] = DECISION_THRESHOLDS
) -> NetBenefit:
    """Net benefit, tp / n - fp / n * threshold / (1 - threshold), of the model and of knowing nothing.

    Who calls at a threshold of 0.2 holds one missed PNEUMONIA as bad as four false calls; the threshold says
    how the two are weighed, and with them what a model is worth. It goes with the set's prevalence.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA; n at least 1.
        probabilities: `(n,)` floats in [0, 1].
        thresholds: in [0, 1).

    Returns:
        `NetBenefit`, one entry for each threshold.

    Raises:
        DataError: if the arrays do not fit together or are empty, or a threshold lies outside [0, 1).

    Reference: Vickers & Elkin (2006), Medical Decision Making 26(6).
    """
    labels, values = check_labeled(y_true, probabilities)
    at = np.asarray(thresholds, dtype=np.float64)
    if not ((at >= 0) & (at < 1)).all():
        raise DataError(f"Expected thresholds of net benefit in [0, 1), received {thresholds}.")
    if not labels.size:
        raise DataError("Expected at least one radiograph for a net benefit, received none.")
    positives, negatives = np.sort(values[labels == 1]), np.sort(values[labels == 0])
    tp = positives.size - np.searchsorted(positives, at, side="left")
    fp = negatives.size - np.searchsorted(negatives, at, side="left")
    price = at / (1 - at)
    return NetBenefit(
        thresholds=at,
        model=(tp - fp * price) / labels.size,
        treat_all=(positives.size - negatives.size * price) / labels.size,
        treat_none=np.zeros_like(at),
    )


def predictive_values(
    sensitivity: Interval | float, specificity: Interval | float, prevalence: float
) -> PredictiveValues:
    """Predictive values where PNEUMONIA has another share than in the evaluated set, by Bayes' theorem.

    PPV's odds are the prevalence's times sensitivity / (1 - specificity), NPV's the inverse prevalence's
    times specificity / (1 - sensitivity). The intervals of the two ratios follow in closed form from those of
    sensitivity and specificity (MOVER-R), and so allow for patients as they do; unlike a bootstrap they hold
    where a share is 1. Sensitivity and specificity are taken to be independent, which holds unless patients
    have radiographs of both classes, and to be the same where PNEUMONIA is rarer, which is a wish.

    Args:
        sensitivity: with its interval, or a bare share in [0, 1], which gives no interval.
        specificity: likewise.
        prevalence: share of PNEUMONIA among those to be judged, strictly between 0 and 1.

    Returns:
        `PredictiveValues`, of method `"mover"`; NaN where nothing would be called, or nothing cleared, or a
            share is NaN.

    Raises:
        DataError: if the prevalence does not lie between 0 and 1.

    Reference: Donner & Zou (2012), Statistical Methods in Medical Research 21(4); Newcombe (2016), the same
    25(5).
    """
    odds = check_prevalence(prevalence) / (1 - prevalence)
    called, cleared = _with_interval(sensitivity), _with_interval(specificity)
    return PredictiveValues(
        prevalence=prevalence,
        ppv=_share_of_odds(odds, _ratio(called, _complement(cleared))),
        npv=_share_of_odds(1 / odds, _ratio(cleared, _complement(called))),
    )


def _with_interval(share: Interval | float) -> Interval:
    return share if isinstance(share, Interval) else Interval(float(share), math.nan, math.nan, "stated")


def _complement(share: Interval) -> Interval:
    return Interval(1 - share.estimate, 1 - share.high, 1 - share.low, share.method)


def _ratio(over: Interval, under: Interval) -> Interval:
    """The ratio of two independent shares, a likelihood ratio; infinite where the lower one is 0."""
    estimate = (
        over.estimate / under.estimate if under.estimate else math.inf if over.estimate > 0 else math.nan
    )
    if math.isnan(estimate) or math.isnan(over.low) or math.isnan(under.low):
        return Interval(estimate, math.nan, math.nan, "mover")
    product = over.estimate * under.estimate
    low, high = 0.0, math.inf
    lower, upper = _reach(over, over.low), _reach(under, under.high)
    if lower > 0:
        low = lower / (product + math.sqrt(max(0.0, product**2 - lower * upper)))
    upper, lower = _reach(over, over.high), _reach(under, under.low)
    if lower > 0:
        high = (product + math.sqrt(max(0.0, product**2 - upper * lower))) / lower
    return Interval(estimate, low, high, "mover")


def _reach(share: Interval, end: float) -> float:
    """The share's square less its squared distance from one end of its interval."""
    return end * (2 * share.estimate - end)


def _share_of_odds(odds: float, ratio: Interval) -> Interval:
    """The share whose odds are `odds` times a likelihood ratio."""
    estimate, low, high = (
        1.0 if value == math.inf else odds * value / (1 + odds * value)
        for value in (ratio.estimate, ratio.low, ratio.high)
    )
    return Interval(estimate, low, high, ratio.method)
