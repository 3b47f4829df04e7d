"""Images as a model takes them, from whatever a caller has at hand."""

from __future__ import annotations

import keras
import numpy as np

from pneumokeras.core.errors import ModelError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.inputs import Images, gray_levels, require_gray_levels
from pneumokeras.models.saving import description_of, own_name


def model_images(model: keras.Model, images: Images) -> np.ndarray:
    """Return images at a model's size, padded if the model pads.

    Args:
        model: any Keras model of one image. One that takes images of any size gets arrays as they are.
        images: a set, files or folders, or arrays, as for `gray_levels`.

    Returns:
        `(n, height, width)`, or `(n, height, width, channels)` from arrays of the model's channels.

    Raises:
        ModelError: if the model takes no images.
        DataError: if a file cannot be read, the images are nothing of the kind, or their values are not gray
            levels from 0 to 255, which every model of this package takes.
    """
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ModelError(f"Expected a model of one image. {own_name(model)} takes input of shape {shape}.")
    description = description_of(model)
    fixed = None not in shape[1:3]
    pixels = gray_levels(
        images,
        shape[1:3] if fixed else description.image_size,
        pad=description.pad,
        bits=description.bits,
        channels=shape[-1],
        fit=fixed,
    )
    if description.known:
        require_gray_levels(images)
    return pixels


def labels_of(images: Images, labels: np.ndarray | None) -> np.ndarray | None:
    """Return the labels given, or else those of a set; `None` if there are none."""
    if labels is None and isinstance(images, RadiographSet):
        return images.labels
    return None if labels is None else np.asarray(labels)
