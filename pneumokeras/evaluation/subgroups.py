"""Results for subgroups: bacteria, virus, or the values of any other column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pneumokeras.evaluation.arguments import check_columns
from pneumokeras.evaluation.delong import delong_interval
from pneumokeras.evaluation.intervals import proportion_interval
from pneumokeras.evaluation.types import Interval, OperatingPoint, Predictions, Subgroup

SMALL_SUBGROUP = 30
"""A subgroup with fewer patients of a class than this is marked as small."""


def results_by_subgroup(
    predictions: Predictions, point: OperatingPoint, columns: Mapping[str, np.ndarray]
) -> tuple[Subgroup, ...]:
    """Evaluate the radiographs with each value of each column at one operating point.

    A column such as `subtype` divides the classes themselves: none of its values has radiographs of both,
    because bacteria and virus are kinds of PNEUMONIA. The ROC AUC of each value then takes all radiographs of
    the other class, as is usual in the literature. In any other column, such as a hospital, it takes the
    value's own radiographs. At the operating point there are only sensitivity and specificity: the other
    scores depend on the share of PNEUMONIA, and would differ between subgroups for that reason alone.

    Args:
        predictions: of the whole set, with labels.
        point: the operating point that sensitivity and specificity are given at.
        columns: by name, `(n,)` values in the predictions' order, compared as strings; radiographs whose
            value is empty, `None` or NaN belong to no subgroup.

    Returns:
        A subgroup for each value, columns in the order given, values sorted.

    Raises:
        SettingsError: if a column does not have one value for each radiograph.
    """
    return tuple(
        subgroup
        for name, values in check_columns(columns, len(predictions)).items()
        for subgroup in _of_column(predictions, point, name, values)
    )


def _of_column(
    predictions: Predictions, point: OperatingPoint, name: str, values: np.ndarray
) -> Iterator[Subgroup]:
    positive = predictions.require_labels() == 1
    predicted_positive = point.predicted_positive(predictions.probabilities)
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
                "sensitivity": _share(predicted_positive, classes[0], predictions.patients),
                "specificity": _share(~predicted_positive, classes[1], predictions.patients),
            },
            small=any(
                np.unique(predictions.patients[among]).size < SMALL_SUBGROUP
                for among in classes
                if among.any()
            ),
        )


def _share(counted: np.ndarray, among: np.ndarray, patients: np.ndarray) -> Interval:
    return proportion_interval(counted[among], patients[among])
