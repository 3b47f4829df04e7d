"""List the backbones, and make one part of a flat graph on raw gray pixels.

Each is a `keras.applications` network without its top, our own ResNet-18, or an EfficientNet-Lite. It is
built without weights and copied layer by layer onto our input, with its own preprocessing in front.
`pneumokeras.models.weights` then sets its weights in order. So ImageNet's weights, those of a file and
random ones meet the same graph.
"""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from typing import Any

import keras

from pneumokeras.core.errors import SettingsError
from pneumokeras.models.efficientnet_lite import LITE_VARIANTS, efficientnet_lite
from pneumokeras.models.layers import all_layers
from pneumokeras.models.resnet18 import resnet18
from pneumokeras.models.saving import set_description

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

MIN_SIDE = 32
"""Side in pixels below which radiographs are enlarged to a backbone's own size inside the model."""

PREPROCESSINGS = ("native", "rescale")


@dataclass(frozen=True)
class Backbone:
    """A network from images to feature maps; its stages and last convolution are found by its structure.

    Attributes:
        name: its name for users.
        builder: its name in Keras or its paper; empty for a user's own network.
        expects: the input of its ImageNet weights: `"caffe"` (BGR, 0 to 255, mean subtracted), `"tf"` (-1 to
            1), `"lite"` (less 127, divided by 128), `"torch"` (RGB in [0, 1], less the mean, divided by the
            standard deviation) or `"own"` (0 to 255; the network normalizes by itself).
        image_size: side in pixels it was trained at.
        divides_by_std_twice: its ImageNet weights need a further division by the square root of the standard
            deviation after the network's own normalization. Keras inserts it only when it downloads the
            weights itself, so the same weights from a file would meet another graph.
        hub: the repository on the Hugging Face hub that has its ImageNet weights, for a network that
            `keras.applications` does not have.
        package: the package of the Python index that has its ImageNet weights, for another such network.
    """

    name: str
    builder: str
    expects: str
    image_size: int = 224
    divides_by_std_twice: bool = False
    hub: str = ""
    package: str = ""

    @property
    def published_as(self) -> str:
        """The file that holds its ImageNet weights, in words."""
        if self.package:
            return f"the .pth of {self.package}"
        return f"the model.safetensors of {self.hub}" if self.hub else "Keras' no-top .h5"


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("resnet50", "ResNet50", expects="caffe"),
        Backbone("resnet50v2", "ResNet50V2", expects="tf"),
        Backbone("efficientnetb0", "EfficientNetB0", expects="own", divides_by_std_twice=True),
        Backbone("densenet121", "DenseNet121", expects="torch"),
        Backbone("mobilenetv3small", "MobileNetV3Small", expects="own"),
        Backbone("resnet18", "ResNet18", expects="torch", hub="timm/resnet18.tv_in1k"),
        *(
            Backbone(name, name, expects="lite", image_size=variant.image_size, package=variant.package)
            for name, variant in LITE_VARIANTS.items()
        ),
    )
}
"""The backbones by name; `pneumokeras.models.registry.MODELS` lists them without TensorFlow."""


