"""Run a model over batches, compiled once.

`compiled` computes bit for bit what the saved model computes. `compiled_folded` and `compiled_in_bfloat16`
are for features that may differ a little: BatchNorms are folded into convolutions, variables are constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pneumokeras.models.folding import folded
from pneumokeras.models.weights import set_weights

_compiled: WeakKeyDictionary[keras.Model, tuple[keras.KerasTensor, Callable[[np.ndarray], tf.Tensor]]] = (
    WeakKeyDictionary()
)


class Batches(Protocol):
    """Batches that are read one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, ...]: ...


class Images(Protocol):
    """An array of images, or an object that reads or computes them slice by slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: slice, /) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class InBatches:
    """Images, or their features, in batches of at most `size`."""

    images: Images
    size: int

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.size)

    def __getitem__(self, index: int, /) -> tuple[np.ndarray]:
        return (self.images[index * self.size : (index + 1) * self.size],)


def forward(model: keras.Model, batches: Batches) -> np.ndarray:
    """Return a model's output for each image, in order.

    Unlike `model.predict`, this compiles a model only once, whatever the size of the last batch.

    Args:
        model: a Keras model with one input.
        batches: tuples whose first member is the model's input.

    Returns:
        The outputs, one row per image.
    """
    outputs = list(batch_by_batch(compiled(model), batches))
    return np.concatenate(outputs) if outputs else np.empty((0, *model.output_shape[1:]), np.float32)


def batch_by_batch(function: Callable[[np.ndarray], tf.Tensor], batches: Batches) -> Iterator[np.ndarray]:
    """Yield a function's output for each batch, preparing the next batch meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(batches.__getitem__, 0) if len(batches) else None
        for index in range(1, len(batches) + 1):
            assert upcoming is not None
            images = upcoming.result()[0]
            upcoming = pool.submit(batches.__getitem__, index) if index < len(batches) else None
            yield function(images).numpy()


def compiled(model: keras.Model) -> Callable[[np.ndarray], tf.Tensor]:
    """Return the model as a function, compiled once and cached until the model's graph changes."""
    output = model.outputs[0]
    known = _compiled.get(model)
    if known is None or known[0] is not output:
        # The function must not hold the model, its key in the cache, or neither would ever be freed.
        layers = keras.Model(model.inputs[0], output)
        graph = _inference(layers)

        def function(images: np.ndarray) -> tf.Tensor:
            return graph(tf.constant(images, tf.float32))

        function.network = layers  # type: ignore[attr-defined]  # keeps its variables alive
        known = _compiled[model] = (output, function)
    return known[1]


def compiled_folded(model: keras.Model) -> Callable[[np.ndarray], tf.Tensor]:
    """Return a copy of the model as a function, its BatchNorms folded into its convolutions."""
    return _constant(folded(model))


def compiled_in_bfloat16(model: keras.Model) -> Callable[[np.ndarray], tf.Tensor]:
    """Return a folded copy of the model as a function that multiplies in bfloat16 and returns `float32`."""
    model = folded(model)
    first = next((i for i, layer in enumerate(model.layers) if hasattr(layer, "kernel")), 0)
    lowered = {layer.name for layer in model.layers[first:-1]}  # neither raw pixels nor the last mean

    def copied(layer: keras.Layer) -> keras.Layer:
        is_lowered = layer.name in lowered and layer.dtype_policy.name == "float32"
        policy = {"dtype": "mixed_bfloat16"} if is_lowered else {}
        return type(layer).from_config(layer.get_config() | policy)

    copy = keras.models.clone_model(model, clone_function=copied)
    set_weights(copy, model.get_weights())
    return _constant(copy)


def _constant(model: keras.Model) -> Callable[[np.ndarray], tf.Tensor]:
    """Return a model as a function whose variables are constants, which TensorFlow folds further."""
    constant = convert_variables_to_constants_v2(_inference(model))
    return lambda images: constant(tf.constant(images, tf.float32))[0]


def traced(model: keras.Model, function: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    """Trace a function of a model's images once, as one TensorFlow graph for batches of any size.

    TensorFlow warns if functions of several models are traced as they are called. The graph does not keep the
    model's variables alive: the caller has to hold the model.
    """
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    return tf.function(function, input_signature=signature).get_concrete_function()


def _inference(network: keras.Model) -> Any:
    """Return the network in inference mode as one TensorFlow graph with `float32` output."""
    return traced(network, lambda images: tf.cast(network(images, training=False), tf.float32))
