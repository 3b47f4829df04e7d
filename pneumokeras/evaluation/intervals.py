"""95 % intervals that know that radiographs of one patient are not independent.

Proportions: Wilson, on the number of images divided by the patients' design effect. The rest: bootstrap over
patients, percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation.types import Interval

PERCENTILES = (2.5, 97.5)
Z = 1.959963984540054  # the 97.5 % point of the standard normal distribution
KISH_EVENTS = 2.0  # how many independent events Kish's design effect counts for beside the linearized one
WEIGHTS_AT_ONCE = 500_000  # float64 weights held at a time by the bootstrap: 4 MB, and a few copies


def wilson(successes: float, n: float, effective_n: float | None = None) -> Interval:
    """Wilson's score interval of a proportion.

    Args:
        successes: how many of the n, 0..n.
        n: how many images the proportion is of.
        effective_n: how many independent images they are worth, `n` over the design effect; by default `n`.

    Returns:
        `Interval` in [0, 1] around successes / n; all NaN where n is 0.

    Reference: Wilson (1927), Journal of the American Statistical Association 22(158).
    """
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, "wilson")
    proportion = successes / n
    worth = n if effective_n is None else effective_n
    center = (proportion + Z**2 / (2 * worth)) / (1 + Z**2 / worth)
    half_width = (
        Z * math.sqrt(proportion * (1 - proportion) / worth + (Z / (2 * worth)) ** 2) / (1 + Z**2 / worth)
    )
    return Interval(proportion, max(0.0, center - half_width), min(1.0, center + half_width), "wilson")


def design_effect(values: ArrayLike, patients: ArrayLike) -> float:
    """How many times patients with several images inflate the variance of a proportion.

    The proportion is a ratio of two sums over patients (images with a 1, images). Linearized, its variance
    goes with the sum over patients of (total residual)²; were the images independent, with the sum over
    images of residual². The linearized effect is the one over the other, and at least 1.

    Near 0 or 1 few residuals show how alike the images of a patient are; at 0 or 1, or of one patient, none
    does. Kish's effect for images wholly alike (correlation 1 inside patients), sum(m²) / sum(m) over the
    patients' numbers of images m, is the worst that can be, and the linearized one is believed only as far as
    there is evidence: with k the rarer of successes and failures, worth k / kish independent events,

        effect = (k / kish * linearized + c * kish) / (k / kish + c), c = `KISH_EVENTS` = 2.

    So 195 of 195 images of 80 patients say less than 195 of 195 patients, and one more mistake does not raise
    the lower end: without the second term, 194 of 195 would read better than 195 of 195. A smaller c lets it
    rise, a larger one widens intervals for nothing.

    Args:
        values: `(n,)` 0/1 or booleans.
        patients: `(n,)` whose image each is.

    Returns:
        Float from 1 to the largest number of images of one patient; NaN without any image.

    Reference: Kish (1965), Survey Sampling, chapters 5, 6 and 8.
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size:
        return math.nan
    _, patient_index, images = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    proportion = values.mean()
    kish = float((images**2).sum() / images.sum())
    if proportion in (0, 1) or images.size == 1:
        return kish
    residuals = values - proportion
    patient_residuals = np.bincount(patient_index, weights=residuals)
    linearized = max(1.0, float((patient_residuals**2).sum() / (residuals**2).sum()))
    events = min(values.sum(), values.size - values.sum()) / kish
    return float((events * linearized + KISH_EVENTS * kish) / (events + KISH_EVENTS))


def proportion_interval(values: ArrayLike, patients: ArrayLike) -> Interval:
    """Share of 1 among values, with Wilson's interval on as many images as the patients' are worth.

    Args:
        values: `(n,)` 0/1 or booleans.
        patients: `(n,)` whose image each is.

    Returns:
        `Interval` in [0, 1]; all NaN without any image.
    """
    values = np.asarray(values)
    return wilson(float(values.sum()), values.size, values.size / design_effect(values, patients))


