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

from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.models.forward import Batches, InBatches
from pneumokeras.training.feature_store import Rows

MEMORY_LIMIT = 2 * 2**30
"""Stored features are trained on in memory as long as they take at most this many bytes, else from disk."""


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
