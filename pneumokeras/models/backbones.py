"""The table of backbones, and how one becomes part of a flat graph on raw gray pixels.

Each is a `keras.applications` network without its top, or our own ResNet-18. It is built without weights,
copied layer by layer onto our input with its right preprocessing in front, and then given its weights in
order: ImageNet's, those of a file, or random ones. So all three meet the same graph.
"""

from __future__ import annotations

import inspect
import math
import re
import zipfile
from dataclasses import dataclass
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import ModelError
from pneumokeras.models.resnet18 import download, read_safetensors, resnet18
from pneumokeras.models.saving import description_of, load_model, set_description

_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
_IMAGENET_STD = (0.229, 0.224, 0.225)
MIN_SIDE = 32

PREPROCESSINGS = ("native", "rescale")


@dataclass(frozen=True)
class Backbone:
    """A network from images to feature maps; its stages and last convolution are found by its structure.

    Attributes:
        name: how users call it.
        builder: what Keras or its authors call it; empty for a user's own network.
        expects: what its ImageNet weights expect: `"caffe"` (BGR, 0..255, mean subtracted), `"tf"`
            (-1..1), `"torch"` (RGB in [0, 1] less the mean, by the standard deviation) or `"own"` (0..255;
            the network normalises by itself).
        image_size: side in pixels it was trained at.
        divides_by_std_twice: its ImageNet weights need a further division by the root of the standard
            deviation after the network's own normalization. Keras inserts it only when it downloads the
            weights itself, so the same weights from a file would meet another graph.
        hub: the repository on the Hugging Face hub that has its ImageNet weights, for a network that
            `keras.applications` does not have.
    """

    name: str
    builder: str
    expects: str
    image_size: int = 224
    divides_by_std_twice: bool = False
    hub: str = ""

    @property
    def published_as(self) -> str:
        """The file that holds its ImageNet weights."""
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
    )
}


