"""Fine-tuning stage by stage, from the head downwards, on stored feature maps where that is possible."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from os import PathLike

import keras

from pneumokeras.core.errors import DataError
from pneumokeras.models.backbones import acting_layers
from pneumokeras.models.parts import Parts, cut, trainable_layers
from pneumokeras.training.callbacks import in_stage
from pneumokeras.training.data_adapters import FeatureBatches, ImageBatches, TrainingData
from pneumokeras.training.feature_store import cache_folder
from pneumokeras.training.features import Extractor, Views
from pneumokeras.training.loop import FitResult, fit_on
from pneumokeras.training.objectives import best_of, kept_epoch_of
from pneumokeras.training.optimizers import OPTIMIZERS, head_and_backbone_optimizer, without_loss_scale
from pneumokeras.training.progress import AfterEpoch, Progress, Reporter
from pneumokeras.training.settings import Execution, FitSettings, Stage

logger = logging.getLogger(__name__)

ASK_FROM = 500_000_000
"""Bytes to be stored from which on `confirm` is called."""


def fit_stages(
    model: keras.Model,
    images: ImageBatches,
    settings: FitSettings,
    *,
    before: FitResult | None = None,
    cache: bool = True,
    checkpoint: str | PathLike[str] | None = None,
    reporter: Reporter | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> FitResult:
    """Train a model stage by stage, by default keeping the weights of the best epoch of all stages.

    Args:
        model: as for `pneumokeras.fit`.
        images: training batches, and validation batches to choose the best epoch on.
        settings: stages, objective and schedule; there may be no stages after `before`.
        before: the fit that the model comes from. The history continues its history, and its weights are
            kept if no stage is better.
        cache: store feature maps.
        checkpoint: a `.weights.h5` file; written after each stage whose weights are kept.
        reporter: informed of stages and epochs.
        progress: called after each batch of an extraction.
        callbacks: of the caller's; each stage is a fit of its own to them.

    Returns:
        The model with these weights, and the history of all stages.

    Raises:
        ModelError: if every stage diverged.
    """
    objective, schedule = settings.objective, settings.schedule
    histories = [] if before is None else [before.history | {"stage": [1.0] * len(before.history["loss"])}]
    best, weights = _best(histories, objective), model.get_weights()
    for stage in settings.stages:
        if reporter is not None:
            reporter.begin_stage(stage.trainable, stage.epochs)
        parts = cut(model, stage.trainable, batch_norm=stage.batch_norm, seed=images.train.seed)
        trained, data = _trainable_model_and_data(
            model, parts, images, epochs=stage.epochs, cache=cache, progress=progress
        )
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
            callbacks=[
                *([] if reporter is None else [AfterEpoch(reporter)]),
                *in_stage(callbacks, len(histories) + 1),
            ],
        ).history
        parts.write_back(model)
        histories.append(history | {"stage": [float(len(histories) + 1)] * len(history["loss"])})
        score = _best(histories, objective)
        if score != best or schedule.keep != "best":
            best, weights = score, model.get_weights()
            if checkpoint is not None:
                model.save_weights(checkpoint)
    if settings.stages:
        model.set_weights(weights)
    history = _joined(histories)
    kept_epoch(history, settings)  # raises if there is none
    return FitResult(model, history)


def kept_epoch(history: Mapping[str, list[float]], settings: FitSettings) -> int:
    """Return the epoch whose weights `fit_stages` keeps, counted from 0 over all stages.

    Raises:
        ModelError: if the objective was NaN there.
    """
    keep, stages = settings.schedule.keep, history["stage"]
    begin = stages.index(stages[-1]) if keep == "best of last stage" else 0
    rest = {name: values[begin:] for name, values in history.items()}
    return begin + kept_epoch_of(rest, settings.objective, keep)


def require_parts(model: keras.Model, stages: Sequence[Stage]) -> None:
    """Check that a model has all the parts that stages train, before anything is trained.

    Raises:
        ModelError: if a stage names a part that the model does not have.
    """
    for stage in stages:
        trainable_layers(model, stage.trainable)


def may_store(
    model: keras.Model, images: ImageBatches, stages: Sequence[Stage], execution: Execution
) -> bool:
    """Return whether the feature maps of all stages may be stored.

    Returns:
        False if there are no stages, nothing is to be stored, there is no fixed number of views, the
        generator is neither ours nor Keras' own, or `confirm` declines.

    Raises:
        DataError: if the disk has no room for the feature maps.
    """
    if not (stages and execution.cache and images.train.storable):
        return False
    size = _bytes_to_store(model, images, stages)
    folder = cache_folder()
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if size > (free := shutil.disk_usage(existing).free):
        raise DataError(
            f"The feature maps take {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free. Make "
            "room, choose another folder with PNEUMOKERAS_CACHE, or train without them with `cache=False`.",
            path=folder,
        )
    return size < ASK_FROM or execution.confirm is None or execution.confirm(size, folder)


def views_to_store(images: ImageBatches, *, epochs: int) -> tuple[Views, Views]:
    """Return the (train, val) views that so many epochs show, in `FeatureBatches` order."""
    return Views.of(images.train, epochs=epochs), Views.of(images.val)


def _bytes_to_store(model: keras.Model, images: ImageBatches, stages: Sequence[Stage]) -> int:
    """Return how many bytes the stages will add to the store.

    A lower part that an earlier stage has trained is stored anew.
    """
    untrained: dict[frozenset[str], int] = {}
    retrained = 0
    trained: frozenset[str] = frozenset()
    for stage in stages:
        parts, views = cut(model, stage.trainable), views_to_store(images, epochs=stage.epochs)
        names = frozenset(layer.name for layer in parts.lower.layers if layer.weights)
        if parts.storable and names & trained:
            retrained += Extractor.of(parts.lower, model).all_bytes(views)
        elif parts.storable:
            missing = Extractor.of(parts.lower, model).missing_bytes(views)
            untrained[names] = max(missing, untrained.get(names, 0))
        trained |= trainable_layers(model, stage.trainable)
    return retrained + sum(untrained.values())


def _trainable_model_and_data(
    model: keras.Model,
    parts: Parts,
    images: ImageBatches,
    *,
    epochs: int,
    cache: bool,
    progress: Progress | None,
) -> tuple[keras.Model, TrainingData]:
    """Return the upper part with stored feature maps, or both parts with images."""
    if cache and images.train.storable and parts.storable:
        views = views_to_store(images, epochs=epochs)
        features = Extractor.of(parts.lower, model).features(views, progress=progress)
        return parts.upper, FeatureBatches(images, *features.rows)
    if cache and (acting := acting_layers(parts.lower)):
        logger.warning(
            "%s %r acts in training below the trained part: its features are not stored, and each epoch "
            "costs the whole model.",
            type(acting[0]).__name__,
            acting[0].name,
        )
    images.preload()
    return keras.Model(parts.lower.inputs[0], parts.upper(parts.lower.outputs[0])), images


def _optimizer(model: keras.Model, upper: keras.Model, stage: Stage) -> keras.optimizers.Optimizer:
    """Return the optimizer that trains the upper part of a model in a stage."""

    def new(learning_rate: float, **name: str) -> keras.optimizers.Optimizer:
        if stage.optimizer is not None:
            return OPTIMIZERS[stage.optimizer](learning_rate, weight_decay=stage.weight_decay, **name)
        if not model.compiled:
            return keras.optimizers.Adam(learning_rate, **name)
        compiled = without_loss_scale(model.optimizer)
        return type(compiled).from_config(compiled.get_config() | {"learning_rate": learning_rate, **name})

    if not isinstance(stage.learning_rate, Mapping):
        return new(stage.learning_rate)
    names = trainable_layers(model, "head")
    head = [layer for layer in upper.layers if layer.name in names]
    return head_and_backbone_optimizer(
        {part: new(rate, name=part) for part, rate in stage.learning_rate.items()},
        [variable for layer in head for variable in layer.trainable_variables],
    )


def _best(histories: Sequence[Mapping[str, list[float]]], objective: str) -> float | None:
    """Return the best score of all epochs; `None` if none is a number."""
    return best_of((score for history in histories for score in history[objective]), objective)


def _joined(histories: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Concatenate histories; figures that only some have, such as each part's rate, are left out."""
    shared = [name for name in histories[0] if all(name in history for history in histories)]
    return {name: [value for history in histories for value in history[name]] for name in shared}