def find_backbone(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises:
        SettingsError: if there is none; the message lists the known ones.
    """
    if name not in BACKBONES:
        raise SettingsError(
            f"Unknown backbone {name!r}. Expected one of {', '.join(BACKBONES)}.", parameter="backbone"
        )
    return BACKBONES[name]


def require_preprocessing(preprocessing: str) -> None:
    """Refuse a preprocessing that does not exist.

    Raises:
        SettingsError: if it is none of `PREPROCESSINGS`.
    """
    if preprocessing not in PREPROCESSINGS:
        raise SettingsError(
            f"Unknown preprocessing {preprocessing!r}. Expected {' or '.join(PREPROCESSINGS)}.",
            parameter="preprocessing",
        )


def bare_network(backbone: Backbone, *, image_size: tuple[int, int]) -> keras.Model:
    """Build the network as it was published, without top and weights, on `(height, width, 3)` images."""
    if backbone.hub:
        return resnet18((*image_size, 3))
    if backbone.package:
        return efficientnet_lite(backbone.name, (*image_size, 3))
    builder = getattr(keras.applications, backbone.builder)
    return builder(include_top=False, weights=None, input_shape=(*image_size, 3))


def frozen_backbone(
    network: keras.Model,
    backbone: Backbone,
    *,
    input_shape: tuple[int, int, int],
    preprocessing: str = "native",
) -> keras.Model:
    """Return a flat, frozen copy of a network on raw pixels, its weights not set yet.

    Args:
        network: the result of `bare_network`, or a user's own.
        backbone: its entry in the table.
        input_shape: `(height, width, 1)` gray or `(height, width, 3)` RGB, levels 0 to 255.
        preprocessing: `"native"`, what the backbone's ImageNet weights expect, or `"rescale"`, pixels / 255.

    Returns:
        Model from `(n, height, width, 1 or 3)` to the `(n, rows, columns, channels)` feature map. Dropout
        and drop-connect have rate 0, because `fit` would apply them although nothing here is trained. The
        model's description holds their original rates.

    Raises:
        SettingsError: if a network of gray images is to take RGB.
    """
    inputs = keras.Input(input_shape, name="radiograph")
    prepared = _preprocessed(inputs, backbone, network.input_shape, preprocessing)
    names = _StableNames("" if backbone.builder else "backbone_")
    dropout = {}

    def copied(layer: keras.Layer) -> keras.Layer:
        name = names.name_of(layer)
        if getattr(layer, "rate", 0) and isinstance(layer, keras.layers.Dropout):
            dropout[name] = layer.rate
        return frozen(layer, name=name)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        args = tuple(prepared if argument is inputs else argument for argument in args)
        outputs = layer(*args, **kwargs)
        if backbone.divides_by_std_twice and isinstance(layer, keras.layers.Normalization):
            scale = [1 / math.sqrt(std) for std in IMAGENET_STD]
            outputs = keras.layers.Rescaling(scale, name="backbone_rescaling_by_std")(outputs)
        return outputs

    body = keras.models.clone_model(network, input_tensors=inputs, clone_function=copied, call_function=call)
    set_description(body, frozen_dropout=dropout)
    return body


def frozen(layer: keras.Layer, *, name: str | None = None) -> keras.Layer:
    """Return a copy of a layer, without its weights, that is not trained and drops nothing."""
    config = layer.get_config() | {"name": name or layer.name}
    if isinstance(layer, keras.layers.Dropout):
        config["rate"] = 0.0
    copy = type(layer).from_config(config)
    copy.trainable = False
    return copy


def acts_in_training(layer: keras.Layer) -> bool:
    """Return whether a layer has no weights but behaves differently in training."""
    return not layer.weights and "training" in inspect.signature(layer.call).parameters


def acting_layers(network: keras.Model) -> list[keras.Layer]:
    """Return the layers, also of nested models, that act in training, such as `RandomFlip`.

    A dropout of rate 0 does nothing.
    """
    return [
        layer
        for layer in all_layers(network)
        if not isinstance(layer, keras.Model)
        and acts_in_training(layer)
        and getattr(layer, "rate", None) != 0
    ]


class _StableNames:
    """Layer names that are the same in every build; Keras' automatic ones count the layers of the process.

    Args:
        prefix: put before the names of a user's own layers, so that none has the name of a layer of the head.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._counts: dict[str, int] = {}

    def name_of(self, layer: keras.Layer) -> str:
        """Return a layer's name; where Keras chose it, one that counts this network's layers of its kind."""
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        if not re.fullmatch(rf"{kind}(_\d+)?", layer.name):
            return f"{self._prefix}{layer.name}"
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"backbone_{kind}_{number}"


def _preprocessed(
    inputs: keras.KerasTensor,
    backbone: Backbone,
    network_shape: tuple[int | None, ...],
    preprocessing: str,
) -> keras.KerasTensor:
    """Return raw pixels resized, repeated for three channels and scaled as the network expects them."""
    tensor = inputs
    if None not in network_shape[1:3] and tuple(inputs.shape[1:3]) != tuple(network_shape[1:3]):
        tensor = keras.layers.Resizing(*network_shape[1:3], name="resize")(tensor)
    if preprocessing == "rescale":
        tensor = keras.layers.Rescaling(1 / 255, name="rescale")(tensor)
    gray = inputs.shape[-1] == 1
    if not gray and network_shape[-1] == 1:
        raise SettingsError(
            "The network takes gray images. Expected `input_shape` as (height, width, 1).",
            parameter="input_shape",
        )
    if gray and network_shape[-1] == 3:
        tensor = keras.layers.Concatenate(name="gray_to_three_channels")([tensor] * 3)
    return as_expected(tensor, backbone.expects, gray=gray) if preprocessing == "native" else tensor


def as_expected(tensor: keras.KerasTensor, expects: str, *, gray: bool) -> keras.KerasTensor:
    """Return pixels as a network's ImageNet weights expect them.

    Args:
        tensor: `(n, height, width, 3)`, 0 to 255.
        expects: as in `Backbone.expects`.
        gray: whether the three channels are the same.
    """
    if expects == "caffe":
        bgr = tensor if gray else keras.ops.flip(tensor, axis=-1)
        ones = (1.0, 1.0, 1.0)
        return keras.layers.Normalization(mean=_CAFFE_MEAN_BGR, variance=ones, name="subtract_mean")(bgr)
    if expects == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(tensor)
    if expects == "lite":
        return keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(tensor)
    if expects == "torch":
        mean = [255 * value for value in IMAGENET_MEAN]
        variance = [(255 * value) ** 2 for value in IMAGENET_STD]
        return keras.layers.Normalization(mean=mean, variance=variance, name="normalize")(tensor)
    return tensor
