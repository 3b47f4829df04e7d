"""Augmentation of raw gray radiographs, compatible with Keras' `ImageDataGenerator`."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any
from uuid import uuid4

import cv2
import keras
import numpy as np
from scipy import ndimage
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.core.code import hash_of_code
from pneumokeras.core.errors import SettingsError
from pneumokeras.data.layer_augmentation import LayerAugmentation

FILL_MODES = ("nearest", "constant", "reflect", "wrap")

Shift = float | Sequence[float]
"""A fraction of the side below 1, a number of pixels from 1, or several of either to choose from."""

Generator = ImageDataGenerator | keras.layers.Layer
"""What augments radiographs: `RadiographDataGenerator`, another one, or layers of Keras."""

_BORDERS = {"nearest": cv2.BORDER_REPLICATE, "constant": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT}
_MOST_CHANNELS = 4
"""The number of channels that OpenCV warps together."""

_MODEL_OPTIONS = (
    "rescale",
    "preprocessing_function",
    "zca_whitening",
    "featurewise_std_normalization",
    "featurewise_center",  # which those two turn on
    "samplewise_std_normalization",
    "samplewise_center",  # likewise
)
_RADIOGRAPHS: dict[str, Any] = {
    "rotation_range": 10,
    "width_shift_range": 0.05,
    "height_shift_range": 0.05,
    "zoom_range": 0.1,
    "horizontal_flip": True,
    "brightness_range": (0.9, 1.1),
    "data_format": "channels_last",
    "smooth": True,
}


class RadiographDataGenerator(ImageDataGenerator):
    """An `ImageDataGenerator` that draws by a seed and turns, shifts, zooms, flips and crops in one warp.

    It takes the arguments of Keras' own generator in the same order, with the same defaults, all of them off,
    and the same meaning, so it can replace it anywhere, `flow` included. What `tune`, `fit` and `train` use
    by default is `RadiographDataGenerator.radiographs()`.

    The models of this package preprocess raw gray levels themselves. So whatever normalizes pixels (marked N)
    acts in `flow` only, with a warning; `RadiographLoader`, `tune` and `fit` refuse it.

    Args:
        featurewise_center: subtract the mean of the set given to `fit` (N).
        samplewise_center: subtract each image's mean (N).
        featurewise_std_normalization: divide by the standard deviation of that set (N).
        samplewise_std_normalization: divide by each image's standard deviation (N).
        zca_whitening: whiten the pixels (N).
        zca_epsilon: of the whitening.
        rotation_range: degrees, drawn from [-range, range]; 180 for any angle.
        width_shift_range: a fraction of the width if below 1, drawn from [-range, range]; otherwise pixels,
            whole ones between -range and range (both excluded) for an `int`; or a list of fractions or pixels
            that one is chosen from, with either sign.
        height_shift_range: likewise, of the height.
        brightness_range: `(low, high)` factor on the gray levels, or `None`.
        shear_range: degrees, drawn from [-range, range].
        zoom_range: zoom drawn from [1 - range, 1 + range] for each axis, or `(low, high)`.
        channel_shift_range: gray levels, drawn from [-range, range] and added.
        fill_mode: how to fill the area outside the image: `"nearest"`, `"constant"`, `"reflect"` or `"wrap"`.
        cval: the gray level outside the image for `"constant"`.
        horizontal_flip: mirror half of the images left to right.
        vertical_flip: flip half of the images upside down.
        rescale: factor on the gray levels (N).
        preprocessing_function: called with each image (N).
        data_format: `"channels_last"` or `"channels_first"`; by default that of Keras. A `RadiographLoader`
            needs the former.
        validation_split: fraction of the images that `flow(..., subset="validation")` gives. A
            `RadiographLoader` has no such subsets and refuses it; `pk.split` makes them.
        interpolation_order: of the spline, 0 (nearest pixel) to 5; 1 is linear.
        dtype: of the arrays that `flow` gives; by default that of Keras.
        random_crop: `(low, high)` share of each side, in (0, 1], or `None`: after all other transformations,
            a random window of such a share is enlarged to the whole image. Keras' own generator has no such
            option.
        smooth: keep fractions of gray levels when the brightness changes, and blend a constant border into
            the image. By default both are as in Keras: whole gray levels, a sharp edge.

    Raises:
        SettingsError: if an argument is not as described.

    Example:
        >>> generator = pk.RadiographDataGenerator(rotation_range=5, horizontal_flip=True)
        >>> images = np.full((8, 64, 64, 1), 100.0)
        >>> next(generator.flow(images, batch_size=4, seed=3)).shape
        (4, 64, 64, 1)
    """

    def __init__(  # noqa: PLR0917 - as Keras has them
        self,
        featurewise_center: bool = False,
        samplewise_center: bool = False,
        featurewise_std_normalization: bool = False,
        samplewise_std_normalization: bool = False,
        zca_whitening: bool = False,
        zca_epsilon: float = 1e-6,
        rotation_range: float = 0,
        width_shift_range: Shift = 0.0,
        height_shift_range: Shift = 0.0,
        brightness_range: tuple[float, float] | None = None,
        shear_range: float = 0.0,
        zoom_range: float | tuple[float, float] = 0.0,
        channel_shift_range: float = 0.0,
        fill_mode: str = "nearest",
        cval: float = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        rescale: float | None = None,
        preprocessing_function: Any = None,
        data_format: str | None = None,
        validation_split: float = 0.0,
        interpolation_order: int = 1,
        dtype: str | None = None,
        *,
        random_crop: tuple[float, float] | None = None,
        smooth: bool = False,
    ):
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        for name in _MODEL_OPTIONS:
            if options[name]:
                reason = _twice(name)
                warnings.warn(f"{reason} Only `flow` does it; loaders and fits refuse it.", stacklevel=2)
        _check(options)
        del options["random_crop"], options["smooth"]
        options["zoom_range"] = np.asarray(zoom_range).tolist()  # Keras knows no numbers of NumPy's
        options["brightness_range"] = None if brightness_range is None else tuple(brightness_range)
        try:
            options["dtype"] = None if dtype is None else np.dtype(dtype).name
            super().__init__(**options)
        except (TypeError, ValueError) as error:  # only these two are left to it
            name = "dtype" if data_format in (None, "channels_last", "channels_first") else "data_format"
            raise SettingsError(
                f"Expected `{name}` as Keras has it. Received {options[name]!r}.", parameter=name
            ) from error
        self.random_crop = random_crop
        self._smooth = smooth

    @property
    def has_whole_levels(self) -> bool:
        """Whether `smooth`, which is off, would change anything."""
        return not self._smooth and (self.brightness_range is not None or self.fill_mode == "constant")

    @classmethod
    def radiographs(cls, **changes: Any) -> RadiographDataGenerator:
        """Return the augmentation that `tune`, `fit` and `train` use by default, with `changes`.

        It rotates by up to 10 degrees, shifts by up to a twentieth of the side, zooms by up to a tenth,
        mirrors half of the images, and changes the brightness by up to a tenth.

        Args:
            **changes: arguments of the class.

        Raises:
            SettingsError: if one of them is not as the class describes it.

        Example:
            >>> generator = pk.RadiographDataGenerator.radiographs(horizontal_flip=False)
            >>> generator.rotation_range, generator.horizontal_flip
            (10, False)
        """
        return cls(**{**_RADIOGRAPHS, **changes})

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
            img_shape: `(height, width, channels)`, or as `data_format` says.
            seed: the same seed draws the same parameters, and leaves NumPy's global random state alone;
                `None` takes a seed from that state, which `flow(..., seed=...)` sets.

        Returns:
            The parameters as Keras' generator names them (`theta`, `tx`, `ty`, `zx`, `zy` and so on), and
            `crop`: side, left and top of the window as shares of the image's side, or `None`.
        """
        rng = np.random.default_rng(np.random.randint(2**31 - 1) if seed is None else seed)
        height, width = img_shape[self.row_axis - 1], img_shape[self.col_axis - 1]
        zoom = rng.uniform(self.zoom_range[0], self.zoom_range[1], size=2)
        flip = rng.random() < 0.5
        return {
            "theta": rng.uniform(-self.rotation_range, self.rotation_range),
            # Keras draws tx from the height's range, then moves columns by it; here each moves its own axis.
            "tx": _draw_shift(rng, self.width_shift_range, width),
            "ty": _draw_shift(rng, self.height_shift_range, height),
            "zx": zoom[0],
            "zy": zoom[1],
            "flip_horizontal": bool(flip and self.horizontal_flip),
            "brightness": None if self.brightness_range is None else rng.uniform(*self.brightness_range),
            # Drawn last, so that the parameters above do not depend on these options.
            "flip_vertical": bool(self.vertical_flip and rng.random() < 0.5),
            "crop": None if self.random_crop is None else _draw_window(rng, *self.random_crop),
            "shear": rng.uniform(-self.shear_range, self.shear_range) if self.shear_range else 0,
            "channel_shift_intensity": rng.uniform(-self.channel_shift_range, self.channel_shift_range)
            if self.channel_shift_range
            else None,
        }

    def apply_transform(self, x: np.ndarray, transform_parameters: dict[str, Any]) -> np.ndarray:
        """Apply one transformation.

        Args:
            x: `(height, width, channels)` gray levels 0 to 255, or as `data_format` says.
            transform_parameters: as `get_random_transform` returns them.

        Returns:
            Array of the same shape, `float64` if `x` is, otherwise `float32`.
        """
        levels = np.moveaxis(x, self.channel_axis - 1, -1)
        levels = np.ascontiguousarray(levels, dtype=None if x.dtype == np.float64 else np.float32)
        changed = self._warp(levels, _output_to_input(transform_parameters, *levels.shape[:2]))
        intensity = transform_parameters.get("channel_shift_intensity")
        if intensity is not None:
            changed = np.clip(changed + changed.dtype.type(intensity), changed.min(), changed.max())
        brightness = transform_parameters.get("brightness")
        if brightness is not None:
            changed = (_brightened if self._smooth else _brightened_as_keras_does)(changed, brightness)
        return np.moveaxis(changed, -1, self.channel_axis - 1)

    def _warp(self, levels: np.ndarray, output_to_input: np.ndarray) -> np.ndarray:
        """Warp `(height, width, channels)` gray levels.

        OpenCV does it ten times as fast as SciPy, which Keras uses, and agrees with it on linear
        interpolation, but not on the edge of a constant border.
        """
        height, width, channels = levels.shape
        linear = self.interpolation_order == 1 and channels <= _MOST_CHANNELS
        if linear and (
            self.fill_mode in ("nearest", "reflect") or (self._smooth and self.fill_mode == "constant")
        ):
            warped = cv2.warpAffine(
                levels,
                output_to_input,
                (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=_BORDERS[self.fill_mode],
                borderValue=(self.cval,) * 4,
            )
            return warped.reshape(levels.shape)
        if np.array_equal(output_to_input, np.eye(2, 3)):
            return levels
        matrix, offset = output_to_input[::-1, 1::-1], output_to_input[::-1, 2]  # rows first, not columns
        warped = [
            ndimage.affine_transform(
                levels[..., channel],
                matrix,
                offset,
                order=self.interpolation_order,
                mode=self.fill_mode,
                cval=self.cval,
            )
            for channel in range(channels)
        ]
        return np.stack(warped, axis=-1)


GENERATORS = (RadiographDataGenerator, ImageDataGenerator)
"""The generators whose settings say all of what they draw."""

_UNIDENTIFIED = "unidentified"


def augmentation_settings(generator: Any) -> dict[str, Any]:
    """Return everything that decides what a generator draws, as JSON.

    An attribute that JSON cannot hold, such as a function, is recorded as unidentified, differently at every
    call: no run and no stored feature is then taken for another's.

    Args:
        generator: an `ImageDataGenerator`, or Keras' augmentation layers.
    """
    if isinstance(generator, LayerAugmentation | keras.layers.Layer):
        return _as_json(LayerAugmentation.of(generator).settings())
    is_ours = type(generator) in GENERATORS
    values = {
        name: value for name, value in vars(generator).items() if not (is_ours and name.startswith("_"))
    }
    named = {name: _as_json(value) for name, value in values.items()}
    if type(generator) is RadiographDataGenerator and generator.has_whole_levels:
        named["smooth"] = False
    kind = type(generator)
    if is_ours:
        return {"generator": kind.__name__} | named
    return {"generator": f"{kind.__module__}.{kind.__qualname__}", "code": hash_of_code(kind)} | named


def is_identified(generator: Any) -> bool:
    """Return whether `augmentation_settings` holds all of a generator: a known class, and a state as JSON."""
    if generator is None:
        return True
    known = isinstance(generator, LayerAugmentation) or type(generator) in GENERATORS
    return known and _UNIDENTIFIED not in json.dumps(augmentation_settings(generator))


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


def as_generator(generator: Any) -> Any:
    """Return what augments training radiographs: `usable_generator`'s, or the package's own for `None`."""
    return RadiographDataGenerator.radiographs() if generator is None else usable_generator(generator)


def usable_generator(generator: Any) -> Any:
    """Return what draws and applies the transformations of a generator.

    Args:
        generator: an `ImageDataGenerator`, ours or another; Keras' augmentation layers; or `None`.

    Raises:
        SettingsError: if it is none of these, does what the model does itself, or does not fit a loader.
    """
    if isinstance(generator, keras.layers.Layer):
        return LayerAugmentation.of(generator)
    if generator is None or isinstance(generator, LayerAugmentation):
        return generator
    if not isinstance(generator, ImageDataGenerator):
        raise SettingsError(
            "Expected `generator` as a RadiographDataGenerator, an ImageDataGenerator or augmentation layers "
            f"of Keras. Received {generator!r}.",
            parameter="generator",
        )
    for option in _MODEL_OPTIONS:
        if getattr(generator, option, None):
            raise SettingsError(_twice(option), parameter="generator")
    if generator.data_format != "channels_last":
        raise SettingsError(
            "The generator expects images as `channels_first`. A loader's are (height, width, channels): "
            'leave `data_format` out, or set "channels_last".',
            parameter="generator",
        )
    if generator._validation_split:
        raise SettingsError(
            "The generator has `validation_split` set, which acts in `flow` only. Leave it out, and split "
            "the radiographs with `pk.split` or `pk.load_splits`.",
            parameter="generator",
        )
    return generator


def require_fit(generator: Any, image_size: tuple[int, int]) -> None:
    """Refuse Keras' augmentation layers that cannot change images `(height, width)` and keep their shape.

    Raises:
        SettingsError: as `LayerAugmentation.require_fit`.
    """
    if isinstance(generator, LayerAugmentation):
        generator.require_fit(image_size)


def draw_parameters(generator: Any, shape: tuple[int, ...], seed: int) -> dict[str, Any]:
    """Draw parameters from any generator, restoring the global state that Keras' own generator seeds."""
    if isinstance(generator, RadiographDataGenerator | LayerAugmentation):
        return generator.get_random_transform(shape, seed=seed)
    with _global_random_state:
        state = np.random.get_state()
        try:
            return generator.get_random_transform(shape, seed=seed)
        finally:
            np.random.set_state(state)


_global_random_state = threading.Lock()


def _twice(option: str) -> str:
    return (
        f"The generator has {option} set, but the model preprocesses raw gray levels 0..255 itself; applying "
        f"it twice would train on wrong inputs. Leave {option} out."
    )


def _check(options: Mapping[str, Any]) -> None:
    """Refuse what Keras' own generator would stumble over at the first image, or draw nonsense from."""
    for name in ("rotation_range", "shear_range", "channel_shift_range", "cval"):
        _expect(name, options[name], "a finite number", _is_finite(options[name]))
    for name in ("width_shift_range", "height_shift_range"):
        shift = options[name]
        several = isinstance(shift, Sequence | np.ndarray) and not isinstance(shift, str) and len(shift) > 0
        fits = all(map(_is_finite, shift)) if several else _is_finite(shift) and shift >= 0
        _expect(name, shift, "a fraction of the side, a number of pixels, or a list of either", fits)
    zoom = options["zoom_range"]
    _expect("zoom_range", zoom, "a number or as (low, high)", _is_finite(zoom) or _is_pair(zoom))
    brightness = options["brightness_range"]
    fits = brightness is None or (_is_pair(brightness) and min(brightness) >= 0)
    _expect("brightness_range", brightness, "(low, high) factors of at least 0", fits)
    mode = options["fill_mode"]
    _expect("fill_mode", mode, f"one of {', '.join(FILL_MODES)}", mode in FILL_MODES)
    order = options["interpolation_order"]
    fits = _is_finite(order) and isinstance(order, Integral) and order in range(6)
    _expect("interpolation_order", order, "a whole number from 0 to 5", fits)
    fraction = options["validation_split"]
    _expect("validation_split", fraction, "a fraction in [0, 1)", _is_finite(fraction) and 0 <= fraction < 1)
    crop = options["random_crop"]
    fits = crop is None or (_is_pair(crop) and 0 < crop[0] <= crop[1] <= 1)
    _expect("random_crop", crop, "(low, high) shares of the side, in (0, 1]", fits)


def _expect(name: str, value: Any, expected: str, fits: bool) -> None:
    if not fits:
        raise SettingsError(f"Expected `{name}` as {expected}. Received {value!r}.", parameter=name)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == 2 and all(map(_is_finite, value))


def _draw_shift(rng: np.random.Generator, shift: Any, side: int) -> float:
    """Draw a shift in pixels."""
    if np.ndim(shift):
        chosen = rng.choice(shift) * rng.choice([-1, 1])
        return chosen * side if np.abs(shift).max() < 1 else chosen
    if shift < 1:
        return rng.uniform(-shift, shift) * side
    if isinstance(shift, Integral):
        return int(rng.integers(int(shift))) * int(rng.choice([-1, 1]))
    return rng.uniform(-float(shift), float(shift))


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
    shear = math.radians(parameters.get("shear", 0))
    sheared = rotation @ [[1, -math.sin(shear)], [0, math.cos(shear)]] if shear else rotation
    linear = sheared * (parameters.get("zx", 1), parameters.get("zy", 1))
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


def _brightened(levels: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(levels * levels.dtype.type(factor), 0, 255)


def _brightened_as_keras_does(levels: np.ndarray, factor: float) -> np.ndarray:
    """Multiply gray levels of an image by way of whole ones, as Pillow does; a fourth channel is opacity.

    Levels outside 0 to 255 are first stretched to that range, and their range is restored.
    """
    low, high = levels.min(), levels.max()
    stretched = low < 0 or high > 255
    if stretched:
        levels = 255 * (levels - low) / ((high - low) or 1)
    whole = np.floor(levels)
    colors = whole[..., :3]
    np.floor(np.clip(colors * np.float32(factor), 0, 255), out=colors)
    return (whole / 255 * (high - low) + low).astype(levels.dtype) if stretched else whole
