"""Settings that fits, searches and recipes share, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pneumokeras.core.errors import SettingsError
from pneumokeras.data.augmentation import (
    Generator,
    RadiographDataGenerator,
    augmentation_settings,
    usable_generator,
)
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.features import PRECISIONS
from pneumokeras.training.objectives import require_objective
from pneumokeras.training.optimizers import OPTIMIZERS
from pneumokeras.training.progress import Progress

BATCH_NORMS = ("keep", "update")

ClassWeights = Mapping[int, float] | str | None
"""A loss weight for class 0 and one for class 1; `"balanced"`; or `None` for none."""

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
        require_whole("epochs", self.epochs)
        self._require_learning_rate()
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
        if not self.weight_decay >= 0 or (self.weight_decay and self.optimizer is None):
            raise SettingsError(
                "Expected `weight_decay` of at least 0, with an `optimizer` for it: adam adds it to the "
                "gradient, adamw subtracts it from the weights. "
                f"Received {self.weight_decay} and {self.optimizer}.",
                parameter="weight_decay",
            )

    def _require_learning_rate(self) -> None:
        rate = self.learning_rate
        if isinstance(rate, Mapping) and (set(rate) != {"head", "backbone"} or self.trainable == "head"):
            raise SettingsError(
                "Expected `learning_rate` as one number, or as one for head and one for backbone in a stage "
                f"that trains both. Received {dict(rate)} for {self.trainable!r}.",
                parameter="learning_rate",
            )
        rates = rate.values() if isinstance(rate, Mapping) else (rate,)
        if not all(is_number(value) and 0 < value < math.inf for value in rates):
            raise SettingsError(
                f"Expected `learning_rate` as a finite number above 0. Received {rate}.",
                parameter="learning_rate",
            )

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
        require_whole("batch_size", self.batch_size)
        usable_generator(self.generator)
        if self.views is not None:
            require_whole("views", self.views)
        require_whole("seed", self.seed, minimum=0)
        self._require_class_weights()
        if self.oversample is not None and not (
            is_number(self.oversample) and 1 <= self.oversample < math.inf
        ):
            raise SettingsError(
                f"Expected `oversample` as a finite number of at least 1. Received {self.oversample!r}.",
                parameter="oversample",
            )
        if self.oversample is not None and self.class_weights == "balanced":
            raise SettingsError(
                "Expected `oversample` or balanced class weights, received both. Leave the weights out with "
                '`class_weights=None`, in a recipe with class_weights = "none".',
                parameter="oversample",
            )

    def _require_class_weights(self) -> None:
        weights = self.class_weights
        if weights is None or weights == "balanced":
            return
        if (
            not isinstance(weights, Mapping)
            or set(weights) != {0, 1}
            or not all(is_number(weight) and 0 < weight < math.inf for weight in weights.values())
        ):
            raise SettingsError(
                "Expected `class_weights` as balanced, none, or a weight above 0 for class 0 (NORMAL) and "
                f"one for class 1 (PNEUMONIA). Received {weights!r}.",
                parameter="class_weights",
            )

    def class_weights_for(self, train: RadiographSet) -> Mapping[int, float] | None:
        """Return the loss weight of each class for a training set; `None` for no weights."""
        return train.class_weights() if isinstance(self.class_weights, str) else self.class_weights


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
        require_whole("epochs", self.epochs)
        require_objective(self.objective)


@dataclass(frozen=True)
class SearchSettings:
    """How the best configuration is searched for, and how its model is trained.

    Trials and the winner's fit use balanced class weights and the default `Schedule`.

    Attributes:
        max_trials: number of configurations to try.
        epochs: maximum number of epochs of each trial and of the winner's fit.
        batch_sizes: radiographs per step; the search chooses among several.
        views: as in `BatchSettings`.
        generator: as in `BatchSettings`.
        objective: ranks epochs and trials.
        fine_tune: stages that the winner goes through after its fit.
        seed: of search, initial weights, order and augmentation.
        pad: as in `BatchSettings`.
        precision: of the frozen backbone: `"float32"`, `"bfloat16"` or `"auto"`.

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

    def __post_init__(self) -> None:
        require_whole("max_trials", self.max_trials)
        if not self.batch_sizes:
            raise SettingsError(
                "Expected `batch_size` as one number or several. Received none.", parameter="batch_size"
            )
        for batch_size in self.batch_sizes:
            require_whole("batch_size", batch_size)
        if self.precision not in ("auto", *PRECISIONS):
            raise SettingsError(
                f"Unknown precision {self.precision!r}. "
                f"Expected `precision` as auto, {' or '.join(PRECISIONS)}.",
                parameter="precision",
            )
        _ = self.fit  # refuses what a fit cannot be trained with

    @property
    def fit(self) -> FitSettings:
        """How each trial and the winner are fitted, at the first batch size."""
        batches = BatchSettings(
            batch_size=self.batch_sizes[0],
            views=self.views,
            generator=self.generator,
            seed=self.seed,
            pad=self.pad,
        )
        return FitSettings(
            batches=batches, epochs=self.epochs, stages=self.fine_tune, objective=self.objective
        )

    def record(self, hypermodel: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings as run.json keeps them.

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
        }


@dataclass(frozen=True)
class Execution:
    """How training is carried out: what it may store and whom it informs; no part of a run's settings.

    Attributes:
        cache: store the features of frozen layers and train on them.
        confirm: called before much is stored; by default nothing is asked.
        progress: called after each batch of an extraction and after each epoch.
    """

    cache: bool = True
    confirm: Confirm | None = None
    progress: Progress | None = None


def require_whole(parameter: str, value: Any, *, minimum: int = 1) -> None:
    """Refuse anything but a whole number of at least `minimum`.

    Raises:
        SettingsError: naming the parameter.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < minimum:
        raise SettingsError(
            f"Expected `{parameter}` as a whole number of at least {minimum}. Received {value!r}.",
            parameter=parameter,
        )


def is_number(value: Any) -> bool:
    """Return whether a value is a real number; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool)
