"""Settings that fits, searches and recipes share, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumokeras.core.arguments import finite, flag, is_number, seed_number, whole
from pneumokeras.core.errors import SettingsError
from pneumokeras.data.augmentation import (
    Generator,
    RadiographDataGenerator,
    as_generator,
    augmentation_settings,
)
from pneumokeras.data.dataset import CLASS_NAMES, RadiographSet
from pneumokeras.evaluation import BalancedAccuracy, Fixed, ThresholdPolicy, policy_from_text
from pneumokeras.runs.folder import UNRECORDED
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.features import PRECISIONS
from pneumokeras.training.objectives import require_objective
from pneumokeras.training.optimizers import OPTIMIZERS
from pneumokeras.training.progress import Progress

BATCH_NORMS = ("keep", "update")

ClassWeights = Mapping[int, float] | Mapping[str, float] | Sequence[float] | np.ndarray | str | None
"""`"balanced"`; `None` or `"none"`; or loss weights: `{0: 2.0, 1: 1.0}`, by class name, or a pair.

By number a class may be left out, and weighs 1 then.
"""

Confirm = Callable[[int, Path], bool]
"""Called with bytes and folder before much is stored; False trains without storing."""


@dataclass(frozen=True)
class Stage:
    """A stage of fine-tuning: which part of a model is trained, and how.

    Attributes:
        trainable: `"head"`; `"stage5"` for that stage of the backbone and everything above it; `"top 20"`
            for the backbone's last 20 layers; `"all"`.
        epochs: maximum number of epochs, at least 1.
        learning_rate: of the stage's optimizer, above 0; or of two optimizers,
            `{"head": 1e-3, "backbone": 1e-4}`.
        batch_norm: `"keep"`: BatchNorm keeps its statistics, scale and offset. `"update"`: in the trained
            part it works in training mode and is trained like the other layers.
        optimizer: `"adam"` or `"adamw"`; by default the kind that the model is compiled with, or Adam.
        weight_decay: of that optimizer, at least 0: `"adam"` adds it to the gradient as an L2 term, as
            PyTorch's does, `"adamw"` subtracts it from the weights (decoupled), as Keras' Adam does.

    Raises:
        SettingsError: if a number is out of range, or a setting is unknown or does not go with another.

    Example:
        >>> stages = [pk.Stage("head", epochs=10, learning_rate=1e-3), pk.Stage("stage5")]
        >>> stages[1].learning_rate
        1e-05
        >>> pk.Stage("stage5", batch_norm="train")
        Traceback (most recent call last):
        ...
        pneumokeras.core.errors.SettingsError: Expected `batch_norm` as keep or update. Received 'train'.
    """

    trainable: str
    epochs: int = 5
    learning_rate: float | Mapping[str, float] = 1e-5
    batch_norm: str = "keep"
    optimizer: str | None = None
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.trainable, str):
            raise SettingsError(
                "Expected `trainable` as head, all, a stage such as stage5, or layers such as top 20. "
                f"Received {self.trainable!r}.",
                parameter="trainable",
            )
        _set(self, "epochs", whole("epochs", self.epochs))
        _set(self, "learning_rate", self._checked_learning_rate())
        if self.batch_norm not in BATCH_NORMS:
            raise SettingsError(
                f"Expected `batch_norm` as {' or '.join(BATCH_NORMS)}. Received {self.batch_norm!r}.",
                parameter="batch_norm",
            )
        if self.optimizer not in (None, *OPTIMIZERS):
            raise SettingsError(
                f"Expected `optimizer` as {' or '.join(OPTIMIZERS)}. Received {self.optimizer!r}.",
                parameter="optimizer",
            )
        _set(self, "weight_decay", finite("weight_decay", self.weight_decay, minimum=0))
        if self.weight_decay and self.optimizer is None:
            raise SettingsError(
                "Expected `weight_decay` with an `optimizer` for it: adam adds it to the gradient, adamw "
                f"subtracts it from the weights. Received {self.weight_decay} and no optimizer.",
                parameter="weight_decay",
            )

    def _checked_learning_rate(self) -> float | dict[str, float]:
        rate = self.learning_rate
        if not isinstance(rate, Mapping):
            return finite("learning_rate", rate, minimum=0, above=True)
        if set(rate) != {"head", "backbone"} or self.trainable == "head":
            raise SettingsError(
                "Expected `learning_rate` as one number, or as one for head and one for backbone in a stage "
                f"that trains both. Received {dict(rate)} for {self.trainable!r}.",
                parameter="learning_rate",
            )
        return {part: finite("learning_rate", one, minimum=0, above=True) for part, one in rate.items()}

    def settings(self) -> dict[str, Any]:
        """Return the stage as JSON; optional fields are included only when they differ from their defaults.

        `trainable`, `epochs` and `learning_rate` are always included.
        """
        values = asdict(self)
        optional = ("batch_norm", "optimizer", "weight_decay")
        unset = {name for name in optional if values[name] == getattr(Stage, name)}
        return {name: value for name, value in values.items() if name not in unset}


@dataclass(frozen=True)
class BatchSettings:
    """How radiographs become training batches.

    Attributes:
        batch_size: radiographs per step.
        views: versions of each radiograph, epoch e showing version e mod `views`; 1 is no augmentation;
            `None` augments anew in every epoch.
        generator: the augmentation.
        class_weights: loss weight of class 0 and of class 1; `"balanced"` computes them from the training
            radiographs; `None` is no weights.
        oversample: instead of balanced class weights, see `RadiographLoader`.
        seed: of order, copies and augmentation.
        pad: keep the proportions of radiographs and fill up with black, instead of stretching them.

    Raises:
        SettingsError: if a setting is out of range or does not go with another.
    """

    batch_size: int = 32
    views: int | None = None
    generator: Generator = field(default_factory=RadiographDataGenerator.radiographs)
    class_weights: ClassWeights = "balanced"
    oversample: float | None = None
    seed: int = 0
    pad: bool = False

    def __post_init__(self) -> None:
        _set(self, "batch_size", whole("batch_size", self.batch_size))
        if self.views is not None:
            _set(self, "views", whole("views", self.views))
        _set(self, "generator", as_generator(self.generator))
        _set(self, "class_weights", class_weights_of(self.class_weights))
        if self.oversample is not None:
            _set(self, "oversample", finite("oversample", self.oversample, minimum=1))
        _set(self, "seed", seed_number(self.seed))
        _set(self, "pad", flag("pad", self.pad))
        if self.oversample is not None and self.class_weights == "balanced":
            raise SettingsError(
                "Expected `oversample` or balanced class weights, received both. Leave the weights out with "
                "`class_weights='none'`.",
                parameter="oversample",
            )

    def class_weights_for(self, train: RadiographSet) -> Mapping[int, float] | None:
        """Return the loss weight of each class for a training set; `None` for no weights."""
        return train.class_weights() if self.class_weights == "balanced" else self.class_weights  # type: ignore[return-value]


@dataclass(frozen=True)
class FitSettings:
    """How a model is fitted on training batches.

    Attributes:
        batches: how radiographs become batches.
        epochs: maximum number of epochs of a fit without stages.
        stages: what is trained one after the other, instead of the whole model at once.
        objective: decides which epoch is the best: `"val_auc"`, `"val_accuracy"` or `"val_loss"`.
        schedule: when the learning rate falls, when the fit stops, which weights are kept.

    Raises:
        SettingsError: if a setting is unknown or out of range.
    """

    batches: BatchSettings = field(default_factory=BatchSettings)
    epochs: int = 10
    stages: tuple[Stage, ...] = ()
    objective: str = "val_auc"
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        _set(self, "epochs", whole("epochs", self.epochs))
        _set(self, "stages", stages_of("stages", self.stages))
        require_objective(self.objective)
        require_kind("schedule", self.schedule, Schedule)


@dataclass(frozen=True)
class SearchSettings:
    """How the best configuration is searched for, and how its model is trained.

    Attributes:
        max_trials: number of configurations to try.
        epochs: maximum number of epochs of each trial and of the winner's fit.
        batch_sizes: radiographs per step, a number or several; the search chooses among several.
        views: as in `BatchSettings`.
        generator: as in `BatchSettings`.
        objective: ranks epochs and trials.
        fine_tune: stages that the winner goes through after its fit.
        seed: of search, initial weights, order and augmentation.
        pad: as in `BatchSettings`.
        precision: of the frozen backbone: `"float32"`, `"folded"`, `"bfloat16"` or `"auto"`.
        class_weights: as in `BatchSettings`.
        oversample: as in `BatchSettings`.
        schedule: of each trial, of the winner's fit and of its stages.
        threshold: the rule that chooses the operating point, or a fixed threshold.

    Raises:
        SettingsError: if a setting is unknown or out of range.
    """

    max_trials: int = 10
    epochs: int = 10
    batch_sizes: tuple[int, ...] = (32,)
    views: int | None = 4
    generator: Generator = field(default_factory=RadiographDataGenerator.radiographs)
    objective: str = "val_auc"
    fine_tune: tuple[Stage, ...] = ()
    seed: int = 0
    pad: bool = False
    precision: str = "auto"
    class_weights: ClassWeights = "balanced"
    oversample: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    threshold: ThresholdPolicy | float | str = field(default_factory=BalancedAccuracy)

    def __post_init__(self) -> None:
        _set(self, "max_trials", whole("max_trials", self.max_trials))
        _set(self, "batch_sizes", _batch_sizes_of(self.batch_sizes))
        _set(self, "fine_tune", stages_of("fine_tune", self.fine_tune))
        _set(self, "threshold", policy_of(self.threshold))
        if self.precision not in ("auto", *PRECISIONS):
            raise SettingsError(
                f"Unknown precision {self.precision!r}. "
                f"Expected `precision` as auto, {' or '.join(PRECISIONS)}.",
                parameter="precision",
            )
        fit = self.fit  # refuses what a fit cannot be trained with
        _set(self, "epochs", fit.epochs)
        for name in ("views", "generator", "class_weights", "oversample", "seed", "pad"):
            _set(self, name, getattr(fit.batches, name))

    @property
    def fit(self) -> FitSettings:
        """How each trial and the winner are fitted, at the first batch size."""
        batches = BatchSettings(
            batch_size=self.batch_sizes[0],
            views=self.views,
            generator=self.generator,
            class_weights=self.class_weights,
            oversample=self.oversample,
            seed=self.seed,
            pad=self.pad,
        )
        return FitSettings(
            batches=batches,
            epochs=self.epochs,
            stages=self.fine_tune,
            objective=self.objective,
            schedule=self.schedule,
        )

    def record(self, hypermodel: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings as run.json keeps them; what later versions added only where it is set.

        Args:
            hypermodel: the settings of the HyperModel, with the key `model`.
        """
        return {
            **hypermodel,
            "max_trials": self.max_trials,
            "epochs": self.epochs,
            "batch_size": list(self.batch_sizes),
            "views": self.views,
            "augmentation": augmentation_settings(self.generator),
            "pad": self.pad,
            "objective": self.objective,
            "fine_tune": [stage.settings() for stage in self.fine_tune],
            "precision": self.precision,
            "seed": self.seed,
            **self._optional_record(),
        }

    def _optional_record(self) -> dict[str, Any]:
        """Return the settings that a run of version 0.1 does not know, where they differ from its ways."""
        weights = self.class_weights
        if isinstance(weights, Mapping):
            weights = class_weights_by_name(weights)
        values = {
            "class_weights": weights or "none",
            "oversample": self.oversample,
            "schedule": asdict(self.schedule),
            "threshold": policy_record(self.threshold),  # type: ignore[arg-type]
        }
        return {name: value for name, value in values.items() if value != UNRECORDED[name]}


