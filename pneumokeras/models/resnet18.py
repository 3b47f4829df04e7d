"""Build ResNet-18, which `keras.applications` lacks, and read its weights as published for PyTorch.

Layers are named as PyTorch names its modules, so that a layer's name finds its tensors in a file.

Reference: He et al. (2016), Deep Residual Learning for Image Recognition, CVPR.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import keras
import numpy as np
from keras import layers
from safetensors import safe_open

from pneumokeras.models.torch_compat import batch_norm, require_tensors, torch_tensors

_HEAD = {"fc.weight", "fc.bias"}
_FLOATS = {"F16", "F32", "F64"}


def resnet18(input_shape: tuple[int, int, int]) -> keras.Model:
    """Build ResNet-18 without top and pretrained weights: 11,176,512 trainable parameters.

    Args:
        input_shape: `(height, width, 3)` of RGB normalized by ImageNet's mean and standard deviation.

    Returns:
        Model to `(n, height / 32, width / 32, 512)` feature maps, the sides rounded up.
    """
    inputs = keras.Input(input_shape, name="rgb")
    tensor = _conv(inputs, 64, size=7, stride=2, name="conv1")
    tensor = layers.ReLU(name="relu")(batch_norm("bn1")(tensor))
    tensor = layers.ZeroPadding2D(1, name="maxpool_pad")(tensor)  # after ReLU, zeros act like PyTorch's -inf
    tensor = layers.MaxPooling2D(3, strides=2, name="maxpool")(tensor)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            stride = 2 if stage > 1 and block == 0 else 1
            tensor = _basic_block(tensor, filters, stride=stride, name=f"layer{stage}.{block}")
    return keras.Model(inputs, tensor, name="resnet18")


def _basic_block(tensor: keras.KerasTensor, filters: int, *, stride: int, name: str) -> keras.KerasTensor:
    shortcut = tensor
    if stride > 1:
        shortcut = _conv(tensor, filters, size=1, stride=stride, name=f"{name}.downsample.0")
        shortcut = batch_norm(f"{name}.downsample.1")(shortcut)
    tensor = _conv(tensor, filters, size=3, stride=stride, name=f"{name}.conv1")
    tensor = layers.ReLU(name=f"{name}.relu1")(batch_norm(f"{name}.bn1")(tensor))
    tensor = _conv(tensor, filters, size=3, stride=1, name=f"{name}.conv2")
    tensor = batch_norm(f"{name}.bn2")(tensor)
    return layers.ReLU(name=f"{name}.out")(layers.Add(name=f"{name}.add")([tensor, shortcut]))


def _conv(tensor: keras.KerasTensor, filters: int, *, size: int, stride: int, name: str) -> keras.KerasTensor:
    """Apply a convolution padded equally on all sides, as in PyTorch; Keras' "same" may favor two."""
    if size > 1 and stride > 1:
        tensor = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(tensor)
    padding = "same" if stride == 1 else "valid"
    return layers.Conv2D(filters, size, strides=stride, padding=padding, use_bias=False, name=name)(tensor)


def read_safetensors(path: str | PathLike[str], network: keras.Model) -> list[np.ndarray]:
    """Read the weights of a network from a PyTorch state dict.

    Tensors are read only after all their types and shapes have been checked.

    Args:
        path: a `.safetensors` file of timm or torchvision.
        network: the result of `resnet18`.

    Returns:
        The arrays in the order of the network's weights.

    Raises:
        ValueError: if a tensor is missing, has another type or shape, or belongs to no layer.
        Exception: whatever `safetensors` raises on a damaged file or one of another format.
    """
    tensors = torch_tensors(network)
    with safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        require_tensors(
            {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}, tensors, unused=_HEAD
        )
        for name in tensors:
            if (kind := slices[name].get_dtype()) not in _FLOATS:
                raise ValueError(f"{name} holds {kind}, not floats")
        return [tensor.as_keras(file.get_tensor(name)) for name, tensor in tensors.items()]


def download(repository: str) -> Path:
    """Return the weights file of a repository of the Hugging Face hub, downloaded or from the hub's cache.

    Raises:
        Exception: whatever `huggingface_hub` raises, or ImportError if it is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ImportError("install huggingface_hub with: pip install 'pneumokeras[hub]'") from error
    return Path(hf_hub_download(repository, "model.safetensors"))
