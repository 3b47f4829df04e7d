"""Compute a frozen network's features of each image once, and keep them.

The features of every requested view of a radiograph are looked up in a store. Missing ones are computed and
stored, while the next images are decoded and augmented.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pneumokeras.core.clock import clock
from pneumokeras.core.errors import DataError, SettingsError, first_line
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.models.forward import (
    InBatches,
    batch_by_batch,
    compiled,
    compiled_folded,
    compiled_in_bfloat16,
)
from pneumokeras.models.parts import fingerprint
from pneumokeras.models.saving import description_of
from pneumokeras.training.feature_store import FeatureStore, Rows

PRECISIONS = {"float32": compiled, "folded": compiled_folded, "bfloat16": compiled_in_bfloat16}
"""How a network is run, by the name of each precision; the first computes what the saved model computes."""

VERSION = 1
"""Raise it when radiographs are decoded, resized or augmented differently, so that no old feature is used."""

MIN_COSINE = {"folded": 0.9999, "bfloat16": 0.99}
"""Minimum cosine between an image's features in a precision and in float32, for every image of the probe.

EfficientNet-Lite0 is just above that of bfloat16, which costs a head .0001 of validation AUC; see
`tests/benchmarks/bench_precision.py`.
"""

BATCH_SIZE = 32
_OTHER_BATCH_SIZES = (16, 64)
_PROBE_FROM = 2000
"""Minimum number of views for which a probe saves more time than it takes."""

_DECODERS = {"opencv-python-headless": "5.0", "pydicom": "3.0"}
"""What decodes and resizes radiographs, in the versions that wrote the stores without a word of them."""


@dataclass(frozen=True)
class ExtractionProgress:
    """The state of an extraction after a batch.

    Attributes:
        wanted: number of requested views of images.
        found: how many of them were in the store already.
        done: how many of the others have been computed.
        images_per_second: rate so far.
        precision: the precision they are computed in.
    """

    wanted: int
    found: int
    done: int
    images_per_second: float
    precision: str

    @property
    def seconds_left(self) -> float:
        """Return the seconds left at the rate so far; 0 before the first batch."""
        return self._left / self.images_per_second if self.done else 0.0

    @property
    def _left(self) -> int:
        return self.wanted - self.found - self.done

    def __str__(self) -> str:
        """Return one line, such as `features: 1,024 views to go, 33 images/s, 0:31 left`."""
        line = f"features: {self._left:,} views to go" if self._left else f"features: {self.wanted:,} views"
        if self.done and self._left:
            line += f", {self.images_per_second:.0f} images/s, {clock(self.seconds_left)} left"
        return line


@dataclass(frozen=True, eq=False)
class Views:
    """The first views of each example of a loader; view 0 of a radiograph is plain.

    Attributes:
        loader: the radiographs in file order, then their copies if it oversamples; its generator, seed and
            image size decide what a view looks like.
        count: number of views.
    """

    loader: RadiographLoader
    count: int = 1

    @classmethod
    def of(cls, loader: RadiographLoader, *, epochs: int | None = None) -> Views:
        """Return the views that a loader shows, in that many epochs or in any number of them.

        Only the plain one is returned if their number is unlimited.
        """
        shown = loader.views or 1
        return cls(loader, shown if epochs is None else min(shown, epochs))

    def __len__(self) -> int:
        return self.count * len(self.loader.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the `(height, width, channels)` gray levels of a view; all examples of view 0 come first."""
        view, example = divmod(index, len(self.loader.rows))
        return self.loader.image(*self.loader.shown(example, view))

    def view_keys(self) -> list[bytes]:
        """Return the key of each view, in the same order."""
        examples = range(len(self.loader.rows))
        shown = [self.loader.shown(example, view) for view in range(self.count) for example in examples]
        return [self.loader.view_key(row, view) for row, view in shown]


@dataclass(frozen=True, eq=False)
class Features:
    """A network's features of some sets of views.

    Attributes:
        rows: the features of each set, in the order of `Views`.
        precision: the precision they were computed in.
    """

    rows: tuple[Rows, ...]
    precision: str


