"""What the arrays of an evaluation must be, checked once at the door and apart from the maths."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError


def check_probabilities(probabilities: ArrayLike) -> np.ndarray:
    """Probabilities as `(n,)` float64.

    float64 matters: NumPy compares a float32 array with a Python float in float32, where a threshold half-way
    between two neighboring probabilities falls back onto one of them.

    Raises:
        DataError: if the shape is not `(n,)` or a value is not a finite number in [0, 1].
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(f"Expected probabilities of shape (n,), received shape {values.shape}.")
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if wrong.size:
        raise DataError(
            f"Expected probabilities in [0, 1], received {values[wrong[0]]} at position {wrong[0]}"
            f" ({wrong.size} of {values.size} lie outside)."
        )
    return values


def check_labels(labels: ArrayLike) -> np.ndarray:
    """Labels as `(n,)` int64, 1 = PNEUMONIA.

    Raises:
        DataError: if the shape is not `(n,)` or a label is neither 0 nor 1.
    """
    values = np.asarray(labels)
    if values.ndim != 1:
        raise DataError(f"Expected labels of shape (n,), received shape {values.shape}.")
    wrong = np.flatnonzero(~np.isin(values, (0, 1)))
    if wrong.size:
        raise DataError(
            f"Expected labels 0 (NORMAL) or 1 (PNEUMONIA), received {values[wrong[0]]}"
            f" at position {wrong[0]}."
        )
    return values.astype(np.int64)


def check_labeled(y_true: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of the same radiographs, each checked.

    Raises:
        DataError: as `check_labels` and `check_probabilities`, or if the lengths differ.
    """
    labels, values = check_labels(y_true), check_probabilities(probabilities)
    if labels.size != values.size:
        raise DataError(
            "Expected one probability per label,"
            f" received {labels.size} labels and {values.size} probabilities."
        )
    return labels, values


def check_prevalence(prevalence: float) -> float:
    """A share of PNEUMONIA that predictive values can be stated at.

    Raises:
        DataError: if it does not lie strictly between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise DataError(f"Expected a prevalence between 0 and 1, such as 0.1, received {prevalence}.")
    return prevalence


def has_both_classes(y_true: np.ndarray) -> bool:
    """Whether NORMAL and PNEUMONIA are both there, among `(n,)` checked labels."""
    return bool(0 < y_true.sum() < y_true.size)
