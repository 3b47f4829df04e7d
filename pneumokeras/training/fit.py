"""Fit a model on radiographs, whole or stage by stage from the head downwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

import keras
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.data.dataset import RadiographSet, require_set
from pneumokeras.models.saving import set_description
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.data_adapters import ImageBatches
from pneumokeras.training.loop import FitResult, fit_on
from pneumokeras.training.progress import Progress
from pneumokeras.training.settings import (
    BatchSettings,
    ClassWeights,
    Confirm,
    Execution,
    FitSettings,
    Stage,
)
from pneumokeras.training.stages import fit_stages, may_store, require_parts


def fit(
    model: keras.Model,
    train: RadiographSet,
    val: RadiographSet,
    *,
    epochs: int = 10,
    stages: Sequence[Stage] = (),
    batch_size: int = 32,
    views: int | None = None,
    generator: ImageDataGenerator | None = None,
    class_weights: ClassWeights = "balanced",
    oversample: float | None = None,
    objective: str = "val_auc",
    schedule: Schedule | None = None,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    cache: bool = True,
    confirm: Confirm | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Fit a model with class weights, keeping the weights of its best epoch.

    EarlyStopping and ModelCheckpoint watch the objective, ReduceLROnPlateau the validation cross-entropy
    without penalties. Class weights act on each radiograph's loss.

    Stages are trained one after the other, each from the best weights of the one before. The layers below
    those that a stage trains are run once for each view, and their feature maps are stored: an epoch costs
    the upper part only.

    Args:
        model: a model on raw gray pixels as a HyperModel builds it; compiled, unless there are stages.
        train: radiographs to learn from.
        val: radiographs to choose the best epoch on.
        epochs: maximum number of passes over `train`, if there are no stages.
        stages: trained one after the other, such as `[Stage("head", 5, 1e-3), Stage("stage5")]`.
        batch_size: radiographs per step.
        views: versions of each radiograph, epoch e showing version e mod `views`; 1 is no augmentation;
            `None` augments anew in every epoch, so that nothing can be stored.
        generator: the augmentation; by default `RadiographDataGenerator()`.
        class_weights: `"balanced"`, computed from `train`; a weight for 0 and one for 1; or `None`.
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
        progress: called after each batch whose feature maps are computed.

    Returns:
        The model with these weights, and the history.

    Raises:
        SettingsError: if a setting is unknown, out of range, or does not go with another.
        ModelError: if the model is not compiled, its input is not an image, or it lacks a part of a stage.
        DataError: if a radiograph cannot be read, or the disk has no room for the feature maps.

    Example:
        >>> splits = pk.load_splits("chest_xray")
        >>> model = pk.load_model("model.keras")
        >>> stages = [pk.Stage("head", epochs=1, learning_rate=1e-3)]
        >>> result = pk.fit(model, splits.train, splits.val, stages=stages, views=1)
        >>> result.history["stage"]
        [1.0]
    """
    require_set(train, "train")
    require_set(val, "val")
    settings = FitSettings(
        batches=BatchSettings(
            batch_size=batch_size,
            views=views,
            generator=generator or RadiographDataGenerator(),
            class_weights=class_weights,
            oversample=oversample,
            seed=seed,
        ),
        epochs=epochs,
        stages=tuple(stages),
        objective=objective,
        schedule=schedule or Schedule(),
    )
    require_parts(model, settings.stages)
    description = set_description(model, classes=train.class_names, operating_points={})
    images = ImageBatches.of(
        train,
        val,
        replace(settings.batches, pad=description.pad),
        image_size=description.image_size,
        channels=model.input_shape[-1],
    )
    images.preload()
    if not settings.stages:
        return fit_on(
            model,
            images,
            epochs=settings.epochs,
            objective=settings.objective,
            schedule=settings.schedule,
            checkpoint=checkpoint,
        )
    execution = Execution(cache=cache, confirm=confirm, progress=progress)
    return fit_stages(
        model,
        images,
        settings,
        cache=may_store(model, images, settings.stages, execution),
        checkpoint=checkpoint,
        progress=progress,
    )
