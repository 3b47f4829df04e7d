"""Everything that determines a training except the data and the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from inspect import signature
from typing import Any

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.evaluation import BalancedAccuracy, Fixed, ThresholdPolicy
from pneumokeras.models.reference_cnns import REFERENCE_CNNS
from pneumokeras.models.registry import COMPACT_CNN, MODELS
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.objectives import require_objective
from pneumokeras.training.stages import Stage

_WITH_TWO_LOGITS = tuple(
    name for name, network in REFERENCE_CNNS.items() if "two_logits" in signature(network).parameters
)
_HYPERPARAMETERS = {
    COMPACT_CNN: {"width": 24, "depth": 4, "dropout": 0.3},
    "backbone": {"units": 256, "dropout": 0.4, "l2": 1e-4},
}


@dataclass(frozen=True)
class Search:
    """A random search, for a recipe that tunes its head.

    Attributes:
        max_trials: how many configurations.
        epochs: at most, of each trial and of the winner's fit.
        units, dropout, l2, learning_rate: what the search draws from; `None` for what `TransferHyperModel`
            draws from.
    """

    max_trials: int = 10
    epochs: int = 10
    units: tuple[int, int, int] | None = None
    dropout: tuple[float, float, float] | None = None
    l2: tuple[float, float] | None = None
    learning_rate: tuple[float, float] | None = None

    @property
    def ranges(self) -> dict[str, Any]:
        """What is drawn from, as far as it is said."""
        ranges = {name: getattr(self, name) for name in ("units", "dropout", "l2", "learning_rate")}
        return {name: value for name, value in ranges.items() if value is not None}


@dataclass(frozen=True)
class Configuration:
    """All that decides what is trained, and how, but the radiographs and the seed.

    Attributes:
        model: a backbone's name, a reference network's, or `"compact-cnn"`.
        image_size: side of the radiographs in pixels.
        weights: of a backbone: `"imagenet"`, `"none"` or a file.
        preprocessing: of a backbone: `"native"` or `"rescale"`.
        head: of a backbone, a name of `pneumokeras.models.head.HEADS`; `None` for the tunable one.
        two_logits: train a network of two logits as such, and reduce it to one afterwards.
        hyperparameters: of the tunable head or of `compact-cnn`.
        search: a random search instead of stages.
        augmentation: arguments of `RadiographDataGenerator`; false for `None`.
        views: as for `pneumokeras.fit`.
        oversample: as for `pneumokeras.fit`.
        class_weights: `"balanced"`, `"none"`, or a weight for `NORMAL` and one for `PNEUMONIA`, whatever
            class 0 and class 1 are called in the data.
        batch_size: radiographs a step.
        keep_val: keep the val split however small it is.
        objective: what makes an epoch the best.
        stages: what is trained one after the other.
        schedule: how each stage is watched.
        threshold: the rule that chooses the operating point.
        threshold_on: `"val"`, or `"test"` as some documents have it, which is no result.

    Raises:
        DataError: if a setting is unknown or out of range, or settings do not go together.
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
            raise DataError(f"Expected either stages or a search for {self.model}. Received {received}.")
        if self.search is not None:
            self._require_what_a_search_does()
        self._require_what_the_model_takes()
        weights = self.class_weights
        if weights not in ("balanced", "none") and (
            isinstance(weights, str)
            or set(weights) != {"NORMAL", "PNEUMONIA"}
            or not all(_is_number(weight) and weight > 0 for weight in weights.values())
        ):
            raise DataError(
                "Expected class_weights as balanced, none, or a weight above 0 for NORMAL and one for "
                f"PNEUMONIA. Received {weights!r}."
            )
        if self.oversample is not None and self.class_weights == "balanced":
            raise DataError(
                'Expected oversample or balanced class weights, received both. Say class_weights = "none".'
            )
        require_objective(self.objective)
        if self.threshold_on not in ("val", "test"):
            raise DataError(f"Expected a threshold chosen on val or test. Received {self.threshold_on!r}.")
        _ = self.generator  # refuses what is out of range

    def _require_what_the_model_takes(self) -> None:
        """Refuse settings that would be left out of account, and sizes that no network can have."""
        if not self.has_backbone:
            defaults = {"weights": "imagenet", "preprocessing": "native", "head": None}
            for name, default in defaults.items():
                if getattr(self, name) != default:
                    raise DataError(f"{name} belongs to a backbone, not to {self.model}.")
        if self.two_logits and self.model not in _WITH_TWO_LOGITS:
            raise DataError(
                f"{self.model} has no two logits to train. Expected two_logits beside one of "
                f"{', '.join(_WITH_TWO_LOGITS)}."
            )
        known: Mapping[str, float] = {}
        if self.head is None and self.search is None:
            known = _HYPERPARAMETERS.get("backbone" if self.has_backbone else self.model, {})
        if self.hyperparameters and not known:
            raise DataError(
                "Expected hyperparameters beside compact-cnn, or a backbone whose head is tunable and not "
                f"searched. Received {dict(self.hyperparameters)} for {self.model}."
            )
        if unknown := sorted(set(self.hyperparameters) - set(known)):
            raise SettingsError(
                f"Unknown key {unknown[0]!r} in hyperparameters. Expected {', '.join(sorted(known))}."
            )
        for name, value in self.hyperparameters.items():
            if isinstance(known[name], int):
                fits, expected = type(value) is int and value >= 1, "a whole number of at least 1"
            else:
                fits, expected = _is_number(value) and 0 <= value < 1, "a number from 0 to below 1"
            if not fits:
                raise DataError(f"Expected {name} in hyperparameters as {expected}. Received {value!r}.")

    def _require_what_a_search_does(self) -> None:
        """Refuse what `pneumokeras.tune` would leave out of account."""
        if not self.has_backbone:
            raise DataError(f"Expected a backbone to search a head for. Received {self.model}.")
        fixed = {"head": None, "class_weights": "balanced", "oversample": None, "schedule": Schedule()}
        for name, value in fixed.items():
            if getattr(self, name) != value:
                raise DataError(f"A search has its own {name}. Expected none beside it.")
        if self.threshold not in (Fixed(), BalancedAccuracy()) or self.threshold_on != "val":
            raise DataError(
                "A search ends at 0.5 and at the highest balanced accuracy on val whose sensitivity is at "
                "least 0.95. Expected one of these thresholds beside it."
            )

    @property
    def generator(self) -> RadiographDataGenerator:
        """What augments the training radiographs."""
        optional = {
            name
            for name, parameter in signature(RadiographDataGenerator).parameters.items()
            if "None" in str(parameter.annotation)
        }
        arguments = {
            name: None if value is False and name in optional else value
            for name, value in self.augmentation.items()
        }
        try:
            return RadiographDataGenerator(**arguments)
        except TypeError as error:
            raise SettingsError(
                f"Expected `augmentation` as arguments of RadiographDataGenerator: {error}."
            ) from error

    @property
    def has_backbone(self) -> bool:
        """Whether the model is a head on a backbone."""
        return MODELS[self.model].has_backbone

    def settings(self) -> dict[str, Any]:
        """As plain JSON, as a run keeps it."""
        plain = {**asdict(self), "stages": [stage.settings() for stage in self.stages]}
        plain["threshold"] = {"policy": self.threshold.name, **asdict(self.threshold)}  # type: ignore[call-overload]
        plain = json.loads(json.dumps(plain))  # lists for tuples, so that it equals what was written down
        return {name: value for name, value in plain.items() if value not in (None, {}, [])}

    @classmethod
    def for_model(cls, model: str, **settings: Any) -> Configuration:
        """A plain one for a model without a recipe: its head for 10 epochs, or all of it for 30.

        Args:
            model: as in `model`.
            **settings: whatever is to be another.

        Raises:
            DataError: if there is no such model, or settings do not go together.
        """
        _require_model(model)
        backbone = MODELS[model].has_backbone
        stage = (
            Stage("head", 10, 1e-3)
            if backbone
            else Stage("all", 30, 1e-3, batch_norm="update", optimizer="adam")
        )
        defaults: dict[str, Any] = {
            "image_size": MODELS[model].image_size,
            "hyperparameters": _HYPERPARAMETERS.get("backbone" if backbone else model, {}),
            "views": 4 if backbone else None,
            "stages": (stage,),
        }
        return cls(model, **(defaults | settings))


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _require_model(name: str) -> None:
    if name not in MODELS:
        raise DataError(f"Unknown model {name!r}. Expected one of {', '.join(MODELS)}.")


def with_changes(configuration: Configuration, **changes: Any) -> Configuration:
    """The same, but for what is said otherwise; `None` says nothing.

    Args:
        configuration: where to start.
        **changes: attributes of `Configuration`, `epochs` of every stage or of the search.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    epochs = changes.pop("epochs", None)
    if epochs is not None and configuration.search is not None:
        changes["search"] = replace(configuration.search, epochs=epochs)
    elif epochs is not None:
        changes["stages"] = tuple(replace(stage, epochs=epochs) for stage in configuration.stages)
    return replace(configuration, **changes)
