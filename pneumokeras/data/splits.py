"""Radiographs for training, validation and test, and the manifest that keeps them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.core.files import write_csv
from pneumokeras.data.dataset import SPLITS, RadiographSet, Skipped, columns_of, html_table
from pneumokeras.data.readers.manifest import COLUMNS, FOLD, manifest_rows, write_sets
from pneumokeras.data.readers.npz import ARRAY_MARK


@dataclass(frozen=True, eq=False)
class Splits:
    """Radiographs for training, for choosing, and for the one look at the end.

    Attributes:
        train: what weights are learned from.
        val: what hyperparameters and thresholds are chosen on.
        test: what is only evaluated; may be empty.
        source: the folder or file they came from.
        notices: what a reader has to know of how they came about, a sentence each.
        skipped: what was left out because it cannot be decoded.
    """

    train: RadiographSet
    val: RadiographSet
    test: RadiographSet
    source: str = ""
    notices: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def __iter__(self) -> Iterator[RadiographSet]:
        return iter((self.train, self.val, self.test))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of content, label and split of every radiograph, wherever the files lie."""
        summary = blake2b(digest_size=8)
        for split, radiographs in zip(SPLITS, self, strict=True):
            labels: Iterable[Any] = (
                ["?"] * len(radiographs) if radiographs.labels is None else radiographs.labels
            )
            rows = sorted(
                f"{split} {label} {digest}" for label, digest in zip(labels, radiographs.digests, strict=True)
            )
            summary.update("\n".join(rows).encode())
        return summary.hexdigest()

    def write_csv(self, path: str | PathLike[str]) -> None:
        """Write the splits as a manifest: path, label, subtype, patient, split, a digest of the content."""
        write_sets(path, dict(zip(SPLITS, self, strict=True)))

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(notice)}</p>" for notice in self.notices)
        return html_table(list(zip(SPLITS, self, strict=True))) + notes


def write_manifest(
    path: str | PathLike[str],
    splits: Splits,
    *,
    folds: Sequence[Splits] = (),
    overwrite: bool = False,
) -> None:
    """Write splits as a CSV manifest that `load_splits` reads: path, label, subtype, patient, split, digest.

    Args:
        path: the `.csv` file. Paths in it are relative to its folder, except for files on another drive.
        splits: what to write.
        folds: the same radiographs dealt out to folds; a column `fold` then says in which one each is val.
        overwrite: replace a file that is already there.

    Raises:
        DataError: if the file is there already or its name does not end in `.csv`, or the radiographs are
            arrays that no file holds.
    """
    path = Path(path)
    check_manifest_path(path, overwrite=overwrite)
    folder = path.parent.absolute()
    by_split = dict(zip(SPLITS, splits, strict=True))
    _require_files(by_split.values())
    rows = list(manifest_rows(by_split, lambda file: _relative(file, folder)))
    columns = (*COLUMNS, *columns_of(by_split.values()))
    if folds:
        columns = (*columns, FOLD)
        fold_of = {name: number for number, fold in enumerate(folds) for name in fold.val.names}
        names = [name for radiographs in by_split.values() for name in radiographs.names]
        rows = [row | {"fold": fold_of.get(name)} for row, name in zip(rows, names, strict=True)]
    write_csv(path, columns, sorted(rows, key=lambda row: row["path"]))


def check_manifest_path(path: Path, *, overwrite: bool) -> None:
    """Make sure that a manifest may be written to `path`.

    Raises:
        DataError: if it may not.
    """
    if path.suffix.lower() != ".csv":
        raise DataError(f"{path} is no name for a manifest. Expected one that ends in .csv.")
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(f"{path} already exists. Name another file, or ask for a file to be replaced.")


def _require_files(sets: Iterable[RadiographSet]) -> None:
    for radiographs in sets:
        for name in radiographs.names if isinstance(radiographs.images, np.ndarray) else ():
            if ARRAY_MARK not in name:
                raise DataError(
                    f"{name} is an array that no file holds. Expected radiographs read from files or an .npz."
                )


def _relative(file: Path, folder: Path) -> str:
    file = file.absolute()
    if file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    try:
        # A folder's ".." is that of the folder itself, not of a link to it.
        return Path(os.path.relpath(file, folder.resolve())).as_posix()
    except ValueError:
        return file.as_posix()
