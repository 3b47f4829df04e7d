"""Everything that determines a training except the data and the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from inspect import signature
from typing import Any

from pneumokeras.core.arguments import is_number, whole
from pneumokeras.core.errors import SettingsError
from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.data.dataset import CLASS_NAMES
from pneumokeras.evaluation import BalancedAccuracy, ThresholdPolicy
from pneumokeras.models.reference_cnns import REFERENCE_CNNS
from pneumokeras.models.registry import COMPACT_CNN, MODELS
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.settings import (
    BatchSettings,
    FitSettings,
    SearchSettings,
    Stage,
    class_weights_by_name,
    policy_record,
)

_WITH_TWO_LOGITS = tuple(
    name for name, network in REFERENCE_CNNS.items() if "two_logits" in signature(network).parameters
)
_HYPERPARAMETERS = {
    COMPACT_CNN: {"width": 24, "depth": 4, "dropout": 0.3},
    "backbone": {"units": 256, "dropout": 0.4, "l2": 1e-4},
}


_OF_BATCHES = ("batch_size", "views", "oversample")


@dataclass(frozen=True)
class Search:
    """A random search, for a recipe that tunes its head.

    Attributes:
        max_trials: number of configurations to try.
        epochs: maximum number of epochs of each trial and of the winner's fit.
        units, dropout, l2, learning_rate: search ranges; `None` for those of `TransferHyperModel`.
    """

    max_trials: int = 10
    epochs: int = 10
    units: tuple[int, int, int] | None = None
    dropout: tuple[float, float, float] | None = None
    l2: tuple[float, float] | None = None
    learning_rate: tuple[float, float] | None = None

    @property
    def ranges(self) -> dict[str, Any]:
        """The search ranges that were set."""
        ranges = {name: getattr(self, name) for name in ("units", "dropout", "l2", "learning_rate")}
        return {name: value for name, value in ranges.items() if value is not None}


@dataclass(frozen=True)
class Configuration:
    """Everything that determines a training except the data and the seed.

    Attributes:
        model: a backbone's name, a reference network's, or `"compact-cnn"`.
        image_size: side of the radiographs in pixels.
        weights: of a backbone: `"imagenet"`, `"none"` or a file.
        preprocessing: of a backbone: `"native"` or `"rescale"`.
        head: of a backbone, a name of `pneumokeras.models.head.HEADS`; `None` for the tunable one.
        two_logits: train a network with two logits, which is reduced to one afterwards.
        hyperparameters: of the tunable head or of `compact-cnn`.
        search: a random search instead of stages.
        augmentation: arguments of `RadiographDataGenerator.radiographs`; false for `None`.
        views: as in `pneumokeras.fit`.
        oversample: as in `pneumokeras.fit`.
        class_weights: `"balanced"`, `"none"`, or a weight for `NORMAL` and one for `PNEUMONIA`, whatever
            the names of class 0 and class 1 in the data.
        batch_size: radiographs per step.
        keep_val: keep the val split however small it is.
        objective: decides which epoch is the best.
        stages: trained one after the other.
        schedule: when the learning rate falls, when each stage stops, which weights are kept.
        threshold: the rule that chooses the operating point.
        threshold_on: `"val"`, or `"test"` as in some documents, whose figures are no results.

    Raises:
        SettingsError: if a setting is unknown or out of range, or settings do not go together.
    """

    model: str
    image_size: int = 224
    weights: str = "imagenet"
    preprocessing: str = "native"
    head: str | None = None
    two_logits: bool = False
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    search: Search | None = None
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    views: int | None = None
    oversample: float | None = None
    class_weights: str | Mapping[str, float] = "balanced"
    batch_size: int = 32
    keep_val: bool = False
    objective: str = "val_auc"
    stages: tuple[Stage, ...] = ()
    schedule: Schedule = field(default_factory=Schedule)
    threshold: ThresholdPolicy = field(default_factory=BalancedAccuracy)
    threshold_on: str = "val"

    def __post_init__(self) -> None:
        _require_model(self.model)
        if (self.search is None) == (not self.stages):
            received = "both" if self.stages else "neither"
            raise SettingsError(
                f"Expected either `stages` or a `search` for {self.model}. Received {received}.",
                parameter="stages",
            )
        object.__setattr__(self, "image_size", whole("image_size", self.image_size))
        self._require_model_settings()
        self._check_fit_settings()
        if self.search is not None:
            self._require_search_settings(self.search)
        if self.threshold_on not in ("val", "test"):
            raise SettingsError(
                f"Expected a threshold chosen on val or test. Received {self.threshold_on!r}.",
                parameter="threshold_on",
            )

    def _check_fit_settings(self) -> None:
        """Refuse what a fit cannot be trained with, and keep the rest as a run records it."""
        fit = self.fit_settings(seed=0)
        checked: dict[str, Any] = {name: getattr(fit.batches, name) for name in _OF_BATCHES}
        weights = fit.batches.class_weights
        if isinstance(weights, Mapping) and not _is_by_name(self.class_weights):
            checked["class_weights"] = class_weights_by_name(weights)
        elif weights is None:
            checked["class_weights"] = "none"
        for name, value in (checked | {"stages": fit.stages}).items():
            object.__setattr__(self, name, value)

    def _require_model_settings(self) -> None:
        """Refuse settings that the model would ignore."""
        if not self.has_backbone:
            defaults = {"weights": "imagenet", "preprocessing": "native", "head": None}
            for name, default in defaults.items():
                if getattr(self, name) != default:
                    raise SettingsError(
                        f"`{name}` belongs to a backbone, not to {self.model}.", parameter=name
                    )
        if self.two_logits and self.model not in _WITH_TWO_LOGITS:
            raise SettingsError(
                f"{self.model} has no two logits to train. Expected `two_logits` with one of "
                f"{', '.join(_WITH_TWO_LOGITS)}.",
                parameter="two_logits",
            )
        self._require_hyperparameters()

    def _require_hyperparameters(self) -> None:
        known: Mapping[str, float] = {}
        if self.head is None and self.search is None:
            known = _HYPERPARAMETERS.get("backbone" if self.has_backbone else self.model, {})
        if self.hyperparameters and not known:
            raise SettingsError(
                "Expected `hyperparameters` beside compact-cnn, or a backbone whose head is tunable and not "
                f"searched. Received {dict(self.hyperparameters)} for {self.model}.",
                parameter="hyperparameters",
            )
        if unknown := sorted(set(self.hyperparameters) - set(known)):
            raise SettingsError(
                f"Unknown key {unknown[0]!r} in `hyperparameters`. Expected {', '.join(sorted(known))}.",
                parameter="hyperparameters",
            )
        for name, value in self.hyperparameters.items():
            if isinstance(known[name], int):
                fits, expected = type(value) is int and value >= 1, "a whole number of at least 1"
            else:
                fits, expected = is_number(value) and 0 <= value < 1, "a number from 0 to below 1"
            if not fits:
                raise SettingsError(
                    f"Expected {name} in `hyperparameters` as {expected}. Received {value!r}.",
                    parameter="hyperparameters",
                )

    def _require_search_settings(self, search: Search) -> None:
        """Refuse settings that `pneumokeras.tune` would ignore."""
        if not self.has_backbone:
            raise SettingsError(
                f"Expected a backbone to search a head for. Received {self.model}.", parameter="search"
            )
        if self.head is not None:
            raise SettingsError("A search has its own head. Expected no `head` beside it.", parameter="head")
        if self.threshold_on != "val":
            raise SettingsError(
                "A search chooses its threshold on val. Expected `threshold_on` as val beside it.",
                parameter="threshold_on",
            )
        SearchSettings(max_trials=search.max_trials, epochs=search.epochs)  # refuses what is out of range

    def fit_settings(self, *, seed: int) -> FitSettings:
        """Return the settings that `pneumokeras.fit` shares, with a seed.

        Raises:
            SettingsError: if one of them is unknown, out of range, or does not go with another.
        """
        batches = BatchSettings(
            batch_size=self.batch_size,
            views=self.views,
            generator=self.generator,
            class_weights=self.class_weights,
            oversample=self.oversample,
            seed=seed,
        )
        return FitSettings(
            batches=batches, stages=self.stages, objective=self.objective, schedule=self.schedule
        )

    @property
    def generator(self) -> RadiographDataGenerator:
        """The augmentation of the training radiographs."""
        optional = {
            name
            for name, parameter in signature(RadiographDataGenerator).parameters.items()
            if "None" in str(parameter.annotation)
        }
        arguments: dict[str, Any] = {
            name: None if value is False and name in optional else value
            for name, value in self.augmentation.items()
        }
        try:
            return RadiographDataGenerator.radiographs(**arguments)
        except TypeError as error:
            raise SettingsError(
                f"Expected `augmentation` as arguments of RadiographDataGenerator: {error}.",
                parameter="augmentation",
            ) from error

    @property
    def has_backbone(self) -> bool:
        """Whether the model is a head on a backbone."""
        return MODELS[self.model].has_backbone

    def settings(self) -> dict[str, Any]:
        """Return the configuration as JSON, as a run keeps it."""
        plain = {**asdict(self), "stages": [stage.settings() for stage in self.stages]}
        plain["threshold"] = policy_record(self.threshold)
        plain = json.loads(json.dumps(plain))  # lists for tuples, so that it equals what was written
        return {name: value for name, value in plain.items() if value not in (None, {}, [])}

    @classmethod
    def for_model(cls, model: str, **settings: Any) -> Configuration:
        """Return the default configuration for a model without a recipe.

        A backbone's head is trained for 10 epochs, any other network for 30.

        Args:
            model: as in `Configuration`.
            **settings: attributes that replace the defaults.

        Raises:
            SettingsError: if there is no such model, or settings do not go together.
        """
        _require_model(model)
        backbone = MODELS[model].has_backbone
        stage = (
            Stage("head", epochs=10, learning_rate=1e-3)
            if backbone
            else Stage("all", epochs=30, learning_rate=1e-3, batch_norm="update", optimizer="adam")
        )
        defaults: dict[str, Any] = {
            "image_size": MODELS[model].image_size,
            "hyperparameters": _HYPERPARAMETERS.get("backbone" if backbone else model, {}),
            "views": 4 if backbone else None,
            "stages": (stage,),
        }
        return cls(model, **(defaults | settings))


def _is_by_name(weights: Any) -> bool:
    return (
        isinstance(weights, Mapping)
        and all(type(weight) in (int, float) for weight in weights.values())
        and set(weights) == set(CLASS_NAMES)
    )


def _require_model(name: str) -> None:
    if name not in MODELS:
        raise SettingsError(
            f"Unknown model {name!r}. Expected `model` as one of {', '.join(MODELS)}.", parameter="model"
        )


def with_changes(configuration: Configuration, **changes: Any) -> Configuration:
    """Return a copy with `changes` applied; values of `None` are ignored.

    Args:
        configuration: the configuration to change.
        **changes: attributes of `Configuration`; `epochs` of every stage or of the search.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    epochs = changes.pop("epochs", None)
    if epochs is not None and configuration.search is not None:
        changes["search"] = replace(configuration.search, epochs=epochs)
    elif epochs is not None:
        changes["stages"] = tuple(replace(stage, epochs=epochs) for stage in configuration.stages)
    return replace(configuration, **changes)
