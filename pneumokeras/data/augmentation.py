"""Augmentation of raw gray radiographs, compatible with Keras' `ImageDataGenerator`."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.core.errors import SettingsError

_BORDERS = {"nearest": cv2.BORDER_REPLICATE, "constant": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT}

_MODEL_OPTIONS = (
    "rescale",
    "preprocessing_function",
    "featurewise_center",
    "featurewise_std_normalization",
    "samplewise_center",
    "samplewise_std_normalization",
    "zca_whitening",
)


class RadiographDataGenerator(ImageDataGenerator):
    """An `ImageDataGenerator` that rotates, shifts, zooms, flips and crops in one OpenCV warp.

    It draws and applies the same parameters as Keras' own generator (same names, ranges and meaning), so it
    can replace it anywhere, `flow` included. It leaves NumPy's global random state alone.

    Args:
        rotation_range: degrees, drawn from [-range, range]; 180 for any angle.
        width_shift_range: fraction of the width, drawn from [-range, range].
        height_shift_range: fraction of the height, drawn from [-range, range].
        zoom_range: zoom drawn from [1 - range, 1 + range] for each axis, or `(low, high)`.
        horizontal_flip: mirror half of the images left to right.
        vertical_flip: flip half of the images upside down.
        random_crop: `(low, high)` share of each side, in (0, 1], or `None`: after all other transformations,
            a random window of such a share is enlarged to the whole image. Keras' own generator has no such
            option.
        brightness_range: `(low, high)` factor on the gray levels, or `None`.
        fill_mode: how to fill the area outside the image: `"nearest"`, `"constant"` (black) or `"reflect"`.

    Raises:
        SettingsError: if a shift, `random_crop` or `fill_mode` is not as described.

    Example:
        >>> generator = pk.RadiographDataGenerator(rotation_range=5, brightness_range=None)
        >>> images = np.full((8, 64, 64, 1), 100.0)
        >>> next(generator.flow(images, batch_size=4)).shape
        (4, 64, 64, 1)
    """

    def __init__(
        self,
        *,
        rotation_range: float = 10,
        width_shift_range: float = 0.05,
        height_shift_range: float = 0.05,
        zoom_range: float | tuple[float, float] = 0.1,
        horizontal_flip: bool = True,
        vertical_flip: bool = False,
        random_crop: tuple[float, float] | None = None,
        brightness_range: tuple[float, float] | None = (0.9, 1.1),
        fill_mode: str = "nearest",
    ):
        if fill_mode not in _BORDERS:
            raise SettingsError(
                f"Expected `fill_mode` as one of {', '.join(_BORDERS)}. Received {fill_mode!r}.",
                parameter="fill_mode",
            )
        for name, share in (
            ("width_shift_range", width_shift_range),
            ("height_shift_range", height_shift_range),
        ):
            if not 0 <= share < 1:  # Keras takes 1 and more as pixels
                raise SettingsError(
                    f"Expected `{name}` as a fraction of the side, in [0, 1). Received {share}.",
                    parameter=name,
                )
        if random_crop is not None and not 0 < random_crop[0] <= random_crop[1] <= 1:
            raise SettingsError(
                "Expected `random_crop` as (low, high) shares of the side, in (0, 1]. "
                f"Received {random_crop}.",
                parameter="random_crop",
            )
        super().__init__(
            rotation_range=rotation_range,
            width_shift_range=width_shift_range,
            height_shift_range=height_shift_range,
            zoom_range=zoom_range,
            horizontal_flip=horizontal_flip,
            vertical_flip=vertical_flip,
            brightness_range=brightness_range,
            fill_mode=fill_mode,
        )
        self.random_crop = random_crop

    def __repr__(self) -> str:
        """Return one line with the options that do something."""
        options = (
            f"{name}={value}"
            for name, value in vars(self).items()
            if value and any(part in name for part in ("range", "flip", "crop"))
        )
        return f"<{type(self).__name__} {', '.join(options)}>"

    def get_random_transform(self, img_shape: tuple[int, ...], seed: int | None = None) -> dict[str, Any]:
        """Draw the parameters of one transformation.

        Args:
            img_shape: `(height, width, channels)`.
            seed: the same seed draws the same parameters; `None` draws different ones each time.

        Returns:
            The parameters as Keras' generator names them (`theta`, `tx`, `ty`, `zx`, `zy` and so on), and
            `crop`: side, left and top of the window as shares of the image's side, or `None`.
        """
        rng = np.random.default_rng(seed)
        zoom = rng.uniform(self.zoom_range[0], self.zoom_range[1], size=2)
        flip = rng.random() < 0.5
        return {
            "theta": rng.uniform(-self.rotation_range, self.rotation_range),
            # Keras draws tx from the height's range, then moves columns by it; here each moves its own axis.
            "tx": rng.uniform(-self.width_shift_range, self.width_shift_range) * img_shape[1],
            "ty": rng.uniform(-self.height_shift_range, self.height_shift_range) * img_shape[0],
            "shear": 0,
            "zx": zoom[0],
            "zy": zoom[1],
            "flip_horizontal": bool(flip and self.horizontal_flip),
            "channel_shift_intensity": None,
            "brightness": None if self.brightness_range is None else rng.uniform(*self.brightness_range),
            # Drawn last, so that the parameters above do not depend on these options.
            "flip_vertical": bool(self.vertical_flip and rng.random() < 0.5),
            "crop": None if self.random_crop is None else _draw_window(rng, *self.random_crop),
        }

    def apply_transform(self, x: np.ndarray, transform_parameters: dict[str, Any]) -> np.ndarray:
        """Apply one transformation.

        Args:
            x: `(height, width, channels)` gray levels 0 to 255.
            transform_parameters: as `get_random_transform` returns them.

        Returns:
            `float32` array of the same shape.
        """
        height, width = x.shape[:2]
        warped = cv2.warpAffine(
            np.asarray(x, dtype=np.float32),
            _output_to_input(transform_parameters, height, width),
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=_BORDERS[self.fill_mode],
        )
        brightness = transform_parameters.get("brightness")
        if brightness is not None:
            np.clip(warped * np.float32(brightness), 0, 255, out=warped)
        return warped.reshape(x.shape)


GENERATORS = (RadiographDataGenerator, ImageDataGenerator)
"""The generators whose settings say all of what they draw."""

_UNIDENTIFIED = "unidentified"


def augmentation_settings(generator: ImageDataGenerator) -> dict[str, Any]:
    """Return everything that decides what a generator draws, as JSON.

    An attribute that JSON cannot hold, such as a function, is recorded as unidentified, differently at every
    call: no run and no stored feature is then taken for another's.
    """
    is_ours = type(generator) in GENERATORS
    values = {
        name: value for name, value in vars(generator).items() if not (is_ours and name.startswith("_"))
    }
    named = {name: _as_json(value) for name, value in values.items()}
    kind = type(generator)
    return {"generator": kind.__name__ if is_ours else f"{kind.__module__}.{kind.__qualname__}"} | named


def is_identified(generator: ImageDataGenerator | None) -> bool:
    """Return whether `augmentation_settings` holds all of a generator: a known class, and a state as JSON."""
    if generator is None:
        return True
    return type(generator) in GENERATORS and _UNIDENTIFIED not in json.dumps(augmentation_settings(generator))


def _as_json(value: Any) -> Any:
    """Return a value as JSON; what JSON cannot hold as a text that is new at every call."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, list | tuple):
        numbers = np.asarray(value) if all(isinstance(item, int | float) for item in value) else None
        return [_as_json(item) for item in value] if numbers is None else numbers.tolist()
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _as_json(item) for key, item in value.items()}
    return f"{_UNIDENTIFIED} {type(value).__name__} {uuid4().hex}"


