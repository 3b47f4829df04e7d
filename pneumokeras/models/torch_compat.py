"""Make layers with PyTorch's constants and initial weights, for networks published in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
import numpy as np
from keras import layers


def batch_norm(name: str) -> keras.Layer:
    """Return a BatchNorm with PyTorch's epsilon and momentum; its momentum of 0.1 is 0.9 in Keras."""
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=name)


def with_leaky_relu(layer: keras.Layer) -> tuple[keras.Layer, keras.Layer]:
    """Return a layer and a LeakyReLU to follow it, with PyTorch's slope of 0.01 below zero."""
    return layer, layers.LeakyReLU(negative_slope=0.01, name=f"{layer.name}_relu")


def apply_layers(tensor: keras.KerasTensor, chain: Iterable[keras.Layer], *, seed: int) -> keras.KerasTensor:
    """Apply new layers one after the other; convolutions and dense layers get PyTorch's initial weights.

    PyTorch draws kernel and bias from the uniform distribution between -b and b, where b is one over the
    square root of the number of inputs (`kaiming_uniform_` with `a=sqrt(5)`). Keras draws kernels by Glorot's
    rule and begins with biases of 0.

    Args:
        tensor: input of the first layer.
        chain: convolutions and dense layers with a bias, and layers that draw no weights.
        seed: of the initial weights.

    Returns:
        Output of the last layer.
    """
    rng = np.random.default_rng(seed)
    for layer in chain:
        tensor = layer(tensor)
        if isinstance(layer, layers.Conv2D | layers.Dense):
            bound = 1 / math.sqrt(math.prod(layer.kernel.shape[:-1]))
            shapes = [variable.shape for variable in layer.weights]
            layer.set_weights([bound * (2 * rng.random(shape, np.float32) - 1) for shape in shapes])
    return tensor
