"""What tells one HyperModel from another, so that no run is taken for another's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import keras
import keras_tuner

from pneumokeras.core.errors import PneumokerasError, TuningError, first_line
from pneumokeras.training.pipeline import FeatureHyperModel


def identity_of(hypermodel: Any) -> dict[str, str]:
    """Return the class of a user's own HyperModel and a hash of what it builds, for a run's settings.

    The hash is of graph, loss, optimizer and search space at the default hyperparameters. The HyperModels of
    this package have none of it: their settings say everything.

    Args:
        hypermodel: a HyperModel, also a subclass of one of ours.

    Raises:
        TuningError: if it cannot be built.
    """
    kind = type(hypermodel)
    if kind.__module__.partition(".")[0] == "pneumokeras":
        return {}
    hp = keras_tuner.HyperParameters()
    try:
        models = _default_models(hypermodel, hp)
    except PneumokerasError:
        raise
    except Exception as error:
        raise TuningError(
            f"The HyperModel cannot be built: {type(error).__name__}: {first_line(error)}"
        ) from error
    configs = [
        [_config_of(model), model.get_compile_config() if model.compiled else None] for model in models
    ]
    built = [_without_names(configs), hp.get_config()]
    text = json.dumps(built, sort_keys=True, default=repr)
    return {
        "hypermodel": f"{kind.__module__}.{kind.__qualname__}",
        "graph": blake2b(text.encode(), digest_size=8).hexdigest(),
    }


def _default_models(hypermodel: Any, hp: keras_tuner.HyperParameters) -> list[keras.Model]:
    """Return what trials are made of at the default hyperparameters."""
    if isinstance(hypermodel, FeatureHyperModel) and builds_its_head(hypermodel):
        return [hypermodel.feature_extractor(), hypermodel.build_head(hp)]
    return [hypermodel.build(hp)]


def builds_its_head(hypermodel: Any) -> bool:
    """Return whether `build` ends in the head of `build_head`: false if only `build` was overridden."""
    homes = {
        name: next(place for place, kind in enumerate(type(hypermodel).__mro__) if name in vars(kind))
        for name in ("build", "build_head")
    }
    return homes["build_head"] <= homes["build"]


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
