"""Operating points: which thresholds there are to choose from, how one is chosen, how it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.errors import DataError
from pneumokeras.evaluation.checks import check_labelled, check_probabilities
from pneumokeras.evaluation.results import OperatingPoint

DEFAULT_POINT = OperatingPoint(0.5, "fixed")
ORACLE_WARNING = "(not achievable; for comparison only)"
THRESHOLD_SCHEMA = 1


def candidate_thresholds(probabilities: ArrayLike) -> np.ndarray:
    """One threshold for each way in which PNEUMONIA can be called on at least one of these radiographs.

    0, which calls all of them, then the midpoints between neighbouring distinct probabilities. Where
    no number lies between two neighbours it is the higher one, so that `p >= threshold` always parts them.

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
    y_true, probabilities = check_labelled(y_true, probabilities)
    positives, negatives = np.sort(probabilities[y_true == 1]), np.sort(probabilities[y_true == 0])
    if not (positives.size and negatives.size):
        raise DataError(
            "Expected radiographs of both classes to choose a threshold on,"
            f" received {negatives.size} NORMAL and {positives.size} PNEUMONIA."
        )
    candidates = candidate_thresholds(probabilities)
    tp = positives.size - np.searchsorted(positives, candidates, side="left")
    tn = np.searchsorted(negatives, candidates, side="left")
    # Balanced accuracy in integers, so that equals are equal; argmax takes the first.
    merit = tp * negatives.size + tn * positives.size
    best = np.argmax(np.where(tp / positives.size >= sensitivity_floor, merit, -1))
    return OperatingPoint(
        threshold=float(candidates[best]),
        chosen_on=chosen_on,
        policy="balanced_accuracy",
        sensitivity_floor=sensitivity_floor,
        images=int(y_true.size),
    )


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
