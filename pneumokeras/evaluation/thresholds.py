"""Operating points: which thresholds there are to choose from, how one is chosen, how it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation import metrics
from pneumokeras.evaluation.arguments import check_labeled, check_probabilities
from pneumokeras.evaluation.types import OperatingPoint

DEFAULT_POINT = OperatingPoint(0.5, "fixed")
ORACLE_WARNING = "(not achievable; for comparison only)"
THRESHOLD_SCHEMA = 1

SWEEP = tuple(hundredths / 100 for hundredths in range(30, 81, 5))
"""0.30 to 0.80 by 0.05."""


def candidate_thresholds(probabilities: ArrayLike) -> np.ndarray:
    """One threshold for each way in which PNEUMONIA can be called on at least one of these radiographs.

    0, which calls all of them, then the midpoints between neighboring distinct probabilities. Where
    no number lies between two neighbors it is the higher one, so that `p >= threshold` always parts them.

    Args:
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        `(k,)` rising float64 for k distinct probabilities; 0 alone where there are none.

    Raises:
        DataError: if a probability lies outside [0, 1].
    """
    distinct = np.unique(check_probabilities(probabilities))
    lower, upper = distinct[:-1], distinct[1:]
    midpoints = lower + (upper - lower) / 2
    return np.concatenate([[0.0], np.where(midpoints > lower, midpoints, upper)])


class ThresholdPolicy(Protocol):
    """A rule that chooses an operating point; `name` is what threshold.json calls it."""

    name: ClassVar[str]

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Choose an operating point.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1].
            chosen_on: what these radiographs are, for the record.

        Raises:
            DataError: if a class is missing or the arrays do not fit together.
        """


@dataclass(frozen=True)
class Fixed:
    """The same threshold whatever the radiographs say.

    Attributes:
        threshold: in [0, 1].

    Raises:
        DataError: if it lies outside.
    """

    name: ClassVar[str] = "fixed"

    threshold: float = 0.5

    def __post_init__(self) -> None:
        _require_in_unit("threshold", self.threshold)

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """That threshold, chosen on nothing; see `ThresholdPolicy`."""
        return OperatingPoint(self.threshold, "fixed")


@dataclass(frozen=True)
class BalancedAccuracy:
    """The highest balanced accuracy whose sensitivity reaches a floor; of equals the lowest threshold.

    Attributes:
        sensitivity_floor: the least sensitivity allowed, in [0, 1].
        among: the thresholds to choose from, such as `SWEEP`; the lowest where none reaches the floor. By
            default all there are, of which the lowest calls every radiograph.

    Raises:
        DataError: if a number lies outside [0, 1].
    """

    name: ClassVar[str] = "balanced_accuracy"

    sensitivity_floor: float = 0.95
    among: Sequence[float] = ()

    def __post_init__(self) -> None:
        _require_in_unit("sensitivity_floor", self.sensitivity_floor)
        _require_in_unit("among", *self.among)

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Choose it; see `ThresholdPolicy`."""
        choices = _choices(y_true, probabilities, self.among)
        chosen = choices.best(choices.balanced_accuracy, self.sensitivity_floor)
        return OperatingPoint(chosen, chosen_on, self.name, self.sensitivity_floor, choices.images)


@dataclass(frozen=True)
class Sensitivity:
    """The highest specificity whose sensitivity reaches a target; of equals the lowest threshold.

    Attributes:
        target: the least sensitivity allowed, in [0, 1]; it is the operating point's `sensitivity_floor`.

    Raises:
        DataError: if it lies outside.
    """

    name: ClassVar[str] = "sensitivity"

    target: float = 0.95

    def __post_init__(self) -> None:
        _require_in_unit("target", self.target)

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Choose it; see `ThresholdPolicy`."""
        choices = _choices(y_true, probabilities)
        chosen = choices.best(choices.tn, self.target)
        return OperatingPoint(chosen, chosen_on, self.name, self.target, choices.images)


@dataclass(frozen=True)
class Youden:
    """The highest sensitivity + specificity - 1; of equals the lowest threshold.

    It ranks thresholds as balanced accuracy does, and knows no floor.

    Reference: Youden (1950), Cancer 3(1).
    """

    name: ClassVar[str] = "youden"

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Choose it; see `ThresholdPolicy`."""
        choices = _choices(y_true, probabilities)
        chosen = choices.best(choices.balanced_accuracy, 0.0)
        return OperatingPoint(chosen, chosen_on, self.name, images=choices.images)


def _require_in_unit(name: str, *numbers: float) -> None:
    for number in numbers:
        if not 0 <= number <= 1:
            raise DataError(f"Expected {name} in [0, 1], received {number}.")


POLICIES: Mapping[str, type[ThresholdPolicy]] = {
    policy.name: policy for policy in (Fixed, BalancedAccuracy, Sensitivity, Youden)
}


@dataclass(frozen=True, eq=False)
class _Choices:
    """What each threshold makes of the radiographs, in integers, so that equals are equal."""

    thresholds: np.ndarray
    tp: np.ndarray
    tn: np.ndarray
    positives: int
    negatives: int

    @property
    def images(self) -> int:
        return self.positives + self.negatives

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """Times twice the product of both classes' sizes."""
        return self.tp * self.negatives + self.tn * self.positives

    def best(self, merit: np.ndarray, floor: float) -> float:
        """The first threshold of highest merit among those whose sensitivity reaches a floor."""
        allowed = self.tp / self.positives >= floor
        return float(self.thresholds[np.argmax(np.where(allowed, merit, -1))])


