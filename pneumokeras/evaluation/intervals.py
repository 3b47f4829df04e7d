"""95% intervals that allow for several radiographs of one patient.

Proportions: Wilson, at the number of images divided by the patients' design effect. Other figures: percentile
bootstrap over patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import SettingsError
from pneumokeras.evaluation.types import Interval

PERCENTILES = (2.5, 97.5)
Z = 1.959963984540054  # the 97.5% point of the standard normal distribution
KISH_EVENTS = 2.0  # weight of Kish's design effect beside the linearized one, in independent events
WEIGHTS_AT_ONCE = 500_000  # float64 weights held at a time by the bootstrap: 4 MB, and a few copies


def wilson(successes: float, n: float, effective_n: float | None = None) -> Interval:
    """Return Wilson's score interval of a proportion.

    Args:
        successes: number of successes, from 0 to n.
        n: number of images.
        effective_n: effective sample size, `n` divided by the design effect; by default `n`.

    Returns:
        `Interval` in [0, 1] around successes / n; all NaN if n is 0.

    Reference: Wilson (1927), Journal of the American Statistical Association 22(158).
    """
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, "wilson")
    proportion = successes / n
    size = n if effective_n is None else effective_n
    center = (proportion + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half_width = (
        Z * math.sqrt(proportion * (1 - proportion) / size + (Z / (2 * size)) ** 2) / (1 + Z**2 / size)
    )
    return Interval(proportion, max(0.0, center - half_width), min(1.0, center + half_width), "wilson")


def design_effect(values: ArrayLike, patients: ArrayLike) -> float:
    """Return the factor by which patients with several images inflate the variance of a proportion.

    The proportion is a ratio of two sums over patients (images with a 1, images). Its linearized variance is
    proportional to the sum over patients of (total residual)²; if the images were independent, to the sum
    over images of residual². The linearized effect is the ratio of the two, and at least 1.

    Near 0 or 1, few residuals show how alike the images of a patient are; at 0 or 1, or with one patient,
    none do. Kish's effect for identical images (correlation 1 within patients), sum(m²) / sum(m) over the
    patients' numbers of images m, is the upper bound. The linearized effect is shrunk toward it as far as
    evidence is missing: with k the rarer of successes and failures, worth k / kish independent events,

        effect = (k / kish * linearized + c * kish) / (k / kish + c), c = `KISH_EVENTS` = 2.

    So 195 of 195 images of 80 patients have a wider interval than 195 of 195 patients, and one more mistake
    does not raise the lower end: without the second term, that of 194 of 195 would lie above that of 195 of
    195. A smaller c lets it rise; a larger one widens intervals needlessly.

    Args:
        values: `(n,)` 0/1 or booleans.
        patients: `(n,)` the patient of each image.

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
    """Return a proportion with Wilson's interval at the effective sample size (design effect of patients).

    Args:
        values: `(n,)` 0/1 or booleans.
        patients: `(n,)` the patient of each image.

    Returns:
        `Interval` in [0, 1]; all NaN without any image.
    """
    values = np.asarray(values)
    effective_n = values.size / design_effect(values, patients)
    return wilson(float(values.sum()), values.size, effective_n=effective_n)


def patient_weights(patients: ArrayLike, *, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Return bootstrap weights: how often each image occurs in a resample of the patients.

    Args:
        patients: `(n,)` the patient of each image.
        replicates: number of resamples.
        rng: source of randomness.

    Returns:
        `(replicates, n)` floats, whole numbers, the same for all images of one patient.

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
    """Compute statistics on bootstrap samples of the patients, all on the same samples, in bounded memory.

    Args:
        statistics: maps `(k, n)` weights to `(k,)` floats for each name.
        patients: `(n,)` the patient of each image, n at least 1.
        replicates: number of samples.
        rng: source of randomness.

    Returns:
        `(replicates,)` floats for each name.

    Raises:
        SettingsError: if `replicates` is less than 1.
    """
    if replicates < 1:
        raise SettingsError(
            f"Expected `replicates` of at least 1. Received {replicates}.", parameter="replicates"
        )
    _, patient_index = np.unique(np.asarray(patients), return_inverse=True)
    at_once = max(1, WEIGHTS_AT_ONCE // patient_index.size)
    parts = [
        statistics(patient_weights(patient_index, replicates=min(at_once, replicates - done), rng=rng))
        for done in range(0, replicates, at_once)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentile_interval(estimate: float, replicate_values: np.ndarray) -> Interval:
    """Return the percentile bootstrap interval: the middle 95% of the replicates.

    The ends are not corrected for bias: an estimate that resampling shifts (the calibration error) may lie
    near one of them, or beyond it. Replicates that do not vary (an AUC of 1, a single patient) do not mean
    certainty, because resampling cannot show what did not happen; then there is no interval.

    Args:
        estimate: the figure on the set itself.
        replicate_values: `(replicates,)` floats; undefined ones (NaN) are left out.

    Returns:
        `Interval`; its ends are NaN if at least half of the replicates are undefined, or none vary.

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
    """Return the interval of a published ROC AUC from the area and the class sizes alone.

    Args:
        roc_auc: in [0, 1].
        negatives: number of NORMAL images.
        positives: number of PNEUMONIA images.

    Returns:
        `Interval` in [0, 1] with method `"hanley-mcneil"`; images are taken to be independent.

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
    """Return the interval of the mean of two independent figures from their intervals.

    For example a balanced accuracy, if only sensitivity and specificity are known.

    Returns:
        `Interval` with method `"mover"`; its ends are NaN if one of the two has no interval.

    Reference: Zou and Donner (2008), Statistics in Medicine 27(10).
    """
    estimate = (first.estimate + second.estimate) / 2
    below = math.hypot(first.estimate - first.low, second.estimate - second.low) / 2
    above = math.hypot(first.high - first.estimate, second.high - second.estimate) / 2
    return Interval(estimate, estimate - below, estimate + above, "mover")
