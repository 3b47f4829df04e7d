"""Batches of raw gray pixels for `model.fit`, augmented by a generator."""

from __future__ import annotations

import json
import math
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from keras.utils import PyDataset

from pneumokeras.core.arguments import finite, seed_number, whole
from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.augmentation import (
    Generator,
    augmentation_settings,
    draw_parameters,
    is_identified,
    require_fit,
    usable_generator,
)
from pneumokeras.data.dataset import RadiographSet, in_threads, require_set
from pneumokeras.data.images.image import height_and_width

MEMORY_LIMIT = 2 * 2**30
"""Pixels are kept in memory between epochs if those of a whole set take at most this many bytes."""

_UNLIMITED_VIEWS = 2**32
"""Distance between the views of a radiograph and of its copies when each epoch shows a new view."""


class RadiographLoader(PyDataset):
    """Batches of raw gray pixels for `model.fit`, `evaluate`, `predict` and Keras Tuner's `search`.

    With a generator, the radiographs are shuffled and epoch e shows view e mod `views`: view 0 is the plain
    radiograph, all others are augmented. Without a generator they are plain and in file order in every epoch.
    Augmentation depends only on the seed, the view and the radiograph's content, never on a global state.

    With `oversample`, an epoch shows the smaller class more often. Examples 0 to n - 1 are the radiographs,
    the others are copies from the smaller class: each of its radiographs is copied once before any is copied
    twice. A copy has its own views, all of them augmented: with `views=1` each radiograph is plain and each
    copy is one augmented version that stays the same.

    Pass `shuffle=False` to Keras' own `fit`. Otherwise it shuffles an epoch's batches again, by Python's
    global random state.

    Args:
        radiographs: the set; its order is kept unless shuffled.
        image_size: side in pixels, or `(height, width)`.
        batch_size: radiographs per batch; the last batch of an epoch may be smaller.
        generator: a `RadiographDataGenerator`, your own `ImageDataGenerator`, or augmentation layers of
            Keras, such as `keras.layers.RandomFlip` or a `Sequential` of several.
        views: number of versions of each radiograph; 1 is no augmentation; `None` draws a new augmented
            version in every epoch, the first included.
        shuffle: whether to change the order in each epoch; by default only with a generator.
        seed: seed of order and augmentation.
        pad: keep the aspect ratio and pad with black, instead of stretching.
        oversample: copy radiographs of the smaller class until this ratio of the larger to the smaller is
            reached, at least 1; `None` makes no copies.
        workers: number of threads that prepare batches for `fit`.
        channels: 1, or 3 to repeat the gray levels for a model that takes color.

    Raises:
        SettingsError: if a number is out of range, if `oversample` comes without a generator, or if the
            generator does what the model does itself (rescaling, preprocessing function, featurewise or
            samplewise options), changes the shape of an image, mixes images, or has weights.
        DataError: if a class to be oversampled has no radiographs.

    Attributes:
        rows: `(k,)` integers, the radiograph that each example shows: 0 to n - 1, then the copies.

    Example:
        >>> splits = pk.load_splits("chest_xray")
        >>> generator = pk.RadiographDataGenerator(rotation_range=5)
        >>> loader = pk.RadiographLoader(splits.train, image_size=32, generator=generator, views=4)
        >>> images, labels = loader[0]
        >>> images.shape, labels.shape
        ((32, 32, 32, 1), (32,))
    """

    def __init__(
        self,
        radiographs: RadiographSet,
        image_size: int | tuple[int, int] = 224,
        *,
        batch_size: int = 32,
        generator: Generator | None = None,
        views: int | None = None,
        shuffle: bool | None = None,
        seed: int = 0,
        pad: bool = False,
        oversample: float | None = None,
        workers: int = 2,
        channels: int = 1,
    ):
        super().__init__(workers=whole("workers", workers, minimum=0))
        require_set(radiographs)
        if channels not in (1, 3):
            raise SettingsError(f"Expected 1 or 3 channels. Received {channels}.", parameter="channels")
        generator = usable_generator(generator)
        if oversample is not None and generator is None:
            raise SettingsError(
                "Expected a generator with `oversample`, to augment the copies.", parameter="oversample"
            )
        self.radiographs = radiographs
        self.image_size = height_and_width(image_size)
        require_fit(generator, self.image_size)
        self.batch_size = whole("batch_size", batch_size)
        self.generator = generator
        self.views = None if views is None else whole("views", views)
        self.shuffle = generator is not None if shuffle is None else shuffle
        self.seed = seed_number(seed)
        self.pad = pad
        self.channels = channels
        self.rows, self._copies = _examples(radiographs, oversample, self.seed)
        self.epoch = 0
        self._epoch_started = False
        self._position = 0
        self._decoded: dict[int, np.ndarray] = {}
        self._keeps_pixels = len(radiographs) * math.prod(self.image_size) <= MEMORY_LIMIT

    def __repr__(self) -> str:
        """Return one line with what is loaded, at which size, in which batches."""
        height, width = self.image_size
        augmented = "" if self.generator is None else ", augmented"
        return (
            f"<RadiographLoader of {len(self.rows)} examples at {height} x {width}, "
            f"{len(self)} batches of {self.batch_size}{augmented}>"
        )

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray] | tuple[np.ndarray]:
        """Return a batch of the current epoch.

        Args:
            index: 0 to the number of batches - 1, or negative to count from the end.

        Returns:
            `(b, height, width, channels)` gray levels 0 to 255, and `(b,)` labels if the set is labeled; both
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
        """Return the next batch, epoch after epoch without end, as `ImageDataGenerator.flow` does."""
        batch = self[self._position]
        self._epoch_started = True
        self._position += 1
        if self._position == len(self):
            self.on_epoch_end()
        return batch

    def on_epoch_begin(self) -> None:
        """Note that an epoch has started."""
        self._epoch_started = True

    def on_epoch_end(self) -> None:
        """Advance to the next epoch, with another view and another order.

        `fit` also calls this once before its first epoch; that call has no effect.
        """
        if self._epoch_started:
            self.epoch += 1
        self._epoch_started = False
        self._position = 0

    def reset(self) -> None:
        """Go back to epoch 0."""
        self.epoch = 0
        self._epoch_started = False
        self._position = 0

    @property
    def view(self) -> int | None:
        """The view that the current epoch shows; 0 and `None` are plain."""
        if self.generator is None:
            return None
        return self.epoch + 1 if self.views is None else self.epoch % self.views

    def order(self, epoch: int) -> np.ndarray:
        """Return the order in which an epoch shows the examples, `(k,)` integers."""
        examples = np.arange(len(self.rows))
        return np.random.default_rng([self.seed, epoch]).permutation(examples) if self.shuffle else examples

    def shown(self, example: int, view: int | None) -> tuple[int, int | None]:
        """Return the row of an example's radiograph, and its own view in an epoch that shows `view`."""
        copy = int(self._copies[example])
        own_view = view if view is None else view + copy * (self.views or _UNLIMITED_VIEWS)
        return self.rows[example], own_view

    def image(self, row: int, view: int | None) -> np.ndarray:
        """Return one view of one radiograph.

        Args:
            row: index of the radiograph, 0 to n - 1.
            view: 0 or `None` for the plain radiograph.

        Returns:
            `(height, width, channels)` `float32` gray levels 0 to 255.
        """
        pixels = self._pixels(row).astype(np.float32)[..., np.newaxis]
        if self.generator is not None and view:
            seed = _seed_of_view(self.seed, view, self.radiographs.digests[row])
            parameters = draw_parameters(self.generator, pixels.shape, seed)
            pixels = np.asarray(self.generator.apply_transform(pixels, parameters), dtype=np.float32)
        return pixels if self.channels == 1 else np.repeat(pixels, self.channels, axis=-1)

    def preload(self) -> None:
        """Read every radiograph once, and keep the pixels if they fit into memory.

        A bad file is then an error before training starts, not in the middle of an epoch.

        Raises:
            DataError: naming the first radiograph of the set that cannot be read or decoded.
        """

        def read(row: int) -> None:
            self._pixels(row)

        in_threads(read, len(self.radiographs))

    @property
    def storable(self) -> bool:
        """Whether `view_key` identifies a view, which it cannot with a generator of another class."""
        return self.views is not None and is_identified(self.generator)

    @cached_property
    def _augmentation(self) -> dict[str, Any]:
        return augmentation_settings(self.generator)

    def view_key(self, row: int, view: int | None) -> bytes:
        """Return 16 bytes that are equal if and only if view and content are the same."""
        augmentation = [self._augmentation, self.seed, view] if self.generator and view else []
        depth = self.radiographs.depth.bits
        content = json.dumps(
            [self.radiographs.digests[row], augmentation, *([depth] if depth and depth > 8 else [])],
            sort_keys=True,
        )
        return blake2b(content.encode(), digest_size=16).digest()

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
    """Return `(k,)` rows and `(k,)` copy numbers: 0 for a radiograph itself, 1 for its first copy, ..."""
    rows = np.arange(len(radiographs))
    if oversample is None:
        return rows, np.zeros_like(rows)
    labels = radiographs.require_labels()
    counts = np.bincount(labels, minlength=2)
    oversample = finite("oversample", oversample, minimum=1)
    if not counts.all():
        raise DataError(
            f"Expected radiographs of both classes to oversample. Received {counts[0]} and {counts[1]}."
        )
    smaller = np.flatnonzero(labels == np.argmin(counts))
    missing = max(round(counts.max() / oversample) - len(smaller), 0)
    copied = np.resize(np.random.default_rng(seed).permutation(smaller), missing)
    numbers = np.arange(missing) // len(smaller) + 1
    return np.concatenate([rows, copied]), np.concatenate([np.zeros_like(rows), numbers])


def _seed_of_view(seed: int, view: int, digest: str) -> int:
    return int(np.random.SeedSequence([seed, view, int(digest, 16)]).generate_state(1)[0])
