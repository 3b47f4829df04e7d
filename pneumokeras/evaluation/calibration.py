"""Calibration: reliability, the Brier score's parts, and scalings fitted on validation.

The bins are those of the calibration error: equal width, [0, 0.1), [0.1, 0.2), ... [0.9, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation.arguments import (
    check_labeled,
    check_probabilities,
    has_both_classes,
    patients_or_images,
)
from pneumokeras.evaluation.intervals import proportion_interval
from pneumokeras.evaluation.metrics import (
    CALIBRATION_BINS,
    brier_score,
    expected_calibration_error,
    log_loss,
    probability_bins,
    unsaturated,
)
from pneumokeras.evaluation.types import ReliabilityBin, plain

TEMPERATURES = (0.01, 100.0)


@dataclass(frozen=True)
class BrierDecomposition:
    """A Brier score decomposed: `reliability - resolution + uncertainty + within_bins`.

    Attributes:
        reliability: mean squared distance of a bin's mean probability from its share of PNEUMONIA; lower is
            better.
        resolution: mean squared distance of a bin's share of PNEUMONIA from the prevalence; higher is better.
        uncertainty: prevalence * (1 - prevalence), the same for every model.
        within_bins: contribution of probabilities that differ within a bin, negative if they separate the
            classes there; 0 if each bin holds one probability only.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


class Scaling(Protocol):
    """A monotone map of probabilities."""

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """Return the scaled probabilities, `(n,)` floats in [0, 1]."""


@dataclass(frozen=True)
class NoScaling:
    """The identity: probabilities as the model predicts them."""

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """Return the probabilities unchanged, but checked."""
        return check_probabilities(probabilities)


