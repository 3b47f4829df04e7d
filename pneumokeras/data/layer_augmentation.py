"""Keras' augmentation layers in place of a generator, drawn by a seed for each image."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import SettingsError, first_line

_NORMALIZING = (keras.layers.Rescaling, keras.layers.Normalization)
_MIXING = ("MixUp", "CutMix")
_CHANCE = ("name", "seed")
"""Settings of a layer that do not decide what it draws for a seed of ours."""

_seeds_in_use = threading.Lock()  # several loaders may share a layer


class LayerAugmentation:
    """Augmentation layers of Keras, such as `keras.layers.RandomFlip` or a `Sequential` of several.

    What they draw for an image depends on the seed for that image alone, not on the layers' own seeds.

    Args:
        layer: the layer; it must keep the shape of an image.

    Raises:
        SettingsError: if one of the layers normalizes pixels, which the model does itself, or mixes images.
    """

    def __init__(self, layer: keras.layers.Layer):
        for part in _parts(layer):
            if isinstance(part, _NORMALIZING):
                raise SettingsError(
                    f"The generator holds a layer {type(part).__name__}, but the model preprocesses raw gray "
                    "levels 0..255 itself; applying it twice would train on wrong inputs. Leave it out.",
                    parameter="generator",
                )
            if type(part).__name__ in _MIXING:
                raise SettingsError(
                    f"The generator holds a layer {type(part).__name__}, which mixes images and their "
                    "labels. Expected layers that change each image for itself.",
                    parameter="generator",
                )
        self.layer = layer

    @classmethod
    def of(cls, layer: keras.layers.Layer | LayerAugmentation) -> LayerAugmentation:
        """Return a layer as an augmentation; an augmentation as it is."""
        return layer if isinstance(layer, cls) else cls(layer)

    def require_fit(self, image_size: tuple[int, int]) -> None:
        """Refuse layers that no loader can use, by changing one black image.

        Args:
            image_size: `(height, width)` of the loader's images.

        Raises:
            SettingsError: if the layers fail on such an image, change its shape, or have weights.
        """
        image = np.zeros((*image_size, 1), np.float32)
        try:
            self.apply_transform(image, self.get_random_transform(image.shape, seed=0))
        except SettingsError:
            raise
        except Exception as error:  # layers raise many kinds of exceptions
            raise SettingsError(
                f"{self.layer.name} cannot augment an image of shape {image.shape}: {first_line(error)}.",
                parameter="generator",
            ) from error
        if weighted := [part for part in _parts(self.layer) if part.weights]:
            kind = type(weighted[-1]).__name__  # after the Sequential that holds it
            raise SettingsError(
                f"The generator holds a layer {kind} with weights, which nothing trains. Expected "
                "augmentation layers without weights.",
                parameter="generator",
            )

    def get_random_transform(self, img_shape: tuple[int, ...], seed: int | None = None) -> dict[str, Any]:
        """Return the seed, from which the layers draw everything else."""
        return {"seed": seed}

    def apply_transform(self, x: np.ndarray, transform_parameters: dict[str, Any]) -> np.ndarray:
        """Apply the layers.

        Args:
            x: `(height, width, channels)` gray levels 0 to 255.
            transform_parameters: as `get_random_transform` returns them.

        Returns:
            `float32` array of the same shape.

        Raises:
            SettingsError: if the layers change the shape.
        """
        with _seeds_in_use, keras.device("cpu"):
            if not self.layer.built:
                self.layer(x[np.newaxis], training=True)
            for number, generator in enumerate(_seed_generators(self.layer)):
                state = np.random.SeedSequence([transform_parameters["seed"], number]).generate_state(2)
                generator.state.assign(state >> 1)  # what a signed integer can hold
            changed = keras.ops.convert_to_numpy(self.layer(x[np.newaxis], training=True))[0]
        if changed.shape != x.shape:
            raise SettingsError(
                f"Expected augmentation layers that keep the shape of an image, {x.shape}. "
                f"Received {changed.shape} from {self.layer.name}.",
                parameter="generator",
            )
        return changed.astype(np.float32)

    def settings(self) -> dict[str, Any]:
        """Return what decides the augmentation; what is more than a layer's config stands for itself."""
        return {"generator": "keras.layers", "layers": _described(self.layer)}


def _parts(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    return layer._flatten_layers()


def _seed_generators(layer: keras.layers.Layer) -> list[keras.random.SeedGenerator]:
    return [generator for part in _parts(layer) for generator in part._seed_generators]


def _described(layer: keras.layers.Layer) -> Any:
    """Return a layer's class and config; the layer itself if these do not say all that it does."""
    if isinstance(layer, keras.Sequential):
        return [_described(part) for part in layer.layers]
    is_known = type(layer).__module__.startswith("keras.") and not isinstance(layer, keras.layers.Lambda)
    if not is_known or layer.weights:
        return layer
    return {"layer": type(layer).__name__, "config": _without_chance(layer.get_config())}


def _without_chance(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _without_chance(value) for key, value in config.items() if key not in _CHANCE}
    return [_without_chance(item) for item in config] if isinstance(config, list | tuple) else config
