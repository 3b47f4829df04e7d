"""The model contract as a file: a `.keras` that plain Keras loads, and what it says of itself."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import keras

from pneumokeras.core.errors import ModelError
from pneumokeras.core.files import replacing

MEMBER = "pneumokeras.json"


@dataclass(frozen=True)
class ModelDescription:
    """What a saved model says of itself, in the member `pneumokeras.json` of its archive.

    Attributes:
        classes: names of class 0 and class 1; the model's output is P(class 1).
        image_size: `(height, width)` of the raw gray radiographs it takes.
        architecture: `"compact-cnn"`, or the backbone's name.
        preprocessing: how the pixels are prepared inside the model.
        weights: where the backbone's weights come from.
        pad: whether radiographs are padded to the square instead of stretched.
        frozen_dropout: rates of the dropout layers inside the frozen backbone, by name; they are built with
            rate 0, and these are theirs when they are trained.
        operating_points: threshold.json's points by name.
    """

    classes: tuple[str, str] = ("NORMAL", "PNEUMONIA")
    image_size: tuple[int, int] = (224, 224)
    architecture: str = "unknown"
    preprocessing: str = "inside the model"
    weights: str = "trained from scratch"
    pad: bool = False
    frozen_dropout: Mapping[str, float] = field(default_factory=dict)
    operating_points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def began_random(self) -> bool:
        """Whether the backbone's weights are random ones, also by way of a file."""
        return self.weights.startswith("random") or "which began as random" in self.weights

    def json(self) -> dict[str, Any]:
        """As a mapping that JSON can hold."""
        known = asdict(self)
        return {
            "schema": 1,
            "version": version("pneumokeras"),
            "backbone": known.pop("architecture"),
            **known,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelDescription:
        """Read what `json` wrote; members of later versions are passed over."""
        named = {**value, "architecture": value.get("backbone", "unknown")}
        known = {name: named[name] for name in cls.__dataclass_fields__ if name in named}
        for pair in ("classes", "image_size"):
            if pair in known:
                known[pair] = tuple(known[pair])
        return cls(**known)


_descriptions: WeakKeyDictionary[keras.Model, ModelDescription] = WeakKeyDictionary()


def description_of(model: keras.Model) -> ModelDescription:
    """Return what is known of a model in memory.

    A model that pneumokeras did not make is described by the shape of its input.
    """
    known = _descriptions.get(model)
    if known is None:
        shape = model.input_shape
        sized = isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:3]
        known = ModelDescription(image_size=tuple(shape[1:3])) if sized else ModelDescription()
    return known


def set_description(model: keras.Model, **changes: Any) -> ModelDescription:
    """Note `changes`, attributes of `ModelDescription`, for a model, and return its description."""
    known = _descriptions[model] = replace(description_of(model), **changes)
    return known


def known_classes(model: keras.Model) -> tuple[str, str] | None:
    """The names of class 0 and class 1 that a model was trained on; `None` if nobody noted them."""
    known = _descriptions.get(model)
    return None if known is None else known.classes


def save_model(model: keras.Model, path: str | PathLike[str]) -> None:
    """Save a model, uncompiled and with its description, whole or not at all.

    Args:
        model: a model of this package.
        path: the `.keras` file to write.

    Raises:
        ModelError: if the name does not end in `.keras`.
    """
    if Path(path).suffix != ".keras":
        raise ModelError(f"Cannot save a model as {path}. Expected a name ending in .keras.")
    with replacing(path) as temporary:
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEMBER, json.dumps(description_of(model).json(), indent=2))


def load_model(path: str | PathLike[str]) -> keras.Model:
    """Load a `.keras` file in safe mode, and its description if it has one.

    Args:
        path: a file saved by pneumokeras, or by plain Keras.

    Returns:
        The model, uncompiled.

    Raises:
        ModelError: if there is no such file or it cannot be loaded in safe mode.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no model at {path}. Expected a .keras file or a run folder.")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        with zipfile.ZipFile(path) as archive:
            text = archive.read(MEMBER) if MEMBER in archive.namelist() else None
    except Exception as error:  # Keras raises whatever a damaged archive provokes
        raise ModelError(
            f"Cannot load {path}: {_first_line(error)}. Expected a .keras file saved by Keras 3."
        ) from error
    if text is not None:
        _descriptions[model] = ModelDescription.from_json(json.loads(text))
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
