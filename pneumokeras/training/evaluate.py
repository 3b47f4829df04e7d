"""Predict a labeled set and evaluate the predictions."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from pneumokeras.data.dataset import RadiographSet, require_set
from pneumokeras.evaluation import Evaluation, OperatingPoint, evaluate_predictions
from pneumokeras.evaluation.arguments import check_columns, check_prevalence
from pneumokeras.evaluation.thresholds import as_operating_points, operating_points_from_json
from pneumokeras.models.saving import ModelSource, description_of, model_of
from pneumokeras.training.predict import predict


def operating_points_of(model: keras.Model) -> dict[str, OperatingPoint]:
    """Return the operating points in a model's description; empty if none were chosen."""
    return operating_points_from_json({"schema": 1, "points": description_of(model).operating_points})


def evaluate(
    model: ModelSource,
    radiographs: RadiographSet,
    *,
    operating_points: Mapping[str, OperatingPoint | float] | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
    prevalence: float | None = None,
    validation: RadiographSet | None = None,
    batch_size: int = 32,
) -> Evaluation:
    """Predict a labeled set and evaluate the predictions.

    Args:
        model: as for `predict`.
        radiographs: a set with labels.
        operating_points: operating points or thresholds to evaluate besides 0.5, by name, such as
            `{"mine": 0.3}`; by default those in the model's description.
        columns: `(n,)` values by name that divide the set into subgroups; by default its subtypes.
        prevalence: share of PNEUMONIA, in (0, 1), at which to state predictive values.
        validation: the validation split, labeled, to fit calibration scalings on; by default none are fitted.
        batch_size: radiographs per batch.

    Returns:
        The evaluation; as the last expression of a notebook cell it shows itself.

    Raises:
        DataError: if a set has no labels, a radiograph cannot be read, or validation lacks a class.
        ModelError: as for `predict`.
        SettingsError: if a threshold lies outside [0, 1], a column does not have one value for each
            radiograph, or the prevalence does not lie between 0 and 1.

    Example:
        >>> radiographs = pk.load_radiographs("chest_xray", split="test")
        >>> evaluation = pk.evaluate(pk.load_model("model.keras"), radiographs)
        >>> evaluation.split
        'test'
        >>> 0 <= evaluation.roc_auc.estimate <= 1
        True
    """
    model = model_of(model)
    sets = {"radiographs": radiographs} | ({} if validation is None else {"validation": validation})
    for name, labeled in sets.items():
        require_set(labeled, name)
    columns = check_columns(
        {"subtype": radiographs.subtypes} if columns is None else columns, len(radiographs)
    )
    check_prevalence(prevalence)
    for labeled in sets.values():
        labeled.require_labels()
    points = operating_points_of(model) if operating_points is None else as_operating_points(operating_points)
    predictions = predict(model, radiographs, batch_size=batch_size)
    return evaluate_predictions(
        predictions,
        operating_points=points,
        split=radiographs.split or "unnamed",
        columns=columns,
        prevalence=prevalence,
        validation=None if validation is None else predict(model, validation, batch_size=batch_size),
    )
