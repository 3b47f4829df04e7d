"""Fitting a model on radiographs, whole or stage by stage from the head downwards."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from pneumokeras.data.datasets import RadiographSet
from pneumokeras.errors import DataError
from pneumokeras.features import ExtractionProgress, Extractor, Views
from pneumokeras.models.head import compile_classifier
from pneumokeras.models.parts import Parts, cut, trainable_layers
from pneumokeras.models.saved import describe
from pneumokeras.store import cache_folder
from pneumokeras.training import (
    OBJECTIVES,
    FeatureBatches,
    FitResult,
    ImageBatches,
    TrainingData,
    best_epoch,
    fit_on,
)

ASK_FROM = 500_000_000
"""Bytes to be stored before anybody is asked."""

_BYTES = 2  # of a number in a feature map

Confirm = Callable[[int, Path], bool]
"""Asked before much is stored: how many bytes, and where. False for training without a store."""


@dataclass(frozen=True)
class Stage:
    """A stage of fine-tuning.

    Attributes:
        trainable: `"head"`; `"stage5"` for that stage of the backbone and what is above it; `"top 20"` for
            its last 20 layers; `"all"`. BatchNorm keeps its statistics, scale and offset.
        epochs: at most so many.
        learning_rate: of a new optimizer.
    """

    trainable: str
    epochs: int = 5
    learning_rate: float = 1e-5

    def __post_init__(self) -> None:
        if self.epochs < 1 or not self.learning_rate > 0:
            raise DataError(
                f"Expected a stage of at least 1 epoch and a learning rate above 0. Received {self.epochs} "
                f"and {self.learning_rate}."
            )


def fit(
    model: keras.Model,
    train: RadiographSet,
    val: RadiographSet,
    *,
    epochs: int = 10,
    stages: Sequence[Stage] = (),
    batch_size: int = 32,
    views: int | None = None,
    generator: Any = None,
    class_weights: Mapping[int, float] | str | None = "balanced",
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    cache: bool = True,
    confirm: Confirm | None = None,
    progress: Callable[[ExtractionProgress], None] | None = None,
) -> FitResult:
    """Fit a model with class weights, keeping the weights of its best epoch.

    EarlyStopping and ModelCheckpoint watch the exact validation AUC, ReduceLROnPlateau the validation
    cross-entropy without penalties. Class weights act on each radiograph's loss.

    With stages, one after the other is trained, each from the best weights of the one before. What lies
    below the layers that a stage trains is asked once for each view and its feature maps are stored, so
    that an epoch costs the upper part only.

    Args:
        model: a model on raw gray pixels as a HyperModel builds it: compiled, unless there are stages.
        train: radiographs to learn from.
        val: radiographs to choose the best epoch on.
        epochs: at most this many passes over `train`, if there are no stages.
        stages: what to train one after the other, such as `[Stage("head", 5, 1e-3), Stage("stage5")]`.
        batch_size: radiographs a step.
        views: how many versions of each radiograph there are, epoch e showing view e mod `views`; 1 is no
            augmentation; `None` augments anew every epoch, for which nothing can be stored.
        generator: the augmentation; by default `RadiographDataGenerator()`.
        class_weights: `"balanced"`, computed from `train`; or a weight for 0 and for 1; or `None`.
        seed: of order, augmentation and restored dropout. Initial weights follow `set_seed`.
        checkpoint: a `.weights.h5` file that keeps the best weights while the fit goes on; with stages, after
            each stage.
        cache: store feature maps for stages, see `pneumokeras.features`.
        confirm: asked before much is stored; by default nobody is.
        progress: called after every batch whose feature maps are computed.

    Returns:
        The model with its best weights, and the history.

    Raises:
        ModelError: if the model is not compiled, its input is not an image, or it has no such part.
        DataError: if a radiograph cannot be read, or the disk has no room for the feature maps.
    """
    description = describe(model, classes=train.class_names)
    images = ImageBatches.of(
        train,
        val,
        image_size=description.image_size,
        batch_size=batch_size,
        views=views,
        generator=generator,
        class_weights=train.class_weights() if class_weights == "balanced" else class_weights,  # type: ignore[arg-type]
        seed=seed,
        pad=description.pad,
        channels=model.input_shape[-1],
    )
    images.preload()
    if not stages:
        return fit_on(model, images, epochs=epochs, checkpoint=checkpoint)
    require_parts(model, stages)
    stores = cache and may_store(model, images, stages, confirm=confirm)
    return fit_stages(model, images, stages, cache=stores, checkpoint=checkpoint, progress=progress)


def fit_stages(
    model: keras.Model,
    images: ImageBatches,
    stages: Sequence[Stage],
    *,
    before: FitResult | None = None,
    objective: str = "val_auc",
    cache: bool = True,
    checkpoint: str | PathLike[str] | None = None,
    began: Callable[[Stage], None] | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    progress: Callable[[ExtractionProgress], None] | None = None,
) -> FitResult:
    """Train a model stage by stage on batches, keeping the weights of the best epoch of all; see `fit`.

    Args:
        model: as for `fit`.
        images: what to learn from, and what to choose the best epoch on.
        stages: one after the other; there may be none after `before`.
        before: the fit that the model comes from, whose history goes on and whose weights stay if no stage
            is better.
        objective: what makes an epoch the best.
        cache: store feature maps.
        checkpoint: as for `fit`; written after each stage that was better.
        began: called before each stage.
        callbacks: further ones, for each stage.
        progress: as for `fit`.
    """
    histories = [] if before is None else [before.history | {"stage": [1.0] * len(before.history["loss"])}]
    best, weights = _best(histories, objective), model.get_weights()
    for stage in stages:
        if began is not None:
            began(stage)
        parts = cut(model, stage.trainable, seed=images.train.seed)
        trained, data = _what_is_trained(model, parts, images, cache, progress)
        _compile(trained, model, stage.learning_rate)
        history = fit_on(trained, data, epochs=stage.epochs, objective=objective, callbacks=callbacks).history
        parts.write_back(model)
        histories.append(history | {"stage": [float(len(histories) + 1)] * len(history["loss"])})
        score = _best(histories, objective)
        if score != best:
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


def _bytes_to_store(model: keras.Model, images: ImageBatches, stages: Sequence[Stage]) -> int:
    """What the stages will add to the store. A lower part that a stage before has trained is stored anew."""
    sets = _sets(images)
    untrained: dict[frozenset[str], int] = {}
    retrained = 0
    trained: frozenset[str] = frozenset()
    for stage in stages:
        lower = cut(model, stage.trainable).lower
        names = frozenset(layer.name for layer in lower.layers if layer.weights)
        if names & trained:
            retrained += math.prod(lower.output_shape[1:]) * _BYTES * sum(len(views) for views in sets)
        elif names:
            untrained[names] = _extractor(model, lower).missing_bytes(sets)
        trained |= trainable_layers(model, stage.trainable)
    return retrained + sum(untrained.values())


def _what_is_trained(
    model: keras.Model,
    parts: Parts,
    images: ImageBatches,
    cache: bool,
    progress: Callable[[ExtractionProgress], None] | None,
) -> tuple[keras.Model, TrainingData]:
    """The upper part on stored feature maps, or both parts on images."""
    if cache and images.train.storable and parts.lower.weights:
        extractor = _extractor(model, parts.lower)
        features = extractor.features(_sets(images), progress=progress)
        return parts.upper, FeatureBatches(images, *features.rows)
    images.preload()
    return keras.Model(parts.lower.inputs[0], parts.upper(parts.lower.outputs[0])), images


def _sets(images: ImageBatches) -> tuple[Views, Views]:
    return Views(images.train, images.train.views or 1), Views(images.val)


def _extractor(model: keras.Model, lower: keras.Model) -> Extractor:
    description = describe(model)
    return Extractor(
        lower, backbone=description.architecture, weights=description.weights, precision="float32"
    )


def _compile(part: keras.Model, model: keras.Model, learning_rate: float) -> None:
    """Compile a part of a model as the model is compiled, with a new optimizer of the same kind."""
    if not model.compiled:
        compile_classifier(part, learning_rate)
        return
    optimizer = model.optimizer
    config = optimizer.get_config() | {"learning_rate": learning_rate}
    part.compile(
        optimizer=type(optimizer).from_config(config),
        loss=model.loss,
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )


def _best(histories: Sequence[Mapping[str, list[float]]], objective: str) -> float | None:
    """The best score of all epochs; `None` if none had one."""
    scores = [score for history in histories for score in history[objective] if not math.isnan(score)]
    best = max if OBJECTIVES[objective] == "max" else min
    return best(scores, default=None)


def _joined(histories: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """One after the other, as far as all of them tell the same figures."""
    shared = [name for name in histories[0] if all(name in history for history in histories)]
    return {name: [value for history in histories for value in history[name]] for name in shared}