def find_backbone(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        ModelError: if there is none; the message lists what there is.
    """
    if name not in BACKBONES:
        raise ModelError(f"Unknown backbone {name!r}. Expected one of {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def own_backbone(network: keras.Model) -> tuple[Backbone, keras.Model]:
    """A user's own network as a backbone: an entry for it, and the network as one flat graph.

    Args:
        network: any functional or Sequential model, nested or not, from `(n, height, width, 1 or 3)` raw
            pixels to a feature map.

    Raises:
        ModelError: if it is not such a model, or holds layers that plain Keras cannot load.
    """
    try:
        (inputs,), (outputs,) = network.inputs, network.outputs
        flat = keras.Model(inputs, outputs, name=network.name)
        while any(isinstance(layer, keras.Model) for layer in flat.layers):
            flat = _one_level_flatter(flat)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{network.name} cannot be built on. Expected a functional or Sequential Keras model with one "
            "input and one output."
        ) from error
    shapes = flat.input_shape, flat.output_shape
    if not all(isinstance(shape, tuple) and len(shape) == 4 for shape in shapes) or shapes[0][-1] not in (
        1,
        3,
    ):
        raise ModelError(
            "Expected a network from (n, height, width, 1 or 3) to a feature map (n, rows, columns, "
            "channels). "
            f"{network.name} goes from {shapes[0]} to {shapes[1]}: leave its pooling and head out."
        )
    for layer in flat.layers:
        what = f"{network.name} holds {type(layer).__name__} {layer.name!r}"
        if not _loads_in_plain_keras(layer):
            raise ModelError(
                f"{what}, which plain Keras cannot load. Expected built-in layers and keras.ops only."
            )
        if acts_in_training(layer) and not isinstance(layer, keras.layers.Dropout):
            raise ModelError(
                f"{what}, which acts in training, but a backbone is frozen. Leave it out: loaders augment."
            )
    sides = [side for side in flat.input_shape[1:3] if side]
    return Backbone(network.name, "", expects="own", image_size=max(sides, default=224)), flat


def _one_level_flatter(network: keras.Model) -> keras.Model:
    """The same network, with the layers of nested models copied and called one by one."""

    def unfolded(layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, keras.Model):
            return layer
        copy = keras.models.clone_model(
            layer,
            clone_function=lambda inner: type(inner).from_config(
                inner.get_config() | {"name": f"{layer.name}_{inner.name}"}
            ),
        )
        set_weights(copy, layer.get_weights())
        return copy

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return layer.call(*args) if isinstance(layer, keras.Model) else layer(*args, **kwargs)

    return keras.models.clone_model(network, clone_function=unfolded, call_function=call)


def _loads_in_plain_keras(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.layers.Lambda) or not type(layer).__module__.startswith("keras."):
        return False
    try:
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer), safe_mode=True)
    except (TypeError, ValueError):  # a Python function as activation, for one
        return False
    return True


def bare_network(backbone: Backbone, *, image_size: tuple[int, int]) -> keras.Model:
    """The network as it was published, without its top and its weights, on `(height, width, 3)`."""
    if backbone.hub:
        return resnet18((*image_size, 3))
    builder = getattr(keras.applications, backbone.builder)
    return builder(include_top=False, weights=None, input_shape=(*image_size, 3))


def frozen_backbone(
    network: keras.Model,
    backbone: Backbone,
    *,
    input_shape: tuple[int, int, int],
    preprocessing: str = "native",
) -> keras.Model:
    """A flat, frozen copy of a network on raw pixels.

    Args:
        network: what `bare_network` built.
        backbone: its entry in the table.
        input_shape: `(height, width, 1)` gray, or `(height, width, 3)` RGB, gray levels 0 to 255.
        preprocessing: `"native"`, what the backbone's ImageNet weights expect, or `"rescale"`, pixels / 255.

    Returns:
        Model from `(n, height, width, 1 or 3)` to the `(n, rows, columns, channels)` feature map. Dropout
        and drop-connect have rate 0: they would act in `fit` although nothing here is trained. Its
        description holds the rates they had.
    """
    inputs = keras.Input(input_shape, name="radiograph")
    prepared = _preprocessed(inputs, backbone, network.input_shape, preprocessing)
    names = _LayerNames("" if backbone.builder else "backbone_")
    dropout = {}

    def copied(layer: keras.Layer) -> keras.Layer:
        name = names.lasting(layer)
        if getattr(layer, "rate", 0) and isinstance(layer, keras.layers.Dropout):
            dropout[name] = layer.rate
        return frozen(layer, name=name)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        args = tuple(prepared if argument is inputs else argument for argument in args)
        outputs = layer(*args, **kwargs)
        if backbone.divides_by_std_twice and isinstance(layer, keras.layers.Normalization):
            scale = [1 / math.sqrt(std) for std in _IMAGENET_STD]
            outputs = keras.layers.Rescaling(scale, name="backbone_rescaling_by_std")(outputs)
        return outputs

    body = keras.models.clone_model(network, input_tensors=inputs, clone_function=copied, call_function=call)
    set_description(body, frozen_dropout=dropout)
    return body


def frozen(layer: keras.Layer, *, name: str | None = None) -> keras.Layer:
    """A copy of a layer, without its weights, that never trains and never drops anything."""
    config = layer.get_config() | {"name": name or layer.name}
    if isinstance(layer, keras.layers.Dropout):
        config["rate"] = 0.0
    copy = type(layer).from_config(config)
    copy.trainable = False
    return copy


def acts_in_training(layer: keras.Layer) -> bool:
    """Whether a layer without weights does something in training that it does not do afterwards."""
    return not layer.weights and "training" in inspect.signature(layer.call).parameters


class _LayerNames:
    """Names that two builds agree on: Keras' automatic ones count every layer of the process.

    The layers of a user's own network get a prefix, so that they cannot be called as the head's are.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._counts: dict[str, int] = {}

    def lasting(self, layer: keras.Layer) -> str:
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
    if preprocessing not in PREPROCESSINGS:
        raise ModelError(f"Unknown preprocessing {preprocessing!r}. Expected {' or '.join(PREPROCESSINGS)}.")
    tensor = inputs
    if None not in network_shape[1:3] and tuple(inputs.shape[1:3]) != tuple(network_shape[1:3]):
        tensor = keras.layers.Resizing(*network_shape[1:3], name="resize")(tensor)
    if preprocessing == "rescale":
        tensor = keras.layers.Rescaling(1 / 255, name="rescale")(tensor)
    gray = inputs.shape[-1] == 1
    if not gray and network_shape[-1] == 1:
        raise ModelError("The network takes gray images. Expected input_shape (height, width, 1).")
    if gray and network_shape[-1] == 3:
        tensor = keras.layers.Concatenate(name="gray_to_three_channels")([tensor] * 3)
    return as_expected(tensor, backbone.expects, gray=gray) if preprocessing == "native" else tensor


def as_expected(tensor: keras.KerasTensor, expects: str, *, gray: bool) -> keras.KerasTensor:
    """Pixels 0 to 255 as a network's ImageNet weights expect them.

    Args:
        tensor: `(n, height, width, 3)`.
        expects: as in `Backbone.expects`.
        gray: whether the three channels are the same.
    """
    if expects == "caffe":
        bgr = tensor if gray else keras.ops.flip(tensor, axis=-1)
        ones = (1.0, 1.0, 1.0)
        return keras.layers.Normalization(mean=_CAFFE_MEAN_BGR, variance=ones, name="subtract_mean")(bgr)
    if expects == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(tensor)
    if expects == "torch":
        mean = [255 * value for value in _IMAGENET_MEAN]
        variance = [(255 * value) ** 2 for value in _IMAGENET_STD]
        return keras.layers.Normalization(mean=mean, variance=variance, name="normalize")(tensor)
    return tensor


def load_weights(
    network: keras.Model, backbone: Backbone, weights: str | PathLike[str]
) -> tuple[list[np.ndarray], str]:
    """The weights of a backbone, in the order of its layers.

    Args:
        network: what `bare_network` built, without weights.
        backbone: its entry in the table.
        weights: `"imagenet"`, `"none"`, or a file: a Keras-applications no-top `.h5`, for ResNet-18 timm's
            or torchvision's `.safetensors`, or a `.keras` of pneumokeras with the same backbone.

    Returns:
        The arrays, and where they come from, to be written down.

    Raises:
        ModelError: if the download fails, or the file is missing or holds another network's weights.
    """
    if weights == "none":
        return random_weights(network, seed=0), "random"
    if weights == "imagenet":
        return _imagenet_weights(network, backbone), "imagenet"
    path, identity = Path(weights), identify_weights(weights)
    if path.suffix != ".keras":
        return _published_weights(path, network, backbone), identity
    arrays, origin = _weights_of_keras_file(path, network, backbone)
    return arrays, f"{identity}, which began as {origin}"


def identify_weights(weights: str | PathLike[str]) -> str:
    """`"imagenet"`, `"none"`, or a file's name with a hash of its content.

    Raises:
        ModelError: if there is no such file.
    """
    if weights in ("imagenet", "none"):
        return str(weights)
    path = Path(weights)
    if not path.is_file():
        raise ModelError(
            f"There is no weights file {path}. Expected imagenet, none, or a .h5, .safetensors or "
            ".keras file."
        )
    return f"file {path.name} ({blake2b(path.read_bytes(), digest_size=8).hexdigest()})"


def random_weights(network: keras.Model, *, seed: int) -> list[np.ndarray]:
    """Weights drawn by He's rule from a seed, the same on any machine; He et al. (2015), ICCV."""
    rng = np.random.default_rng(seed)
    arrays = []
    for variable in network.weights:
        value = variable.numpy()
        if variable.name.endswith("kernel"):
            depthwise = "depthwise" in variable.path
            fan_in = math.prod(value.shape[:2]) if depthwise else math.prod(value.shape[:-1])
            value = rng.normal(0, math.sqrt(2 / fan_in), value.shape).astype(value.dtype)
        elif "normalization" in variable.path and variable.name == "mean":
            value = np.asarray(_IMAGENET_MEAN, value.dtype)
        elif "normalization" in variable.path and variable.name == "variance":
            value = np.asarray(_IMAGENET_STD, value.dtype)
        arrays.append(value)
    return arrays


def _imagenet_weights(network: keras.Model, backbone: Backbone) -> list[np.ndarray]:
    try:
        if backbone.hub:
            return read_safetensors(download(backbone.hub), network)
        builder = getattr(keras.applications, backbone.builder)
        shape = network.input_shape[1:]
        return builder(include_top=False, weights="imagenet", input_shape=shape).get_weights()
    except Exception as error:  # Keras' download raises a bare Exception
        reason = str(error) if isinstance(error, ImportError) else "is this machine offline?"
        raise ModelError(
            f"Cannot download the ImageNet weights of {backbone.builder} ({reason}). "
            f"Bring them with --weights FILE ({backbone.published_as}), or use random ones with "
            "--weights none."
        ) from error


def _published_weights(path: Path, network: keras.Model, backbone: Backbone) -> list[np.ndarray]:
    read = read_safetensors if path.suffix == ".safetensors" else _weights_of_h5
    try:
        return read(path, network)
    except Exception as error:  # h5py, Keras and safetensors raise whatever a foreign file provokes
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{path} does not hold the weights of {network.name} without its top ({reason}). "
            f"Expected {backbone.published_as}."
        ) from error


def _weights_of_h5(path: Path, network: keras.Model) -> list[np.ndarray]:
    scratch = keras.models.clone_model(network)
    scratch.load_weights(path)
    return scratch.get_weights()


def _weights_of_keras_file(
    path: Path, network: keras.Model, backbone: Backbone
) -> tuple[list[np.ndarray], str]:
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path} is no .keras archive. Expected a model saved by pneumokeras.")
    model = load_model(path)
    architecture = description_of(model).architecture
    if architecture != backbone.name:
        raise ModelError(
            f"{path} holds {architecture}, not {backbone.name}. Expected a model with the same backbone."
        )
    return model.get_weights()[: len(network.weights)], description_of(model).weights


def set_weights(network: keras.Model, arrays: list[np.ndarray]) -> None:
    """Give a network its weights in order, so that they take effect.

    Raises:
        ModelError: if they do not fit the network's one by one.
    """
    if [tuple(variable.shape) for variable in network.weights] != [array.shape for array in arrays]:
        raise ModelError(
            f"The weights do not fit {network.name}: expected {len(network.weights)} arrays of its shapes."
        )
    network.set_weights(arrays)
    for layer in network.layers:
        # Normalization goes on using the mean and variance it was built with until it is told.
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