def patient_weights(patients: ArrayLike, *, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image is drawn when as many patients as there are are drawn with replacement.

    Args:
        patients: `(n,)` whose image each is.
        replicates: how many times to draw.
        rng: source of randomness.

    Returns:
        `(replicates, n)` floats, whole numbers, equal for all images of one patient.

    Reference: Efron & Tibshirani (1993), An Introduction to the Bootstrap.
    """
    distinct, patient_index = np.unique(np.asarray(patients), return_inverse=True)
    count = distinct.size
    drawn = rng.integers(count, size=(replicates, count)) + count * np.arange(replicates)[:, np.newaxis]
    times = np.bincount(drawn.ravel(), minlength=replicates * count).reshape(replicates, count)
    return times.astype(np.float64)[:, patient_index]


def patient_bootstrap(
    statistics: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    patients: ArrayLike,
    *,
    replicates: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Values of statistics on bootstrap samples of the patients, all on the same samples, in bounded memory.

    Args:
        statistics: takes `(some, n)` weights, gives `(some,)` floats for each name.
        patients: `(n,)` whose image each is, n at least 1.
        replicates: how many samples.
        rng: source of randomness.

    Returns:
        `(replicates,)` floats for each name.

    Raises:
        DataError: if replicates is less than 1.
    """
    if replicates < 1:
        raise DataError(f"Expected at least 1 bootstrap replicate, received {replicates}.")
    _, patient_index = np.unique(np.asarray(patients), return_inverse=True)
    at_once = max(1, WEIGHTS_AT_ONCE // patient_index.size)
    parts = [
        statistics(patient_weights(patient_index, replicates=min(at_once, replicates - done), rng=rng))
        for done in range(0, replicates, at_once)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentile_interval(estimate: float, replicate_values: np.ndarray) -> Interval:
    """Percentile bootstrap interval: the middle 95 % of the replicates.

    The ends are the replicates' own: an estimate that resampling shifts (the calibration error) may lie near
    one, or past it. Replicates that do not vary (an AUC of 1, a single patient) are no sign of certainty:
    resampling cannot see what did not happen, and there is no interval.

    Args:
        estimate: the figure on the set itself.
        replicate_values: `(replicates,)` floats; those that are NaN, undefined, are left out.

    Returns:
        `Interval`, its ends NaN if half of the replicates or more are undefined, or they do not vary.

    Reference: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    defined = replicate_values[~np.isnan(replicate_values)]
    no_interval = Interval(estimate, math.nan, math.nan, "bootstrap")
    if 2 * defined.size <= replicate_values.size:
        return no_interval
    low, high = np.percentile(defined, PERCENTILES)
    return (
        no_interval if math.isclose(low, high) else Interval(estimate, float(low), float(high), "bootstrap")
    )


def hanley_mcneil(roc_auc: float, *, negatives: int, positives: int) -> Interval:
    """The interval of an area under the ROC curve of which only the area and the two numbers are known.

    Args:
        roc_auc: in [0, 1], as somebody printed it.
        negatives: how many NORMAL images it is of.
        positives: how many PNEUMONIA images.

    Returns:
        `Interval` in [0, 1] with method `"hanley-mcneil"`; each image counts as independent.

    Reference: Hanley and McNeil (1982), Radiology 143(1).
    """
    one_positive, one_negative = roc_auc / (2 - roc_auc), 2 * roc_auc**2 / (1 + roc_auc)
    variance = (
        roc_auc * (1 - roc_auc)
        + (positives - 1) * (one_positive - roc_auc**2)
        + (negatives - 1) * (one_negative - roc_auc**2)
    ) / (positives * negatives)
    half_width = Z * math.sqrt(variance)
    return Interval(roc_auc, max(0.0, roc_auc - half_width), min(1.0, roc_auc + half_width), "hanley-mcneil")


def mean_of_two(first: Interval, second: Interval) -> Interval:
    """The interval of the mean of two independent figures, from the interval of each.

    Such as a balanced accuracy of which only sensitivity and specificity are known.

    Returns:
        `Interval` with method `"mover"`; its ends are NaN if one of the two has none.

    Reference: Zou and Donner (2008), Statistics in Medicine 27(10).
    """
    estimate = (first.estimate + second.estimate) / 2
    below = math.hypot(first.estimate - first.low, second.estimate - second.low) / 2
    above = math.hypot(first.high - first.estimate, second.high - second.estimate) / 2
    return Interval(estimate, estimate - below, estimate + above, "mover")
