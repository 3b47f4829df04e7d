"""Fitting a model on radiographs, whole or stage by stage from the head downwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import keras

from pneumokeras.core.errors import DataError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.models.saving import set_description
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.data_adapters import ImageBatches
from pneumokeras.training.features import ExtractionProgress
from pneumokeras.training.loop import FitResult, fit_on
from pneumokeras.training.objectives import require_objective
from pneumokeras.training.stages import Confirm, Stage, fit_stages, may_store, require_parts


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
    oversample: float | None = None,
    objective: str = "val_auc",
    schedule: Schedule | None = None,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    cache: bool = True,
    confirm: Confirm | None = None,
    progress: Callable[[ExtractionProgress], None] | None = None,
) -> FitResult:
    """Fit a model with class weights, keeping the weights of its best epoch.

    EarlyStopping and ModelCheckpoint watch the objective, ReduceLROnPlateau the validation cross-entropy
    without penalties. Class weights act on each radiograph's loss.

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
        oversample: instead of balanced class weights: augmented copies of the smaller class are added until
            the larger is this many times as large, see `RadiographLoader`. Pass `class_weights=None`.
        objective: what makes an epoch the best: `"val_auc"`, computed exactly, `"val_accuracy"` at 0.5, or
            `"val_loss"`.
        schedule: when the learning rate falls, when a fit or stage ends, which weights are kept; by default
            `Schedule()`.
        seed: of order, copies, augmentation and restored dropout. Initial weights follow `set_seed`.
        checkpoint: a `.weights.h5` file that keeps these weights while the fit goes on; with stages, after
            each stage.
        cache: store feature maps for stages, see `pneumokeras.training.features`.
        confirm: asked before much is stored; by default nobody is.
        progress: called after every batch whose feature maps are computed.

    Returns:
        The model with these weights, and the history.

    Raises:
        ModelError: if the model is not compiled, its input is not an image, or it has no such part.
        DataError: if a radiograph cannot be read, settings do not go together, or the disk has no room for
            the feature maps.
    """
    require_objective(objective)
    if oversample is not None and class_weights == "balanced":
        raise DataError(
            "Expected oversample or balanced class weights, received both. Pass class_weights=None, or "
            "weights of your own."
        )
    description = set_description(model, classes=train.class_names)
    images = ImageBatches.of(
        train,
        val,
        image_size=description.image_size,
        batch_size=batch_size,
        views=views,
        generator=generator,
        class_weights=train.class_weights() if class_weights == "balanced" else class_weights,  # type: ignore[arg-type]
        oversample=oversample,
        seed=seed,
        pad=description.pad,
        channels=model.input_shape[-1],
    )
    images.preload()
    if not stages:
        return fit_on(
            model, images, epochs=epochs, objective=objective, schedule=schedule, checkpoint=checkpoint
        )
    require_parts(model, stages)
    stores = cache and may_store(model, images, stages, confirm=confirm)
    return fit_stages(
        model,
        images,
        stages,
        objective=objective,
        schedule=schedule,
        cache=stores,
        checkpoint=checkpoint,
        progress=progress,
    )
