"""Feature maps of a layer for each radiograph, and their mean for each class.

An activation heatmap is the mean of a layer's feature map over its channels. It does not depend on the score:
the layer responds to a bright region, whether or not it is evidence for a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import keras
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.dataset import CLASS_NAMES
from pneumokeras.models.graph import ModelGraph, layer_outputs

CLASSES = (0, 1)


def activations(
    model: keras.Model, images: np.ndarray, *, layer: str | None = None, batch_size: int = 32
) -> np.ndarray:
    """Return the feature maps of a layer.

    Args:
        model: as for `grad_cam`.
        images: `(n, height, width)` or `(n, height, width, channels)` raw pixels as the model takes them.
        layer: name of the layer; by default the one that `grad_cam` explains.
        batch_size: images per batch.

    Returns:
        `(n, rows, columns, channels)` `float32`.

    Raises:
        ModelError: if the model has no such layer, or the layer has no feature map.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> pk.activations(model, np.zeros((2, 32, 32))).shape
        (2, ..., ..., ...)
    """
    graph = ModelGraph.of(model)
    return layer_outputs(model, graph, graph.outputs[graph.feature_map(layer)], images, batch_size=batch_size)


@dataclass(frozen=True, eq=False)
class ClassActivations:
    """Mean radiographs and mean activations of both classes.

    Attributes:
        layer: the layer.
        class_names: names of class 0 and class 1.
        counts: number of radiographs of each class.
        images: `(2, height, width)` `float32`, the mean radiograph of each class, 0 to 255.
        heatmaps: `(2, height, width)` `float32` in [0, 1], the mean activation over channels and radiographs.
            0 is the minimum over both classes and 1 the maximum, so that the two can be compared.
        means: the mean activation of each class, in the layer's own unit.
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
    class_names: tuple[str, str] = CLASS_NAMES,
    batch_size: int = 32,
) -> ClassActivations:
    """Return the mean radiograph and the mean activation heatmap of each class.

    Args:
        model: as for `grad_cam`.
        images: `(n, height, width)` gray levels at the model's size.
        labels: `(n,)` integers, 1 = PNEUMONIA; both classes must occur.
        layer: as for `activations`.
        class_names: names of class 0 and class 1.
        batch_size: images per batch.

    Returns:
        The means of both classes, on one scale.

    Raises:
        DataError: if a class has no radiographs.
        ModelError: as for `activations`.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> test = pk.load_splits("chest_xray").test
        >>> found = pk.class_activations(model, test.pixels((32, 32)), test.labels)
        >>> found.heatmaps.shape
        (2, 32, 32)
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
    resized = np.stack(
        [cv2.resize(mean, images.shape[2:0:-1], interpolation=cv2.INTER_LINEAR) for mean in means]
    )
    low, high = resized.min(), resized.max()
    return ClassActivations(
        layer=name,
        class_names=class_names,
        counts=counts,
        images=np.stack([images[labels == value].mean(axis=0, dtype=np.float32) for value in CLASSES]),
        heatmaps=(resized - low) / (high - low) if high > low else np.zeros_like(resized),
        means=(float(means[0].mean()), float(means[1].mean())),
    )
