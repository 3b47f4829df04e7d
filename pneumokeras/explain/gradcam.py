"""Grad-CAM: which regions raise the score of a class.

For a feature map A of a convolutional layer and the score y of a class before its sigmoid or softmax,
the weights a_k are the mean of dy/dA_k over the map, and the heatmap is ReLU(sum_k a_k A_k), enlarged to
the radiograph and divided by its own maximum.

Reference: Selvaraju et al. (2017), ICCV, "Grad-CAM: Visual Explanations from Deep Networks".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from pneumokeras.errors import ModelError

OVERLAY_COLOURS = cv2.COLORMAP_INFERNO


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    *,
    target: int = 1,
    layer: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Heatmaps of the regions that speak for a class.

    Args:
        model: a model of this package, before or after saving, or any functional or Sequential Keras
            classifier that ends in a dense layer. A nested backbone is explained at its output.
        images: `(n, height, width)` or `(n, height, width, channels)` raw pixels as the model takes them;
            gray ones are repeated for a model that takes three channels.
        target: the class explained: 1 = PNEUMONIA, 0 = NORMAL (for one output, the negative logit).
        layer: name of the layer whose feature map is weighed; by default the last one that has rows,
            columns and channels, and more than one pixel if any before it has.
        batch_size: images at a time.

    Returns:
        `(n, height, width)` `float32` in [0, 1]. Each map's maximum is 1; a map with nothing in it stays
        all zeros.

    Raises:
        ModelError: if the model has no such layer, the layer has no feature map or does not lead to the
            output, or the model does not end in a score that can be differentiated.
    """
    return heatmap_function(model, target=target, layer=layer, batch_size=batch_size)(images)


def heatmap_function(
    model: keras.Model, *, target: int = 1, layer: str | None = None, batch_size: int = 32
) -> Callable[[np.ndarray], np.ndarray]:
    """`grad_cam` of one model for many sets of images: built and compiled once.

    Args:
        model: as for `grad_cam`.
        target: as for `grad_cam`.
        layer: as for `grad_cam`.
        batch_size: as for `grad_cam`.

    Returns:
        A function from images to heatmaps, both as for `grad_cam`.

    Raises:
        ModelError: as `grad_cam`.
    """
    maps = _map_function(model, layer, target)
    takes_colour = model.input_shape[-1] == 3

    def heatmaps_of(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        images = images[..., np.newaxis] if images.ndim == 3 else images
        heatmaps = np.empty(images.shape[:3], np.float32)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].astype(np.float32)
            if takes_colour and batch.shape[-1] == 1:
                batch = np.repeat(batch, 3, axis=-1)
            for offset, coarse in enumerate(maps(tf.constant(batch)).numpy()):
                heatmaps[start + offset] = _enlarged(coarse, images.shape[1:3])
        return heatmaps

    return heatmaps_of


