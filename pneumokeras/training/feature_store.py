"""Keep rows of features on disk, by key.

A store is a folder of shards, each written by one process and never changed afterwards: `<shard>.rows` holds
the features one after another, `<shard>.keys` a key and a checksum for each row. A row counts once its key is
written, so an interrupted extraction keeps what it finished; a row whose checksum is wrong is computed again.
Processes that share a store never wait for each other; at worst a row is stored twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.core.files import read_json, write_json

logger = logging.getLogger(__name__)

_RECORD = np.dtype([("key", "V16"), ("checksum", "<u4")])
_SETTING = "setting.json"

MOST_LOST = 0.01
"""Largest share of a row that may be lost in `float16`; rounding loses 0.0005 and less."""


@dataclass(frozen=True)
class StoredFeatures:
    """The stored features of one setting, as the cache lists them.

    Attributes:
        folder: the store's folder.
        setting: what decides the features: network, image size, padding, precision.
        rows: number of views of images.
        size: bytes on disk.
    """

    folder: Path
    setting: Mapping[str, Any]
    rows: int
    size: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a store in the requested order, read from disk when they are indexed.

    Attributes:
        shape: shape of one row.
        shards: the files that hold them, memory-mapped.
        places: `(n, 2)` integers: shard and row of each; -1 where the store has no undamaged row.
    """

    shape: tuple[int, ...]
    shards: Sequence[np.ndarray]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        """Return `(k, *shape)` `float32` copies of some rows, all of which must be stored."""
        places = self.places[indices]
        values = np.empty((len(places), *self.shape), np.float32)
        for shard in np.unique(places[:, 0]):
            here = places[:, 0] == shard
            values[here] = self.shards[shard][places[here, 1]]
        return values

    @property
    def found(self) -> np.ndarray:
        """Return `(n,)` booleans: whether each row is stored and undamaged."""
        return self.places[:, 0] >= 0


