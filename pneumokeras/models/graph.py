"""Open a model's graph: the output of each layer, and the features that its score is computed from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pneumokeras.core.errors import DataError, ModelError
from pneumokeras.models.forward import traced
from pneumokeras.models.saving import own_name


@dataclass(frozen=True)
class ModelGraph:
    """The symbolic tensors of a model's own layers.

    A nested backbone is one layer here, since its `.output` belongs to the inner model's graph.

    Attributes:
        name: name of the model.
        inputs: its symbolic inputs.
        outputs: the output of each layer by the layer's name, in order.
        calls: each layer with its input, in order.
        nested: the models inside it.
    """

    name: str
    inputs: list[keras.KerasTensor]
    outputs: dict[str, keras.KerasTensor]
    calls: list[tuple[keras.Layer, Any]]
    nested: list[keras.Model]

    @classmethod
    def of(cls, model: keras.Model) -> ModelGraph:
        """Open a model.

        Raises:
            ModelError: if it is neither functional nor Sequential.
        """
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
                f"{own_name(model)} has no graph to explain. Expected a functional or Sequential model."
            ) from error
        again = keras.models.clone_model(flat, clone_function=lambda layer: layer, call_function=call)
        nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
        return cls(own_name(model), again.inputs, outputs, calls, nested)

    def feature_map(self, name: str | None = None) -> str:
        """Return the name of a layer whose output is a feature map: rows, columns and channels.

        Args:
            name: a layer; by default the last one whose map has more than one pixel, if there is one.

        Raises:
            ModelError: if there is no such layer, or it has no feature map.
        """
        maps = {
            layer: tensor for layer, tensor in self.outputs.items() if len(getattr(tensor, "shape", ())) == 4
        }
        if name is None:
            # A map of one pixel, such as a pooled one that keeps its dimensions, shows no place.
            larger = [layer for layer, tensor in maps.items() if tuple(tensor.shape[1:3]) != (1, 1)]
            if maps:
                return (larger or list(maps))[-1]
            hint = (
                "; its feature maps lie inside a nested model: rebuild it as one flat graph"
                if self.nested
                else ""
            )
            raise ModelError(f"{self.name} has no layer with rows, columns and channels to explain{hint}.")
        if name in maps:
            return name
        choices = f"Expected one such as {', '.join(list(maps)[-3:])}."
        if name in self.outputs:
            shape = tuple(self.outputs[name].shape)
            raise ModelError(
                f"Layer {name!r} returns {shape}, no feature map with rows, columns and channels. {choices}"
            )
        for inner in self.nested:
            if name in [layer.name for layer in inner.layers]:
                where = f"inside the nested {inner.name}, which is explained at its output only"
                raise ModelError(f"Layer {name!r} lies {where}. {choices}")
        raise ModelError(f"{self.name} has no layer {name!r}. {choices}")

    def output(self, name: str) -> keras.KerasTensor:
        """Return the symbolic output of a layer.

        Raises:
            ModelError: if there is no such layer.
        """
        if name not in self.outputs:
            choices = ", ".join(list(self.outputs)[-3:])
            raise ModelError(f"{self.name} has no layer {name!r}. Expected one such as {choices}.")
        return self.outputs[name]

    @property
    def features(self) -> keras.KerasTensor:
        """The `(n, channels)` input of the last dense layer, which separates the classes linearly.

        Raises:
            ModelError: if there is no dense layer.
        """
        entering = [tensor for layer, tensor in self.calls if isinstance(layer, keras.layers.Dense)]
        if not entering:
            raise ModelError(f"{self.name} has no dense layer. Expected a classifier that ends in one.")
        return entering[-1]


def batches_of(model: keras.Model, images: np.ndarray, *, batch_size: int) -> Iterator[tf.Tensor]:
    """Yield batches of images as a model takes them: `float32`, gray repeated for three channels.

    Args:
        model: the model.
        images: `(n, height, width)` or `(n, height, width, channels)` raw pixels.
        batch_size: images per batch.

    Raises:
        DataError: if the images have another shape.
    """
    require_images(model, images)
    images = images[..., np.newaxis] if images.ndim == 3 else images
    repeat = 3 if model.input_shape[-1] == 3 and images.shape[-1] == 1 else 1
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], np.float32)
        yield tf.constant(np.repeat(batch, repeat, axis=-1) if repeat > 1 else batch)


def require_images(model: keras.Model, images: np.ndarray) -> None:
    """Refuse an array that is no set of images for a model; TensorFlow would abort the process on some.

    Raises:
        DataError: if it is not `(n, height, width)` or `(n, height, width, channels)` of the model's size.
    """
    height, width, channels = model.input_shape[1:]
    shape = images.shape if images.ndim == 4 else (*images.shape, 1)
    expected = (None, height, width, 1 if channels == 3 and shape[-1] == 1 else channels)
    if images.ndim not in (3, 4) or any(
        size not in (None, received) for size, received in zip(expected, shape, strict=True)
    ):
        raise DataError(
            f"Expected images as an array (n, {height}, {width}) or (n, {height}, {width}, {channels}). "
            f"Received shape {images.shape}. For one image add a first axis: image[np.newaxis]; "
            "RadiographSet.pixels reads files at the model's size."
        )


def layer_outputs(
    model: keras.Model, graph: ModelGraph, tensor: keras.KerasTensor, images: np.ndarray, *, batch_size: int
) -> np.ndarray:
    """Return a tensor's value for each image, in inference mode: `(n, ...)` `float32`."""
    inspected = keras.Model(graph.inputs, tensor)
    evaluated = traced(model, lambda batch: tf.cast(inspected([batch], training=False), tf.float32))
    outputs = [
        evaluated(batch).numpy() for batch in batches_of(model, np.asarray(images), batch_size=batch_size)
    ]
    return np.concatenate(outputs) if outputs else np.empty((0, *tensor.shape[1:]), np.float32)
