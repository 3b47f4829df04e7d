"""Batches of raw gray pixels for `model.fit`, augmented as Keras' ImageDataGenerator does it, only faster."""

from __future__ import annotations

import json
import math
import operator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import blake2b
from numbers import Integral
from typing import Any

import numpy as np
from keras.utils import PyDataset
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.core.errors import DataError
from pneumokeras.data.augmentation import (
    RadiographDataGenerator,
    augmentation_settings,
    drawn_parameters,
    refuse_preprocessing,
)
from pneumokeras.data.dataset import RadiographSet

MEMORY_LIMIT = 2 * 2**30
"""Decoded pixels are kept between epochs as long as a set takes at most this many bytes."""

_VIEWS_WITHOUT_END = 2**32
"""How far apart the views of a radiograph and of its copies are where each epoch shows a new one."""


class RadiographLoader(PyDataset):
    """Batches of a set for `model.fit`, `evaluate`, `predict` and Keras Tuner's `search`.

    With a generator, the radiographs are shuffled, and epoch e shows view e mod `views`: view 0 is the
    plain radiograph, every other one is augmented. Without one they come plain and in file order, always.
    What is drawn depends on the seed, the view and the radiograph's content, never on a global state.

    With `oversample`, an epoch shows the smaller class more often: examples 0 to n - 1 are the radiographs,
    the further ones are copies of radiographs of that class, each of which at first is copied once, then
    some a second time, and so on. A copy has views of its own, all of them augmented: with `views=1` each
    radiograph is plain and each copy is one augmented version that stays as it is.

    Call Keras' own `fit` with `shuffle=False`: else it shuffles the batches of an epoch once more, by
    Python's global state.

    Args:
        radiographs: the set; its order is kept unless shuffled.
        image_size: side in pixels, or `(height, width)`.
        batch_size: radiographs a batch; the last batch of an epoch may be smaller.
        generator: a `RadiographDataGenerator`, or your own `ImageDataGenerator`.
        views: how many versions of each radiograph there are; `None` for a new one every epoch, from the
            first; 1 is no augmentation.
        shuffle: whether the order changes with each epoch; by default it does if there is a generator.
        seed: of order and augmentation.
        pad: keep the proportions and fill up with black, instead of stretching.
        oversample: add copies of the smaller class until the larger is about this many times as large, at
            least 1; `None` adds none.
        workers: threads that `fit` prepares batches with.
        channels: 1, or 3 for a model that takes color: the gray levels, three times over.

    Raises:
        DataError: if the generator does what the model does itself (rescaling, preprocessing function,
            featurewise or samplewise options), a number is out of range, or there are copies to be made
            without a generator or without both classes.

    Attributes:
        rows: `(k,)` integers: which radiograph each example shows; 0 to n - 1 and then the copies.
    """

    def __init__(
        self,
        radiographs: RadiographSet,
        image_size: int | tuple[int, int] = 224,
        *,
        batch_size: int = 32,
        generator: ImageDataGenerator | None = None,
        views: int | None = None,
        shuffle: bool | None = None,
        seed: int = 0,
        pad: bool = False,
        oversample: float | None = None,
        workers: int = 2,
        channels: int = 1,
    ):
        super().__init__(workers=workers)
        if batch_size < 1 or (views is not None and views < 1):
            raise DataError(
                f"Expected batch_size and views of at least 1. Received {batch_size} and {views}."
            )
        if channels not in (1, 3):
            raise DataError(f"Expected 1 or 3 channels. Received {channels}.")
        refuse_preprocessing(generator)
        if oversample is not None and generator is None:
            raise DataError("Expected a generator to augment the copies that oversample asks for.")
        self.radiographs = radiographs
        self.image_size = _height_and_width(image_size)
        self.batch_size = batch_size
        self.generator = generator
        self.views = views
        self.shuffle = generator is not None if shuffle is None else shuffle
        self.seed = seed
        self.pad = pad
        self.channels = channels
        self.rows, self._copies = _examples(radiographs, oversample, seed)
        self.epoch = 0
        self._under_way = False
        self._position = 0
        self._decoded: dict[int, np.ndarray] = {}
        self._keeps_pixels = len(radiographs) * math.prod(self.image_size) <= MEMORY_LIMIT

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray] | tuple[np.ndarray]:
        """One batch of the current epoch.

        Args:
            index: 0 to the number of batches - 1, or negative to count from the end.

        Returns:
            `(b, height, width, channels)` gray levels 0 to 255, and `(b,)` labels if the set has any;
            `float32`.

        Raises:
            IndexError: if there is no such batch.
        """
        first = range(len(self))[index] * self.batch_size
        examples = self.order(self.epoch)[first : first + self.batch_size]
        images = np.stack([self.image(*self.shown(example, self.view)) for example in examples])
        if self.radiographs.labels is None:
            return (images,)
        return images, self.radiographs.labels[self.rows[examples]].astype(np.float32)

    def __iter__(self) -> RadiographLoader:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray] | tuple[np.ndarray]:
        """The next batch, epoch after epoch without end, as `ImageDataGenerator.flow` gives them."""
        batch = self[self._position]
        self._under_way = True
        self._position += 1
        if self._position == len(self):
            self.on_epoch_end()
        return batch

    def on_epoch_begin(self) -> None:
        """Note that an epoch is under way."""
        self._under_way = True

    def on_epoch_end(self) -> None:
        """Go on to the next epoch: another view, another order.

        `fit` also calls this once before its first epoch, which is not counted.
        """
        if self._under_way:
            self.epoch += 1
        self._under_way = False
        self._position = 0

    def reset(self) -> None:
        """Go back to epoch 0."""
        self.epoch = 0
        self._under_way = False
        self._position = 0

    @property
    def view(self) -> int | None:
        """Which view the current epoch shows; 0 and `None` are plain."""
        if self.generator is None:
            return None
        return self.epoch + 1 if self.views is None else self.epoch % self.views

    def order(self, epoch: int) -> np.ndarray:
        """`(k,)` integers: the order in which epoch `epoch` shows the examples."""
        examples = np.arange(len(self.rows))
        return np.random.default_rng([self.seed, epoch]).permutation(examples) if self.shuffle else examples

    def shown(self, example: int, view: int | None) -> tuple[int, int | None]:
        """Which radiograph an example is, and which of its views it shows in an epoch that shows `view`."""
        copy = int(self._copies[example])
        own = view if view is None else view + copy * (self.views or _VIEWS_WITHOUT_END)
        return self.rows[example], own

    def image(self, row: int, view: int | None) -> np.ndarray:
        """One view of one radiograph.

        Args:
            row: which radiograph, 0 to n - 1.
            view: 0 or `None` for the plain radiograph.

        Returns:
            `(height, width, channels)` `float32` gray levels 0 to 255.
        """
        pixels = self._pixels(row).astype(np.float32)[..., np.newaxis]
        if self.generator is not None and view:
            seed = _seed_of_view(self.seed, view, self.radiographs.digests[row])
            parameters = drawn_parameters(self.generator, pixels.shape, seed)
            pixels = np.asarray(self.generator.apply_transform(pixels, parameters), dtype=np.float32)
        return pixels if self.channels == 1 else np.repeat(pixels, self.channels, axis=-1)

    def preload(self) -> None:
        """Read every radiograph once, and keep what fits into memory.

        So that a bad file is an error before a training starts, not in the middle of an epoch.

        Raises:
            DataError: of the first radiograph, in the set's order, that cannot be read or decoded.
        """

        def read(row: int) -> None:
            self._pixels(row)

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(read, range(len(self.radiographs))):
                pass

    @property
    def storable(self) -> bool:
        """Whether `view_key` tells all that a view depends on; of somebody's own generator it cannot."""
        return self.views is not None and type(self.generator) in (
            RadiographDataGenerator,
            ImageDataGenerator,
            type(None),
        )

    @cached_property
    def _augmentation(self) -> dict[str, Any]:
        return augmentation_settings(self.generator)

    def view_key(self, row: int, view: int | None) -> bytes:
        """16 bytes that are the same for the same view of the same content, and else differ."""
        drawn = [self._augmentation, self.seed, view] if self.generator and view else []
        what = json.dumps([self.radiographs.digests[row], drawn], sort_keys=True)
        return blake2b(what.encode(), digest_size=16).digest()

    def _pixels(self, row: int) -> np.ndarray:
        pixels = self._decoded.get(row)
        if pixels is None:
            pixels = self.radiographs.read(row, self.image_size, pad=self.pad)
            if self._keeps_pixels:
                self._decoded[row] = pixels
        return pixels


