"""Fit a model on radiographs, whole or stage by stage from the head downwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

import keras

from pneumokeras.data.augmentation import Generator, as_generator
from pneumokeras.data.dataset import RadiographSet, require_set
from pneumokeras.models.contract import require_graph
from pneumokeras.models.saving import own_name, set_description
from pneumokeras.training.callbacks import Schedule, require_settable_rate
from pneumokeras.training.data_adapters import ImageBatches, require_both_classes
from pneumokeras.training.loop import FitResult, fit_on, require_fittable
from pneumokeras.training.objectives import kept_epoch_of
from pneumokeras.training.progress import AfterEpoch, Progress, Reporter, progress_or_line
from pneumokeras.training.settings import (
    BatchSettings,
    ClassWeights,
    Confirm,
    Execution,
    FitSettings,
    Stage,
    class_weights_of,
    require_kind,
    stages_of,
)
from pneumokeras.training.stages import fit_stages, may_store, require_parts


def fit(
    model: keras.Model,
    train: RadiographSet,
    val: RadiographSet,
    *,
    epochs: int = 10,
    stages: Sequence[Stage] | Stage | None = (),
    batch_size: int = 32,
    views: int | None = None,
    generator: Generator | None = None,
    class_weights: ClassWeights = "balanced",
    oversample: float | None = None,
    objective: str = "val_auc",
    schedule: Schedule | None = None,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    cache: bool = True,
    confirm: Confirm | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    workers: int = 2,
    verbose: bool | str = "auto",
) -> FitResult:
    """Fit a model with class weights, keeping the weights of its best epoch.

    EarlyStopping and ModelCheckpoint watch the objective, ReduceLROnPlateau the validation cross-entropy
    without penalties. Class weights act on each radiograph's loss.

    Stages are trained one after the other, each from the best weights of the one before. The layers below
    those that a stage trains are run once for each view, and their feature maps are stored: an epoch costs
    the upper part only.

    Args:
        model: a model on raw gray pixels as a HyperModel builds it; compiled, unless there are stages. It is
            changed in place, and loses the operating points that were chosen for the weights it had.
        train: radiographs to learn from.
        val: radiographs to choose the best epoch on.
        epochs: maximum number of passes over `train`, if there are no stages.
        stages: trained one after the other, such as `[Stage("head", 5, 1e-3), Stage("stage5")]`.
        batch_size: radiographs per step.
        views: versions of each radiograph, epoch e showing version e mod `views`; 1 is no augmentation;
            `None` augments anew in every epoch, so that nothing can be stored.
        generator: the augmentation, also augmentation layers of Keras; by default
            `RadiographDataGenerator.radiographs()`.
        class_weights: loss weight of each class: `"balanced"`, computed from `train`; `{0: 2.0, 1: 1.0}`, or
            the same by class name or as a pair; or `None`.
        oversample: instead of balanced class weights: add augmented copies of the smaller class until the
            larger is this many times as large, see `RadiographLoader`. Pass `class_weights=None`.
        objective: decides which epoch is the best: `"val_auc"`, computed exactly, `"val_accuracy"` at 0.5,
            or `"val_loss"`.
        schedule: when the learning rate falls, when a fit or stage stops, which weights are kept; by default
            `Schedule()`.
        seed: decides order, copies, augmentation and restored dropout. Initial weights follow `set_seed`.
        checkpoint: a `.weights.h5` file that holds these weights during the fit; with stages, written after
            each stage.
        cache: store feature maps for stages, see `pneumokeras.training.features`.
        confirm: called with bytes and folder before much is stored; by default nothing is asked.
        progress: called after each batch whose feature maps are computed, and after each epoch.
        callbacks: Keras callbacks, called after the package's own, so that `logs` holds `val_auc`. Each stage
            is a fit of its own to them, and TensorBoard writes it into a folder `stage_1`, `stage_2`, ... of
            its `log_dir`. With stored features Keras calls them for an epoch's last batch only.
        workers: threads that prepare batches of images.
        verbose: show progress in a line; by default in a notebook and on a terminal, unless `progress` is
            given.

    Returns:
        The model with these weights, and the history.

    Raises:
        SettingsError: if a setting is unknown, out of range, or does not go with another.
        ModelError: if the model is not compiled, its input is not an image, it lacks a part of a stage, or
            its outputs were never finite.
        DataError: if a radiograph cannot be read, a class has none, or the disk has no room for the feature
            maps.

    Example:
        >>> splits = pk.load_splits("chest_xray")
        >>> model = pk.load_model("model.keras")
        >>> stages = [pk.Stage("head", epochs=1, learning_rate=1e-3)]
        >>> result = pk.fit(model, splits.train, splits.val, stages=stages, views=1)
        >>> result.history["stage"]
        [1.0]
    """
    require_kind("model", model, keras.Model)
    require_set(train, "train")
    require_set(val, "val")
    require_graph(model, own_name(model))
    settings = FitSettings(
        batches=BatchSettings(
            batch_size=batch_size,
            views=views,
            generator=as_generator(generator),
            class_weights=class_weights_of(class_weights, train.class_names),
            oversample=oversample,
            seed=seed,
        ),
        epochs=epochs,
        stages=stages_of("stages", stages),
        objective=objective,
        schedule=Schedule() if schedule is None else schedule,
    )
    execution = Execution(
        cache=cache,
        confirm=confirm,
        progress=progress_or_line(progress, verbose),
        workers=workers,
        callbacks=callbacks,
    )
    require_both_classes(train, val, objective=settings.objective)
    require_parts(model, settings.stages)
    if not settings.stages:
        require_fittable(model)
        require_settable_rate(model, settings.schedule)
    description = set_description(model, classes=train.class_names, bits=train.depth.bits)
    images = ImageBatches.of(
        train,
        val,
        replace(settings.batches, pad=description.pad),
        image_size=description.image_size,
        channels=model.input_shape[-1],
        workers=execution.workers,
    )
    images.preload()
    stores = bool(settings.stages) and may_store(model, images, settings.stages, execution)
    set_description(model, operating_points={})  # those it has were chosen for other weights
    reporter = Reporter(execution.progress, trials=0, epochs=settings.epochs, objective=settings.objective)
    if settings.stages:
        result = fit_stages(
            model,
            images,
            settings,
            cache=stores,
            checkpoint=checkpoint,
            reporter=reporter,
            progress=execution.progress,
            callbacks=execution.callbacks,
        )
    else:
        reporter.begin_fit()
        result = fit_on(
            model,
            images,
            epochs=settings.epochs,
            objective=settings.objective,
            schedule=settings.schedule,
            checkpoint=checkpoint,
            callbacks=[AfterEpoch(reporter), *execution.callbacks],
        )
        kept_epoch_of(result.history, settings.objective, settings.schedule.keep)  # raises if there is none
    reporter.end()
    return result
