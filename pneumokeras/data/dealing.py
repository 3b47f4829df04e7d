"""New splits of a set of radiographs, dealt out by patient and kept as a manifest; no file is moved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import overload

import numpy as np

from pneumokeras.data.arrays import ARRAY_MARK
from pneumokeras.data.datasets import Splits
from pneumokeras.data.duplicates import digests_of_films, pixel_digest, thumbnail_of
from pneumokeras.data.manifests import COLUMNS, FOLD, manifest_rows
from pneumokeras.data.sets import SPLITS, RadiographSet, columns_of, in_threads, joined
from pneumokeras.data.splitting import fold_by_patient, split_by_patient, tie_duplicates
from pneumokeras.errors import DataError
from pneumokeras.files import write_csv

TOLERANCE = 0.01
"""How far a split's size or class rate may be off, as a share, before that is said."""


@overload
def split(
    radiographs: RadiographSet,
    *,
    val: float = ...,
    test: float = ...,
    seed: int = ...,
    folds: None = ...,
    films: np.ndarray | None = ...,
) -> Splits: ...


@overload
def split(
    radiographs: RadiographSet,
    *,
    val: float = ...,
    test: float = ...,
    seed: int = ...,
    folds: int,
    films: np.ndarray | None = ...,
) -> list[Splits]: ...


def split(
    radiographs: RadiographSet,
    *,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    folds: int | None = None,
    films: np.ndarray | None = None,
) -> Splits | list[Splits]:
    """Deal a set of radiographs out to train, val and test.

    Patients are kept whole, and so are copies of one film (the same decoded pixels, or near-duplicates as an
    audit finds them) with all their patients; classes and subtypes are kept in proportion. The same seed
    gives the same split whatever the order of the radiographs, on any machine. What falls to test depends on
    `seed` and `test` alone.

    Args:
        radiographs: the set, with labels. Where a radiograph's patient is unknown it is its own.
        val: share of the radiographs for val, in [0, 1).
        test: share of the radiographs for test, in [0, 1).
        seed: which of the possible splits.
        folds: deal what is not test out to so many folds instead; `val` then plays no part.
        films: `(n,)` strings, equal for copies of one film; by default what `films_of` finds, for which each
            radiograph is decoded once.

    Returns:
        The splits, with a sentence in `notices` on whatever a reader has to know of them. With `folds` a
        list of so many splits with the same test: in number k, val is fold k and train are the others.

    Raises:
        DataError: if there are no labels, the shares are impossible, a radiograph cannot be decoded, or there
            are too few patients to give each split both classes.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise DataError(
            f"Expected shares of 0 or more that leave something to train on. Received val {val}, test {test}."
        )
    if folds is not None and folds < 2:
        raise DataError(f"Expected 2 folds or more. Received {folds}.")
    labels, subtypes = radiographs.require_labels(), radiographs.subtypes
    for class_name, count in radiographs.counts.items():
        if not count:
            raise DataError(
                f"There are no {class_name} radiographs to split ({len(radiographs)} in all). Expected both "
                "classes; add images of the missing one."
            )
    films = films_of(radiographs) if films is None else films
    patients = tie_duplicates(radiographs.patients, films)
    shares = {"train": 1 - val - test, "test": test, "val": val}
    fractions = {name: share for name, share in shares.items() if share}
    split_of = split_by_patient(labels, patients, fractions=fractions, seed=seed, subtypes=subtypes)
    if folds is None:
        return _as_splits(radiographs, films, split_of, fractions)
    rest = split_of != "test"
    fold_of = np.full(len(labels), -1)
    fold_of[rest] = fold_by_patient(
        labels[rest], patients[rest], folds=folds, seed=seed, subtypes=subtypes[rest]
    )
    fractions |= {"train": (1 - test) * (folds - 1) / folds, "val": (1 - test) / folds}
    in_fold = [np.where(rest, np.where(fold_of == fold, "val", "train"), "test") for fold in range(folds)]
    return [_as_splits(radiographs, films, split_of, fractions) for split_of in in_fold]


def films_of(radiographs: RadiographSet) -> np.ndarray:
    """Which film each radiograph shows: `(n,)` strings, equal for copies. Each is decoded once.

    Raises:
        DataError: if a radiograph cannot be decoded.
    """

    def look(row: int) -> tuple[str, np.ndarray]:
        pixels = radiographs.read(row)
        return pixel_digest(pixels), thumbnail_of(pixels)

    digests, thumbnails = zip(*in_threads(look, len(radiographs)), strict=True)
    return digests_of_films(np.array(digests, dtype=object), np.stack(thumbnails))


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


def pooled(sets: Iterable[RadiographSet]) -> RadiographSet:
    """All radiographs of several sets in one, whatever split they were in."""
    return replace(joined(list(sets)), split="")


def _as_splits(
    radiographs: RadiographSet, films: np.ndarray, split_of: np.ndarray, fractions: dict[str, float]
) -> Splits:
    parts = {name: replace(radiographs.subset(split_of == name), split=name) for name in SPLITS}
    for name in fractions:
        _require_enough_patients(parts[name], radiographs, films)
    notices = tuple(_notices(radiographs, films, parts, fractions))
    return Splits(parts["train"], parts["val"], parts["test"], notices=notices)


def _require_enough_patients(part: RadiographSet, radiographs: RadiographSet, films: np.ndarray) -> None:
    for label, (class_name, count) in enumerate(part.counts.items()):
        if not count:
            tied = tie_duplicates(radiographs.patients, films)
            groups = len(set(tied[radiographs.require_labels() == label]))
            have = "1 patient, or group" if groups == 1 else f"{groups} patients, or groups"
            raise DataError(
                f"{part.split} gets no {class_name} radiographs: that class has {have} of patients with "
                "copies in common, to be kept whole. Expected at least as many as splits or folds; ask for "
                "fewer of them, or add patients."
            )


def _notices(
    radiographs: RadiographSet,
    films: np.ndarray,
    parts: dict[str, RadiographSet],
    fractions: dict[str, float],
) -> Iterator[str]:
    if len(set(radiographs.patients)) == len(radiographs):
        yield "No patient has two radiographs, or none is known: each radiograph was dealt out by itself."
    copies = len(radiographs) - len(set(films))
    if copies:
        subject = "1 radiograph is a copy" if copies == 1 else f"{copies} radiographs are copies"
        yield f"{subject} of others: copies stay on one side with all their patients."
    rate = radiographs.require_labels().mean()
    for name, fraction in fractions.items():
        share, own_rate = len(parts[name]) / len(radiographs), parts[name].require_labels().mean()
        if abs(share - fraction) > TOLERANCE:
            yield (
                f"{name} holds {share:.1%} of the radiographs, not {fraction:.1%}: patients are kept whole."
            )
        if abs(own_rate - rate) > TOLERANCE:
            yield (
                f"{name} is {own_rate:.1%} {radiographs.class_names[1]}, the whole {rate:.1%}: "
                "so few radiographs, or so large patients, come no nearer."
            )


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
