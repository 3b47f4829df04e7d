"""Fold BatchNorms into the convolutions before them: the same function, with less to compute.

At inference a BatchNorm is a factor and an offset for each channel. A convolution can have both in its kernel
and bias, which spares two passes over its map. Only the order of rounding differs.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from pneumokeras.models.weights import set_weights


def folded(model: keras.Model) -> keras.Model:
    """Return a copy of a model for inference, with BatchNorms folded into convolutions where they can be.

    Args:
        model: a functional model.

    Returns:
        Model with the same outputs to rounding (about 1e-6 of their size). BatchNorms that do not come right
        after a convolution stay.
    """
    norms = _norms_after_convolutions(model)
    gone = {norm.name for norm in norms.values()}

    def copied(layer: keras.Layer) -> keras.Layer:
        with_bias = {"use_bias": True} if layer.name in norms else {}
        return type(layer).from_config(layer.get_config() | with_bias)

    def call(layer: keras.Layer, *args: keras.KerasTensor, **kwargs: object) -> keras.KerasTensor:
        return args[0] if layer.name in gone else layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=copied, call_function=call)
    arrays: list[np.ndarray] = []
    for name in (layer.name for layer in copy.layers if layer.weights):
        original = model.get_layer(name)
        arrays += _folded_weights(original, norms[name]) if name in norms else original.get_weights()
    set_weights(copy, arrays)
    return copy


def _norms_after_convolutions(model: keras.Model) -> dict[str, keras.Layer]:
    """Return the BatchNorm that alone takes a convolution's output, by the convolution's name."""
    consumers: dict[str, list[keras.Operation]] = {}
    for operation in model.operations:  # also those that are no layers
        for node in operation._inbound_nodes:
            for tensor in node.input_tensors:
                consumers.setdefault(tensor._keras_history.operation.name, []).append(operation)
    outputs = {tensor._keras_history.operation.name for tensor in model.outputs}
    found = {}
    for layer in model.layers:
        after = consumers.get(layer.name, [])
        is_convolution = type(layer) in (layers.Conv2D, layers.DepthwiseConv2D)
        if is_convolution and len(after) == 1 and layer.name not in outputs and _can_fold(layer, after[0]):
            found[layer.name] = after[0]
    return found


def _can_fold(convolution: keras.Layer, norm: keras.Operation) -> bool:
    return (
        type(norm) is layers.BatchNormalization
        and norm.axis in (-1, 3)
        and convolution.activation is keras.activations.linear
        and convolution.data_format == "channels_last"
        and len(convolution.weights) == 1 + convolution.use_bias  # no others, such as those of LoRA
        and len(convolution._inbound_nodes) == len(norm._inbound_nodes) == 1
    )


def _folded_weights(convolution: keras.Layer, norm: keras.Layer) -> list[np.ndarray]:
    """Return kernel and bias of a convolution with the BatchNorm after it."""
    kernel, *bias = convolution.get_weights()
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    shift = (norm.beta.numpy() if norm.center else 0.0) - scale * (mean - (bias[0] if bias else 0.0))
    of_kernel = scale.reshape(kernel.shape[2:]) if type(convolution) is layers.DepthwiseConv2D else scale
    return [kernel * of_kernel, shift.astype(kernel.dtype)]