def refuse_preprocessing(generator: ImageDataGenerator | None) -> None:
    """Refuse a generator that normalizes pixels, which the model does itself.

    Raises:
        SettingsError: if it does.
    """
    for option in _MODEL_OPTIONS:
        if getattr(generator, option, None):
            raise SettingsError(
                f"The ImageDataGenerator has {option} set, but the model preprocesses raw gray levels 0..255 "
                f"itself; applying it twice would train on wrong inputs. Leave {option} out.",
                parameter="generator",
            )


def draw_parameters(generator: ImageDataGenerator, shape: tuple[int, ...], seed: int) -> dict[str, Any]:
    """Draw parameters from any generator, restoring the global state that Keras' own generator seeds."""
    if isinstance(generator, RadiographDataGenerator):
        return generator.get_random_transform(shape, seed=seed)
    with _global_random_state:
        state = np.random.get_state()
        try:
            return generator.get_random_transform(shape, seed=seed)
        finally:
            np.random.set_state(state)


_global_random_state = threading.Lock()


def _draw_window(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    """Draw side, left and top of a window inside the image, as shares of the image's side."""
    side = rng.uniform(low, high)
    left, top = rng.uniform(0, 1 - side, size=2)
    return side, left, top


def _output_to_input(parameters: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Return the `(2, 3)` matrix from an output pixel `(x, y)` to its source in the input."""
    theta = math.radians(parameters.get("theta", 0))
    cos, sin = math.cos(theta), math.sin(theta)
    rotation = np.array([[cos, -sin], [sin, cos]])
    linear = rotation * (parameters.get("zx", 1), parameters.get("zy", 1))
    shift = rotation @ (parameters.get("tx", 0), parameters.get("ty", 0))
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = center + shift - linear @ center
    for axis, (flip, size) in enumerate((("flip_horizontal", width), ("flip_vertical", height))):
        if parameters.get(flip):
            offset += linear[:, axis] * (size - 1)
            linear[:, axis] *= -1
    if parameters.get("crop") is not None:
        side, left, top = parameters["crop"]
        # Coordinates are of pixel centers: pixel x of the window lies side * (x + 1/2) - 1/2 from its left.
        corner = np.array([left * width, top * height]) + (side - 1) / 2
        offset += linear @ corner
        linear = linear * side
    return np.column_stack([linear, offset])
