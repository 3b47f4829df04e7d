"""Make layers with PyTorch's constants and initial weights, and find layers' tensors in its state dicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

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


_TORCH_AXES = {layers.Conv2D: (3, 2, 0, 1), layers.DepthwiseConv2D: (2, 3, 0, 1)}
"""For each kind of convolution, Keras' axes of its kernel in the order in which PyTorch has them."""

_COUNTER = ".num_batches_tracked"  # of a BatchNorm, which Keras does without


@dataclass(frozen=True)
class TorchTensor:
    """A tensor of a state dict, and the weight of a Keras layer that it is.

    Attributes:
        shape: in PyTorch's order of axes.
        axes: PyTorch's axes in the order in which Keras has them; `None` if the order is the same.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None

    def as_keras(self, array: np.ndarray) -> np.ndarray:
        """Return the tensor as Keras has it, `float32`."""
        return (array if self.axes is None else array.transpose(self.axes)).astype(np.float32)


def torch_tensors(network: keras.Model, module_of: Callable[[str], str] = str) -> dict[str, TorchTensor]:
    """Return the tensors of a network of convolutions and BatchNorms, in the order of Keras' weights.

    Args:
        network: its convolutions have no bias.
        module_of: returns the name of PyTorch's module for a layer's name; by default the same.
    """
    tensors = {}
    for layer in network.layers:
        module = module_of(layer.name)
        if axes := _TORCH_AXES.get(type(layer)):
            shape = tuple(layer.weights[0].shape[axis] for axis in axes)
            tensors[f"{module}.weight"] = TorchTensor(shape, tuple(map(axes.index, range(len(axes)))))
        elif isinstance(layer, layers.BatchNormalization):
            for kind in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{module}.{kind}"] = TorchTensor(tuple(layer.gamma.shape))
    return tensors


def require_tensors(
    held: Mapping[str, tuple[int, ...]], tensors: Mapping[str, TorchTensor], *, unused: Collection[str] = ()
) -> None:
    """Refuse a state dict that is not a network's.

    Args:
        held: the shape of each tensor of the state dict, by name.
        tensors: the network's.
        unused: names of tensors that may be there without being needed, such as those of the top.

    Raises:
        ValueError: if a tensor is missing, has another shape, or belongs to no layer.
    """
    if missing := [name for name in tensors if name not in held]:
        raise ValueError(f"{missing[0]} is missing")
    foreign = {name for name in held if not name.endswith(_COUNTER)} - tensors.keys() - set(unused)
    if foreign:
        raise ValueError(f"{min(foreign)} belongs to another network")
    for name, tensor in tensors.items():
        if held[name] != tensor.shape:
            raise ValueError(f"{name} has shape {held[name]}, not {tensor.shape}")
