"""A model over radiographs -> predictions, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from pneumokeras.data.datasets import RadiographSet
from pneumokeras.data.loaders import RadiographLoader
from pneumokeras.errors import DataError, ModelError
from pneumokeras.evaluation import Evaluation, OperatingPoint, Predictions, evaluate_predictions
from pneumokeras.evaluation.checks import check_prevalence
from pneumokeras.evaluation.subgroups import check_columns
from pneumokeras.evaluation.thresholds import operating_points_from_json
from pneumokeras.features import Extractor, Views
from pneumokeras.models.forward import forward
from pneumokeras.models.parts import cut
from pneumokeras.models.saved import describe, known_classes


def predict(
    model: keras.Model, radiographs: RadiographSet, *, batch_size: int = 32, cache: bool = False
) -> Predictions:
    """What a model says of each radiograph, in the set's own order.

    Args:
        model: a model of this package, or any Keras model from raw pixels to `(n, 1)` probabilities.
        radiographs: the set; it is read at the size the model takes.
        batch_size: radiographs at a time.
        cache: keep the features of these radiographs beside those the model's head was trained on, if it
            was, so that the next head on this backbone finds them.

    Returns:
        The predictions.

    Raises:
        ModelError: if the model's output is not one probability.
        DataError: if a radiograph cannot be read, or the set's classes are not the model's.
    """
    if model.output_shape[-1] != 1:
        raise ModelError(
            f"Expected a model with one probability as output. Received output shape {model.output_shape}."
        )
    classes = known_classes(model)
    if classes is not None and radiographs.labels is not None and classes != radiographs.class_names:
        raise DataError(
            f"The model tells {' from '.join(classes)}, the radiographs are "
            f"{' and '.join(radiographs.class_names)}. Load them with the model's classes, in its order."
        )
    description = describe(model)
    loader = RadiographLoader(
        radiographs,
        description.image_size,
        batch_size=batch_size,
        pad=description.pad,
        channels=model.input_shape[-1],
    )
    return predictions_of(radiographs, _stored_forward(model, loader) if cache else forward(model, loader))


def _stored_forward(model: keras.Model, loader: RadiographLoader) -> np.ndarray:
    try:
        parts = cut(model, "head")
    except ModelError:  # somebody's model, without a backbone to tell from a head
        return forward(model, loader)
    extractor, sets = Extractor.of(parts.lower, model), [Views.of(loader)]
    if not extractor.has_stored(sets):
        return forward(model, loader)
    features = extractor.features(sets).rows[0]
    return forward(parts.upper, [(features[:],)])


def predictions_of(radiographs: RadiographSet, probabilities: np.ndarray) -> Predictions:
    """Predictions for radiographs from `(n,)` or `(n, 1)` probabilities in the set's order."""
    return Predictions(
        names=radiographs.names,
        patients=radiographs.patients,
        labels=radiographs.labels,
        probabilities=probabilities.reshape(-1).astype(np.float64),
        class_names=radiographs.class_names,
    )


def operating_points_of(model: keras.Model) -> dict[str, OperatingPoint]:
    """The operating points a model carries; empty if nobody chose any."""
    return operating_points_from_json({"schema": 1, "points": describe(model).operating_points})


def evaluate(
    model: keras.Model,
    radiographs: RadiographSet,
    *,
    operating_points: Mapping[str, OperatingPoint] | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
    prevalence: float | None = None,
    validation: RadiographSet | None = None,
    batch_size: int = 32,
) -> Evaluation:
    """Predict a labelled set and judge the predictions.

    Args:
        model: as for `predict`.
        radiographs: a set with labels.
        operating_points: thresholds to judge besides 0.5; by default those the model carries.
        columns: what divides the set into subgroups, by name: `(n,)` values; by default its subtypes.
        prevalence: share of PNEUMONIA, in (0, 1), to state predictive values at.
        validation: the validation split, labelled, to fit scalings of the probabilities on; by default none
            are fitted.
        batch_size: radiographs at a time.

    Returns:
        The evaluation; as the last expression of a notebook's cell it shows itself.

    Raises:
        DataError: if the set has no labels, a radiograph cannot be read, or a column or the prevalence is
            not one, or validation lacks a class.
    """
    columns = check_columns(
        {"subtype": radiographs.subtypes} if columns is None else columns, len(radiographs)
    )
    if prevalence is not None:
        check_prevalence(prevalence)
    for labelled in (radiographs, validation):
        if labelled is not None:
            labelled.require_labels()
    points = operating_points_of(model) if operating_points is None else operating_points
    predictions = predict(model, radiographs, batch_size=batch_size)
    return evaluate_predictions(
        predictions,
        operating_points=points,
        split=radiographs.split or "unnamed",
        columns=columns,
        prevalence=prevalence,
        validation=None if validation is None else predict(model, validation, batch_size=batch_size),
    )