@dataclass(frozen=True)
class TemperatureScaling:
    """Temperature scaling: divide the logits by a temperature, which leaves a probability of 0.5 as it is.

    Attributes:
        temperature: in [0.01, 100]; above 1 it moves probabilities toward 0.5.

    Reference: Guo, Pleiss, Sun & Weinberger (2017), ICML 34.
    """

    temperature: float

    @classmethod
    def fit(cls, y_true: ArrayLike, probabilities: ArrayLike) -> Self:
        """Fit the temperature by maximum likelihood.

        Labels are smoothed as in `PlattScaling.fit`, so that perfect predictions give a finite temperature.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1], of the validation split.

        Raises:
            DataError: if a class is missing or the arrays do not match.
        """
        targets, logits = _targets_and_logits(y_true, probabilities)
        if not logits.any():
            return cls(1.0)
        found = minimize_scalar(
            lambda log_temperature: _cross_entropy(targets, logits / math.exp(log_temperature)),
            bounds=tuple(map(math.log, TEMPERATURES)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        return cls(math.exp(found.x))

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """Return the scaled probabilities; see `Scaling`."""
        return expit(logit(unsaturated(check_probabilities(probabilities))) / self.temperature)


@dataclass(frozen=True)
class PlattScaling:
    """Platt scaling: a logistic regression of the class on the logit.

    Attributes:
        slope: factor of each logit; negative if high probabilities indicate NORMAL.
        intercept: added to each logit, negative for example where PNEUMONIA is rarer than in training.

    Reference: Platt (1999), Advances in Large Margin Classifiers; Lin, Lin & Weng (2007), Machine Learning
    68(3).
    """

    slope: float
    intercept: float

    @classmethod
    def fit(cls, y_true: ArrayLike, probabilities: ArrayLike) -> Self:
        """Fit slope and intercept by maximum likelihood.

        With m PNEUMONIA and n NORMAL, the labels are smoothed to (m + 1) / (m + 2) and 1 / (n + 2) as Platt
        proposed, so that perfect predictions give finite parameters.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1], of the validation split.

        Raises:
            DataError: if a class is missing or the arrays do not match.
        """
        targets, logits = _targets_and_logits(y_true, probabilities)

        def loss_and_gradient(line: np.ndarray) -> tuple[float, np.ndarray]:
            scaled = line[0] * logits + line[1]
            excess = expit(scaled) - targets
            return _cross_entropy(targets, scaled), np.array([(excess * logits).mean(), excess.mean()])

        found = minimize(loss_and_gradient, [1.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-9})
        return cls(*map(float, found.x))

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """Return the scaled probabilities; see `Scaling`."""
        logits = logit(unsaturated(check_probabilities(probabilities)))
        return expit(self.slope * logits + self.intercept)


@dataclass(frozen=True)
class Scaled:
    """Scores of the evaluated set after a scaling of its probabilities.

    Attributes:
        scaling: fitted on validation.
        brier: Brier score.
        calibration_error: expected calibration error.
        log_loss: mean cross-entropy in nats.
    """

    scaling: Scaling
    brier: float
    calibration_error: float
    log_loss: float


@dataclass(frozen=True)
class Calibration:
    """Calibration of a set's probabilities.

    Attributes:
        bins: the reliability curve, empty bins included.
        decomposition: of the Brier score, in the same bins.
        scalings: `none`, and if there were validation predictions to fit on, `temperature` and `platt`.
    """

    bins: tuple[ReliabilityBin, ...]
    decomposition: BrierDecomposition
    scalings: Mapping[str, Scaled]

    def json(self) -> dict[str, Any]:
        """Return the fields as report.json holds them."""
        return plain(asdict(self))


def calibration_of(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    scalings: Mapping[str, Scaling] | None = None,
) -> Calibration:
    """Measure the calibration of probabilities, as they are and after scalings.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        patients: `(n,)` the patient of each radiograph; by default each is a patient of its own.
        scalings: fitted on other radiographs, by name; `none` is added.

    Raises:
        DataError: if the arrays do not match.
    """
    return Calibration(
        bins=reliability(y_true, probabilities, patients),
        decomposition=brier_decomposition(y_true, probabilities),
        scalings={
            name: Scaled(
                scaling,
                brier=brier_score(y_true, scaling(probabilities)),
                calibration_error=expected_calibration_error(y_true, scaling(probabilities)),
                log_loss=log_loss(y_true, scaling(probabilities)),
            )
            for name, scaling in {"none": NoScaling(), **(scalings or {})}.items()
        },
    )


def fit_scalings(y_true: ArrayLike, probabilities: ArrayLike) -> dict[str, Scaling]:
    """Fit temperature scaling and Platt scaling to the validation split.

    Raises:
        DataError: if a class is missing or the arrays do not match.
    """
    return {
        "temperature": TemperatureScaling.fit(y_true, probabilities),
        "platt": PlattScaling.fit(y_true, probabilities),
    }


def reliability(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    bins: int = CALIBRATION_BINS,
) -> tuple[ReliabilityBin, ...]:
    """Return the reliability curve: mean probability and share of PNEUMONIA in bins of equal width.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        patients: `(n,)` the patient of each radiograph; by default each is a patient of its own.
        bins: number of bins, at least 1.

    Returns:
        All bins from 0 to 1, empty ones included.

    Raises:
        DataError: if the arrays do not match.

    Reference: DeGroot & Fienberg (1983), The Statistician 32(1/2).
    """
    labels, values = check_labeled(y_true, probabilities)
    groups = patients_or_images(patients, labels.size)
    bin_of = probability_bins(values, bins)
    members = [bin_of == index for index in range(bins)]
    return tuple(
        ReliabilityBin(
            low=index / bins,
            high=(index + 1) / bins,
            images=int(inside.sum()),
            mean_probability=float(values[inside].mean()) if inside.any() else math.nan,
            observed=proportion_interval(labels[inside], groups[inside]),
        )
        for index, inside in enumerate(members)
    )


def brier_decomposition(
    y_true: ArrayLike, probabilities: ArrayLike, *, bins: int = CALIBRATION_BINS
) -> BrierDecomposition:
    """Decompose the Brier score into parts that add up to it exactly.

    Murphy's three parts do so only if each bin holds one probability. The fourth is the remainder: the
    variance of the probabilities within bins minus twice their covariance with the class.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        bins: number of bins of equal width, at least 1.

    Returns:
        `BrierDecomposition`; all NaN without any radiograph.

    Raises:
        DataError: if the arrays do not match.

    References: Murphy (1973), Journal of Applied Meteorology 12(4); Stephenson, Coelho & Jolliffe (2008),
    Weather and Forecasting 23(4).
    """
    labels, values = check_labeled(y_true, probabilities)
    if not labels.size:
        return BrierDecomposition(math.nan, math.nan, math.nan, math.nan)
    _, bin_of, images = np.unique(probability_bins(values, bins), return_inverse=True, return_counts=True)
    predicted = np.bincount(bin_of, weights=values) / images
    observed = np.bincount(bin_of, weights=labels) / images
    prevalence = labels.mean()
    probability_residuals, label_residuals = values - predicted[bin_of], labels - observed[bin_of]
    return BrierDecomposition(
        reliability=float(np.average((predicted - observed) ** 2, weights=images)),
        resolution=float(np.average((observed - prevalence) ** 2, weights=images)),
        uncertainty=float(prevalence * (1 - prevalence)),
        within_bins=float((probability_residuals**2 - 2 * probability_residuals * label_residuals).mean()),
    )


def _targets_and_logits(y_true: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, values = check_labeled(y_true, probabilities)
    if not has_both_classes(labels):
        raise DataError(
            "Expected radiographs of both classes to fit a scaling of probabilities to,"
            f" received {labels.size - labels.sum()} NORMAL and {labels.sum()} PNEUMONIA."
        )
    positives, negatives = labels.sum(), labels.size - labels.sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return targets, logit(unsaturated(values))


def _cross_entropy(targets: np.ndarray, logits: np.ndarray) -> float:
    return float((np.logaddexp(0, logits) - targets * logits).mean())
