"""Grad-CAM and its kin: which regions raise the score of a class.

For a feature map A of a convolutional layer and the score y of a class before its sigmoid or softmax, each
method weights A by the gradient G = dy/dA, sums over the channels and keeps the positive part. The heatmap is
resized to the radiograph and divided by its own maximum. The methods differ only in the weights:

    grad-cam     the mean of G over the map, one weight per channel
    grad-cam++   a weighted sum of the positive G over the map, one weight per channel
    hirescam     G itself, one weight per pixel: only what the score depends on is shown

If the score is a dense layer on the map's global average, all three are equal, except that Grad-CAM++ ignores
channels that lower the score. By default the first two explain the network's last feature map, as in
their papers. A cell of that map may see the whole radiograph, and its evidence need not lie where the cell
lies; in finer maps below it, one weight per channel means little. So HiResCAM by default explains the last
map of at least 12 rows and columns; docs/explanations.md has the measurements.

References: Selvaraju et al. (2017), ICCV, "Grad-CAM: Visual Explanations from Deep Networks"; Chattopadhay
et al. (2018), WACV, "Grad-CAM++"; Draelos & Carin (2020), arXiv:2011.08891, "HiResCAM".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from os import PathLike

import cv2
import keras
import numpy as np
import tensorflow as tf

from pneumokeras.core.errors import DataError, ModelError, SettingsError
from pneumokeras.data.images.image import place_in_padded, read_radiograph, resize
from pneumokeras.data.inputs import Images, require_gray_levels
from pneumokeras.explain.inputs import model_images
from pneumokeras.models.averaging import members_of
from pneumokeras.models.forward import traced
from pneumokeras.models.graph import ModelGraph, batches_of
from pneumokeras.models.parts import feature_maps
from pneumokeras.models.saving import ModelSource, model_of, own_name

OVERLAY_COLORMAP = cv2.COLORMAP_INFERNO
SPATIAL_AXES = (1, 2)  # rows and columns
MIN_FINE_CELLS = 12
"""Rows and columns of the coarsest map with cells about as small as an opacity."""


def _mean_gradient(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(gradients, axis=SPATIAL_AXES, keepdims=True)


def _weighted_positive_gradient(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Sum G / (2 + S G) over positive G: the paper's G² / (2 G² + S G³) times G, S being the map's sum."""
    sums = tf.reduce_sum(features, axis=SPATIAL_AXES, keepdims=True)
    positive = tf.nn.relu(gradients)
    return tf.reduce_sum(
        tf.math.divide_no_nan(positive, 2 + sums * gradients), axis=SPATIAL_AXES, keepdims=True
    )


def _gradient_itself(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    return gradients


METHODS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "grad-cam": _mean_gradient,
    "grad-cam++": _weighted_positive_gradient,
    "hirescam": _gradient_itself,
}
"""By name, functions from a feature map and the score's gradient to the weights of the map."""

METHOD = "hirescam"
"""The default of panels, reports and checks: it finds the opacities of phantoms."""