class Extractor:
    """A frozen network whose features are stored.

    Args:
        network: from `(n, height, width, channels)` raw pixels to features, vectors or maps.
        backbone: its name in `pneumokeras cache list`.
        weights: where its weights come from, for the same list.
        precision: `"float32"`, what the saved model computes; `"folded"`, the same to rounding; `"bfloat16"`;
            or `"auto"`: where there are many views, the one that a short probe finds fastest among those with
            nearly the same features. What a probe found is kept in the cache, so that the same sets have the
            same precision again, whatever else is stored.
        cache_dir: the cache's folder; by default `cache_folder()`.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        backbone: str,
        weights: str,
        precision: str = "auto",
        cache_dir: Path | None = None,
    ):
        if isinstance(network, keras.Sequential):
            network = keras.Model(network.inputs, network.outputs)
        self._network = network
        self._named = {"backbone": backbone, "weights": weights}
        self._setting = {
            "version": VERSION,
            "input_shape": list(network.input_shape[1:]),
            "network": fingerprint(network),
            **_other_decoders(),
        }
        self._precisions = tuple(PRECISIONS) if precision == "auto" else (precision,)
        self._cache_dir = cache_dir
        self._functions: dict[str, Callable[[np.ndarray], tf.Tensor]] = {}

    @classmethod
    def of(cls, network: keras.Model, model: keras.Model, *, precision: str = "float32") -> Extractor:
        """Return an extractor for the frozen part of a model, named as in the model's description."""
        description = description_of(model)
        return cls(
            network, backbone=description.architecture, weights=description.weights, precision=precision
        )

    def all_bytes(self, sets: Sequence[Views]) -> int:
        """Return the bytes that these sets take on disk, counting equal radiographs separately."""
        return sum(map(len, sets)) * self._store(sets, self._precisions[0]).row_bytes

    def missing_bytes(self, sets: Sequence[Views]) -> int:
        """Return the bytes that are still to be written for these sets, if what is stored is undamaged."""
        keys = _keys(sets)
        store = self._store(sets, self._known_precision(sets, keys) or self._precisions[0])
        return len(_once_each(keys, ~store.find(keys, verify=False).found)) * store.row_bytes

    def has_stored(self, sets: Sequence[Views]) -> bool:
        """Return whether the store holds features of this network, of these or other radiographs."""
        return any(self._store(sets, precision).exists() for precision in self._precisions)

    def features(
        self, sets: Sequence[Views], *, progress: Callable[[ExtractionProgress], None] | None = None
    ) -> Features:
        """Return the features of each view of each radiograph, computing those the store lacks.

        Args:
            sets: the wanted views, all of one image size and padding.
            progress: called after each batch.

        Raises:
            DataError: if a radiograph cannot be read or the store cannot be written.
        """
        keys = _keys(sets)
        places = [(views, index) for views in sets for index in range(len(views))]
        batch_size, precision = None, self._known_precision(sets, keys)
        if precision is None:
            everything = _once_each(keys, np.ones(len(keys), bool))
            precision, batch_size = self._probe(self._precisions, _sample(places, everything))
            self._keep_precision(sets, keys, precision)
        store = self._store(sets, precision)
        rows = store.find(keys)
        missing = _once_each(keys, ~rows.found)
        if batch_size is None and len(missing) >= _PROBE_FROM:
            _, batch_size = self._probe((precision,), _sample(places, missing))
        started, found = time.perf_counter(), len(keys) - len(missing)

        def report(done: int) -> None:
            if progress is not None:
                rate = done / max(time.perf_counter() - started, 1e-9)
                progress(ExtractionProgress(len(keys), found, done, rate, store.precision))

        def computed() -> Iterator[tuple[list[bytes], np.ndarray]]:
            done = 0
            batches = InBatches(_Chosen(places, missing), batch_size or BATCH_SIZE)
            for values in batch_by_batch(self._function(store.precision), batches):
                yield [keys[index] for index in missing[done : done + len(values)]], values
                done += len(values)
                report(done)

        report(0)
        if len(missing):
            store.write(computed())
            rows = store.find(keys)
        if not rows.found.all():
            raise DataError(
                f"Features vanished from {store.folder} while in use. Try again.", path=store.folder
            )
        ends = np.cumsum([len(views) for views in sets])
        parts = (replace(rows, places=places) for places in np.split(rows.places, ends[:-1]))
        return Features(tuple(parts), store.precision)

    def _store(self, sets: Sequence[Views], precision: str) -> FeatureStore:
        setting = self._setting | {"pad": sets[0].loader.pad, "precision": precision}
        if precision == "bfloat16":
            setting["folded"] = True  # the stores of 0.1 hold features of networks that were not
        shape = self._network.output_shape[1:]
        return FeatureStore(setting, shape, named=self._named, cache_dir=self._cache_dir)

    def _known_precision(self, sets: Sequence[Views], keys: Sequence[bytes]) -> str | None:
        """Return the precision for these views, whatever is stored; `None` if it takes a probe."""
        if len(self._precisions) == 1 or len(set(keys)) < _PROBE_FROM:
            return self._precisions[0]
        stores = [self._store(sets, precision) for precision in self._precisions]
        return next((store.precision for store in stores if store.has_note(_note_of(keys))), None)

    def _keep_precision(self, sets: Sequence[Views], keys: Sequence[bytes], precision: str) -> None:
        with contextlib.suppress(OSError):  # where nothing can be written, the first row says so
            self._store(sets, precision).note(_note_of(keys))

    def _function(self, precision: str) -> Callable[[np.ndarray], tf.Tensor]:
        if precision not in self._functions:
            try:
                self._functions[precision] = PRECISIONS[precision](self._network)
            except Exception as error:  # own layers and quantized ones fail in many ways
                raise SettingsError(
                    f"The frozen network cannot be run in {precision} ({first_line(error)}). "
                    "Expected `precision` as float32, or as auto.",
                    parameter="precision",
                ) from error
        return self._functions[precision]

    def _probe(self, precisions: Sequence[str], sample: np.ndarray) -> tuple[str, int]:
        """Return the fastest precision and batch size whose features nearly equal the first precision's."""
        alike = self._alike(precisions, sample)
        seconds = {(each, BATCH_SIZE): _seconds(self._function(each), sample, BATCH_SIZE) for each in alike}
        fastest, _ = min(seconds, key=seconds.__getitem__)
        for size in _OTHER_BATCH_SIZES:
            seconds[fastest, size] = _seconds(self._function(fastest), sample, size)
        return min(seconds, key=seconds.__getitem__)

    def _alike(self, precisions: Sequence[str], sample: np.ndarray) -> list[str]:
        """Return the first precision, and those whose features nearly equal its own."""
        first, *others = precisions
        if not others:
            return [first]
        alike, expected = [first], self._function(first)(sample).numpy()
        for precision in others:
            with contextlib.suppress(SettingsError):  # a network that runs in float32 only
                features = self._function(precision)(sample).numpy()
                if _cosines(features, expected).min() >= MIN_COSINE[precision]:
                    alike.append(precision)
        return alike


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Some of the views of all sets, read and augmented when they are indexed."""

    places: Sequence[tuple[Views, int]]
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, indices: slice, /) -> np.ndarray:
        chosen = [self.places[number] for number in self.numbers[indices]]
        return np.stack([views[index] for views, index in chosen])


def _sample(places: Sequence[tuple[Views, int]], numbers: np.ndarray) -> np.ndarray:
    """Return the first of some views, for a probe."""
    return _Chosen(places, numbers)[: max(_OTHER_BATCH_SIZES)]


def _note_of(keys: Sequence[bytes]) -> str:
    """Return the name under which a probe for these views is remembered."""
    return f"auto-{blake2b(b''.join(sorted(set(keys))), digest_size=8).hexdigest()}"


def _other_decoders() -> dict[str, dict[str, str]]:
    """Return what decodes radiographs in another minor version than `_DECODERS`; nothing if all are those."""
    others = {}
    for name, known in _DECODERS.items():
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = ".".join(metadata.version(name).split(".")[:2])
            if version != known:
                others[name] = version
    return {"decoders": others} if others else {}


def _keys(sets: Sequence[Views]) -> list[bytes]:
    return [key for views in sets for key in views.view_keys()]


def _once_each(keys: Sequence[bytes], wanted: np.ndarray) -> np.ndarray:
    """Return the first index of each wanted key, so that equal radiographs are computed once."""
    first: dict[bytes, int] = {}
    for index in np.flatnonzero(wanted).tolist():
        first.setdefault(keys[index], index)
    return np.array(list(first.values()), dtype=int)


def _seconds(function: Callable[[np.ndarray], tf.Tensor], images: np.ndarray, batch_size: int) -> float:
    """Return how long a function takes for the images, after one batch to warm TensorFlow up."""
    function(images[:batch_size]).numpy()
    started = time.perf_counter()
    for _ in batch_by_batch(function, InBatches(images, batch_size)):
        pass
    return time.perf_counter() - started


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the `(n,)` cosines between the features of each image."""
    one, other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.sum(one * other, axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
