"""Build the last layers of models and the heads of the reference systems, and compile models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from keras import layers

from pneumokeras.core.errors import ModelError
from pneumokeras.models.saving import own_name
from pneumokeras.models.torch_compat import apply_layers, with_leaky_relu


def probability(tensor: keras.KerasTensor, *, seed: int | None = None) -> keras.KerasTensor:
    """Return P(PNEUMONIA) of features: `Dense(1)` named "logit", then a sigmoid named "probability".

    Args:
        tensor: `(n, k)` features.
        seed: of the initial weights; `None` follows Keras' global seed.

    Returns:
        `(n, 1)` `float32`.
    """
    initial = keras.initializers.GlorotUniform(seed)
    return sigmoid(layers.Dense(1, kernel_initializer=initial, name="logit")(tensor))


def last_dense(*, two_logits: bool = False) -> keras.Layer:
    """Return the last dense layer of a model: one logit, or one for each class."""
    return layers.Dense(2, name="logits") if two_logits else layers.Dense(1, name="logit")


def sigmoid(logits: keras.KerasTensor) -> keras.KerasTensor:
    """Return P(PNEUMONIA) of logits, the output of a layer named "probability".

    Args:
        logits: `(n, 1)`; or `(n, 2)`, of NORMAL and PNEUMONIA. The sigmoid of their difference is the
            softmax, and its binary cross-entropy the softmax cross-entropy, so that a network with two logits
            is trained as published by the same code as one with a single logit.

    Returns:
        `(n, 1)` `float32`.
    """
    logit = logits if logits.shape[-1] == 1 else keras.ops.diff(logits, axis=-1)
    return layers.Activation("sigmoid", dtype="float32", name="probability")(logit)


def has_two_logits(model: keras.Model) -> bool:
    """Return whether a model ends in `last_dense(two_logits=True)`."""
    return any(layer.name == "logits" for layer in model.layers)


def with_one_logit(model: keras.Model) -> keras.Model:
    """Reduce a trained model with two logits to one that keeps the model contract: the same P(PNEUMONIA).

    Args:
        model: a model that ends in `last_dense(two_logits=True)` and `sigmoid`.

    Returns:
        A new model, uncompiled, that shares all layers below the logits, and with them the description.

    Raises:
        ModelError: if it does not have two logits.
    """
    if not has_two_logits(model):
        raise ModelError(f'{own_name(model)} does not have two logits. Expected a Dense(2) named "logits".')
    two = model.get_layer("logits")
    one = last_dense()
    reduced = keras.Model(model.inputs[0], sigmoid(one(two.input)), name=model.name)
    one.set_weights([np.diff(array, axis=-1) for array in two.get_weights()])
    return reduced


def linear_head(features: keras.KerasTensor, *, seed: int, dropout: float | None = None) -> keras.KerasTensor:
    """Build the head of both ResNet-18 systems: one dense layer, after dropout in that for PneumoniaMNIST."""
    dropped = [layers.Dropout(dropout, seed=seed, name="dropout")] if dropout else []
    return sigmoid(apply_layers(features, [*dropped, last_dense()], seed=seed))


def mlp_head(features: keras.KerasTensor, *, seed: int, two_logits: bool = False) -> keras.KerasTensor:
    """Build the head of EfficientNetB0-MLP.

    Its document names no activation; LeakyReLU is that of its other networks.
    """
    chain = [
        *with_leaky_relu(layers.Dense(500, name="dense1")),
        layers.Dropout(0.3, seed=seed, name="dropout1"),
        *with_leaky_relu(layers.Dense(100, name="dense2")),
        layers.Dropout(0.3, seed=seed + 1, name="dropout2"),
        last_dense(two_logits=two_logits),
    ]
    return sigmoid(apply_layers(features, chain, seed=seed))


def normalized_head(features: keras.KerasTensor, *, seed: int) -> keras.KerasTensor:
    """Build the head of the staged EfficientNetB0, published in Keras.

    Its width and dropout rate are not published; these are ours.
    """
    initial = keras.initializers.GlorotUniform(seed)
    normalized = layers.BatchNormalization(name="norm")(features)
    hidden = layers.Dense(256, activation="relu", kernel_initializer=initial, name="hidden")(normalized)
    return probability(layers.Dropout(0.5, seed=seed, name="dropout")(hidden), seed=seed + 1)


HEADS: dict[str, Callable[..., keras.KerasTensor]] = {
    "linear": linear_head,
    "dropout-linear": partial(linear_head, dropout=0.5),
    "mlp": mlp_head,
    "mlp-two-logits": partial(mlp_head, two_logits=True),
    "normalized": normalized_head,
}
"""The reference systems' heads by name, from `(n, channels)` pooled features to `(n, 1)` P(PNEUMONIA)."""


def compile_classifier(model: keras.Model, *, learning_rate: float) -> keras.Model:
    """Compile with Adam, binary cross-entropy, accuracy and AUC, and return the model."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )
    return model
