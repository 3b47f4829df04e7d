"""Save and load a model with its description, in a `.keras` file that plain Keras loads.

The description is kept in the model itself, as the end of the model's name, which survives saving, loading
with plain Keras, and cloning. See docs/decisions/0023-a-model-carries-its-description.md.
"""

from __future__ import annotations

import pneumokeras.models.on_tensorflow  # noqa: F401

# isort: split

import json
import logging
import zipfile
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from weakref import WeakSet

import keras

from pneumokeras.core.arguments import path_of
from pneumokeras.core.errors import ModelError, first_line
from pneumokeras.core.files import read_json, replacing, runs_in
from pneumokeras.core.words import some_names

logger = logging.getLogger(__name__)

MEMBER = "pneumokeras.json"
IN_RUN_FOLDER = "model.keras"
_MARK = "_pneumokeras_"
_MOST_BYTES = 100_000
"""Longest description that is read from a name, so that no file can ask for more memory."""


class HasModel(Protocol):
    """The result of a run or a fit."""

    model: keras.Model


ModelSource: TypeAlias = keras.Model | HasModel | str | PathLike[str]
"""What `model_of` takes."""

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
        classes_known: false if nobody said what the classes are, as for a HyperModel's model that plain Keras
            trained; `classes` is then a default.
        bits: depth that images of more than eight bits were reduced by in training; `None` without any.
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
    classes_known: bool = True
    bits: int | None = None

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
        left_out = {"known", "classes_known"} | (set() if self.classes_known else {"classes"})
        left_out |= {"bits"} if self.bits is None else set()
        members = {name: value for name, value in asdict(self).items() if name not in left_out}
        return {
            "schema": 1,
            "version": version("pneumokeras"),
            "backbone": members.pop("architecture"),
            **members,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelDescription:
        """Read what `json` wrote, ignoring members that only later versions have.

        Raises:
            ValueError: if a member is not of its kind.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"Expected a description, an object of JSON. Received {value!r}.")
        named = {**value, "architecture": value.get("backbone", "unknown")}
        members = {each.name: named[each.name] for each in fields(cls) if each.name in named}
        for name, (is_right, expected) in _MEMBERS.items():
            if name in members and not is_right(members[name]):
                raise ValueError(f"Expected {name} as {expected}. Received {members[name]!r}.")
        for pair in ("classes", "image_size"):
            if pair in members:
                members[pair] = tuple(members[pair])
        return cls(**members, classes_known="classes" in members)


def _is_pair(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and [type(each) for each in value] == [kind, kind]


def _is_mapping_to(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(isinstance(each, kinds) for each in value.values())


def _is_a(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


_MEMBERS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "classes": (_is_pair(str), "two names"),
    "image_size": (_is_pair(int), "height and width"),
    "architecture": (_is_a(str), "text"),
    "preprocessing": (_is_a(str), "text"),
    "weights": (_is_a(str), "text"),
    "pad": (_is_a(bool), "true or false"),
    "bits": (lambda value: type(value) is int and 8 <= value <= 16, "a number from 8 to 16"),
    "frozen_dropout": (_is_mapping_to(int, float), "rates by layer name"),
    "operating_points": (_is_mapping_to(dict), "operating points by name"),
    "known": (lambda value: False, "no member"),
    "classes_known": (lambda value: False, "no member"),
}
"""For each member of a description in JSON, whether a value is of its kind, and that kind in words."""


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

    The model's name gets another end; its own name stays in front (`own_name`).

    Args:
        model: any Keras model.
        **changes: attributes of `ModelDescription`; the others stay as they are. Classes that are set are
            known from then on.
    """
    before = _carried(model) or _defaults(model)
    said = {"classes_known": before.classes_known or "classes" in changes}
    described = replace(before, **said | changes | {"known": True})
    model.name = f"{own_name(model)}{_MARK}{_encoded(described)}"
    return described


def own_name(model: keras.Model) -> str:
    """Return a model's name without the description at its end."""
    own, mark, text = model.name.rpartition(_MARK)
    return own if mark and _decoded(text) else model.name


def _defaults(model: keras.Model) -> ModelDescription:
    """Return the description of a model that carries none: defaults, and the size of its input."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:3]:
        return ModelDescription(image_size=(shape[1], shape[2]), known=False, classes_known=False)
    return ModelDescription(known=False, classes_known=False)


def _carried(model: keras.Model) -> ModelDescription | None:
    _, mark, text = model.name.rpartition(_MARK)
    return _decoded(text) if mark else None


_TYPICAL = (
    b'"weights":"imagenet""random, calibrated""own""policy":"sensitivity""youden""fixed"'
    b"trained end to end on these radiographs, from resnet50 resnet18 densenet121 efficientnetb0 "
    b"mobilenetv3small efficientnetlite0"
    b'"preprocessing":"native""rescale""pixels / 255"'
    b'{"schema":1,"backbone":"compact-cnn","classes":["NORMAL","PNEUMONIA"],"image_size":[224,224],'
    b'"preprocessing":"pixels / 127.5 - 1","weights":"trained from scratch","pad":false,"frozen_dropout":{},'
    b'"operating_points":{"default":{"threshold":0.5,"chosen_on":"fixed"},"validation":{"threshold":0.4,'
    b'"chosen_on":"val","policy":"balanced_accuracy","sensitivity_floor":0.95,"images":24}}}'
)
"""What descriptions have in common, for zlib: a typical one takes 60 letters. It is part of the format."""


def _encoded(description: ModelDescription) -> str:
    """Return a description in letters, digits, `-` and `_`: others are not allowed in names of TensorFlow."""
    members = description.json()
    del members["version"]
    packer = zlib.compressobj(9, wbits=-15, zdict=_TYPICAL)
    packed = packer.compress(json.dumps(members, separators=(",", ":")).encode()) + packer.flush()
    return urlsafe_b64encode(packed).decode().rstrip("=")


def _decoded(text: str) -> ModelDescription | None:
    """Return the description in the end of a name; `None` if the name only looks like one of ours."""
    unpacker = zlib.decompressobj(wbits=-15, zdict=_TYPICAL)
    try:
        packed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return ModelDescription.from_json(json.loads(unpacker.decompress(packed, _MOST_BYTES)))
    except (ValueError, RecursionError, zlib.error):
        return None


def save_model(model: ModelSource, path: str | PathLike[str]) -> None:
    """Save a model uncompiled, with its description if it has one; the file is written whole or not at all.

    Args:
        model: a model of this package, or a finished run.
        path: the `.keras` file to write.

    Raises:
        ModelError: if the name does not end in `.keras`, or the model has no graph from one input to one
            output.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> pk.save_model(model, "copy.keras")
    """
    model = model_of(model)
    if Path(path).suffix != ".keras":
        raise ModelError(f"Cannot save a model as {path}. Expected a name ending in .keras.", path=path)
    try:
        (inputs,), (outputs,) = model.inputs, model.outputs
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"Cannot save {own_name(model)}. Expected a functional or Sequential model with one input and "
            "one output.",
            path=path,
        ) from error
    with replacing(path) as temporary:
        keras.Model(inputs, outputs, name=model.name).save(temporary)
        if described := _carried(model):
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(MEMBER, json.dumps(described.json(), indent=2))


def load_model(path: str | PathLike[str]) -> keras.Model:
    """Load a `.keras` file in safe mode, with its description if it has one.

    Args:
        path: a file saved by pneumokeras or by plain Keras, or a run folder.

    Returns:
        The model, uncompiled.

    Raises:
        SettingsError: if this is no path.
        ModelError: if there is no such file or it cannot be loaded in safe mode.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> model.output_shape
        (None, 1)
    """
    path = path_of("path", path)
    if path.is_dir():
        path /= IN_RUN_FOLDER
    if not path.is_file():
        raise ModelError(_why_no_model(path), path=path)
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


def _why_no_model(path: Path) -> str:
    """Say what there is instead of a model at a path, which is that of `model.keras` in a folder."""
    folder = path.parent
    if path.name == IN_RUN_FOLDER:
        with suppress(OSError, ValueError, LookupError, TypeError):  # there is no run, or it is damaged
            if (status := read_json(folder / "run.json")["status"]) != "finished":
                return (
                    f"There is no model at {path}: the run is not finished (status {status}). "
                    "Repeat its command to resume it."
                )
        if runs := runs_in(folder):
            return f"{folder} is a folder of runs ({some_names(runs)}). Name one of them."
    return f"There is no model at {path}. Expected a .keras file or a run folder."


def model_of(source: ModelSource) -> keras.Model:
    """Return a model as it is, that of a finished run or fit, or the one at a path.

    Args:
        source: a Keras model, what `tune`, `train`, `fit` or `load_run` returned, a `.keras` file, or a run
            folder.

    Raises:
        ModelError: if it is nothing of the kind, or cannot be loaded.
    """
    for model in (source, getattr(source, "model", None)):
        if isinstance(model, keras.Model):
            return model
    if isinstance(source, str | PathLike):
        return load_model(source)
    raise ModelError(
        f"Expected a Keras model, a finished run, or the path of one. Received {type(source).__name__}.",
        parameter="model",
    )
