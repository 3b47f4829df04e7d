"""Recognize a HyperModel: what is searched, what tells it from another, and whether it keeps the contract."""

from __future__ import annotations

import copy
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from os import PathLike, fspath
from types import FunctionType, MethodType
from typing import Any

import keras
import keras_tuner
import numpy as np

from pneumokeras.core.code import hash_of_code
from pneumokeras.core.errors import ModelError, PneumokerasError, SettingsError, TuningError, first_line
from pneumokeras.models.backbones import acting_layers
from pneumokeras.models.contract import require_compiled, require_contract, require_same_model
from pneumokeras.models.layers import own_layer_classes
from pneumokeras.models.parts import cut
from pneumokeras.models.saving import own_name
from pneumokeras.training.callbacks import require_settable_rate
from pneumokeras.training.loop import set_seed
from pneumokeras.training.pipeline import HyperModel
from pneumokeras.training.settings import SearchSettings

logger = logging.getLogger(__name__)

_ON_FEATURES = ("feature_extractor", "build_head", "assemble")
"""The methods by which a HyperModel is searched on stored features."""


def recognized(hypermodel: Any, settings: SearchSettings) -> tuple[HyperModel, dict[str, Any]]:
    """Return a HyperModel as it is searched, and what a run records of it.

    A HyperModel of this package is known by its settings. A user's own is built once, at its default
    hyperparameters: the model is checked against the model contract, saved and loaded again. Its class, and
    hashes of its code, graph, loss, optimizer, search space and initial weights tell it from others.

    Args:
        hypermodel: a HyperModel, or a function `build(hp)`. Without `input_shape` it has that of the model it
            builds; without `settings`, or a `model` in them, its own name is recorded.
        settings: of the search.

    Raises:
        ModelError: if it is none of these, or what it builds does not keep the model contract.
        SettingsError: if its settings are no JSON, or have names that `tune` records itself.
        TuningError: if it cannot be built.
    """
    kind = type(hypermodel)
    if kind.__module__.partition(".")[0] == "pneumokeras" and not _replaced_methods(hypermodel):
        return hypermodel, _settings_of(hypermodel, kind.__qualname__)
    own = _as_hypermodel(hypermodel)
    set_seed(int(settings.seed))  # the same initial weights at every call
    hp = keras_tuner.HyperParameters()
    models = _default_models(own, hp)
    full = _require_searchable(own, models, hp, settings)
    named = hypermodel if hasattr(hypermodel, "__qualname__") else kind
    recorded = {
        "model": re.sub(r"[^\w.-]+", "-", getattr(own, "name", None) or named.__name__).strip("-"),
        **_settings_of(own, named.__qualname__),
    }
    identity = {
        "hypermodel": f"{named.__module__}.{named.__qualname__}",
        "graph": _hash_of_graphs(models, hp),
        "code": _hash_of_code(hypermodel, models),
    }
    if not hasattr(own, "calibrate"):  # which sets weights later, and only once
        identity["initial_weights"] = _hash_of_weights(models)
    if clashes := sorted({*recorded} & {*settings.record({}), *identity}):
        raise SettingsError(
            f"The settings of {named.__qualname__} have names that `tune` records itself: "
            f"{', '.join(clashes)}. Rename them.",
            parameter="hypermodel",
        )
    for name, value in (("input_shape", tuple(full.input_shape[1:])), ("settings", recorded)):
        if not hasattr(own, name):
            setattr(own, name, value)
    return own, recorded | identity


def builds_its_head(hypermodel: Any) -> bool:
    """Return whether `build` ends in the head of `build_head`: false if only `build` was overridden."""
    replaced = _replaced_methods(hypermodel)
    if replaced.keys() & {"build", "build_head"}:
        return "build_head" in replaced
    homes = {
        name: next(place for place, kind in enumerate(type(hypermodel).__mro__) if name in vars(kind))
        for name in ("build", "build_head")
    }
    return homes["build_head"] <= homes["build"]


def _replaced_methods(hypermodel: Any) -> dict[str, Any]:
    """Return the methods that were replaced on this very object, by name."""
    kind = type(hypermodel)

    def is_own(method: Any) -> bool:  # Keras Tuner keeps a method of the class there, or of what was copied
        return isinstance(method, MethodType) and type(method.__self__) is kind

    return {
        name: value
        for name, value in getattr(hypermodel, "__dict__", {}).items()
        if not name.startswith("_") and callable(value) and hasattr(kind, name) and not is_own(value)
    }


