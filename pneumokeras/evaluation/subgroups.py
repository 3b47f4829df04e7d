"""What a model is worth among some of the radiographs: bacteria, virus, or whatever a column tells apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation.delong import delong_interval
from pneumokeras.evaluation.intervals import proportion_interval
from pneumokeras.evaluation.types import OperatingPoint, Predictions, Subgroup

SMALL_SUBGROUP = 30
"""With fewer patients of a class than this, figures say little, whatever they are."""


def results_by_subgroup(
    predictions: Predictions, point: OperatingPoint, columns: Mapping[str, np.ndarray]
) -> tuple[Subgroup, ...]:
    """Evaluate the radiographs with each value of each column at one operating point.

    A column such as `subtype` divides the classes themselves: no value of it has radiographs of both, for
    bacteria and virus are kinds of PNEUMONIA. Each value's radiographs are then ranked against all of the
    other class, as the field does. In any other column, such as a hospital, each value stands for itself.
    Only sensitivity and specificity are given at the operating point: the other scores depend on the share of
    PNEUMONIA, and would differ between subgroups for that reason alone.

    Args:
        predictions: of the whole set, with labels.
        point: the operating point that sensitivity and specificity are given at.
        columns: by name, `(n,)` values in the predictions' order, compared as strings; radiographs with an
            empty one, `None` or NaN are in no subgroup.

    Returns:
        A subgroup for each value, columns in the order given, values sorted.

    Raises:
        DataError: if a column has not one value for each radiograph.
    """
    return tuple(
        subgroup
        for name, values in check_columns(columns, len(predictions)).items()
        for subgroup in _of_column(predictions, point, name, values)
    )


def check_columns(columns: Mapping[str, ArrayLike], images: int) -> dict[str, np.ndarray]:
    """Columns as `(images,)` strings, empty for what is missing: `None`, or NaN as pandas has it.

    Raises:
        DataError: if a column has not one value for each radiograph.
    """
    objects = {name: np.asarray(values, dtype=object) for name, values in columns.items()}
    for name, values in objects.items():
        if values.shape != (images,):
            raise DataError(
                f"Expected one value of {name!r} for each of {images} radiographs, received {values.size}."
            )
    return {
        name: np.array(["" if _is_missing(value) else str(value) for value in values], dtype=str)
        for name, values in objects.items()
    }


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _of_column(
    predictions: Predictions, point: OperatingPoint, name: str, values: np.ndarray
) -> Iterator[Subgroup]:
    positive = predictions.require_labels() == 1
    called = point.calls(predictions.probabilities)
    divides_classes = not set(values[positive]) & set(values[~positive]) - {""}
    for value in np.unique(values[values != ""]):
        inside = values == value
        ranked = inside | (positive != positive[inside][0]) if divides_classes else inside
        classes = [inside & positive, inside & ~positive]
        yield Subgroup(
            column=name,
            value=str(value),
            images=int(inside.sum()),
            patients=np.unique(predictions.patients[inside]).size,
            positives=int(classes[0].sum()),
            roc_auc=delong_interval(
                positive[ranked], predictions.probabilities[ranked], predictions.patients[ranked]
            ),
            scores={
                score: proportion_interval(right[among], predictions.patients[among])
                for score, among, right in zip(
                    ("sensitivity", "specificity"), classes, (called, ~called), strict=True
                )
            },
            small=any(
                np.unique(predictions.patients[among]).size < SMALL_SUBGROUP
                for among in classes
                if among.any()
            ),
        )
