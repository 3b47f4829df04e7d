"""What PyTorch's layers do otherwise than Keras', for networks that were published in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
import numpy as np
from keras import layers


def batch_norm(name: str) -> keras.Layer:
    """BatchNorm with PyTorch's epsilon and momentum; its momentum of 0.1 is Keras' 0.9."""
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=name)


def leaky_relu_after(layer: keras.Layer) -> tuple[keras.Layer, keras.Layer]:
    """A layer and the LeakyReLU after it, with PyTorch's slope of 0.01 below zero."""
    return layer, layers.LeakyReLU(negative_slope=0.01, name=f"{layer.name}_relu")


def apply_layers(tensor: keras.KerasTensor, chain: Iterable[keras.Layer], *, seed: int) -> keras.KerasTensor:
    """Call new layers one after the other; convolutions and dense layers begin as PyTorch's do.

    PyTorch draws kernel and bias from the uniform distribution between -b and b, where b is one over the
    root of the number of inputs (`kaiming_uniform_` with `a=sqrt(5)`). Keras draws a kernel by Glorot's rule
    and begins with a bias of 0.

    Args:
        tensor: what the first layer takes.
        chain: layers with a kernel and a bias, or without weights of their own to draw.
        seed: of the initial weights.

    Returns:
        What the last layer gives.
    """
    rng = np.random.default_rng(seed)
    for layer in chain:
        tensor = layer(tensor)
        if isinstance(layer, layers.Conv2D | layers.Dense):
            bound = 1 / math.sqrt(math.prod(layer.kernel.shape[:-1]))
            shapes = [variable.shape for variable in layer.weights]
            layer.set_weights([bound * (2 * rng.random(shape, np.float32) - 1) for shape in shapes])
    return tensor
