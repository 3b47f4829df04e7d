"""Save and load a model with its description, in a `.keras` file that plain Keras loads.

The description is kept in the model itself, as the end of its input layer's name. Nothing else that can hold
text survives saving, loading with plain Keras, cloning, and a new `keras.Model` of a model's tensors.
See docs/decisions/0023-a-model-carries-its-description.md.
"""

from __future__ import annotations

import json
import logging
import zipfile
import zlib
from base64 import b32decode, b32encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any
from weakref import WeakSet

import keras

from pneumokeras.core.errors import ModelError, first_line
from pneumokeras.core.files import replacing

logger = logging.getLogger(__name__)

MEMBER = "pneumokeras.json"
_MARK = "_pneumokeras_"
_noticed: WeakSet[keras.Model] = WeakSet()
"""Models whose missing description has been logged, so that it is logged once."""


@dataclass(frozen=True)
class ModelDescription:
    """What must be known about a model to feed it and to read its output.

    Attributes:
        classes: names of class 0 and class 1; the model's output is P(class 1).
        image_size: `(height, width)` of the raw gray radiographs it takes.
        architecture: a model's name, such as `"compact-cnn"` or the backbone's.
        preprocessing: how the pixels are prepared inside the model.
        weights: where the backbone's weights come from.
        pad: whether radiographs are padded to the square instead of stretched.
        frozen_dropout: rates of the dropout layers inside the frozen backbone, by layer name. The layers are
            built with rate 0 and get these rates when they are trained.
        operating_points: the points of threshold.json, by name.
        known: false if the model carries no description; the rest is then defaults and the input's size.
    """

    classes: tuple[str, str] = ("NORMAL", "PNEUMONIA")
    image_size: tuple[int, int] = (224, 224)
    architecture: str = "unknown"
    preprocessing: str = "inside the model"
    weights: str = "trained from scratch"
    pad: bool = False
    frozen_dropout: Mapping[str, float] = field(default_factory=dict)
    operating_points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    known: bool = True

    @property
    def began_random(self) -> bool:
        """Whether the backbone's weights began as random ones, even if they come from a file."""
        return self.weights.startswith("random") or "which began as random" in self.weights

    @property
    def notice(self) -> str:
        """A warning for users of this description; empty if the model carried it."""
        if self.known:
            return ""
        height, width = self.image_size
        return (
            "The model carries no description: its radiographs are stretched to "
            f"{height} x {width} pixels, its output is read as P({self.classes[1]}), and its only threshold "
            "is 0.5. If pneumokeras saved it, load it with pneumokeras.load_model."
        )

    def json(self) -> dict[str, Any]:
        """Return the description as plain JSON, the content of `pneumokeras.json`."""
        members = asdict(self)
        del members["known"]
        return {
            "schema": 1,
            "version": version("pneumokeras"),
            "backbone": members.pop("architecture"),
            **members,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelDescription:
        """Read what `json` wrote, ignoring members that only later versions have."""
        named = {**value, "architecture": value.get("backbone", "unknown")}
        members = {each.name: named[each.name] for each in fields(cls) if each.name in named}
        for pair in ("classes", "image_size"):
            if pair in members:
                members[pair] = tuple(members[pair])
        return cls(**members)


def description_of(model: keras.Model) -> ModelDescription:
    """Return the description that a model carries.

    A model without one is described by defaults and the shape of its input, `known` is false, and a warning
    is logged once.

    Args:
        model: any Keras model.
    """
    described = _carried(model)
    if described is None:
        described = _defaults(model)
        if model not in _noticed:
            _noticed.add(model)
            logger.warning("%s", described.notice)
    return described


def set_description(model: keras.Model, **changes: Any) -> ModelDescription:
    """Change a model's description in place and return it.

    Models that share an input layer share one description.

    Args:
        model: a functional or Sequential model.
        **changes: attributes of `ModelDescription`; the others stay as they are.

    Raises:
        ModelError: if the model has no single input layer to carry a description.
    """
    layer = _input_layer(model)
    if layer is None:
        raise ModelError(
            f"{model.name} cannot carry a description. Expected a functional or Sequential Keras model with "
            "one input."
        )
    described = replace(_carried(model) or _defaults(model), **{**changes, "known": True})
    own_name = layer.name.partition(_MARK)[0]
    # The layer's name is saved; a clone takes the name of its tensor.
    layer.name = layer.output.name = f"{own_name}{_MARK}{_encoded(described)}"
    return described


def _defaults(model: keras.Model) -> ModelDescription:
    """Return the description of a model that carries none: defaults, and the size of its input."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:3]:
        return ModelDescription(image_size=(shape[1], shape[2]), known=False)
    return ModelDescription(known=False)


def _input_layer(model: keras.Model) -> keras.layers.InputLayer | None:
    """Return the input layer of a model with a graph and one input; otherwise `None`."""
    layers = model.layers
    if isinstance(model, keras.Sequential):  # does not list its input layer
        try:
            layers = keras.Model(model.inputs, model.outputs).layers
        except (AttributeError, ValueError):  # not built yet
            return None
    inputs = [layer for layer in layers if isinstance(layer, keras.layers.InputLayer)]
    return inputs[0] if len(inputs) == 1 else None


def _carried(model: keras.Model) -> ModelDescription | None:
    layer = _input_layer(model)
    _, mark, text = ("", "", "") if layer is None else layer.name.partition(_MARK)
    return _decoded(text) if mark else None


def _encoded(description: ModelDescription) -> str:
    """Return a description in letters and digits, since a SavedModel accepts no others in an input's name."""
    members = description.json()
    del members["version"]
    packed = zlib.compress(json.dumps(members, separators=(",", ":")).encode(), 9)
    return b32encode(packed).decode().rstrip("=").lower()


def _decoded(text: str) -> ModelDescription | None:
    padded = text.upper() + "=" * (-len(text) % 8)
    try:
        return ModelDescription.from_json(json.loads(zlib.decompress(b32decode(padded))))
    except (ValueError, zlib.error):  # a name that only looks like ours
        return None


def save_model(model: keras.Model, path: str | PathLike[str]) -> None:
    """Save a model uncompiled, with its description if it has one; the file is written whole or not at all.

    Args:
        model: a model of this package.
        path: the `.keras` file to write.

    Raises:
        ModelError: if the name does not end in `.keras`.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> pk.save_model(model, "copy.keras")
    """
    if Path(path).suffix != ".keras":
        raise ModelError(f"Cannot save a model as {path}. Expected a name ending in .keras.", path=path)
    with replacing(path) as temporary:
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(temporary)
        if described := _carried(model):
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(MEMBER, json.dumps(described.json(), indent=2))


def load_model(path: str | PathLike[str]) -> keras.Model:
    """Load a `.keras` file in safe mode, with its description if it has one.

    Args:
        path: a file saved by pneumokeras or by plain Keras.

    Returns:
        The model, uncompiled.

    Raises:
        ModelError: if there is no such file or it cannot be loaded in safe mode.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> model.output_shape
        (None, 1)
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no model at {path}. Expected a .keras file or a run folder.", path=path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        with zipfile.ZipFile(path) as archive:
            text = archive.read(MEMBER) if MEMBER in archive.namelist() else None
        if text is not None:  # in files of any version; the graphs of 0.1 carry no description
            set_description(model, **vars(ModelDescription.from_json(json.loads(text))))
    except Exception as error:  # Keras raises many kinds of exceptions on a damaged archive
        raise ModelError(
            f"Cannot load {path}: {first_line(error)}. Expected a .keras file saved by Keras 3.", path=path
        ) from error
    return model
