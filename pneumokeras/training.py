"""The class-weighted fit: best weights by an exact validation score, and a history of every epoch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import Any, Protocol, Self

import keras
import numpy as np
import tensorflow as tf

from pneumokeras.data.datasets import RadiographSet
from pneumokeras.data.loaders import RadiographDataGenerator, RadiographLoader
from pneumokeras.errors import DataError, ModelError
from pneumokeras.evaluation.metrics import roc_auc
from pneumokeras.models.forward import Batches, InBatches, forward
from pneumokeras.optimizers import optimizers_of
from pneumokeras.schedules import Schedule
from pneumokeras.store import Rows

OBJECTIVES = {"val_auc": "max", "val_accuracy": "max", "val_loss": "min"}

MEMORY_LIMIT = 2 * 2**30
"""Stored features are trained on in memory as long as they take at most this many bytes, else from disk."""


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

    def batched(self, batch_size: int) -> Self:
        """The same, in training batches of another size."""


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
        oversample: float | None = None,
        seed: int = 0,
        pad: bool = False,
        channels: int = 1,
    ) -> ImageBatches:
        """Load batches from radiographs; arguments as for `RadiographLoader` and `fit`."""
        generator = RadiographDataGenerator() if generator is None else generator
        common: dict[str, Any] = {"image_size": image_size, "pad": pad, "channels": channels}
        loader = RadiographLoader(
            train,
            batch_size=batch_size,
            generator=generator,
            views=views,
            oversample=oversample,
            seed=seed,
            **common,
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

    def batched(self, batch_size: int) -> Self:
        """The same radiographs, decoded once for both."""
        loader = copy.copy(self.train)
        loader.batch_size = batch_size
        return replace(self, train=loader)


@dataclass(frozen=True, eq=False)
class FeatureBatches:
    """Batches of stored features, for what comes above them; in the order that `images` gives them.

    Attributes:
        images: what the features were computed from.
        train: the features of each view of the loader's examples, view by view.
        val_features: those of the plain validation radiographs.
    """

    images: ImageBatches
    train: Rows
    val_features: Rows

    @property
    def val(self) -> Batches:
        """In batches of 256."""
        return InBatches(self._val_array if self._in_memory else self.val_features, 256)

    @property
    def val_labels(self) -> np.ndarray:
        """`(m,)` integers."""
        return self.images.val_labels

    def arguments(self, epochs: int) -> dict[str, Any]:
        """A dataset of all epochs, whose batches TensorFlow gathers by itself if they are in memory."""
        loader = self.images.train
        labels = loader.radiographs.require_labels()[loader.rows]
        count, steps, size = len(labels), self.steps_per_call(), loader.batch_size
        views = len(self.train) // count
        weights = self.images.class_weights or {0: 1.0, 1: 1.0}
        orders = np.stack([loader.order(epoch) + (epoch % views) * count for epoch in range(epochs)])
        take = self._take
        with tf.device("CPU"):
            targets = tf.constant(labels.astype(np.float32))
            sample_weights = tf.constant(np.where(labels == 1, weights[1], weights[0]).astype(np.float32))
            places = tf.constant(orders.astype(np.int32))

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            start = (step % steps) * size
            chosen = places[step // steps, start : start + size]
            rows = chosen % count
            return take(chosen), tf.gather(targets, rows), tf.gather(sample_weights, rows)

        dataset = tf.data.Dataset.range(steps * epochs).map(batch).prefetch(4)
        return {"x": dataset, "steps_per_epoch": steps, "shuffle": False, "epochs": epochs}

    def steps_per_call(self) -> int:
        """A whole epoch."""
        return len(self.images.train)

    def batched(self, batch_size: int) -> Self:
        """The same features."""
        return replace(self, images=self.images.batched(batch_size))

    @property
    def _in_memory(self) -> bool:
        return 4 * math.prod(self.train.shape) * len(self.train) <= MEMORY_LIMIT

    @cached_property
    def _val_array(self) -> np.ndarray:
        return self.val_features[:]

    @cached_property
    def _take(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """From `(b,)` places in `train` to `(b, ...)` features."""
        if self._in_memory:
            with tf.device("CPU"):
                features = tf.constant(self.train[:])
            return lambda places: tf.gather(features, places)

        def read(places: tf.Tensor) -> tf.Tensor:
            values = tf.numpy_function(self.train.__getitem__, [places], tf.float32, stateful=False)
            return tf.ensure_shape(values, (None, *self.train.shape))

        return read


def require_objective(objective: str) -> None:
    """Refuse what no epoch can be chosen by.

    Raises:
        DataError: if there is no such objective.
    """
    if objective not in OBJECTIVES:
        raise DataError(f"Unknown objective {objective!r}. Expected one of {', '.join(OBJECTIVES)}.")


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and Keras' global random states: initial weights and dropout follow them."""
    keras.utils.set_random_seed(seed)


def fit_on(
    model: keras.Model,
    data: TrainingData,
    *,
    epochs: int,
    objective: str = "val_auc",
    schedule: Schedule | None = None,
    checkpoint: str | PathLike[str] | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> FitResult:
    """Fit a compiled model on batches, by default keeping the weights of its best epoch.

    EarlyStopping and ModelCheckpoint watch the objective, ReduceLROnPlateau the validation cross-entropy
    without penalties.

    Args:
        model: a compiled model for these batches.
        data: what to learn from, and what to choose the best epoch on.
        epochs: at most so many.
        objective: what makes an epoch the best.
        schedule: when the learning rate falls, when the fit ends, which weights are kept; by default
            `Schedule()`.
        checkpoint: a `.weights.h5` file that keeps these weights while the fit goes on.
        callbacks: further ones.

    Returns:
        The model with these weights, and the history.

    Raises:
        ModelError: if the model is not compiled.
    """
    if not model.compiled:
        raise ModelError("The model is not compiled. Call model.compile(...), or build it with a HyperModel.")
    watching = (schedule or Schedule()).callbacks(objective, OBJECTIVES[objective], checkpoint=checkpoint)
    scores = ValidationScores(data.val, data.val_labels)
    model.steps_per_execution = data.steps_per_call()
    recorded = model.fit(**data.arguments(epochs), callbacks=[scores, *watching, *callbacks], verbose=0)
    history = {name: [float(value) for value in values] for name, values in recorded.history.items()}
    return FitResult(model, history)


def best_of(scores: Iterable[float], objective: str) -> float | None:
    """The best of some scores; `None` if none is a number."""
    best = max if OBJECTIVES[objective] == "max" else min
    return best((score for score in scores if not math.isnan(score)), default=None)


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
    `val_accuracy` is taken at 0.5. Also logs `learning_rate` (the head's, where there are two) and `seconds`
    of the epoch.

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
        logs["learning_rate"] = float(optimizers_of(self.model)[-1].learning_rate)
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
