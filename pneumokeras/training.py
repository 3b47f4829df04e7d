"""The class-weighted fit: best weights by an exact validation score, and a history of every epoch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from pneumokeras.data.datasets import RadiographSet
from pneumokeras.data.loaders import RadiographDataGenerator, RadiographLoader
from pneumokeras.errors import ModelError
from pneumokeras.evaluation.metrics import roc_auc
from pneumokeras.models.forward import Batches, forward
from pneumokeras.models.saved import describe

OBJECTIVES = {"val_auc": "max", "val_accuracy": "max", "val_loss": "min"}


@dataclass(frozen=True)
class FitResult:
    """A fitted model.

    Attributes:
        model: the model, with the weights of its best epoch.
        history: for `learning_rate`, `loss`, `val_loss`, `val_auc` and so on one float an epoch.
    """

    model: keras.Model
    history: dict[str, list[float]]


class TrainingData(Protocol):
    """What a model is fitted on, from images or from whatever stands for them."""

    @property
    def val(self) -> Batches:
        """Plain batches in a fixed order."""

    @property
    def val_labels(self) -> np.ndarray:
        """`(n,)` integers, in that order."""

    def arguments(self, epochs: int) -> dict[str, Any]:
        """What `model.fit` is called with to see `epochs` epochs."""

    def steps_per_call(self) -> int:
        """How many steps TensorFlow may take before Python is asked again."""


@dataclass(frozen=True, eq=False)
class ImageBatches:
    """Batches of images, for a full model.

    Attributes:
        train: augmented, and shuffled anew each epoch.
        val: plain, in file order.
        val_labels: `(n,)` integers, in that order.
        class_weights: loss weight of each class, or `None`.
    """

    train: RadiographLoader
    val: RadiographLoader
    val_labels: np.ndarray
    class_weights: Mapping[int, float] | None

    @classmethod
    def of(
        cls,
        train: RadiographSet,
        val: RadiographSet,
        *,
        image_size: tuple[int, int],
        batch_size: int = 32,
        views: int | None = None,
        generator: Any = None,
        class_weights: Mapping[int, float] | None = None,
        seed: int = 0,
        pad: bool = False,
        channels: int = 1,
    ) -> ImageBatches:
        """Load batches from radiographs; arguments as for `RadiographLoader` and `fit`."""
        generator = RadiographDataGenerator() if generator is None else generator
        common: dict[str, Any] = {"image_size": image_size, "pad": pad, "channels": channels}
        loader = RadiographLoader(
            train, batch_size=batch_size, generator=generator, views=views, seed=seed, **common
        )
        plain = RadiographLoader(val, batch_size=max(batch_size, 64), **common)
        return cls(loader, plain, val.require_labels(), class_weights)

    def preload(self) -> None:
        """Read every radiograph once: a bad file is an error now, not in the middle of an epoch."""
        self.train.preload()
        self.val.preload()

    def arguments(self, epochs: int) -> dict[str, Any]:
        """The loader, from epoch 0 on."""
        self.train.reset()
        # The loader shuffles by its own seed.
        return {"x": self.train, "class_weight": self.class_weights, "shuffle": False, "epochs": epochs}

    def steps_per_call(self) -> int:
        """One: each batch comes from Python."""
        return 1


@dataclass(frozen=True, eq=False)
class FeatureBatches:
    """Batches of stored features, for a head alone; the same batches in the same order as `images` gives.

    Attributes:
        images: what the features were computed from.
        train: `(views, n, width)` `float32`.
        val_features: `(m, width)` `float32`.
    """

    images: ImageBatches
    train: np.ndarray
    val_features: np.ndarray

    @property
    def val(self) -> list[tuple[np.ndarray]]:
        """All of them, as one batch."""
        return [(self.val_features,)]

    @property
    def val_labels(self) -> np.ndarray:
        """`(m,)` integers."""
        return self.images.val_labels

    def arguments(self, epochs: int) -> dict[str, Any]:
        """A dataset of all epochs that gathers its batches inside TensorFlow."""
        loader = self.images.train
        views, count, _ = self.train.shape
        steps, size = self.steps_per_call(), loader.batch_size
        labels = loader.radiographs.require_labels()
        weights = self.images.class_weights or {0: 1.0, 1: 1.0}
        orders = np.stack([loader.order(epoch) + (epoch % views) * count for epoch in range(epochs)])
        with tf.device("CPU"):
            features = tf.constant(self.train.reshape(views * count, -1))
            targets = tf.constant(labels.astype(np.float32))
            sample_weights = tf.constant(np.where(labels == 1, weights[1], weights[0]).astype(np.float32))
            places = tf.constant(orders.astype(np.int32))

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            start = (step % steps) * size
            chosen = places[step // steps, start : start + size]
            rows = chosen % count
            return tf.gather(features, chosen), tf.gather(targets, rows), tf.gather(sample_weights, rows)

        dataset = tf.data.Dataset.range(steps * epochs).map(batch).prefetch(4)
        return {"x": dataset, "steps_per_epoch": steps, "shuffle": False, "epochs": epochs}

    def steps_per_call(self) -> int:
        """A whole epoch."""
        return len(self.images.train)


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and Keras' global random states: initial weights and dropout follow them."""
    keras.utils.set_random_seed(seed)


