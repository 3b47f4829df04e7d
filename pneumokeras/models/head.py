"""What every model of this package ends in, and how it is compiled."""

from __future__ import annotations

import keras


def probability(tensor: keras.KerasTensor, *, seed: int | None = None) -> keras.KerasTensor:
    """`(n, k)` features -> `Dense(1)` named "logit" -> `(n, 1)` float32 sigmoid named "probability".

    Args:
        tensor: `(n, k)` features.
        seed: of the initial weights; `None` follows the global state.
    """
    initial = keras.initializers.GlorotUniform(seed)
    logit = keras.layers.Dense(1, kernel_initializer=initial, name="logit")(tensor)
    return keras.layers.Activation("sigmoid", dtype="float32", name="probability")(logit)


def compile_classifier(model: keras.Model, learning_rate: float) -> keras.Model:
    """Compile with Adam, binary cross-entropy, accuracy and AUC, and return the model."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )
    return model