def grad_cam(
    model: ModelSource,
    images: Images,
    *,
    method: str = "grad-cam",
    target: int = 1,
    layer: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Return heatmaps of the regions that raise the score of a class.

    Args:
        model: a model of this package, before or after saving, a finished run or its folder, or any
            functional or Sequential Keras classifier that ends in a dense layer. A nested backbone is
            explained at its output.
        images: a set, files or folders, or arrays of gray levels from 0 to 255, one image or several, with or
            without channels (RGB). They are read at the model's size, arrays of another size are resized, and
            both are padded if the model pads. Gray images are repeated for a model that takes three channels.
        method: `"grad-cam"`, `"grad-cam++"` or `"hirescam"`.
        target: the class explained: 1 = PNEUMONIA, 0 = NORMAL (for one output, the negative logit).
        layer: name of the layer to explain; by default the one that `explained_layer` returns, in an ensemble
            that of every member.
        batch_size: images per batch.

    Returns:
        `(n, height, width)` `float32` in [0, 1], of the model's size; `overlay` enlarges them. Each map's
        maximum is 1; an empty map stays all zeros.

    Raises:
        DataError: if a file cannot be read, or the images are nothing of the kind.
        SettingsError: if there is no such method or class.
        ModelError: if the model has no such layer, the layer has no feature map or does not lead to the
            output, or the model does not end in a score that can be differentiated.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> test = pk.load_splits("chest_xray").test
        >>> images = test.pixels((32, 32))
        >>> pk.grad_cam(model, images, method="hirescam").shape == images.shape
        True
        >>> pk.grad_cam("tuner_runs/first", test.names[0]).shape
        (1, 32, 32)
    """
    return heatmap_function(
        model_of(model), method=method, target=target, layer=layer, batch_size=batch_size
    )(images)


def explained_layers(model: keras.Model, *, method: str = "grad-cam", layer: str | None = None) -> list[str]:
    """Return the names of the layers that a method explains: one, or one for each member of an ensemble.

    Arguments and errors are as for `explained_layer`; `layer` is one of the whole model.
    """
    if layer is not None:
        return [explained_layer(model, method=method, layer=layer)]
    return [explained_layer(member, method=method) for member in members_of(model)]


def explained_layer(model: keras.Model, *, method: str = "grad-cam", layer: str | None = None) -> str:
    """Return the name of the layer whose feature map a method explains.

    Args:
        model: as for `grad_cam`.
        method: as for `grad_cam`.
        layer: the layer to explain. By default the last layer with rows, columns and channels, of more than
            one pixel if there is one; for HiResCAM the last bottleneck of at least 12 rows and columns, if
            there is one.

    Raises:
        SettingsError: if there is no such method.
        ModelError: if there is no such layer with a feature map.
    """
    if method not in METHODS:
        raise SettingsError(
            f"Expected `method` as one of {', '.join(METHODS)}. Received {method!r}.", parameter="method"
        )
    name = _finest_bottleneck(model) if layer is None and method == "hirescam" else layer
    return ModelGraph.of(model).feature_map(name)


def _finest_bottleneck(model: keras.Model) -> str | None:
    """Return the last fine bottleneck before the score, except padding, which would shift the map."""
    try:
        layers = {layer.name: layer for layer in model.layers}  # a bottleneck may be an operation
        maps = [layers[name] for name in feature_maps(model) if name in layers]
    except ModelError:  # a Sequential model
        maps = model.layers
    fine = [
        layer.name
        for layer in maps
        if len(shape := tuple(layer.output.shape)) == 4
        and None not in shape[1:3]
        and min(shape[1:3]) >= MIN_FINE_CELLS
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
) -> Callable[[Images], np.ndarray]:
    """Return `grad_cam` for one model as a function, built and compiled once for many sets of images.

    Arguments, images, heatmaps and errors are as for `grad_cam`. The function uses the model's weights at the
    time of the call.
    """
    maps = _map_function(model, method=method, layer=layer, target=target)

    def heatmaps_of(images: Images) -> np.ndarray:
        pixels = model_images(model, images)
        heatmaps = np.empty(pixels.shape[:3], np.float32)
        coarse = (
            one for batch in batches_of(model, pixels, batch_size=batch_size) for one in maps(batch).numpy()
        )
        for heatmap, one in zip(heatmaps, coarse, strict=True):
            heatmap[:] = _resized(one, pixels.shape[1:3])
        return heatmaps

    return heatmaps_of


def overlay(
    image: np.ndarray | str | PathLike[str], heatmap: np.ndarray, *, strength: float = 0.5, pad: bool = False
) -> np.ndarray:
    """Lay a heatmap over a radiograph of any size, in colors that remain readable in gray.

    Args:
        image: a file, or `(height, width)` gray levels 0 to 255, or the same with one or three channels
            (RGB).
        heatmap: one of `grad_cam`: `(rows, columns)` or `(1, rows, columns)` floats in [0, 1], resized to the
            image.
        strength: opacity of the colors where the heatmap is 1, in [0, 1].
        pad: whether the heatmap is that of a model that pads radiographs to its shape; its borders then lie
            outside the image.

    Returns:
        `(height, width, 3)` array of `uint8`, RGB.

    Raises:
        DataError: if the file cannot be read, or an array is nothing of the kind.

    Example:
        >>> image, heatmap = np.full((64, 64), 128, np.uint8), np.zeros((32, 32))
        >>> pk.overlay(image, heatmap).shape
        (64, 64, 3)
    """
    pixels = read_radiograph(image) if isinstance(image, str | PathLike) else np.asarray(image)
    shape = pixels.shape
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    heatmap = np.asarray(heatmap, dtype=np.float32)
    heatmap = heatmap[0] if heatmap.ndim == 3 and len(heatmap) == 1 else heatmap
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or heatmap.ndim != 2:
        raise DataError(
            "Expected an image (height, width), with or without channels, and a heatmap (rows, columns). "
            f"Received shapes {shape} and {heatmap.shape}."
        )
    require_gray_levels(pixels)
    size = pixels.shape[:2]
    if pad:
        heatmap = heatmap[place_in_padded(size, heatmap.shape)]
    heatmap = np.clip(resize(heatmap, size), 0, 1)
    colors = cv2.applyColorMap((heatmap * 255).astype(np.uint8), OVERLAY_COLORMAP)[..., ::-1]
    share = strength * heatmap[..., np.newaxis]
    blended = pixels * (1 - share) + colors * share
    return np.clip(blended, 0, 255).round().astype(np.uint8)


def _map_function(
    model: keras.Model, *, method: str, layer: str | None, target: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a compiled function from a batch of images to heatmaps, not yet resized and scaled."""
    graph = ModelGraph.of(model)
    last, before_last = graph.calls[-1]
    explained = [graph.outputs[name] for name in explained_layers(model, method=method, layer=layer)]
    inspected = keras.Model(graph.inputs, [*explained, before_last])
    if not 0 <= target < max(2, model.output_shape[-1]):
        raise SettingsError(
            f"Expected `target` 0 (NORMAL) or 1 (PNEUMONIA), a class of {own_name(model)}. "
            f"Received {target}.",
            parameter="target",
        )

    def maps(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)  # a frozen model has nothing else to record
            *features, before = inspected([images], training=False)
            score = _score(_logits(last, before), target)
        gradients = tape.gradient(score, features)
        weighted = [_weighted_sum(method, *pair) for pair in zip(features, gradients, strict=True)]
        return tf.nn.relu(_sum_of_members(weighted))

    return traced(model, maps)


def _weighted_sum(method: str, features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Return the weighted sum over a feature map's channels: `(n, rows, columns, 1)`, of either sign."""
    features, gradients = tf.cast(features, tf.float32), tf.cast(gradients, tf.float32)
    return tf.reduce_sum(METHODS[method](features, gradients) * features, axis=-1, keepdims=True)


def _sum_of_members(maps: list[tf.Tensor]) -> tf.Tensor:
    """Sum the maps of an ensemble's members on the grid of the finest one: `(n, rows, columns)`.

    A cell's value is its part of the score. Cells differ in size, so values are taken per area; a member's
    share in the mean score is already in the gradient.
    """
    if len(maps) == 1:
        return maps[0][..., 0]
    grid = max((tuple(one.shape[1:3]) for one in maps), key=math.prod)
    by_area = [tf.image.resize(one, grid) * float(math.prod(one.shape[1:3])) for one in maps]
    return tf.add_n(by_area)[..., 0]


def _logits(last: keras.Layer, before_last: tf.Tensor) -> tf.Tensor:
    """Return the scores before sigmoid or softmax, which flatten the gradient of confident predictions."""
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


def _resized(coarse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map at the radiograph's size, divided by its maximum; an empty map stays zeros."""
    resized = np.clip(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), 0, None)
    maximum = resized.max()
    return resized / maximum if maximum > 0 else resized
