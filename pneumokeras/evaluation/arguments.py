"""Checks of the arguments of an evaluation, apart from the maths."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.arguments import is_number
from pneumokeras.core.errors import DataError, SettingsError


def check_probabilities(probabilities: ArrayLike) -> np.ndarray:
    """Return probabilities as `(n,)` float64.

    float64 matters: NumPy compares a float32 array with a Python float in float32, where a threshold half-way
    between two neighboring probabilities is rounded to one of them.

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
    """Return labels as `(n,)` int64, 1 = PNEUMONIA.

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
    """Return the labels and probabilities of the same radiographs, each checked.

    Raises:
        DataError: as for `check_labels` and `check_probabilities`, or if the lengths differ.
    """
    labels, values = check_labels(y_true), check_probabilities(probabilities)
    if labels.size != values.size:
        raise DataError(
            "Expected one probability per label,"
            f" received {labels.size} labels and {values.size} probabilities."
        )
    return labels, values


def check_columns(columns: Mapping[str, ArrayLike], images: int) -> dict[str, np.ndarray]:
    """Return columns as `(images,)` strings, empty where a value is missing (`None` or NaN).

    Raises:
        SettingsError: if a column does not have one value for each radiograph.
    """
    objects = {name: np.asarray(values, dtype=object) for name, values in columns.items()}
    for name, values in objects.items():
        if values.shape != (images,):
            raise SettingsError(
                f"Expected one value of {name!r} for each of {images} radiographs, received {values.size}."
                " Check `columns`.",
                parameter="columns",
            )
    return {
        name: np.array(["" if _is_missing(value) else str(value) for value in values], dtype=str)
        for name, values in objects.items()
    }


def check_prevalence(prevalence: float | None) -> None:
    """Refuse a prevalence for which predictive values cannot be stated; `None` asks for none.

    Raises:
        SettingsError: unless it lies strictly between 0 and 1.
    """
    if prevalence is not None and not (is_number(prevalence) and 0 < prevalence < 1):
        raise SettingsError(
            f"Expected `prevalence` between 0 and 1, such as 0.1. Received {prevalence!r}.",
            parameter="prevalence",
        )


def check_unit_interval(name: str, *numbers: float) -> None:
    """Refuse a setting with a number outside [0, 1].

    Args:
        name: the setting.
        *numbers: its values.

    Raises:
        SettingsError: if one lies outside [0, 1].
    """
    for number in numbers:
        if not (is_number(number) and 0 <= number <= 1):
            raise SettingsError(f"Expected `{name}` in [0, 1]. Received {number!r}.", parameter=name)


def patients_or_images(patients: ArrayLike | None, images: int) -> np.ndarray:
    """Return the patient of each image; for `None` each image is a patient of its own."""
    return np.arange(images) if patients is None else np.asarray(patients)


def has_both_classes(y_true: np.ndarray) -> bool:
    """Return whether `(n,)` checked labels hold both NORMAL and PNEUMONIA."""
    return bool(0 < y_true.sum() < y_true.size)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
