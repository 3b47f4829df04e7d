"""What a frozen backbone says of each image, computed once and kept on disk.

A store is a folder of shards, each written by one process and never touched again: `<shard>.rows` holds the
features one after another, `<shard>.keys` a key and a checksum for each row. A row counts once its key is
there, so an interrupted extraction keeps what it finished; a row whose checksum is wrong is computed again.
Processes that share a store never wait for each other; at worst a row is there twice.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

import keras
import numpy as np

from pneumokeras.data.loaders import RadiographLoader
from pneumokeras.errors import DataError
from pneumokeras.files import read_json, write_json
from pneumokeras.models.forward import batch_by_batch, compiled

_RECORD = np.dtype([("key", "V16"), ("checksum", "<u4")])


@dataclass(frozen=True)
class ExtractionProgress:
    """Where an extraction stands, after each batch.

    Attributes:
        wanted: views of images asked for.
        found: how many of them were in the store already.
        done: how many of the others are computed.
        images_per_second: so far.
    """

    wanted: int
    found: int
    done: int
    images_per_second: float

    @property
    def seconds_left(self) -> float:
        """At the rate so far."""
        left = self.wanted - self.found - self.done
        return left / self.images_per_second if left else 0.0


@dataclass(frozen=True)
class StoredFeatures:
    """What lies in the cache for one way of computing features.

    Attributes:
        folder: where.
        setting: what was computed how.
        rows: views of images.
        size: bytes on disk.
    """

    folder: Path
    setting: Mapping[str, Any]
    rows: int
    size: int


class FeatureStore:
    """Rows of features by key, in one folder for one way of computing them.

    Args:
        setting: everything that decides what the features are, but for the image; plain JSON, with the key
            `backbone`.
        width: features a row.
        cache: the cache's folder; by default `cache_folder()`.

    Raises:
        DataError: if the folder cannot be written.
    """

    def __init__(self, setting: Mapping[str, Any], width: int, *, cache: Path | None = None):
        name = blake2b(json.dumps(setting, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.folder = (cache or cache_folder()) / "features" / f"{setting['backbone']}-{name}"
        self.width = width
        try:
            if not (self.folder / "setting.json").exists():
                write_json(self.folder / "setting.json", {**setting, "width": width})
        except OSError as error:
            raise DataError(
                f"Cannot write features to {self.folder} ({error.strerror}). Name another folder with "
                "PNEUMOKERAS_CACHE, or go without with --no-cache."
            ) from error

    def read(self, keys: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """The rows of some keys.

        Args:
            keys: `(n,)` keys of 16 bytes.

        Returns:
            `(n, width)` `float32` features, and `(n,)` booleans: whether a row was there and undamaged.
        """
        wanted: dict[bytes, list[int]] = {}
        for index, key in enumerate(keys):
            wanted.setdefault(key, []).append(index)
        features = np.zeros((len(keys), self.width), np.float32)
        found = np.zeros(len(keys), bool)
        for shard in sorted(self.folder.glob("*.keys")):
            self._read_shard(shard, wanted, features, found)
        return features, found

    def _read_shard(
        self, shard: Path, wanted: Mapping[bytes, list[int]], features: np.ndarray, found: np.ndarray
    ) -> None:
        rows_file = shard.with_suffix(".rows")
        row_bytes = self.width * 4
        size = rows_file.stat().st_size if rows_file.exists() else 0
        content = shard.read_bytes()
        records = np.frombuffer(
            content, _RECORD, count=min(len(content) // _RECORD.itemsize, size // row_bytes)
        )
        if not len(records):
            return
        rows = np.memmap(rows_file, np.float32, mode="r", shape=(len(records), self.width))
        for number, record in enumerate(records):
            places = wanted.get(record["key"].tobytes())
            if places and not found[places[0]] and crc32(rows[number].data) == record["checksum"]:
                features[places] = rows[number]
                found[places] = True

    def write(self, batches: Iterator[tuple[Sequence[bytes], np.ndarray]]) -> None:
        """Append rows batch by batch; what was appended stays if the iterator raises.

        Args:
            batches: keys of 16 bytes, and their `(b, width)` `float32` rows.

        Raises:
            DataError: if the disk is full or cannot be written.
        """
        shard = self.folder / uuid.uuid4().hex
        try:
            with shard.with_suffix(".rows").open("wb") as rows, shard.with_suffix(".keys").open("wb") as keys:
                for batch, features in batches:
                    features = np.ascontiguousarray(features, np.float32)
                    records = np.array(
                        [(key, crc32(row.data)) for key, row in zip(batch, features, strict=True)], _RECORD
                    )
                    rows.write(features.data)
                    rows.flush()
                    keys.write(records.tobytes())
                    keys.flush()
        except OSError as error:
            raise DataError(
                f"Cannot write features to {self.folder} ({error.strerror}). Make room, name another folder "
                "with PNEUMOKERAS_CACHE, or go without with --no-cache."
            ) from error


def cache_folder() -> Path:
    """Where features lie: `PNEUMOKERAS_CACHE`, or `~/.cache/pneumokeras`."""
    return Path(os.environ.get("PNEUMOKERAS_CACHE") or Path.home() / ".cache" / "pneumokeras")


def stored_features(cache: Path | None = None) -> list[StoredFeatures]:
    """What lies in the cache, by name."""
    found = []
    for path in sorted(((cache or cache_folder()) / "features").glob("*/setting.json")):
        sizes = {file: file.stat().st_size for file in path.parent.iterdir()}
        rows = sum(size // _RECORD.itemsize for file, size in sizes.items() if file.suffix == ".keys")
        found.append(StoredFeatures(path.parent, read_json(path), rows, sum(sizes.values())))
    return found


def clear_cache(cache: Path | None = None) -> int:
    """Remove all stored features; returns how many bytes they took."""
    stored = stored_features(cache)
    for features in stored:
        shutil.rmtree(features.folder)
    return sum(features.size for features in stored)


def views_of_features(
    model: keras.Model,
    loader: RadiographLoader,
    store: FeatureStore,
    *,
    views: int = 1,
    progress: Callable[[ExtractionProgress], None] | None = None,
) -> np.ndarray:
    """The features of each view of each radiograph, from the store where they are there.

    Args:
        model: from `(n, height, width, channels)` raw pixels to `(n, width)` features.
        loader: the radiographs in file order; its generator, seed and size decide what a view looks like.
        store: where rows of this model's features lie.
        views: how many views; view 0 is plain.
        progress: called after each batch.

    Returns:
        `(views, n, width)` `float32`.

    Raises:
        DataError: if a radiograph cannot be read or the store cannot be written.
    """
    places = [(view, row) for view in range(views) for row in range(len(loader.radiographs))]
    keys = [loader.view_key(row, view) for view, row in places]
    features, found = store.read(keys)
    missing = _once_each(keys, np.flatnonzero(~found))
    started, present = time.perf_counter(), int(found.sum())

    def tell(done: int) -> None:
        if progress is not None:
            rate = done / max(time.perf_counter() - started, 1e-9)
            progress(ExtractionProgress(present + len(missing), present, done, rate))

    def computed() -> Iterator[tuple[list[bytes], np.ndarray]]:
        chunks = [
            missing[start : start + loader.batch_size] for start in range(0, len(missing), loader.batch_size)
        ]
        batches = _Views(loader, [[places[index] for index in chunk] for chunk in chunks])
        done = 0
        for chunk, rows in zip(chunks, batch_by_batch(compiled(model), batches), strict=True):
            features[chunk] = rows
            done += len(chunk)
            yield [keys[index] for index in chunk], rows
            tell(done)

    tell(0)
    if len(missing):
        store.write(computed())
        _fill_repeated(features, keys, found, missing)
    return features.reshape(views, len(loader.radiographs), store.width)


class _Views:
    """Batches of chosen views of chosen radiographs."""

    def __init__(self, loader: RadiographLoader, batches: list[list[tuple[int, int]]]):
        self._loader = loader
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int, /) -> tuple[np.ndarray]:
        return (np.stack([self._loader.image(row, view) for view, row in self._batches[index]]),)


def _once_each(keys: Sequence[bytes], indices: np.ndarray) -> np.ndarray:
    """Those of `indices` whose key comes for the first time: equal radiographs are computed once."""
    first: dict[bytes, int] = {}
    for index in indices:
        first.setdefault(keys[index], int(index))
    return np.array(list(first.values()), dtype=int)


def _fill_repeated(
    features: np.ndarray, keys: Sequence[bytes], found: np.ndarray, computed: np.ndarray
) -> None:
    places = {keys[index]: index for index in computed}
    for index in np.flatnonzero(~found).tolist():
        features[index] = features[places[keys[index]]]
