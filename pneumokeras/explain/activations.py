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
from pneumokeras.data.inputs import Images
from pneumokeras.explain.inputs import labels_of, model_images
from pneumokeras.models.graph import ModelGraph, layer_outputs
from pneumokeras.models.saving import ModelSource, model_of

CLASSES = (0, 1)


def activations(
    model: ModelSource, images: Images, *, layer: str | None = None, batch_size: int = 32
) -> np.ndarray:
    """Return the feature maps of a layer.

    Args:
        model: as for `grad_cam`.
        images: as for `grad_cam`.
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
    model = model_of(model)
    graph = ModelGraph.of(model)
    tensor = graph.outputs[graph.feature_map(layer)]
    return layer_outputs(model, graph, tensor, model_images(model, images), batch_size=batch_size)


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        """Return one line with the layer and both means."""
        means = ", ".join(
            f"{name} {mean:.4g}" for name, mean in zip(self.class_names, self.means, strict=True)
        )
        return f"<ClassActivations of {self.layer}: {means}>"


def class_activations(
    model: ModelSource,
    images: Images,
    labels: np.ndarray | None = None,
    *,
    layer: str | None = None,
    class_names: tuple[str, str] = CLASS_NAMES,
    batch_size: int = 32,
) -> ClassActivations:
    """Return the mean radiograph and the mean activation heatmap of each class.

    Args:
        model: as for `grad_cam`.
        images: as for `grad_cam`.
        labels: `(n,)` integers, 1 = PNEUMONIA; both classes must occur. By default those of the set.
        layer: as for `activations`.
        class_names: names of class 0 and class 1.
        batch_size: images per batch.

    Returns:
        The means of both classes, on one scale.

    Raises:
        DataError: if a class has no radiographs, or there is not one label for each.
        ModelError: as for `activations`.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> test = pk.load_splits("chest_xray").test
        >>> found = pk.class_activations(model, test)
        >>> found.heatmaps.shape
        (2, 32, 32)
    """
    model = model_of(model)
    labels = labels_of(images, labels)
    if labels is None:
        raise DataError("Expected `labels` for images that are no set.", parameter="labels")
    pixels = model_images(model, images)
    if labels.shape != pixels.shape[:1]:
        raise DataError(f"Expected a label for each of {len(pixels)} images. Received {labels.size}.")
    counts = int((labels == 0).sum()), int((labels == 1).sum())
    if not all(counts):
        raise DataError(f"Expected radiographs of both classes. Received {counts[0]} and {counts[1]}.")
    graph = ModelGraph.of(model)
    name = graph.feature_map(layer)
    maps = layer_outputs(
        model, graph, keras.ops.mean(graph.outputs[name], axis=-1), pixels, batch_size=batch_size
    )
    means = np.stack([maps[labels == value].mean(axis=0) for value in CLASSES])
    resized = np.stack(
        [cv2.resize(mean, pixels.shape[2:0:-1], interpolation=cv2.INTER_LINEAR) for mean in means]
    )
    low, high = resized.min(), resized.max()
    return ClassActivations(
        layer=name,
        class_names=class_names,
        counts=counts,
        images=np.stack([pixels[labels == value].mean(axis=0, dtype=np.float32) for value in CLASSES]),
        heatmaps=(resized - low) / (high - low) if high > low else np.zeros_like(resized),
        means=(float(means[0].mean()), float(means[1].mean())),
    )