@dataclass(frozen=True)
class Execution:
    """How training is carried out: what it may store and whom it informs; no part of a run's settings.

    Attributes:
        cache: store the features of frozen layers and train on them.
        confirm: called before much is stored; by default nothing is asked.
        progress: called after each batch of an extraction and after each epoch.
        workers: threads that prepare batches of images.
        callbacks: Keras callbacks of the caller's.

    Raises:
        SettingsError: if there is no such number of threads, or one of the callbacks is none.
    """

    cache: bool = True
    confirm: Confirm | None = None
    progress: Progress | None = None
    workers: int = 2
    callbacks: Sequence[keras.callbacks.Callback] = ()

    def __post_init__(self) -> None:
        _set(self, "cache", flag("cache", self.cache))
        _set(self, "workers", whole("workers", self.workers))
        for name in ("confirm", "progress"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise SettingsError(
                    f"Expected `{name}` as a function. Received {getattr(self, name)!r}.", parameter=name
                )
        _set(self, "callbacks", _all_of("callbacks", self.callbacks, keras.callbacks.Callback))


def require_kind(parameter: str, value: Any, kind: type) -> None:
    """Refuse an argument of another type.

    Raises:
        SettingsError: naming the parameter.
    """
    if not isinstance(value, kind):
        raise SettingsError(
            f"Expected `{parameter}` as a {kind.__name__}. Received {_described(value)}.", parameter=parameter
        )


def stages_of(parameter: str, stages: Any) -> tuple[Stage, ...]:
    """Return stages as a tuple: several, one, or `None` for none.

    Raises:
        SettingsError: if one of them is no `Stage`.
    """
    return _all_of(parameter, stages, Stage)


def class_weights_of(
    weights: ClassWeights, class_names: tuple[str, str] = CLASS_NAMES
) -> dict[int, float] | str | None:
    """Return class weights in one spelling: `"balanced"`, `None` or `{0: ..., 1: ...}`.

    Args:
        weights: in any spelling that `ClassWeights` describes.
        class_names: of class 0 and class 1 in the data; `NORMAL` and `PNEUMONIA` name them, too.

    Raises:
        SettingsError: if they are something else, a weight is negative or not finite, or both are 0.
    """
    if weights is None or (isinstance(weights, str) and weights in ("balanced", "none")):
        return None if weights == "none" else weights
    given = weights.tolist() if isinstance(weights, np.ndarray) else weights
    pair: Any = None
    if isinstance(given, Mapping):
        names = next((names for names in (class_names, CLASS_NAMES) if set(given) == set(names)), None)
        if names is not None:
            pair = [given[name] for name in names]  # type: ignore[index]
        elif given and set(given) <= {0, 1}:
            pair = [given.get(number, 1.0) for number in (0, 1)]  # type: ignore[call-overload]
    elif isinstance(given, list | tuple) and len(given) == 2:
        pair = given
    if pair is None or not all(is_number(one) and 0 <= one < math.inf for one in pair) or not any(pair):
        raise SettingsError(
            f"Expected `class_weights` as balanced, none, or a weight of at least 0 for class 0 "
            f"({class_names[0]}) and one for class 1 ({class_names[1]}), not both 0. Received {weights!r}.",
            parameter="class_weights",
        )
    return {number: float(one) for number, one in enumerate(pair)}


def class_weights_by_name(weights: Mapping[Any, float]) -> dict[str, float]:
    """Return weights of class 0 and class 1 as run.json keeps them, whatever the names in the data."""
    return {name: weights[number] for number, name in enumerate(CLASS_NAMES)}


def policy_of(threshold: Any) -> ThresholdPolicy:
    """Return the policy that chooses an operating point: one by its name, or a fixed threshold by its number.

    Raises:
        SettingsError: if it is neither a number in [0, 1] nor a policy that a run can record.
    """
    if is_number(threshold):
        # NumPy's 0.3 in single precision is 0.3, too, not 0.30000001192092896.
        return Fixed(float(str(threshold) if isinstance(threshold, np.floating) else threshold))
    if isinstance(threshold, str):
        return policy_from_text(threshold)
    is_object = is_dataclass(threshold) and not isinstance(threshold, type)
    if not (is_object and hasattr(threshold, "choose") and hasattr(threshold, "name")):
        raise SettingsError(
            "Expected `threshold` as a number in [0, 1] or a policy of pneumokeras.evaluation, such as "
            f"Sensitivity(0.95), or its name, such as sensitivity:0.95. Received {threshold!r}.",
            parameter="threshold",
        )
    return threshold


def policy_record(policy: ThresholdPolicy) -> dict[str, Any]:
    """Return a policy as run.json keeps it."""
    return {"policy": policy.name, **asdict(policy)}  # type: ignore[call-overload]


def _batch_sizes_of(batch_size: Any) -> tuple[int, ...]:
    several = isinstance(batch_size, Iterable) and not isinstance(batch_size, str)
    sizes = tuple(whole("batch_size", size) for size in (batch_size if several else (batch_size,)))
    if not sizes:
        raise SettingsError(
            "Expected `batch_size` as one number or several. Received none.", parameter="batch_size"
        )
    return sizes


def _all_of(parameter: str, values: Any, kind: type) -> tuple[Any, ...]:
    """Return one object of a kind, several, or `None` for none, as a tuple."""
    if values is None or isinstance(values, kind):
        return () if values is None else (values,)
    wrong = [values]
    if isinstance(values, Iterable) and not isinstance(values, str):
        values = tuple(values)
        wrong = [value for value in values if not isinstance(value, kind)]
    if wrong:
        raise SettingsError(
            f"Expected `{parameter}` as a list of {kind.__name__} objects. Received {_described(wrong[0])}.",
            parameter=parameter,
        )
    return values


def _described(value: Any) -> str:
    """Return a short value as it is, and the type of a long one."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def _set(settings: Any, name: str, value: Any) -> None:
    """Replace an attribute of frozen settings by its checked value, as they are made."""
    object.__setattr__(settings, name, value)
