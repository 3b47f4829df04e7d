"""Check that a user's own model keeps the model contract, before anything is searched."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import ModelError, first_line
from pneumokeras.models.layers import all_layers
from pneumokeras.models.saving import load_model, own_name, save_model

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3
"""Largest difference of two probabilities that ought to be equal."""


def require_contract(model: Any, *, input_shape: tuple[int, ...] | None = None) -> None:
    """Refuse a model that cannot be trained on radiographs, saved, and loaded again in safe mode.

    Args:
        model: what a HyperModel's `build` returned.
        input_shape: the shape that the HyperModel names; by default the model's own.

    Raises:
        ModelError: if it is no functional or Sequential model from one image to one probability, or is not
            the same after it was saved and loaded.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"Expected `build(hp)` to return a Keras model. Received {type(model).__name__}.",
            parameter="hypermodel",
        )
    name = own_name(model)
    require_graph(model, name)
    shape = tuple(model.inputs[0].shape)[1:]
    if len(shape) != 3 or shape[-1] not in (1, 3) or None in shape:
        raise _refused(
            f"{name} takes {model.inputs[0].shape}. Expected (None, height, width, 1), raw gray levels, or 3 "
            "channels, of a fixed size."
        )
    if input_shape is not None and shape != tuple(np.ravel(input_shape)):
        raise _refused(f"{name} takes {shape}, but the input_shape of its HyperModel is {input_shape}.")
    _require_one_probability(model, name)
    _require_layers(model, name)
    probabilities = _probabilities(model, shape)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # not so for NaN either
        raise _refused(
            f"{name} gives {probabilities.min():.3g} to {probabilities.max():.3g} for gray levels 0 to 255. "
            'Expected probabilities: end it in Dense(1, activation="sigmoid").'
        )
    again = _saved_and_loaded(model, name)
    if not np.allclose(_probabilities(again, shape), probabilities, atol=_TOLERANCE):
        raise _refused(f"{name} gives other probabilities once it was saved and loaded again.")


def require_compiled(model: keras.Model) -> None:
    """Refuse a model that is not compiled with a loss of one probability.

    Raises:
        ModelError: if there is no loss, or it does not fall as probabilities near the labels.
    """
    name = own_name(model)
    if not model.compiled or model.loss is None:
        raise _refused(
            f'{name} is not compiled with a loss. Expected model.compile(..., "binary_crossentropy").'
        )
    if getattr(model.loss, "from_logits", False):
        raise _refused(
            f"The loss of {name} expects logits, but the model gives probabilities. Leave from_logits out."
        )
    labels = np.array([0, 1], np.float32)
    right = np.array([[0.1], [0.9]], np.float32)
    try:
        near, far = (
            float(model.compute_loss(y=labels, y_pred=keras.ops.convert_to_tensor(given)))
            for given in (right, right[::-1])
        )
    except Exception as error:  # losses raise many kinds of exceptions
        raise _refused(
            f"The loss of {name} cannot be computed for labels (n,) and probabilities (n, 1): "
            f"{first_line(error)}. Expected binary_crossentropy."
        ) from error
    if not near < far - _TOLERANCE:
        raise _refused(
            f"The loss of {name} does not fall as P(PNEUMONIA) nears labels. Expected binary_crossentropy."
        )


def require_same_model(extractor: keras.Model, head: keras.Model, full: keras.Model) -> None:
    """Refuse a head that is not what the full model does with the frozen network's features.

    Raises:
        ModelError: if they give other probabilities than the full model.
    """
    shape = tuple(full.inputs[0].shape)[1:]
    try:
        apart = _output(head, _output(extractor, _images(shape)))
    except (TypeError, ValueError) as error:
        raise _refused(
            f"build_head does not take the features of feature_extractor: {first_line(error)}."
        ) from error
    if not np.allclose(apart, _probabilities(full, shape), atol=_TOLERANCE):
        raise _refused(
            "The head of build_head on feature_extractor gives other probabilities than the model of "
            "assemble. Expected the same layers and weights."
        )


def require_graph(model: keras.Model, name: str) -> None:
    """Refuse a model that is no graph from one image to one output.

    Raises:
        ModelError: if it is none.
    """
    try:
        (_,), (_,) = model.inputs, model.outputs
    except (AttributeError, TypeError, ValueError) as error:
        raise _refused(
            f"{name} is no graph from one image to one output. Expected a functional model, or a Sequential "
            "one that begins with keras.Input((height, width, 1))."
        ) from error


def _require_one_probability(model: keras.Model, name: str) -> None:
    output = tuple(model.outputs[0].shape)
    expected = 'Expected P(PNEUMONIA), (None, 1): end it in Dense(1, activation="sigmoid")'
    if output == (None, 2):
        raise _refused(
            f"{name} gives two values, as a softmax of two classes does. {expected}, and compile it with "
            "binary_crossentropy."
        )
    if output != (None, 1):
        raise _refused(f"{name} gives {output}. {expected}.")
    last = model.layers[-1]
    if (activation := getattr(last, "activation", None)) is not None:
        low, high = np.asarray(activation(keras.ops.convert_to_tensor([[-1e3], [1e3]]))).ravel()
        if not 0 <= low < high <= 1:
            raise _refused(
                f"{name} ends in {type(last).__name__} {last.name!r} with activation "
                f"{activation.__name__}, which gives no probability. {expected}."
            )


def _require_layers(model: keras.Model, name: str) -> None:
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.Lambda):
            raise _refused(
                f"{name} holds Lambda {layer.name!r}, which is not loaded in safe mode. Write it with "
                "keras.ops or built-in layers."
            )


def _saved_and_loaded(model: keras.Model, name: str) -> keras.Model:
    with TemporaryDirectory(prefix="pneumokeras-") as folder:
        path = Path(folder) / "model.keras"
        try:
            save_model(model, path)
            again = load_model(path)
        except Exception as error:  # saving and loading own layers raises many kinds of exceptions
            reason = first_line(error.__cause__ or error)
            raise _refused(
                f"{name} cannot be loaded again once it is saved: {reason}. Expected built-in layers and "
                "keras.ops only."
            ) from error
    own = {type(layer) for layer in all_layers(model) if not type(layer).__module__.startswith("keras.")}
    if own:
        logger.warning(
            "%s holds %s: plain Keras and the commands cannot load it unless their module is imported first.",
            name,
            ", ".join(sorted(kind.__name__ for kind in own)),
        )
    return again


def _images(shape: tuple[int, ...]) -> np.ndarray:
    """Return a black, a white and a noisy image, as radiographs are read."""
    noise = np.random.default_rng(0).integers(0, 256, shape)
    return np.stack([np.zeros(shape), np.full(shape, 255), noise]).astype(np.float32)


def _probabilities(model: keras.Model, shape: tuple[int, ...]) -> np.ndarray:
    return _output(model, _images(shape))


def _output(model: keras.Model, values: np.ndarray) -> np.ndarray:
    """Return a model's output in inference; a list of one input is taken as that input."""
    return np.asarray(keras.Model(model.inputs[0], model.outputs[0])(values, training=False), np.float32)


def _refused(message: str) -> ModelError:
    return ModelError(message, parameter="hypermodel")