def _examples(
    radiographs: RadiographSet, oversample: float | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`(k,)` rows and `(k,)` numbers: 0 for a radiograph itself, 1 for its first copy and so on."""
    rows = np.arange(len(radiographs))
    if oversample is None:
        return rows, np.zeros_like(rows)
    labels = radiographs.require_labels()
    counts = np.bincount(labels, minlength=2)
    if not oversample >= 1 or not counts.all():
        raise DataError(
            "Expected oversample of at least 1, and radiographs of both classes. "
            f"Received {oversample}, and {counts[0]} and {counts[1]} radiographs."
        )
    smaller = np.flatnonzero(labels == np.argmin(counts))
    missing = max(round(counts.max() / oversample) - len(smaller), 0)
    copied = np.resize(np.random.default_rng(seed).permutation(smaller), missing)
    numbers = np.arange(missing) // len(smaller) + 1
    return np.concatenate([rows, copied]), np.concatenate([np.zeros_like(rows), numbers])


def _height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (image_size, image_size) if isinstance(image_size, int | Integral) else image_size
        return operator.index(height), operator.index(width)
    except (TypeError, ValueError):
        raise DataError(
            f"Expected image_size as a side or (height, width), in whole pixels. Received {image_size!r}."
        ) from None


def _seed_of_view(seed: int, view: int, digest: str) -> int:
    return int(np.random.SeedSequence([seed, view, int(digest, 16)]).generate_state(1)[0])