class _FunctionHyperModel(keras_tuner.HyperModel):
    """A function `build(hp)` as a HyperModel."""

    def __init__(self, function: Callable[[keras_tuner.HyperParameters], keras.Model]):
        self.function = function
        super().__init__()

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return what the function returns."""
        return self.function(hp)


def _as_hypermodel(hypermodel: Any) -> Any:
    """Return a user's HyperModel, or a copy of it to which what it lacks can be added.

    Raises:
        ModelError: if it is none, or overrides a method that is never called.
    """
    if isinstance(hypermodel, keras.Model):
        raise ModelError(
            f"Expected a HyperModel or a function build(hp). Received the model {own_name(hypermodel)}. "
            "Train it with pneumokeras.fit, or search a head on it with TransferHyperModel(network).",
            parameter="hypermodel",
        )
    if isinstance(hypermodel, type):
        name = hypermodel.__name__
        raise ModelError(
            f"Expected a HyperModel. Received the class {name}: pass {name}(...).", parameter="hypermodel"
        )
    if not hasattr(hypermodel, "build"):
        if not callable(hypermodel):
            raise ModelError(
                f"Expected a HyperModel or a function build(hp). Received {type(hypermodel).__name__}.",
                parameter="hypermodel",
            )
        return _FunctionHyperModel(hypermodel)
    for name in ("fit", "declare_hyperparameters"):
        if getattr(type(hypermodel), name, None) not in (None, getattr(keras_tuner.HyperModel, name)):
            raise ModelError(
                f"{type(hypermodel).__name__} overrides `{name}`, which `tune` does not call. Draw what is "
                "searched in `build(hp)`, choose batch sizes with `batch_size=(16, 32)`, and leave it out. "
                "Or search with Keras Tuner itself, on a RadiographLoader.",
                parameter="hypermodel",
            )
    if hasattr(hypermodel, "input_shape") and hasattr(hypermodel, "settings"):
        return hypermodel
    own = copy.copy(hypermodel)
    if isinstance(own, keras_tuner.HyperModel) and "build" not in _replaced_methods(own):
        vars(own).pop("build", None)  # Keras Tuner keeps a method there that is bound to the original
    return own


def _default_models(own: Any, hp: keras_tuner.HyperParameters) -> list[keras.Model]:
    """Return what trials are made of by default hyperparameters: one model, or frozen network and head."""
    on_features = all(hasattr(own, name) for name in _ON_FEATURES) and builds_its_head(own)
    with _building():
        return [own.feature_extractor(), own.build_head(hp)] if on_features else [own.build(hp)]


def _require_searchable(
    own: Any, models: Sequence[keras.Model], hp: keras_tuner.HyperParameters, settings: SearchSettings
) -> keras.Model:
    """Return the full model of a HyperModel.

    Raises:
        ModelError: if it does not keep the model contract, or cannot be trained as the settings say.
    """
    full = compiled = models[-1]
    if len(models) > 1:
        with _building():
            full = own.assemble(hp, compiled)
    require_contract(full, input_shape=getattr(own, "input_shape", None))
    require_compiled(compiled)
    if len(models) > 1:
        extractor, head = models
        require_same_model(extractor, head, full)
        if acting := acting_layers(extractor):
            raise ModelError(
                f"feature_extractor holds {type(acting[0]).__name__} {acting[0].name!r}, which acts in "
                "training, but its features are computed once. Leave it out; a `generator` augments.",
                parameter="hypermodel",
            )
    require_settable_rate(compiled, settings.fit.schedule)
    for stage in settings.fine_tune:
        cut(full, stage.trainable)
    for layer in full.layers:
        if isinstance(layer, keras.Model) and layer.weights and not layer.trainable_weights:
            logger.warning(
                "The frozen %s runs anew in every epoch. TransferHyperModel(%s) runs it once for each view "
                "and searches a head on its stored features.",
                own_name(layer),
                own_name(layer),
            )
    return full


@contextmanager
def _building() -> Iterator[None]:
    """Turn what a user's code raises into one line; silence the notice of weights not calibrated yet."""
    notices = logging.getLogger("pneumokeras.models.hypermodels")
    before, notices.disabled = notices.disabled, True
    try:
        yield
    except PneumokerasError:
        raise
    except Exception as error:
        raise TuningError(
            f"The HyperModel cannot be built: {type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        notices.disabled = before


def _hash_of_graphs(models: Sequence[keras.Model], hp: keras_tuner.HyperParameters) -> str:
    configs = [
        [_config_of(model), model.get_compile_config() if model.compiled else None] for model in models
    ]
    text = json.dumps([_without_names(configs), hp.get_config()], sort_keys=True, default=repr)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _hash_of_code(hypermodel: Any, models: Sequence[keras.Model]) -> str:
    """Return a hash of the code that no config holds: the HyperModel's, and that of a user's layers."""
    own = hypermodel if isinstance(hypermodel, FunctionType) else type(hypermodel)
    return hash_of_code(own, _replaced_methods(hypermodel), *map(own_layer_classes, models))


def _hash_of_weights(models: Sequence[keras.Model]) -> str:
    digest = blake2b(digest_size=8)
    for model in models:
        for array in model.get_weights():
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _settings_of(hypermodel: Any, name: str) -> dict[str, Any]:
    """Return the settings of a HyperModel as they come back from run.json; none if it has none.

    Raises:
        SettingsError: if they are no dictionary, or JSON cannot hold them.
    """
    settings = getattr(hypermodel, "settings", {})
    if not isinstance(settings, Mapping):
        raise _no_json(name, settings)
    return _as_json(settings, name)


def _as_json(value: Any, name: str) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, PathLike):
        value = fspath(value)
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [_as_json(each, name) for each in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _as_json(each, name) for key, each in value.items()}
    raise _no_json(name, value)


def _no_json(name: str, value: Any) -> SettingsError:
    return SettingsError(
        f"The settings of {name} hold {value!r}. Expected a dictionary of texts, finite numbers, lists and "
        "dictionaries.",
        parameter="hypermodel",
    )


def _config_of(model: keras.Model) -> Any:
    try:
        return model.get_config()
    except NotImplementedError:  # a subclassed model: only its weights' shapes can be seen
        return [list(weight.shape) for weight in model.weights]


def _without_names(config: Any) -> Any:
    """Return a model's config with its names numbered in order: automatic ones differ between two builds."""
    numbers: dict[str, str] = {}

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            if isinstance(name := value.get("name"), str):
                numbers.setdefault(name, f"#{len(numbers)}")
            for part in value.values():
                collect(part)
        elif isinstance(value, list | tuple):
            for part in value:
                collect(part)

    def renamed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: renamed(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [renamed(part) for part in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    collect(config)
    return renamed(config)
