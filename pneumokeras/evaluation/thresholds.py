"""Operating points: candidate thresholds, policies that choose one, and threshold.json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.evaluation import metrics
from pneumokeras.evaluation.arguments import check_labeled, check_probabilities, check_unit_interval
from pneumokeras.evaluation.types import OperatingPoint

DEFAULT_POINT = OperatingPoint(0.5)
ORACLE_WARNING = "(not achievable; for comparison only)"
THRESHOLD_SCHEMA = 1

SWEEP = tuple(hundredths / 100 for hundredths in range(30, 81, 5))
"""0.30 to 0.80 by 0.05."""


def as_operating_point(
    point: OperatingPoint | float, *, parameter: str = "operating_points"
) -> OperatingPoint:
    """Return an operating point as it is, and a threshold as a fixed one; `parameter` received it.

    Raises:
        SettingsError: if it is neither, or the threshold lies outside [0, 1].
    """
    if isinstance(point, OperatingPoint):
        return point
    if isinstance(point, int | float | np.number) and not isinstance(point, bool):
        return OperatingPoint(float(point))
    raise SettingsError(
        f"Expected an operating point or a threshold in [0, 1]. Received {point!r}.",
        parameter=parameter,
    )


def as_operating_points(given: Mapping[str, OperatingPoint | float] | None) -> dict[str, OperatingPoint]:
    """Return operating points and thresholds by name as operating points; none for `None`.

    Raises:
        SettingsError: if they have no names, or one is neither, or a threshold lies outside [0, 1].
    """
    if not isinstance(given, Mapping | None):
        raise SettingsError(
            f'Expected `operating_points` by name, such as {{"mine": 0.3}}. Received {given!r}.',
            parameter="operating_points",
        )
    return {name: as_operating_point(point) for name, point in (given or {}).items()}


def candidate_thresholds(probabilities: ArrayLike) -> np.ndarray:
    """Return one threshold for each non-empty set of radiographs that a threshold can predict positive.

    The first is 0, at which all radiographs are predicted positive; then follow the midpoints of neighboring
    distinct probabilities. If no float lies between two neighbors, the higher one is used, so that
    `p >= threshold` always separates them.

    Args:
        probabilities: `(n,)` floats in [0, 1].

    Returns:
        `(k,)` rising float64 for k distinct probabilities; only 0 if there are none.

    Raises:
        DataError: if a probability lies outside [0, 1].
    """
    distinct = np.unique(check_probabilities(probabilities))
    lower, upper = distinct[:-1], distinct[1:]
    midpoints = lower + (upper - lower) / 2
    return np.concatenate([[0.0], np.where(midpoints > lower, midpoints, upper)])


class ThresholdPolicy(Protocol):
    """A rule that chooses an operating point; `name` is its name in threshold.json."""

    name: ClassVar[str]

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Choose an operating point.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1].
            chosen_on: name of this split, for the record.

        Raises:
            DataError: if a class is missing or the arrays do not match.
        """


@dataclass(frozen=True)
class Fixed:
    """A fixed threshold.

    Attributes:
        threshold: in [0, 1].

    Raises:
        SettingsError: if the threshold lies outside [0, 1].
    """

    name: ClassVar[str] = "fixed"

    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_unit_interval("threshold", self.threshold)

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Return the fixed threshold, whatever the radiographs; see `ThresholdPolicy`."""
        return OperatingPoint(self.threshold)


@dataclass(frozen=True)
class BalancedAccuracy:
    """The threshold with the highest balanced accuracy among those reaching a sensitivity floor.

    Ties go to the lowest threshold.

    Attributes:
        sensitivity_floor: the lowest sensitivity allowed, in [0, 1].
        among: the thresholds to choose from, such as `SWEEP`; if none reaches the floor, the lowest is
            chosen. By default all candidates; at the lowest every radiograph is predicted positive.

    Raises:
        SettingsError: if a number lies outside [0, 1].
    """

    name: ClassVar[str] = "balanced_accuracy"

    sensitivity_floor: float = 0.95
    among: Sequence[float] = ()

    def __post_init__(self) -> None:
        check_unit_interval("sensitivity_floor", self.sensitivity_floor)
        check_unit_interval("among", *self.among)

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Choose the threshold; see `ThresholdPolicy`."""
        choices = _choices(y_true, probabilities, among=self.among)
        merit, floor = choices.balanced_accuracy, self.sensitivity_floor
        return choices.best(merit, floor=floor, policy=self.name, chosen_on=chosen_on)


