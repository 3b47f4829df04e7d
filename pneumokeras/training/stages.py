"""Fine-tuning stage by stage, from the head downwards, on stored feature maps where that is possible."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from pneumokeras.core.errors import DataError
from pneumokeras.models.parts import Parts, cut, trainable_layers
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.data_adapters import FeatureBatches, ImageBatches, TrainingData
from pneumokeras.training.feature_store import cache_folder
from pneumokeras.training.features import ExtractionProgress, Extractor, Views
from pneumokeras.training.loop import FitResult, fit_on
from pneumokeras.training.objectives import best_epoch, best_of
from pneumokeras.training.optimizers import OPTIMIZERS, head_and_backbone_optimizer

BATCH_NORMS = ("keep", "update")

ASK_FROM = 500_000_000
"""Bytes to be stored before anybody is asked."""

Confirm = Callable[[int, Path], bool]
"""Asked before much is stored: how many bytes, and where. False for training without a store."""


@dataclass(frozen=True)
class Stage:
    """A stage of fine-tuning.

    Attributes:
        trainable: `"head"`; `"stage5"` for that stage of the backbone and what is above it; `"top 20"` for
            its last 20 layers; `"all"`.
        epochs: at most so many.
        learning_rate: of a new optimizer; or of two, `{"head": 1e-3, "backbone": 1e-4}`.
        batch_norm: `"keep"`: BatchNorm keeps its statistics, scale and offset. `"update"`: in the trained
            part it works in training mode and is trained as the rest is.
        optimizer: `"adam"` or `"adamw"`; by default the kind that the model is compiled with, or Adam.
        weight_decay: of that optimizer: `"adam"` adds it to the gradient as an L2 term, as PyTorch's does,
            `"adamw"` takes it off the weights (decoupled), as Keras' Adam does.

    Raises:
        DataError: if a number is out of range, or a setting is unknown or does not go with another.
    """

    trainable: str
    epochs: int = 5
    learning_rate: float | Mapping[str, float] = 1e-5
    batch_norm: str = "keep"
    optimizer: str | None = None
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        rate = self.learning_rate
        rates = rate.values() if isinstance(rate, Mapping) else (rate,)
        if isinstance(rate, Mapping) and (set(rate) != {"head", "backbone"} or self.trainable == "head"):
            raise DataError(
                "Expected a learning rate for head and one for backbone, in a stage that trains both. "
                f"Received {dict(rate)} for {self.trainable!r}."
            )
        if self.epochs < 1 or not all(0 < value < math.inf for value in rates):
            raise DataError(
                "Expected a stage of at least 1 epoch and a finite learning rate above 0. "
                f"Received {self.epochs} and {rate}."
            )
        if self.batch_norm not in BATCH_NORMS:
            raise DataError(f"Expected batch_norm as keep or update. Received {self.batch_norm!r}.")
        if self.optimizer not in (None, *OPTIMIZERS):
            raise DataError(f"Unknown optimizer {self.optimizer!r}. Expected {' or '.join(OPTIMIZERS)}.")
        if not self.weight_decay >= 0 or (self.weight_decay and self.optimizer is None):
            raise DataError(
                "Expected a weight_decay of at least 0, and an optimizer for it: adam adds it to the "
                "gradient, adamw takes it off the weights. "
                f"Received {self.weight_decay} and {self.optimizer}."
            )

    def settings(self) -> dict[str, Any]:
        """The stage as plain JSON; what is added to `trainable`, `epochs` and `learning_rate` only if set."""
        values = asdict(self)
        added = ("batch_norm", "optimizer", "weight_decay")
        unset = {name for name in added if values[name] == getattr(Stage, name)}
        return {name: value for name, value in values.items() if name not in unset}


def fit_stages(
    model: keras.Model,
    images: ImageBatches,
    stages: Sequence[Stage],
    *,
    before: FitResult | None = None,
    objective: str = "val_auc",
    schedule: Schedule | None = None,
    cache: bool = True,
    checkpoint: str | PathLike[str] | None = None,
    began: Callable[[Stage], None] | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    progress: Callable[[ExtractionProgress], None] | None = None,
) -> FitResult:
    """Train a model stage by stage on batches, by default keeping the best epoch's weights; see `fit`.

    Args:
        model: as for `fit`.
        images: what to learn from, and what to choose the best epoch on.
        stages: one after the other; there may be none after `before`.
        before: the fit that the model comes from, whose history goes on and whose weights stay if no stage
            is better.
        objective: what makes an epoch the best.
        schedule: as for `fit`, the same for each stage.
        cache: store feature maps.
        checkpoint: as for `fit`; written after each stage whose weights are kept.
        began: called before each stage.
        callbacks: further ones, for each stage.
        progress: as for `fit`.
    """
    histories = [] if before is None else [before.history | {"stage": [1.0] * len(before.history["loss"])}]
    schedule = schedule or Schedule()
    best, weights = _best(histories, objective), model.get_weights()
    for stage in stages:
        if began is not None:
            began(stage)
        parts = cut(model, stage.trainable, batch_norm=stage.batch_norm, seed=images.train.seed)
        trained, data = _trainable_model_and_data(model, parts, images, cache, progress)
        trained.compile(
            _optimizer(model, parts.upper, stage),
            loss=model.loss if model.compiled else "binary_crossentropy",
            metrics=["accuracy", keras.metrics.AUC(name="auc")],
        )
        history = fit_on(
            trained,
            data,
            epochs=stage.epochs,
            objective=objective,
            schedule=schedule,
            callbacks=callbacks,
        ).history
        parts.write_back(model)
        histories.append(history | {"stage": [float(len(histories) + 1)] * len(history["loss"])})
        score = _best(histories, objective)
        if score != best or schedule.keep != "best":
            best, weights = score, model.get_weights()
            if checkpoint is not None:
                model.save_weights(checkpoint)
    if stages:
        model.set_weights(weights)
    if best is None:
        best_epoch(histories[-1], objective)  # says that the fit diverged
    return FitResult(model, _joined(histories))


def require_parts(model: keras.Model, stages: Sequence[Stage]) -> None:
    """Make sure that a model has all the parts that stages train, before anything is trained.

    Raises:
        ModelError: if a stage names no part of the model.
    """
    for stage in stages:
        trainable_layers(model, stage.trainable)


def may_store(
    model: keras.Model,
    images: ImageBatches,
    stages: Sequence[Stage],
    *,
    confirm: Confirm | None,
) -> bool:
    """Whether the feature maps of all stages may be stored.

    Returns:
        False if there is no fixed number of views, the generator is somebody's own, or `confirm` says no.

    Raises:
        DataError: if the disk has no room for them.
    """
    if not images.train.storable:
        return False
    size = _bytes_to_store(model, images, stages)
    folder = cache_folder()
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if size > (free := shutil.disk_usage(existing).free):
        raise DataError(
            f"The feature maps take {size / 1e9:.1f} GB, and {folder} has room for {free / 1e9:.1f}. Make "
            "room, name another folder with PNEUMOKERAS_CACHE, or go without with --no-cache."
        )
    return size < ASK_FROM or confirm is None or confirm(size, folder)


def sets_of(images: ImageBatches) -> tuple[Views, Views]:
    """What is to be stored of storable images, in the order that `FeatureBatches` takes it."""
    return Views.of(images.train), Views.of(images.val)


def _bytes_to_store(model: keras.Model, images: ImageBatches, stages: Sequence[Stage]) -> int:
    """What the stages will add to the store. A lower part that a stage before has trained is stored anew."""
    sets = sets_of(images)
    untrained: dict[frozenset[str], int] = {}
    retrained = 0
    trained: frozenset[str] = frozenset()
    for stage in stages:
        lower = cut(model, stage.trainable).lower
        names = frozenset(layer.name for layer in lower.layers if layer.weights)
        if names & trained:
            retrained += Extractor.of(lower, model).all_bytes(sets)
        elif names:
            untrained[names] = Extractor.of(lower, model).missing_bytes(sets)
        trained |= trainable_layers(model, stage.trainable)
    return retrained + sum(untrained.values())


def _trainable_model_and_data(
    model: keras.Model,
    parts: Parts,
    images: ImageBatches,
    cache: bool,
    progress: Callable[[ExtractionProgress], None] | None,
) -> tuple[keras.Model, TrainingData]:
    """The upper part on stored feature maps, or both parts on images."""
    if cache and images.train.storable and parts.lower.weights:
        features = Extractor.of(parts.lower, model).features(sets_of(images), progress=progress)
        return parts.upper, FeatureBatches(images, *features.rows)
    images.preload()
    return keras.Model(parts.lower.inputs[0], parts.upper(parts.lower.outputs[0])), images


def _optimizer(model: keras.Model, upper: keras.Model, stage: Stage) -> keras.optimizers.Optimizer:
    """What a stage trains the upper part of a model with."""

    def new(learning_rate: float, **name: str) -> keras.optimizers.Optimizer:
        if stage.optimizer is not None:
            return OPTIMIZERS[stage.optimizer](learning_rate, weight_decay=stage.weight_decay, **name)
        if not model.compiled:
            return keras.optimizers.Adam(learning_rate, **name)
        config = model.optimizer.get_config() | {"learning_rate": learning_rate, **name}
        return type(model.optimizer).from_config(config)

    if not isinstance(stage.learning_rate, Mapping):
        return new(stage.learning_rate)
    names = trainable_layers(model, "head")
    head = [layer for layer in upper.layers if layer.name in names]
    return head_and_backbone_optimizer(
        {part: new(rate, name=part) for part, rate in stage.learning_rate.items()},
        [variable for layer in head for variable in layer.trainable_variables],
    )


def _best(histories: Sequence[Mapping[str, list[float]]], objective: str) -> float | None:
    """The best score of all epochs; `None` if none had one."""
    return best_of((score for history in histories for score in history[objective]), objective)


def _joined(histories: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """One after the other; what only some stages tell, such as each part's learning rate, is left out."""
    shared = [name for name in histories[0] if all(name in history for history in histories)]
    return {name: [value for history in histories for value in history[name]] for name in shared}