def _choices(y_true: ArrayLike, probabilities: ArrayLike, among: Sequence[float] = ()) -> _Choices:
    y_true, probabilities = check_labeled(y_true, probabilities)
    positives, negatives = np.sort(probabilities[y_true == 1]), np.sort(probabilities[y_true == 0])
    if not (positives.size and negatives.size):
        raise DataError(
            "Expected radiographs of both classes to choose a threshold on,"
            f" received {negatives.size} NORMAL and {positives.size} PNEUMONIA."
        )
    thresholds = np.sort(among) if len(among) else candidate_thresholds(probabilities)
    tp = positives.size - np.searchsorted(positives, thresholds, side="left")
    tn = np.searchsorted(negatives, thresholds, side="left")
    return _Choices(thresholds, tp, tn, positives.size, negatives.size)


def choose_operating_point(
    y_true: ArrayLike, probabilities: ArrayLike, *, sensitivity_floor: float = 0.95, chosen_on: str = "val"
) -> OperatingPoint:
    """Choose the threshold of highest balanced accuracy whose sensitivity reaches a floor.

    Of equals the lowest is taken. A floor can always be reached: the lowest candidate calls every radiograph.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        sensitivity_floor: the least sensitivity allowed, in [0, 1].
        chosen_on: what these radiographs are, for the record.

    Returns:
        `OperatingPoint` with policy `"balanced_accuracy"`.

    Raises:
        DataError: if a class is missing, the floor lies outside [0, 1], or the arrays do not fit together.
    """
    return BalancedAccuracy(sensitivity_floor).choose(y_true, probabilities, chosen_on=chosen_on)


def oracle_point(y_true: ArrayLike, probabilities: ArrayLike, *, split: str = "test") -> OperatingPoint:
    """What `choose_operating_point` would choose on the evaluated set itself: a comparison, never a result.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        split: which set this is; `chosen_on` says it, with a warning.

    Returns:
        `OperatingPoint` with policy `"balanced_accuracy"`.

    Raises:
        DataError: if a class is missing or the arrays do not fit together.
    """
    return choose_operating_point(y_true, probabilities, chosen_on=f"{split} {ORACLE_WARNING}")


@dataclass(frozen=True)
class SweptThreshold:
    """What happens at one threshold of a sweep.

    Attributes:
        threshold: in [0, 1].
        accuracy, precision, sensitivity, specificity, f1, balanced_accuracy: floats in [0, 1]; NaN where
            there is nothing to divide by.
        fn: PNEUMONIA that is not called.
        fp: NORMAL that is called.
    """

    threshold: float
    accuracy: float
    precision: float
    sensitivity: float
    specificity: float
    f1: float
    balanced_accuracy: float
    fn: int
    fp: int


def sweep(
    y_true: ArrayLike, probabilities: ArrayLike, *, thresholds: Sequence[float] = SWEEP
) -> tuple[SweptThreshold, ...]:
    """A table of what happens at each of some thresholds.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        thresholds: in [0, 1].

    Returns:
        A row for each.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """
    rows = []
    for threshold in thresholds:
        counts = metrics.confusion_counts(y_true, probabilities, threshold)
        rows.append(
            SweptThreshold(
                threshold=float(threshold),
                accuracy=float(metrics.accuracy(counts)),
                precision=float(metrics.precision(counts)),
                sensitivity=float(metrics.sensitivity(counts)),
                specificity=float(metrics.specificity(counts)),
                f1=float(metrics.f1(counts)),
                balanced_accuracy=float(metrics.balanced_accuracy(counts)),
                fn=counts.fn,
                fp=counts.fp,
            )
        )
    return tuple(rows)


def operating_points_to_json(points: Mapping[str, OperatingPoint]) -> dict[str, Any]:
    """The content of threshold.json; fields that are not set are left out."""
    return {"schema": THRESHOLD_SCHEMA, "points": {name: point.json() for name, point in points.items()}}


def operating_points_from_json(content: Mapping[str, Any]) -> dict[str, OperatingPoint]:
    """Operating points by name from the content of threshold.json.

    Raises:
        DataError: if the schema is not 1 or a point is not one.
    """
    schema = content.get("schema")
    if schema != THRESHOLD_SCHEMA:
        raise DataError(
            f"Expected operating points of schema {THRESHOLD_SCHEMA}, received schema {schema!r}."
        )
    try:
        return {name: OperatingPoint(**fields) for name, fields in content["points"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"Expected operating points as pneumokeras writes them, received {content}."
        ) from error
