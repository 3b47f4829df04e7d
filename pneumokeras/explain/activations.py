"""What a layer gives for a radiograph, and the mean of it for each class: what the network reacts to.

An activation heatmap is the mean of a layer's feature map over its channels. It knows nothing of the score:
a bright place is one the layer reacts to, whether or not that speaks for a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import keras
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.models.graph import ModelGraph, layer_outputs

CLASSES = (0, 1)


def activations(
    model: keras.Model, images: np.ndarray, *, layer: str | None = None, batch_size: int = 32
) -> np.ndarray:
    """The feature maps of a layer.

    Args:
        model: as for `grad_cam`.
        images: `(n, height, width)` or `(n, height, width, channels)` raw pixels as the model takes them.
        layer: name of the layer; by default the one that `grad_cam` explains.
        batch_size: images at a time.

    Returns:
        `(n, rows, columns, channels)` `float32`.

    Raises:
        ModelError: if the model has no such layer, or it has no feature map.
    """
    graph = ModelGraph.of(model)
    return layer_outputs(model, graph, graph.outputs[graph.feature_map(layer)], images, batch_size=batch_size)


@dataclass(frozen=True, eq=False)
class ClassActivations:
    """How a layer reacts to the radiographs of either class, on one scale.

    Attributes:
        layer: whose activations these are.
        class_names: of class 0 and class 1.
        counts: how many radiographs of either class.
        images: `(2, height, width)` `float32`, the mean radiograph of either class, 0 to 255.
        heatmaps: `(2, height, width)` `float32` in [0, 1], the mean activation over channels and radiographs;
            0 is the lowest value of both classes and 1 the highest, so that the two can be compared.
        means: the mean activation of either class, in the layer's own unit.
    """

    layer: str
    class_names: tuple[str, str]
    counts: tuple[int, int]
    images: np.ndarray
    heatmaps: np.ndarray
    means: tuple[float, float]


def class_activations(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    layer: str | None = None,
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA"),
    batch_size: int = 32,
) -> ClassActivations:
    """The mean activation heatmap of the healthy and of the sick.

    Args:
        model: as for `grad_cam`.
        images: `(n, height, width)` gray levels at the model's size. One radiograph of each class shows what
            single ones look like.
        labels: `(n,)` integers, 1 = PNEUMONIA; both classes are there.
        layer: as for `activations`.
        class_names: of class 0 and class 1.
        batch_size: images at a time.

    Raises:
        DataError: if a class has no radiograph.
        ModelError: as `activations`.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    counts = int((labels == 0).sum()), int((labels == 1).sum())
    if not all(counts):
        raise DataError(f"Expected radiographs of both classes. Received {counts[0]} and {counts[1]}.")
    graph = ModelGraph.of(model)
    name = graph.feature_map(layer)
    maps = layer_outputs(
        model, graph, keras.ops.mean(graph.outputs[name], axis=-1), images, batch_size=batch_size
    )
    means = np.stack([maps[labels == value].mean(axis=0) for value in CLASSES])
    enlarged = np.stack(
        [cv2.resize(mean, images.shape[2:0:-1], interpolation=cv2.INTER_LINEAR) for mean in means]
    )
    low, high = enlarged.min(), enlarged.max()
    return ClassActivations(
        layer=name,
        class_names=class_names,
        counts=counts,
        images=np.stack([images[labels == value].mean(axis=0, dtype=np.float32) for value in CLASSES]),
        heatmaps=(enlarged - low) / (high - low) if high > low else np.zeros_like(enlarged),
        means=(float(means[0].mean()), float(means[1].mean())),
    )
