"""One pass of a model over batches, as fast as the model allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
import tensorflow as tf

_compiled: WeakKeyDictionary[keras.Model, Callable[[np.ndarray], tf.Tensor]] = WeakKeyDictionary()


def forward(model: keras.Model, batches: Sequence[tuple[np.ndarray, ...]]) -> np.ndarray:
    """What a model says of each image, in order; the next batch is prepared while one is computed.

    Unlike `model.predict` this compiles a model once, whatever the size of the last batch.

    Args:
        model: a Keras model with one input.
        batches: indexable; the first member of each batch is `(b, height, width, channels)`.

    Returns:
        The outputs, one row an image.
    """
    if not len(batches):
        return np.empty((0, *model.output_shape[1:]), np.float32)
    function = _function_of(model)
    outputs = []
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(batches.__getitem__, 0)
        for index in range(len(batches)):
            images = upcoming.result()[0]
            if index + 1 < len(batches):
                upcoming = pool.submit(batches.__getitem__, index + 1)
            outputs.append(function(images).numpy())
    return np.concatenate(outputs)


def _function_of(model: keras.Model) -> Callable[[np.ndarray], tf.Tensor]:
    if model not in _compiled:
        # The function must not hold its own key, or neither would ever be freed.
        layers = keras.Model(model.inputs[0], model.outputs[0])
        signature: Any = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
        _compiled[model] = tf.function(
            lambda images: layers(images, training=False), input_signature=signature
        )
    return _compiled[model]
