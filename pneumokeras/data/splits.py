"""Radiographs for training, validation and test, and the manifest that records them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.dataset import SPLITS, BadFile, RadiographSet, counted, html_table
from pneumokeras.data.gallery import Gallery
from pneumokeras.data.readers.manifest import write_sets
from pneumokeras.data.readers.npz import ARRAY_MARK

AS_PUBLISHED = "as published"
"""The rule of splits that came with the data."""


@dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """Radiographs for training, for validation and for the final test.

    Attributes:
        train: radiographs that weights are learned from.
        val: radiographs that hyperparameters and thresholds are chosen on.
        test: radiographs that are only evaluated; may be empty.
        source: the folder or file that they came from.
        notices: sentences on how the splits were made that a reader has to know.
        skipped: files that were left out because they cannot be decoded.
        rule: how radiographs were assigned to the splits; empty if unknown.

    Example:
        >>> splits = pk.load_splits("chest_xray")
        >>> train, val, test = splits
        >>> splits.test.split, splits["test"] is test
        ('test', True)
        >>> splits.show(count=2)
        <Gallery of 12 radiographs>
        >>> splits.write_csv("splits.csv")
    """

    train: RadiographSet
    val: RadiographSet
    test: RadiographSet
    source: str = ""
    notices: tuple[str, ...] = ()
    skipped: tuple[BadFile, ...] = ()
    rule: str = ""

    def __iter__(self) -> Iterator[RadiographSet]:
        return iter((self.train, self.val, self.test))

    def by_name(self) -> dict[str, RadiographSet]:
        """Return the sets as train, val and test."""
        return dict(zip(SPLITS, self, strict=True))

    def __getitem__(self, split: str) -> RadiographSet:
        """Return the set of a split by its name.

        Raises:
            SettingsError: if there is no such split.
        """
        if split not in SPLITS:
            raise SettingsError(
                f"Expected `split` as one of {', '.join(SPLITS)}. Received {split!r}.", parameter="split"
            )
        return self.by_name()[split]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The number of radiographs in each class of each split."""
        return {name: radiographs.counts for name, radiographs in self.by_name().items()}

    def show(self, count: int = 6, *, seed: int = 0) -> Gallery:
        """Show some radiographs of each split and class; arguments and errors are as for a set's `show`."""
        sets = [radiographs for radiographs in self if len(radiographs)]
        return Gallery([row for radiographs in sets for row in radiographs.show(count, seed=seed).rows])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the content, label and split of every radiograph, independent of the files' places."""
        summary = blake2b(digest_size=8)
        for split, radiographs in self.by_name().items():
            labels: Iterable[Any] = (
                ["?"] * len(radiographs) if radiographs.labels is None else radiographs.labels
            )
            rows = sorted(
                f"{split} {label} {digest}" for label, digest in zip(labels, radiographs.digests, strict=True)
            )
            summary.update("\n".join(rows).encode())
        return summary.hexdigest()

    def write_csv(self, path: str | PathLike[str]) -> None:
        """Write a manifest with absolute paths; its columns are those of `write_manifest`."""
        write_sets(path, self.by_name())

    def record(self) -> dict[str, Any]:
        """Return what a run records about its data, as plain JSON."""
        rule = {"split_rule": self.rule} if self.rule else {}
        return {
            "path": str(Path(self.source).absolute()),
            "fingerprint": self.fingerprint,
            "classes": list(self.train.class_names),
            "counts": self.counts,
            **rule,
            "notices": list(self.notices),
            "skipped": [{"name": bad.name, "reason": bad.reason} for bad in self.skipped],
        }

    def __repr__(self) -> str:
        """Return one line with the numbers of radiographs."""
        return f"<Splits: {'; '.join(f'{name} {counted(part)}' for name, part in self.by_name().items())}>"

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(notice)}</p>" for notice in self.notices)
        return html_table(self.by_name()) + notes


def require_splits(splits: object) -> None:
    """Refuse anything but splits where they are meant.

    Raises:
        DataError: if it is none.
    """
    if not isinstance(splits, Splits):
        raise DataError(
            f'Expected `splits` as load_splits("chest_xray") returns them. Received {type(splits).__name__}.',
            parameter="splits",
        )


def write_manifest(
    path: str | PathLike[str],
    splits: Splits,
    *,
    folds: Sequence[Splits] = (),
    overwrite: bool = False,
) -> None:
    """Write splits as a CSV manifest that `load_splits` reads.

    Its columns are path, label, subtype, patient, split, digest, frame where one is chosen, and any others.

    Args:
        path: the `.csv` file. Paths in it are relative to its folder, except for files on another drive.
        splits: what to write.
        folds: the same radiographs split into folds; a column `fold` then gives the one where each is val.
        overwrite: replace an existing file.

    Raises:
        SettingsError: if `path` does not end in `.csv`.
        DataError: if the file exists, or the radiographs are arrays that no file holds.

    Example:
        >>> radiographs = pk.load_radiographs("chest_xray", split="train")
        >>> pk.write_manifest("resplit.csv", pk.split(radiographs, seed=7))
        >>> pk.load_splits("resplit.csv", keep_val=True).rule
        'as published'
    """
    path = Path(path)
    check_manifest_path(path, overwrite=overwrite)
    _require_files(splits)
    fold_of = {name: number for number, fold in enumerate(folds) for name in fold.val.names}
    write_sets(path, splits.by_name(), relative=True, fold_of=fold_of if folds else None)


def check_manifest_path(path: Path, *, overwrite: bool) -> None:
    """Make sure that a manifest may be written to `path`.

    Raises:
        SettingsError: if `path` does not end in `.csv`.
        DataError: if there is a folder, or a file that may not be replaced.
    """
    if path.suffix.lower() != ".csv":
        raise SettingsError(
            f"Expected a manifest's name that ends in .csv. Received {path}.", parameter="path"
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(
            f"{path} already exists. Name another file, or replace a file with `overwrite=True`.", path=path
        )


def _require_files(sets: Iterable[RadiographSet]) -> None:
    for radiographs in sets:
        for name in radiographs.names if isinstance(radiographs.images, np.ndarray) else ():
            if ARRAY_MARK not in name:
                raise DataError(
                    f"{name} is an array that no file holds. Expected radiographs from files or an .npz.",
                    path=name,
                )
