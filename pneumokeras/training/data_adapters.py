"""Batches of images or of stored features, with class weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import tensorflow as tf

from pneumokeras.core.errors import DataError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.loader import MEMORY_LIMIT, RadiographLoader
from pneumokeras.models.forward import Batches, InBatches
from pneumokeras.training.feature_store import Rows
from pneumokeras.training.settings import BatchSettings


class TrainingData(Protocol):
    """The batches that a model is fitted and validated on: images, or stored features."""

    @property
    def val(self) -> Batches:
        """Batches without augmentation, in a fixed order."""

    @property
    def val_labels(self) -> np.ndarray:
        """`(n,)` integers, in that order."""

    def arguments(self, epochs: int) -> dict[str, Any]:
        """Return the arguments of `model.fit` for `epochs` epochs."""

    def steps_per_call(self) -> int:
        """Return Keras' `steps_per_execution`."""

    def batched(self, batch_size: int) -> Self:
        """Return the same data in training batches of another size."""


@dataclass(frozen=True, eq=False)
class ImageBatches:
    """Batches of images, for a full model.

    Attributes:
        train: augmented, and shuffled anew in each epoch.
        val: without augmentation, in file order.
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
        settings: BatchSettings,
        *,
        image_size: tuple[int, int],
        channels: int = 1,
        workers: int = 2,
    ) -> ImageBatches:
        """Return the batches of a training and a validation set.

        Args:
            train: radiographs to learn from.
            val: radiographs to choose the best epoch on.
            settings: batch size, augmentation, class weights, seed and padding.
            image_size: `(height, width)` in pixels.
            channels: 1 or 3, see `RadiographLoader`.
            workers: threads that prepare batches.

        Raises:
            DataError: if the generator preprocesses pixels, or there are no labels.
        """
        common: dict[str, Any] = {
            "image_size": image_size,
            "pad": settings.pad,
            "channels": channels,
            "workers": workers,
        }
        loader = RadiographLoader(
            train,
            batch_size=settings.batch_size,
            generator=settings.generator,
            views=settings.views,
            oversample=settings.oversample,
            seed=settings.seed,
            **common,
        )
        plain = RadiographLoader(
            val.at_depth(train.depth.bits), batch_size=max(settings.batch_size, 64), **common
        )
        return cls(loader, plain, val.require_labels(), settings.class_weights_for(train))

    def preload(self) -> None:
        """Read every radiograph once: a bad file is an error now, not in the middle of an epoch."""
        self.train.preload()
        self.val.preload()

    def arguments(self, epochs: int) -> dict[str, Any]:
        """Return the loader, reset to epoch 0."""
        self.train.reset()
        # The loader shuffles by its own seed.
        return {"x": self.train, "class_weight": self.class_weights, "shuffle": False, "epochs": epochs}

    def steps_per_call(self) -> int:
        """Return 1: each batch comes from Python."""
        return 1

    def batched(self, batch_size: int) -> Self:
        """Return the same radiographs in batches of another size; both share the decoded pixels."""
        loader = copy.copy(self.train)
        loader.batch_size = batch_size
        return replace(self, train=loader)


@dataclass(frozen=True, eq=False)
class FeatureBatches:
    """Batches of stored features, for the layers above them, in the order of `images`.

    Attributes:
        images: the batches that the features were computed from.
        train: features of each view of the loader's examples, view by view.
        val_features: features of the validation radiographs.
    """

    images: ImageBatches
    train: Rows
    val_features: Rows

    @property
    def val(self) -> Batches:
        """Validation features in batches of 256."""
        return InBatches(self._val_array if self._in_memory else self.val_features, 256)

    @property
    def val_labels(self) -> np.ndarray:
        """`(m,)` integers."""
        return self.images.val_labels

    def arguments(self, epochs: int) -> dict[str, Any]:
        """Return one dataset of all epochs; features in memory are gathered by TensorFlow itself."""
        loader = self.images.train
        labels = loader.radiographs.require_labels()[loader.rows]
        count, steps, size = len(labels), len(loader), loader.batch_size
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
        """Return the steps of a whole epoch; 1 under a distribution strategy, which cannot loop over them."""
        return 1 if tf.distribute.has_strategy() else len(self.images.train)

    def batched(self, batch_size: int) -> Self:
        """Return the same features in batches of another size."""
        _ = self._take  # made once, so that all trials share it
        batches = copy.copy(self)
        object.__setattr__(batches, "images", self.images.batched(batch_size))
        return batches

    @property
    def _in_memory(self) -> bool:
        rows = len(self.train) + len(self.val_features)
        return 4 * math.prod(self.train.shape) * rows <= MEMORY_LIMIT

    @cached_property
    def _val_array(self) -> np.ndarray:
        return self.val_features[:]

    @cached_property
    def _take(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Function from `(b,)` places in `train` to `(b, ...)` features."""
        if self._in_memory:
            with tf.device("CPU"):
                features = tf.constant(self.train[:])
            return lambda places: tf.gather(features, places)

        def read(places: tf.Tensor) -> tf.Tensor:
            values = tf.numpy_function(self.train.__getitem__, [places], tf.float32, stateful=False)
            return tf.ensure_shape(values, (None, *self.train.shape))

        return read


def require_both_classes(train: RadiographSet, val: RadiographSet, *, objective: str = "val_auc") -> None:
    """Refuse sets that nothing can be learned from or chosen on, before anything is trained.

    Args:
        train: radiographs to learn from.
        val: radiographs to choose on; for `"val_accuracy"` and `"val_loss"` one class is enough.
        objective: what is chosen by.

    Raises:
        DataError: if one of them is empty, lacks a class or has no labels.
    """
    for name, radiographs in (("train", train), ("val", val)):
        radiographs.require_labels()
        absent = [class_name for class_name, count in radiographs.counts.items() if not count]
        if len(absent) == 2 or (absent and (name == "train" or objective == "val_auc")):
            raise DataError(
                f"{name} has no {absent[0]} radiographs ({len(radiographs)} in all). Expected both classes, "
                + ("to learn from." if name == "train" else "to choose the best epoch and a threshold on."),
                parameter=name,
            )