def overlay(image: np.ndarray, heatmap: np.ndarray, *, strength: float = 0.5) -> np.ndarray:
    """Lay a heatmap over a radiograph in colours that stay readable in gray.

    Args:
        image: `(height, width)` gray levels 0 to 255.
        heatmap: `(height, width)` floats in [0, 1].
        strength: how much of the heatmap's colour shows where the heatmap is 1, in [0, 1].

    Returns:
        `(height, width, 3)` array of `uint8`, RGB.

    Raises:
        ValueError: if the shapes differ.
    """
    image, heatmap = np.asarray(image), np.asarray(heatmap, dtype=np.float32)
    if image.shape != heatmap.shape:
        raise ValueError(
            f"Expected image and heatmap of one shape. Received {image.shape} and {heatmap.shape}."
        )
    colours = cv2.applyColorMap((np.clip(heatmap, 0, 1) * 255).astype(np.uint8), OVERLAY_COLOURS)[..., ::-1]
    share = strength * heatmap[..., np.newaxis]
    blended = image[..., np.newaxis] * (1 - share) + colours * share
    return np.clip(blended, 0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class _Graph:
    """A model run once more on symbolic tensors, so that what each of its own layers gives is at hand.

    A nested backbone is one layer here: its `.output` would belong to the inner model's graph.
    """

    inputs: list[keras.KerasTensor]
    outputs: dict[str, keras.KerasTensor]
    last: keras.Layer
    before_last: keras.KerasTensor

    @classmethod
    def of(cls, model: keras.Model) -> _Graph:
        outputs: dict[str, keras.KerasTensor] = {}
        calls: list[tuple[keras.Layer, Any]] = []

        def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
            output = layer(*args, **kwargs)
            outputs[layer.name] = output
            calls.append((layer, args[0] if args else None))
            return output

        try:
            flat = keras.Model(model.inputs, model.outputs)
        except (AttributeError, ValueError) as error:
            raise ModelError(
                f"{model.name} has no graph to explain. Expected a functional or Sequential model."
            ) from error
        again = keras.models.clone_model(flat, clone_function=lambda layer: layer, call_function=call)
        last, before_last = calls[-1]
        return cls(again.inputs, outputs, last, before_last)


def _feature_tensor(graph: _Graph, model: keras.Model, name: str | None) -> keras.KerasTensor:
    maps = {
        layer: tensor for layer, tensor in graph.outputs.items() if len(getattr(tensor, "shape", ())) == 4
    }
    if name is None:
        # A map of one pixel, such as a pooled one that kept its dimensions, has no place to point at.
        larger = [tensor for tensor in maps.values() if tuple(tensor.shape[1:3]) != (1, 1)]
        if maps:
            return (larger or list(maps.values()))[-1]
        hint = (
            "; its feature maps lie inside a nested model: rebuild it as one flat graph"
            if _nested(model)
            else ""
        )
        raise ModelError(f"{model.name} has no layer with rows, columns and channels to explain{hint}.")
    if name in maps:
        return maps[name]
    choices = f"Expected one such as {', '.join(list(maps)[-3:])}."
    if name in graph.outputs:
        shape = tuple(graph.outputs[name].shape)
        raise ModelError(
            f"Layer {name!r} gives {shape}, no feature map with rows, columns and channels. {choices}"
        )
    for inner in _nested(model):
        if name in [layer.name for layer in inner.layers]:
            where = f"inside the nested {inner.name}, which is explained at its output only"
            raise ModelError(f"Layer {name!r} lies {where}. {choices}")
    raise ModelError(f"{model.name} has no layer {name!r}. {choices}")


def _nested(model: keras.Model) -> list[keras.Model]:
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def _map_function(model: keras.Model, layer: str | None, target: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function from a batch of images to coarse heatmaps, not yet enlarged and scaled."""
    graph = _Graph.of(model)
    inspected = keras.Model(graph.inputs, [_feature_tensor(graph, model, layer), graph.before_last])
    if not 0 <= target < max(2, model.output_shape[-1]):
        raise ModelError(f"{model.name} has no class {target}. Expected 0 or 1.")

    @tf.function(reduce_retracing=True)
    def maps(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)  # in a frozen model nothing else would be recorded
            features, before_last = inspected([images], training=False)
            score = _score(_logits(graph.last, before_last), target)
        gradients = tape.gradient(score, features)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(tf.cast(weights * features, tf.float32), axis=-1))

    return maps


def _logits(last: keras.Layer, before_last: tf.Tensor) -> tf.Tensor:
    """The scores before the model's sigmoid or softmax, which would flatten the gradient of sure calls."""
    if isinstance(last, keras.layers.Activation | keras.layers.Softmax):
        return before_last
    if isinstance(last, keras.layers.Dense):
        logits = tf.matmul(before_last, tf.convert_to_tensor(last.kernel))
        return logits + tf.convert_to_tensor(last.bias) if last.use_bias else logits
    raise ModelError(
        f"The model ends in {type(last).__name__} {last.name!r}. Expected Dense, Activation or Softmax."
    )


def _score(logits: tf.Tensor, target: int) -> tf.Tensor:
    if logits.shape[-1] == 1:
        return logits[:, 0] if target == 1 else -logits[:, 0]
    return logits[:, target]


def _enlarged(coarse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A coarse map at the radiograph's size and in [0, 1]; an empty one stays zeros."""
    enlarged = np.clip(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), 0, None)
    largest = enlarged.max()
    return enlarged / largest if largest > 0 else enlarged
