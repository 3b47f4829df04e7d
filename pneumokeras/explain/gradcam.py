"""Grad-CAM and its kin: which regions raise the score of a class.

For a feature map A of a convolutional layer and the score y of a class before its sigmoid or softmax, each
method weighs A by the gradient G = dy/dA, adds up the channels and keeps what is positive. The heatmap is
enlarged to the radiograph and divided by its own maximum. The methods differ in the weights alone:

    grad-cam     the mean of G over the map, one weight a channel
    grad-cam++   a weighted sum of the positive G over the map, one weight a channel
    hirescam     G itself, a weight for each pixel: nothing is shown that the score does not depend on

Where the score is a dense layer on the map's global average they are one, but for Grad-CAM++'s leaving out
channels that speak against the class. By default the first two weigh the network's last map, as their papers
do. A cell of that map may see the whole radiograph, and nothing forces what it finds to lie where the cell
lies; below it, where maps are finer, one weight a channel means little. So HiResCAM weighs by default the
last map of at least 12 rows and columns: docs/explanations.md has the figures.

References: Selvaraju et al. (2017), ICCV, "Grad-CAM: Visual Explanations from Deep Networks"; Chattopadhay
et al. (2018), WACV, "Grad-CAM++"; Draelos & Carin (2020), arXiv:2011.08891, "HiResCAM".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import keras
import numpy as np
import tensorflow as tf

from pneumokeras.core.errors import ModelError
from pneumokeras.models.averaging import members_of
from pneumokeras.models.graph import ModelGraph, batches_of, traced
from pneumokeras.models.parts import feature_maps

OVERLAY_COLORS = cv2.COLORMAP_INFERNO
PLACES = (1, 2)  # the axes of rows and columns
FINE = 12
"""Rows and columns of the coarsest map whose cells are about as small as what there is to find."""


def _mean_gradient(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(gradients, axis=PLACES, keepdims=True)


def _weighted_positive_gradient(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """The paper's G² / (2 G² + S G³), S the sum of the map, is 1 / (2 + S G) wherever G counts."""
    sums = tf.reduce_sum(features, axis=PLACES, keepdims=True)
    positive = tf.nn.relu(gradients)
    return tf.reduce_sum(tf.math.divide_no_nan(positive, 2 + sums * gradients), axis=PLACES, keepdims=True)