@dataclass(frozen=True)
class Sensitivity:
    """The threshold with the highest specificity among those reaching a target sensitivity.

    Ties go to the lowest threshold.

    Attributes:
        target: the lowest sensitivity allowed, in [0, 1]; it is the operating point's `sensitivity_floor`.

    Raises:
        SettingsError: if the target lies outside [0, 1].
    """

    name: ClassVar[str] = "sensitivity"

    target: float = 0.95

    def __post_init__(self) -> None:
        check_unit_interval("target", self.target)

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Choose the threshold; see `ThresholdPolicy`."""
        choices = _choices(y_true, probabilities)
        return choices.best(choices.tn, floor=self.target, policy=self.name, chosen_on=chosen_on)


@dataclass(frozen=True)
class Youden:
    """The threshold with the highest Youden index, sensitivity + specificity - 1; ties go to the lowest.

    It ranks thresholds as balanced accuracy does, without a floor.

    Reference: Youden (1950), Cancer 3(1).
    """

    name: ClassVar[str] = "youden"

    def choose(
        self, y_true: ArrayLike, probabilities: ArrayLike, *, chosen_on: str = "val"
    ) -> OperatingPoint:
        """Choose the threshold; see `ThresholdPolicy`."""
        choices = _choices(y_true, probabilities)
        return choices.best(choices.balanced_accuracy, policy=self.name, chosen_on=chosen_on)


POLICIES: Mapping[str, type[ThresholdPolicy]] = {
    policy.name: policy for policy in (Fixed, BalancedAccuracy, Sensitivity, Youden)
}


def policy_from_text(text: str) -> ThresholdPolicy:
    """Return the policy that a text names, with its number: `"youden"`, `"sensitivity:0.98"` or `"0.5"`.

    Raises:
        SettingsError: if there is no such policy, or its number is none that it takes.
    """
    name, _, number = text.partition(":")
    if re.fullmatch(r"\d*\.?\d+", text):
        name, number = "fixed", text
    try:
        return POLICIES[name](*([float(number)] if number else []))
    except SettingsError as error:
        raise SettingsError(f"Received {text!r} as `threshold`. {error}", parameter="threshold") from error
    except (KeyError, ValueError, TypeError) as error:
        raise SettingsError(
            f"Expected `threshold` as a number or one of {', '.join(sorted(POLICIES))}, as in 0.5, youden or "
            f"sensitivity:0.98. Received {text!r}.",
            parameter="threshold",
        ) from error


@dataclass(frozen=True, eq=False)
class _Choices:
    """Counts at each candidate threshold, as integers, so that ties are exact."""

    thresholds: np.ndarray
    tp: np.ndarray
    tn: np.ndarray
    positives: int
    negatives: int

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """Balanced accuracy multiplied by twice the product of the class sizes, an integer."""
        return self.tp * self.negatives + self.tn * self.positives

    def best(
        self, merit: np.ndarray, *, policy: str, chosen_on: str, floor: float | None = None
    ) -> OperatingPoint:
        """Return the lowest threshold with the highest merit among those reaching a sensitivity floor."""
        allowed = self.tp / self.positives >= (floor or 0)
        return OperatingPoint(
            float(self.thresholds[np.argmax(np.where(allowed, merit, -1))]),
            chosen_on=chosen_on,
            policy=policy,
            sensitivity_floor=floor,
            images=self.positives + self.negatives,
        )


def _choices(y_true: ArrayLike, probabilities: ArrayLike, *, among: Sequence[float] = ()) -> _Choices:
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
    """Choose the threshold with the highest balanced accuracy among those reaching a sensitivity floor.

    Ties go to the lowest threshold. Every floor can be reached: at the lowest candidate every radiograph is
    predicted positive.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        sensitivity_floor: the lowest sensitivity allowed, in [0, 1].
        chosen_on: name of this split, for the record.

    Returns:
        `OperatingPoint` with policy `"balanced_accuracy"`.

    Raises:
        DataError: if a class is missing or the arrays do not match.
        SettingsError: if the floor lies outside [0, 1].

    Example:
        >>> pk.choose_operating_point([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9], sensitivity_floor=0.9)
        OperatingPoint(threshold=0.5, chosen_on='val', policy='balanced_accuracy',
                       sensitivity_floor=0.9, images=4)
    """
    policy = BalancedAccuracy(sensitivity_floor=sensitivity_floor)
    return policy.choose(y_true, probabilities, chosen_on=chosen_on)


def oracle_point(y_true: ArrayLike, probabilities: ArrayLike, *, split: str = "test") -> OperatingPoint:
    """Choose an operating point on the evaluated set itself, for comparison only: it is not achievable.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        split: name of the set, which `chosen_on` states together with a warning.

    Returns:
        `OperatingPoint` with policy `"balanced_accuracy"`.

    Raises:
        DataError: if a class is missing or the arrays do not match.
    """
    return choose_operating_point(y_true, probabilities, chosen_on=f"{split} {ORACLE_WARNING}")


@dataclass(frozen=True)
class SweptThreshold:
    """Scores at one threshold of a sweep.

    Attributes:
        threshold: in [0, 1].
        accuracy, precision, sensitivity, specificity, f1, balanced_accuracy: floats in [0, 1]; NaN where
            there is nothing to divide by.
        fn: number of PNEUMONIA images predicted negative.
        fp: number of NORMAL images predicted positive.
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
    """Return the scores at each of some thresholds.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        probabilities: `(n,)` floats in [0, 1].
        thresholds: in [0, 1].

    Returns:
        One row per threshold.

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
    """Return the content of threshold.json; fields that are not set are left out."""
    return {"schema": THRESHOLD_SCHEMA, "points": {name: point.json() for name, point in points.items()}}


def operating_points_from_json(content: Mapping[str, Any]) -> dict[str, OperatingPoint]:
    """Read operating points, by name, from the content of threshold.json.

    Raises:
        DataError: if the schema is not 1 or an operating point is invalid.
    """
    schema = content.get("schema")
    if schema != THRESHOLD_SCHEMA:
        raise DataError(
            f"Expected operating points of schema {THRESHOLD_SCHEMA}, received schema {schema!r}."
        )
    try:
        return {name: OperatingPoint(**fields) for name, fields in content["points"].items()}
    except (AttributeError, KeyError, TypeError, SettingsError) as error:
        raise DataError(
            f"Expected operating points as pneumokeras writes them, received {content}."
        ) from error