class FeatureStore:
    """Rows of features by key, in one folder per setting.

    Vectors are kept as `float32`. Feature maps, thousands of times their size, are kept as `float16`.

    Args:
        setting: everything that decides the features except the image; plain JSON, with the key `precision`.
        shape: shape of one row.
        named: names for `pneumokeras cache list`; they decide nothing.
        cache_dir: the cache's folder; by default `cache_folder()`.
    """

    def __init__(
        self,
        setting: Mapping[str, Any],
        shape: tuple[int, ...],
        *,
        named: Mapping[str, Any],
        cache_dir: Path | None = None,
    ):
        name = blake2b(json.dumps(setting, sort_keys=True).encode(), digest_size=16).hexdigest()
        self.setting = setting
        self.named = named
        self.folder = _features_folder(cache_dir) / name
        self.shape = shape
        self.dtype = np.dtype(np.float32 if len(shape) == 1 else np.float16)

    @property
    def precision(self) -> str:
        """Return the precision the features are computed in."""
        return self.setting["precision"]

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one row on disk."""
        return math.prod(self.shape) * self.dtype.itemsize

    def exists(self) -> bool:
        """Return whether anything was ever stored here."""
        return (self.folder / _SETTING).exists()

    def note(self, name: str) -> None:
        """Keep a note in the store's folder, an empty file of that name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).touch()

    def has_note(self, name: str) -> bool:
        """Return whether that note was kept here."""
        return (self.folder / name).exists()

    def find(self, keys: Sequence[bytes], *, verify: bool = True) -> Rows:
        """Look up rows.

        Args:
            keys: `(n,)` keys of 16 bytes.
            verify: read each row and compare it with its checksum.
        """
        wanted: dict[bytes, list[int]] = {}
        for index, key in enumerate(keys):
            wanted.setdefault(key, []).append(index)
        places = np.full((len(keys), 2), -1)
        shards: list[np.ndarray] = []
        for file in sorted(self.folder.glob("*.keys")):
            try:
                records, rows = self._shard(file)
            except FileNotFoundError:  # the cache was cleared meanwhile
                continue
            for number, record in enumerate(records):
                indices = wanted.get(record["key"].tobytes())
                if not indices or places[indices[0], 0] >= 0:
                    continue
                if not verify or crc32(rows[number].data) == record["checksum"]:
                    places[indices] = len(shards), number
            shards.append(rows)
        return Rows(self.shape, shards, places)

    def _shard(self, keys: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return the records and rows of a shard, as many as both files hold in full."""
        file = keys.with_suffix(".rows")
        content, size = keys.read_bytes(), file.stat().st_size if file.exists() else 0
        count = min(len(content) // _RECORD.itemsize, size // self.row_bytes)
        records = np.frombuffer(content, _RECORD, count=count)
        shape = (count, *self.shape)
        return records, np.memmap(file, self.dtype, "r", shape=shape) if count else np.empty(
            shape, self.dtype
        )

    def write(self, batches: Iterator[tuple[Sequence[bytes], np.ndarray]]) -> None:
        """Append rows batch by batch; appended rows stay if the iterator raises.

        Args:
            batches: keys of 16 bytes and their `(b, *shape)` rows.

        Raises:
            DataError: if the disk is full or cannot be written, or `float16` does not hold the values.
        """
        shard = self.folder / uuid.uuid4().hex
        try:
            if not self.exists():
                write_json(self.folder / _SETTING, {**self.named, **self.setting, "shape": list(self.shape)})
            with shard.with_suffix(".rows").open("wb") as rows, shard.with_suffix(".keys").open("wb") as keys:
                for batch, features in batches:
                    features = self._as_kept(features)
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
                "in the environment variable PNEUMOKERAS_CACHE, or store none with `cache=False`.",
                path=self.folder,
            ) from error

    def _as_kept(self, features: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(features, self.dtype)
        if np.isinf(kept).any() and np.isfinite(features).all():
            raise DataError(
                f"The features of {self.named['backbone']} exceed what float16 holds (65,504). "
                "Store none, with `cache=False`."
            )
        if kept.dtype != np.float32 and _lost_share(features, kept) > MOST_LOST:
            raise DataError(
                f"The features of {self.named['backbone']} are too small for float16 (6e-8 and less are 0). "
                "Store none, with `cache=False`."
            )
        return kept


def _lost_share(features: np.ndarray, kept: np.ndarray) -> float:
    """Return the largest share of a row's length by which it was changed; rows of NaN do not count."""
    rows = features.reshape(len(features), -1).astype(np.float64)
    with np.errstate(invalid="ignore"):  # what is not finite is kept as it is
        change = np.linalg.norm(rows - kept.reshape(rows.shape), axis=1)
    lengths = np.linalg.norm(rows, axis=1)
    return float(
        np.max(change / np.maximum(lengths, np.finfo(np.float64).tiny), initial=0, where=lengths > 0)
    )


def cache_folder() -> Path:
    """Return the cache's folder: `PNEUMOKERAS_CACHE`, or `pneumokeras` in the user's folder of caches.

    That is `XDG_CACHE_HOME`, or `~/.cache`. Where it cannot be written, a temporary folder that lasts as long
    as the process takes its place; a folder in `PNEUMOKERAS_CACHE` is never replaced.
    """
    if chosen := os.environ.get("PNEUMOKERAS_CACHE"):
        return Path(chosen)
    caches = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(caches) if os.path.isabs(caches) else Path.home() / ".cache") / "pneumokeras"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # no home
        return Path(_temporary_folder(str(error)).name)
    if not os.access(folder, os.W_OK | os.X_OK):
        return Path(_temporary_folder(f"{folder} is not writable").name)
    return folder


@cache
def _temporary_folder(reason: str) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="pneumokeras-")
    logger.warning(
        "No folder to keep features in (%s): they last as long as this process. To keep them, name a folder "
        "in the environment variable PNEUMOKERAS_CACHE.",
        reason,
    )
    return folder


def stored_features(cache_dir: Path | None = None) -> list[StoredFeatures]:
    """List the stores in the cache, without damaged ones and those that another process is clearing."""
    found = []
    for folder in _stores(cache_dir):
        with contextlib.suppress(OSError, ValueError):
            setting = read_json(folder / _SETTING)
            sizes = {file: file.stat().st_size for file in folder.iterdir()}
            rows = sum(size // _RECORD.itemsize for file, size in sizes.items() if file.suffix == ".keys")
            found.append(StoredFeatures(folder, setting, rows, sum(sizes.values())))
    return sorted(found, key=lambda features: (features.setting["backbone"], features.folder))


def clear_cache(cache_dir: Path | None = None) -> int:
    """Remove all stored features and return how many bytes they took."""
    size = 0
    for folder in _stores(cache_dir):
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                size += file.stat().st_size
        shutil.rmtree(folder, ignore_errors=True)
    return size


def _features_folder(cache_dir: Path | None) -> Path:
    return (cache_dir or cache_folder()) / "features"


def _stores(cache_dir: Path | None) -> list[Path]:
    return [path for path in _features_folder(cache_dir).glob("*") if path.is_dir()]
