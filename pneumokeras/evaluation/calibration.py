"""Whether probabilities mean what they say, and what scaling them on validation would mend.

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
from pneumokeras.evaluation.arguments import check_labeled, check_probabilities, has_both_classes
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
    """A Brier score in its parts: `reliability - resolution + uncertainty + within_bins`.

    Attributes:
        reliability: mean squared distance of a bin's mean probability from its share of PNEUMONIA: 0 is best.
        resolution: mean squared distance of a bin's share of PNEUMONIA from the prevalence: the more the
            better.
        uncertainty: prevalence * (1 - prevalence), what the set gives and no model changes.
        within_bins: what the probabilities that differ within a bin add, or if they tell the classes apart
            there take away; 0 where each bin holds one probability.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


class Scaling(Protocol):
    """A monotone map of probabilities."""

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """Scaled probabilities, `(n,)` floats in [0, 1]."""


@dataclass(frozen=True)
class NoScaling:
    """Probabilities as the model gives them."""

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """The probabilities themselves, checked."""
        return check_probabilities(probabilities)


@dataclass(frozen=True)
class TemperatureScaling:
    """Logits divided by a temperature: 0.5 stays, above 1 the others move toward it.

    Attributes:
        temperature: in [0.01, 100].

    Reference: Guo, Pleiss, Sun & Weinberger (2017), ICML 34.
    """

    temperature: float

    @classmethod
    def fit(cls, y_true: ArrayLike, probabilities: ArrayLike) -> Self:
        """Find the temperature of highest likelihood.

        Labels are drawn in as in `PlattScaling.fit`, so that perfect predictions give a finite temperature.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1], of the validation split.

        Raises:
            DataError: if a class is missing or the arrays do not fit together.
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
        """Scaled probabilities; see `Scaling`."""
        return expit(logit(unsaturated(check_probabilities(probabilities))) / self.temperature)


@dataclass(frozen=True)
class PlattScaling:
    """A logistic regression of the class on the logit.

    Attributes:
        slope: 1 leaves the logits' distances; negative where high probabilities speak against PNEUMONIA.
        intercept: what is added to each logit, as where PNEUMONIA is rarer than in training.

    Reference: Platt (1999), Advances in Large Margin Classifiers; Lin, Lin & Weng (2007), Machine Learning
    68(3).
    """

    slope: float
    intercept: float

    @classmethod
    def fit(cls, y_true: ArrayLike, probabilities: ArrayLike) -> Self:
        """Find slope and intercept of highest likelihood.

        With m PNEUMONIA and n NORMAL, labels count as (m + 1) / (m + 2) and 1 / (n + 2), Platt's way of
        staying finite where the predictions are perfect.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1], of the validation split.

        Raises:
            DataError: if a class is missing or the arrays do not fit together.
        """
        targets, logits = _targets_and_logits(y_true, probabilities)

        def loss_and_gradient(line: np.ndarray) -> tuple[float, np.ndarray]:
            scaled = line[0] * logits + line[1]
            excess = expit(scaled) - targets
            return _cross_entropy(targets, scaled), np.array([(excess * logits).mean(), excess.mean()])

        found = minimize(loss_and_gradient, [1.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-9})
        return cls(*map(float, found.x))

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """Scaled probabilities; see `Scaling`."""
        logits = logit(unsaturated(check_probabilities(probabilities)))
        return expit(self.slope * logits + self.intercept)


@dataclass(frozen=True)
class Scaled:
    """What a scaling makes of the evaluated set.

    Attributes:
        scaling: fitted on validation.
        brier: Brier score after it.
        calibration_error: expected calibration error after it.
        log_loss: mean cross-entropy after it, in nats.
    """

    scaling: Scaling
    brier: float
    calibration_error: float
    log_loss: float


@dataclass(frozen=True)
class Calibration:
    """Whether the probabilities of a set mean what they say.

    Attributes:
        bins: the reliability curve, empty bins included.
        decomposition: of the Brier score, in the same bins.
        scalings: `none`, and `temperature` and `platt` where there were validation predictions to fit on.
    """

    bins: tuple[ReliabilityBin, ...]
    decomposition: BrierDecomposition
    scalings: Mapping[str, Scaled]

    def json(self) -> dict[str, Any]:
        """All of it, as report.json holds it."""
        return plain(asdict(self))


def calibration_of(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    scalings: Mapping[str, Scaling] | None = None,
) -> Calibration:
    """Reliability, Brier score in its parts, and what scalings would make of them.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        patients: `(n,)` whose radiograph each is; by default each is its own.
        scalings: fitted on other radiographs, by name; `none` is added.

    Raises:
        DataError: if the arrays do not fit together.
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
    """Both scalings, fitted on the validation split.

    Raises:
        DataError: if a class is missing or the arrays do not fit together.
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
    """The reliability curve: in bins of equal width, what is said and what is seen.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        patients: `(n,)` whose radiograph each is; by default each is its own.
        bins: how many.

    Returns:
        Every bin from 0 to 1, the empty ones too.

    Raises:
        DataError: if the arrays do not fit together.

    Reference: DeGroot & Fienberg (1983), The Statistician 32(1/2).
    """
    labels, values = check_labeled(y_true, probabilities)
    whose = np.arange(labels.size) if patients is None else np.asarray(patients)
    bin_of = probability_bins(values, bins)
    members = [bin_of == index for index in range(bins)]
    return tuple(
        ReliabilityBin(
            low=index / bins,
            high=(index + 1) / bins,
            images=int(inside.sum()),
            mean_probability=float(values[inside].mean()) if inside.any() else math.nan,
            observed=proportion_interval(labels[inside], whose[inside]),
        )
        for index, inside in enumerate(members)
    )


def brier_decomposition(
    y_true: ArrayLike, probabilities: ArrayLike, *, bins: int = CALIBRATION_BINS
) -> BrierDecomposition:
    """The Brier score in its parts, which add up to it exactly.

    Murphy's three parts do so only where each bin holds one probability; the fourth is what is left, the
    variance of the probabilities within bins less twice their covariance with the class.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        bins: of equal width, how many.

    Returns:
        `BrierDecomposition`; all NaN without any radiograph.

    Raises:
        DataError: if the arrays do not fit together.

    References: Murphy (1973), Journal of Applied Meteorology 12(4); Stephenson, Coelho & Jolliffe (2008),
    Weather and Forecasting 23(4).
    """
    labels, values = check_labeled(y_true, probabilities)
    if not labels.size:
        return BrierDecomposition(math.nan, math.nan, math.nan, math.nan)
    _, bin_of, images = np.unique(probability_bins(values, bins), return_inverse=True, return_counts=True)
    said = np.bincount(bin_of, weights=values) / images
    seen = np.bincount(bin_of, weights=labels) / images
    prevalence = labels.mean()
    within_said, within_seen = values - said[bin_of], labels - seen[bin_of]
    return BrierDecomposition(
        reliability=float(np.average((said - seen) ** 2, weights=images)),
        resolution=float(np.average((seen - prevalence) ** 2, weights=images)),
        uncertainty=float(prevalence * (1 - prevalence)),
        within_bins=float((within_said**2 - 2 * within_said * within_seen).mean()),
    )


def _targets_and_logits(y_true: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, values = check_labeled(y_true, probabilities)
    if not has_both_classes(labels):
        raise DataError(
            "Expected radiographs of both classes to fit a scaling of probabilities on,"
            f" received {labels.size - labels.sum()} NORMAL and {labels.sum()} PNEUMONIA."
        )
    positives, negatives = labels.sum(), labels.size - labels.sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return targets, logit(unsaturated(values))


def _cross_entropy(targets: np.ndarray, logits: np.ndarray) -> float:
    return float((np.logaddexp(0, logits) - targets * logits).mean())
