"""What every model of this package ends in, the heads of the reference systems, and how all are compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from keras import layers

from pneumokeras.core.errors import ModelError
from pneumokeras.models.saving import description_of, set_description
from pneumokeras.models.torch_compat import apply_layers, leaky_relu_after


def probability(tensor: keras.KerasTensor, *, seed: int | None = None) -> keras.KerasTensor:
    """`(n, k)` features -> `Dense(1)` named "logit" -> `(n, 1)` float32 sigmoid named "probability".

    Args:
        tensor: `(n, k)` features.
        seed: of the initial weights; `None` follows the global state.
    """
    initial = keras.initializers.GlorotUniform(seed)
    return sigmoid(layers.Dense(1, kernel_initializer=initial, name="logit")(tensor))


def last_dense(*, two_logits: bool = False) -> keras.Layer:
    """The last dense layer of a model: one logit, or one for each class."""
    return layers.Dense(2, name="logits") if two_logits else layers.Dense(1, name="logit")


def sigmoid(logits: keras.KerasTensor) -> keras.KerasTensor:
    """Logits -> `(n, 1)` float32 P(PNEUMONIA), a layer named "probability".

    Args:
        logits: `(n, 1)`; or `(n, 2)`, of NORMAL and PNEUMONIA. The sigmoid of their difference is the
            softmax, and binary cross-entropy of it is the softmax's cross-entropy: so a network with two
            logits is trained as it was published, by everything that trains one with one.
    """
    logit = logits if logits.shape[-1] == 1 else keras.ops.diff(logits, axis=-1)
    return layers.Activation("sigmoid", dtype="float32", name="probability")(logit)


def has_two_logits(model: keras.Model) -> bool:
    """Whether a model ends in `last_dense(two_logits=True)`."""
    return any(layer.name == "logits" for layer in model.layers)


def with_one_logit(model: keras.Model) -> keras.Model:
    """A trained model with two logits as one that keeps the model contract: the same P(PNEUMONIA).

    Args:
        model: a model that ends in `last_dense(two_logits=True)` and `sigmoid`.

    Returns:
        A new model, uncompiled, which shares all layers below the logits.

    Raises:
        ModelError: if it has no two logits.
    """
    if not has_two_logits(model):
        raise ModelError(f'{model.name} has no two logits. Expected a Dense(2) named "logits".')
    two = model.get_layer("logits")
    one = last_dense()
    reduced = keras.Model(model.inputs[0], sigmoid(one(two.input)), name=model.name)
    one.set_weights([np.diff(array, axis=-1) for array in two.get_weights()])
    set_description(reduced, **vars(description_of(model)))
    return reduced


def linear_head(features: keras.KerasTensor, *, seed: int, dropout: float | None = None) -> keras.KerasTensor:
    """Of both ResNet-18s: one dense layer; dropout before it in that for PneumoniaMNIST."""
    dropped = [layers.Dropout(dropout, seed=seed, name="dropout")] if dropout else []
    return sigmoid(apply_layers(features, [*dropped, last_dense()], seed=seed))


def mlp_head(features: keras.KerasTensor, *, seed: int, two_logits: bool = False) -> keras.KerasTensor:
    """Of EfficientNetB0-MLP. The document names no activation: LeakyReLU, as in its other networks."""
    chain = [
        *leaky_relu_after(layers.Dense(500, name="dense1")),
        layers.Dropout(0.3, seed=seed, name="dropout1"),
        *leaky_relu_after(layers.Dense(100, name="dense2")),
        layers.Dropout(0.3, seed=seed + 1, name="dropout2"),
        last_dense(two_logits=two_logits),
    ]
    return sigmoid(apply_layers(features, chain, seed=seed))


def normalized_head(features: keras.KerasTensor, *, seed: int) -> keras.KerasTensor:
    """Of the staged EfficientNetB0, written in Keras. Its width and rate are not published: ours."""
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
"""The reference systems' heads: from `(n, channels)` pooled features and a seed to `(n, 1)` P(PNEUMONIA)."""


def compile_classifier(model: keras.Model, learning_rate: float) -> keras.Model:
    """Compile with Adam, binary cross-entropy, accuracy and AUC, and return the model."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )
    return model