def _gradient_itself(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    return gradients


METHODS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "grad-cam": _mean_gradient,
    "grad-cam++": _weighted_positive_gradient,
    "hirescam": _gradient_itself,
}
"""By name, from a feature map and the score's gradient at it to the weights of the map."""
METHOD = "hirescam"
"""What is shown and checked where nobody asks for another: the one that finds phantoms' opacities."""


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    *,
    method: str = "grad-cam",
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
        method: `"grad-cam"`, `"grad-cam++"` or `"hirescam"`.
        target: the class explained: 1 = PNEUMONIA, 0 = NORMAL (for one output, the negative logit).
        layer: name of the layer whose feature map is weighed; by default as `explained_layer` says, of an
            ensemble every member's.
        batch_size: images at a time.

    Returns:
        `(n, height, width)` `float32` in [0, 1]. Each map's maximum is 1; a map with nothing in it stays
        all zeros.

    Raises:
        ModelError: if there is no such method, the model has no such layer, the layer has no feature map or
            does not lead to the output, or the model does not end in a score that can be differentiated.
    """
    return heatmap_function(model, method=method, target=target, layer=layer, batch_size=batch_size)(images)


def explained_layers(model: keras.Model, *, method: str = "grad-cam", layer: str | None = None) -> list[str]:
    """The names of the layers whose feature maps a method weighs: one, or of an ensemble one for each member.

    Args:
        model: as for `grad_cam`.
        method: as for `grad_cam`.
        layer: a name that was asked for, then the only one.

    Raises:
        ModelError: as `explained_layer`.
    """
    if layer is not None:
        return [explained_layer(model, method=method, layer=layer)]
    return [explained_layer(member, method=method) for member in members_of(model)]


def explained_layer(model: keras.Model, *, method: str = "grad-cam", layer: str | None = None) -> str:
    """The name of the layer whose feature map a method weighs.

    Args:
        model: as for `grad_cam`.
        method: as for `grad_cam`.
        layer: a name that was asked for. By default the last layer that has rows, columns and channels, and
            more than one pixel if any before it has; for HiResCAM the last of at least 12 rows and columns
            that all of the score comes through, if there is one.

    Raises:
        ModelError: if there is no such method, or no such layer with a feature map.
    """
    if method not in METHODS:
        raise ModelError(f"Expected one of {', '.join(METHODS)}. Received {method!r}.")
    name = _fine_map(model) if layer is None and method == "hirescam" else layer
    return ModelGraph.of(model).feature_map(name)


def _fine_map(model: keras.Model) -> str | None:
    """The last fine map that all of the score comes through; padding would shift what it shows."""
    try:
        layers = {layer.name: layer for layer in model.layers}  # a cut may be an operation, such as a flip
        maps = [layers[name] for name in feature_maps(model) if name in layers]
    except ModelError:  # a Sequential model
        maps = model.layers
    fine = [
        layer.name
        for layer in maps
        if len(shape := tuple(layer.output.shape)) == 4
        and None not in shape[1:3]
        and min(shape[1:3]) >= FINE
        and not isinstance(layer, keras.layers.InputLayer | keras.layers.ZeroPadding2D)
    ]
    return fine[-1] if fine else None


def heatmap_function(
    model: keras.Model,
    *,
    method: str = "grad-cam",
    target: int = 1,
    layer: str | None = None,
    batch_size: int = 32,
) -> Callable[[np.ndarray], np.ndarray]:
    """`grad_cam` of one model for many sets of images: built and compiled once.

    Args:
        model: as for `grad_cam`.
        method: as for `grad_cam`.
        target: as for `grad_cam`.
        layer: as for `grad_cam`.
        batch_size: as for `grad_cam`.

    Returns:
        A function from images to heatmaps, both as for `grad_cam`. It sees the model's weights as they are
        when it is called.

    Raises:
        ModelError: as `grad_cam`.
    """
    maps = _map_function(model, method, layer, target)

    def heatmaps_of(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        heatmaps = np.empty(images.shape[:3], np.float32)
        coarse = (one for batch in batches_of(model, images, batch_size) for one in maps(batch).numpy())
        for heatmap, one in zip(heatmaps, coarse, strict=True):
            heatmap[:] = _enlarged(one, images.shape[1:3])
        return heatmaps

    return heatmaps_of


def overlay(image: np.ndarray, heatmap: np.ndarray, *, strength: float = 0.5) -> np.ndarray:
    """Lay a heatmap over a radiograph in colors that stay readable in gray.

    Args:
        image: `(height, width)` gray levels 0 to 255.
        heatmap: `(height, width)` floats in [0, 1].
        strength: how much of the heatmap's color shows where the heatmap is 1, in [0, 1].

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
    colors = cv2.applyColorMap((np.clip(heatmap, 0, 1) * 255).astype(np.uint8), OVERLAY_COLORS)[..., ::-1]
    share = strength * heatmap[..., np.newaxis]
    blended = image[..., np.newaxis] * (1 - share) + colors * share
    return np.clip(blended, 0, 255).round().astype(np.uint8)


def _map_function(
    model: keras.Model, method: str, layer: str | None, target: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function from a batch of images to coarse heatmaps, not yet enlarged and scaled."""
    graph = ModelGraph.of(model)
    last, before_last = graph.calls[-1]
    explained = [graph.outputs[name] for name in explained_layers(model, method=method, layer=layer)]
    inspected = keras.Model(graph.inputs, [*explained, before_last])
    if not 0 <= target < max(2, model.output_shape[-1]):
        raise ModelError(f"{model.name} has no class {target}. Expected 0 or 1.")

    def maps(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)  # in a frozen model nothing else would be recorded
            *features, before = inspected([images], training=False)
            score = _score(_logits(last, before), target)
        gradients = tape.gradient(score, features)
        return tf.nn.relu(
            _added_up([_weighted(method, *pair) for pair in zip(features, gradients, strict=True)])
        )

    return traced(model, maps)


def _weighted(method: str, features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """A feature map, its channels weighed and added up: `(n, rows, columns, 1)`, of either sign."""
    features, gradients = tf.cast(features, tf.float32), tf.cast(gradients, tf.float32)
    return tf.reduce_sum(METHODS[method](features, gradients) * features, axis=-1, keepdims=True)


def _added_up(maps: list[tf.Tensor]) -> tf.Tensor:
    """The maps of an ensemble's members on the finest one's grid: `(n, rows, columns)`.

    A cell's value is its part of the score. Cells are of different sizes, so it is taken per area; how much
    a member's score moves the mean's is in the gradient already.
    """
    if len(maps) == 1:
        return maps[0][..., 0]
    grid = max((tuple(one.shape[1:3]) for one in maps), key=math.prod)
    by_area = [tf.image.resize(one, grid) * float(math.prod(one.shape[1:3])) for one in maps]
    return tf.add_n(by_area)[..., 0]


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
