"""Predict the probability of pneumonia for a set of radiographs."""

from __future__ import annotations

import keras
import numpy as np

from pneumokeras.core.arguments import whole
from pneumokeras.core.errors import DataError, ModelError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.inputs import Images, are_paths, radiographs_at
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.evaluation import Predictions
from pneumokeras.explain.inputs import model_images
from pneumokeras.models.forward import InBatches, forward
from pneumokeras.models.parts import cut
from pneumokeras.models.saving import ModelSource, description_of, model_of
from pneumokeras.training.features import Extractor, Views


def predict(
    model: ModelSource, radiographs: Images, *, batch_size: int = 32, cache: bool = False
) -> Predictions:
    """Return a model's probability for each radiograph, in order.

    The model's description decides how radiographs are read. If it has none because pneumokeras did not make
    it, radiographs are stretched to the size of its input, and a warning is logged once.

    Args:
        model: a model of this package, a finished run or its folder, a `.keras` file, or any Keras model from
            raw pixels to `(n, 1)` probabilities.
        radiographs: a set, a file or a folder of files, several of these, or arrays of gray levels from 0 to
            255, one image or several, as for `grad_cam`. They are read at the size the model takes.
        batch_size: radiographs per batch.
        cache: also store the features of these radiographs, if features of this model's backbone are
            stored already, so that the next head on the same backbone finds them.

    Returns:
        The predictions.

    Raises:
        ModelError: if the model's output is not one probability.
        DataError: if a radiograph cannot be read, the set's classes are not the model's, or there are no
            radiographs in what was given.

    Example:
        >>> radiographs = pk.load_radiographs("chest_xray", split="test")
        >>> predictions = pk.predict(pk.load_model("model.keras"), radiographs)
        >>> len(predictions.probabilities) == len(radiographs)
        True
        >>> one = pk.predict("tuner_runs/first", radiographs.names[0])
        >>> 0 <= float(one) <= 1
        True
    """
    model = model_of(model)
    if model.output_shape[-1] != 1:
        raise ModelError(
            f"Expected a model with one probability as output. Received output shape {model.output_shape}."
        )
    description = description_of(model)
    if are_paths(radiographs):
        radiographs = radiographs_at(radiographs, class_names=description.classes)
    if not isinstance(radiographs, RadiographSet):
        return _predictions_of_arrays(model, model_images(model, radiographs), batch_size)
    is_comparable = description.classes_known and radiographs.labels is not None
    if is_comparable and description.classes != radiographs.class_names:
        raise DataError(
            f"The model's classes are {' and '.join(description.classes)}, the radiographs' are "
            f"{' and '.join(radiographs.class_names)}. Load them with the model's classes, in its order."
        )
    loader = RadiographLoader(
        radiographs.at_depth(description.bits),
        description.image_size,
        batch_size=whole("batch_size", batch_size),
        pad=description.pad,
        channels=model.input_shape[-1],
    )
    return predictions_of(radiographs, _stored_forward(model, loader) if cache else forward(model, loader))


def _predictions_of_arrays(model: keras.Model, images: np.ndarray, batch_size: int) -> Predictions:
    """Return predictions of images as `model_images` returns them, numbered from 0."""
    if images.ndim == 3:
        images = np.broadcast_to(images[..., np.newaxis], (*images.shape, model.input_shape[-1]))
    names = np.array([f"image {number}" for number in range(len(images))], dtype=object)
    return Predictions(
        names=names,
        patients=names,
        labels=None,
        probabilities=forward(model, InBatches(images, batch_size)).reshape(-1).astype(np.float64),
        class_names=description_of(model).classes,
    )


def _stored_forward(model: keras.Model, loader: RadiographLoader) -> np.ndarray:
    """Return a model's outputs by way of stored features, if its backbone has any."""
    try:
        parts = cut(model, "head")
    except ModelError:  # a user's own model whose head cannot be told from a backbone
        return forward(model, loader)
    extractor, sets = Extractor.of(parts.lower, model), [Views.of(loader)]
    if not extractor.has_stored(sets):
        return forward(model, loader)
    features = extractor.features(sets).rows[0]
    return forward(parts.upper, [(features[:],)])


def predictions_of(radiographs: RadiographSet, probabilities: np.ndarray) -> Predictions:
    """Return predictions of radiographs from `(n,)` or `(n, 1)` probabilities in the set's order."""
    return Predictions(
        names=radiographs.names,
        patients=radiographs.patients,
        labels=radiographs.labels,
        probabilities=probabilities.reshape(-1).astype(np.float64),
        class_names=radiographs.class_names,
    )