def fit(
    model: keras.Model,
    train: RadiographSet,
    val: RadiographSet,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    views: int | None = None,
    generator: Any = None,
    class_weights: Mapping[int, float] | str | None = "balanced",
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
) -> FitResult:
    """Fit a compiled model with class weights, keeping the weights of its best epoch.

    EarlyStopping and ModelCheckpoint watch the exact validation AUC, ReduceLROnPlateau the validation
    cross-entropy without penalties. Class weights act on each radiograph's loss.

    Args:
        model: a compiled model on raw gray pixels, as a HyperModel builds it.
        train: radiographs to learn from.
        val: radiographs to choose the best epoch on.
        epochs: at most this many passes over `train`.
        batch_size: radiographs a step.
        views: how many versions of each radiograph there are, epoch e showing view e mod `views`; 1 is no
            augmentation; `None` augments anew every epoch.
        generator: the augmentation; by default `RadiographDataGenerator()`.
        class_weights: `"balanced"`, computed from `train`; or a weight for 0 and for 1; or `None`.
        seed: of order and augmentation. Initial weights and dropout follow `set_seed`.
        checkpoint: a `.weights.h5` file that keeps the best weights while the fit goes on.

    Returns:
        The model with its best weights, and the history.

    Raises:
        ModelError: if the model is not compiled or its input is not an image.
        DataError: if a radiograph cannot be read.
    """
    description = describe(model, classes=train.class_names)
    data = ImageBatches.of(
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
    data.preload()
    return fit_on(model, data, epochs=epochs, checkpoint=checkpoint)


def fit_on(
    model: keras.Model,
    data: TrainingData,
    *,
    epochs: int,
    objective: str = "val_auc",
    patience: int = 5,
    checkpoint: str | PathLike[str] | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> FitResult:
    """Fit a compiled model on batches, keeping the weights of its best epoch; see `fit`."""
    if not model.compiled:
        raise ModelError("The model is not compiled. Call model.compile(...), or build it with a HyperModel.")
    mode = OBJECTIVES[objective]
    watching: list[keras.callbacks.Callback] = [
        ValidationScores(data.val, data.val_labels),
        keras.callbacks.EarlyStopping(objective, mode=mode, patience=patience, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2, min_lr=1e-6),
    ]
    if checkpoint is not None:
        watching.append(
            keras.callbacks.ModelCheckpoint(
                str(checkpoint), monitor=objective, mode=mode, save_best_only=True, save_weights_only=True
            )
        )
    model.steps_per_execution = data.steps_per_call()
    recorded = model.fit(**data.arguments(epochs), callbacks=[*watching, *callbacks], verbose=0)
    history = {name: [float(value) for value in values] for name, values in recorded.history.items()}
    return FitResult(model, history)


def best_epoch(history: Mapping[str, list[float]], objective: str = "val_auc") -> int:
    """The epoch whose weights `fit` gives back, counted from 0.

    Raises:
        ModelError: if the objective was NaN in every epoch.
    """
    scores = np.asarray(history[objective])
    if np.isnan(scores).all():
        raise ModelError(f"{objective} was never a number: the fit diverged. Lower the learning rate.")
    return int(np.nanargmax(scores) if OBJECTIVES[objective] == "max" else np.nanargmin(scores))


class ValidationScores(keras.callbacks.Callback):
    """Log exact validation figures, before any other callback reads them.

    `val_auc` is the exact area (Keras' own metric has 200 thresholds and misjudges saturated scores),
    `val_loss` the cross-entropy without penalties (so that trials with other penalties compare), and
    `val_accuracy` is taken at 0.5. Also logs `learning_rate` and `seconds` of the epoch.

    Args:
        batches: plain batches in a fixed order.
        labels: `(n,)` integers in that order.
    """

    def __init__(self, batches: Batches, labels: np.ndarray):
        super().__init__()
        self._batches = batches
        self._labels = labels
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Take the time."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the figures into `logs`."""
        if logs is None:
            return
        probabilities = forward(self.model, self._batches).reshape(-1).astype(np.float64)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        logs["val_loss"] = cross_entropy(self._labels, probabilities)
        logs["val_accuracy"] = float(np.mean((probabilities >= 0.5) == self._labels))
        logs["val_auc"] = (
            roc_auc(self._labels, probabilities) if np.isfinite(probabilities).all() else float("nan")
        )
        logs["seconds"] = time.perf_counter() - self._started


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean binary cross-entropy in nats, probabilities clipped to 1e-7 as Keras clips them."""
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels == 1, np.log(clipped), np.log1p(-clipped))))
