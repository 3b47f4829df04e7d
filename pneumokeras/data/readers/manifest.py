"""CSV manifests -> sets, and back."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from os.path import normpath
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.core.files import csv_reader, write_csv
from pneumokeras.data.dataset import CLASS_NAMES, SPLIT_OF_NAME, RadiographSet, columns_of
from pneumokeras.data.readers.npz import ARRAY_MARK, rows_of_npz

COLUMNS = ("path", "label", "subtype", "patient", "split", "digest")
FOLD = "fold"
"""What a manifest of several folds adds; it says how the radiographs were dealt, nothing about them."""


def read_manifest(
    path: str | PathLike[str], *, classes: tuple[str, str] = CLASS_NAMES, patient_pattern: str | None = None
) -> dict[str, RadiographSet]:
    """Read a CSV manifest: path and label, and if they are there patient, split, subtype and any others.

    Args:
        path: the `.csv` file, UTF-8 with or without a byte order mark, with any line ends; relative paths in
            it are taken from its folder.
        classes: names of class 0 and class 1, as the column label has them in any case.
        patient_pattern: used where the manifest has no patient.

    Returns:
        The sets by split; the one set under the key `""` where there is no split column. Whether the files
        are there shows when they are read.

    Raises:
        DataError: if it cannot be read, a column is missing, a label or a split is unknown, or a radiograph
            is named twice.
    """
    path = Path(path)
    class_of = {name.upper(): name for name in classes}
    first_line: dict[str, int] = {}
    by_split: dict[str, list[dict[str, str]]] = {}
    for number, row in _rows(path):
        if not row["path"]:
            raise DataError(f"{path}, line {number}: no path. Expected the path of an image.")
        label = class_of.get((row["label"] or "").strip().upper())
        if label is None:
            raise DataError(
                f"{path}, line {number}: label {row['label']!r}. Expected {classes[0]} or {classes[1]}."
            )
        named = (row.get("split") or "").strip().lower()
        if named and named not in SPLIT_OF_NAME:
            raise DataError(f"{path}, line {number}: split {row['split']!r}. Expected train, val or test.")
        before = first_line.setdefault(normpath(path.parent / row["path"]), number)
        if before != number:
            raise DataError(
                f"{path}, line {number}: {row['path']} is in line {before} already. Expected each once."
            )
        by_split.setdefault(SPLIT_OF_NAME.get(named, ""), []).append(row | {"label": label})
    if "" in by_split and len(by_split) > 1:
        raise DataError(
            f"{path}: {len(by_split[''])} rows have no split while others have. Fill the column or drop it."
        )
    return {
        split: replace(_set_from_rows(rows, path.parent, classes, patient_pattern), split=split)
        for split, rows in by_split.items()
    }


def write_sets(path: str | PathLike[str], sets: Mapping[str, RadiographSet]) -> None:
    """Write labeled sets by split, with absolute paths: path, label, subtype, patient, split and so on."""
    write_csv(path, (*COLUMNS, *columns_of(sets.values())), manifest_rows(sets, Path.absolute))


def manifest_rows(
    sets: Mapping[str, RadiographSet], path_of: Callable[[Path], Path | str]
) -> Iterator[dict[str, Any]]:
    """The rows of a manifest of labeled sets by split.

    Args:
        sets: the sets by split.
        path_of: how a file, of an image or of arrays, is written down.
    """
    for split, radiographs in sets.items():
        if isinstance(radiographs.images, np.ndarray):
            parts = [name.rpartition("::") for name in radiographs.names]
            names = [f"{path_of(Path(file))}::{row}" if mark else row for file, mark, row in parts]
        else:
            names = [str(path_of(file)) for file in radiographs.images]
        labels = [radiographs.class_names[label] for label in radiographs.require_labels()]
        columns = {
            "path": names,
            "label": labels,
            "subtype": radiographs.subtypes,
            "patient": radiographs.patients,
            "split": [split] * len(radiographs),
            "digest": radiographs.digests,
            **radiographs.columns,
        }
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows, each with the line it stands in."""
    try:
        reader = csv_reader(path)
        columns = [column.strip().lower() for column in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Expected a CSV manifest.") from error
    except csv.Error as error:
        raise DataError(f"{path} is no manifest: {error}. Expected comma-separated values.") from error
    if not {"path", "label"} <= set(columns):
        found = ", ".join(columns) or "none"
        raise DataError(f"{path} is no manifest: expected the columns path and label, found {found}.")
    if not rows:
        raise DataError(f"{path} has no rows. Expected one a radiograph.")
    return rows


def _set_from_rows(
    rows: list[dict[str, str]], folder: Path, classes: tuple[str, str], pattern: str | None
) -> RadiographSet:
    names = [row["path"] for row in rows]
    patients = [row.get("patient") or "" for row in rows]
    y = np.array([classes.index(row["label"]) for row in rows], dtype=np.int64)
    if any(ARRAY_MARK in name for name in names):
        radiographs = replace(rows_of_npz(names, folder, classes=classes), labels=y)
        radiographs = replace(radiographs, patients=_override(patients, radiographs.patients))
    else:
        radiographs = RadiographSet.from_files(
            [folder / name for name in names],
            labels=y,
            class_names=classes,
            patients=patients,
            patient_pattern=pattern,
            root=folder,
        )
    subtypes = [row.get("subtype") or "" for row in rows]
    others = [name for name in rows[0] if name and name not in (*COLUMNS, FOLD)]
    return replace(
        radiographs,
        subtypes=_override(subtypes, radiographs.subtypes),
        columns={
            name: np.array([(row[name] or "").strip() for row in rows], dtype=object) for name in others
        },
    )


def _override(told: Iterable[str], otherwise: np.ndarray) -> np.ndarray:
    return np.array([one or other for one, other in zip(told, otherwise, strict=True)], dtype=object)
