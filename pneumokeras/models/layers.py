"""The layers of a model, wherever they are nested."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from pneumokeras.core.code import is_installed


def all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """Yield the layers of a model and of the models nested in it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


def own_layer_classes(model: keras.Model) -> list[type[keras.Layer]]:
    """Return the classes of a model's layers, nested ones included, whose code is a user's own."""
    kinds = dict.fromkeys(type(layer) for layer in all_layers(model))
    return [kind for kind in kinds if not is_installed(kind.__module__)]
