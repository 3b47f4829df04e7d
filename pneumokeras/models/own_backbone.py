"""Turn a user's own Keras network into a backbone."""

from __future__ import annotations

from typing import Any

import keras

from pneumokeras.core.errors import ModelError
from pneumokeras.models.backbones import Backbone, acts_in_training
from pneumokeras.models.saving import own_name
from pneumokeras.models.weights import set_weights


def own_backbone(network: keras.Model) -> tuple[Backbone, keras.Model]:
    """Return a `Backbone` for a user's own network, and the network as one flat graph.

    Args:
        network: any functional or Sequential model, nested or not, from `(n, height, width, 1 or 3)` raw
            pixels to a feature map.

    Raises:
        ModelError: if it is not such a model, or holds layers that plain Keras cannot load.
    """
    try:
        (inputs,), (outputs,) = network.inputs, network.outputs
        flat = keras.Model(inputs, outputs, name=network.name)
        while any(isinstance(layer, keras.Model) for layer in flat.layers):
            flat = _one_level_flatter(flat)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{own_name(network)} cannot be a backbone. Expected a functional or Sequential Keras model with "
            "one input and one output."
        ) from error
    shapes = flat.input_shape, flat.output_shape
    are_maps = all(isinstance(shape, tuple) and len(shape) == 4 for shape in shapes)
    if not are_maps or shapes[0][-1] not in (1, 3):
        raise ModelError(
            "Expected a network from (n, height, width, 1 or 3) to a feature map (n, rows, columns, "
            f"channels). {own_name(network)} goes from {shapes[0]} to {shapes[1]}: leave its pooling "
            "and head out."
        )
    for layer in flat.layers:
        found = f"{own_name(network)} holds {type(layer).__name__} {layer.name!r}"
        if not _loads_in_plain_keras(layer):
            raise ModelError(
                f"{found}, which plain Keras cannot load. Expected built-in layers and keras.ops only."
            )
        if acts_in_training(layer) and not isinstance(layer, keras.layers.Dropout):
            raise ModelError(
                f"{found}, which acts in training, but a backbone is frozen. Leave it out; loaders augment."
            )
    sides = [side for side in flat.input_shape[1:3] if side]
    return Backbone(own_name(network), "", expects="own", image_size=max(sides, default=224)), flat


def _one_level_flatter(network: keras.Model) -> keras.Model:
    """Return the same network with the layers of nested models copied and called one by one."""

    def unfolded(layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, keras.Model):
            return layer
        copy = keras.models.clone_model(
            layer,
            clone_function=lambda inner: type(inner).from_config(
                inner.get_config() | {"name": f"{layer.name}_{inner.name}"}
            ),
        )
        set_weights(copy, layer.get_weights())
        return copy

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return layer.call(*args) if isinstance(layer, keras.Model) else layer(*args, **kwargs)

    return keras.models.clone_model(network, clone_function=unfolded, call_function=call)


def _loads_in_plain_keras(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.layers.Lambda) or not type(layer).__module__.startswith("keras."):
        return False
    try:
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer), safe_mode=True)
    except (TypeError, ValueError):  # such as a Python function as activation
        return False
    return True
