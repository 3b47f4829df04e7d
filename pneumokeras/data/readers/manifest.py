"""Read CSV manifests into sets, and write them."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from os import PathLike
from os.path import normpath
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.core.files import csv_reader, write_csv
from pneumokeras.data.dataset import CLASS_NAMES, SPLIT_OF_NAME, RadiographSet, columns_of, filled
from pneumokeras.data.readers.npz import ARRAY_MARK, rows_of_npz

COLUMNS = ("path", "label", "subtype", "patient", "split", "digest")
FRAME = "frame"
"""The column of the frame of a DICOM file, written where one is chosen."""
FOLD = "fold"
"""The column that a manifest of several folds adds; it is not a property of the radiographs."""


def read_manifest(
    path: str | PathLike[str], *, classes: tuple[str, str] = CLASS_NAMES, patient_pattern: str | None = None
) -> dict[str, RadiographSet]:
    """Read a CSV manifest: path and label, and optionally patient, split, subtype, frame and other columns.

    Args:
        path: the `.csv` file, UTF-8 with or without a byte order mark, with any line ends; relative paths in
            it start from its folder.
        classes: names of class 0 and class 1, in the column label in any case.
        patient_pattern: used where the manifest has no patient.

    Returns:
        The sets by split; one set under the key `""` if there is no split column. A missing image is an error
        only when it is read.

    Raises:
        DataError: if it cannot be read, a column is missing, a label or a split is unknown, a frame is no
            number, or a radiograph is named twice.
    """
    path = Path(path)
    class_of = {name.upper(): name for name in classes}
    first_line: dict[tuple[str, str], int] = {}
    by_split: dict[str, list[dict[str, str]]] = {}

    def refuse(line: int, fault: str) -> NoReturn:
        raise DataError(f"{path}, line {line}: {fault}", path=path)

    for number, row in _rows(path):
        if not row["path"]:
            refuse(number, "no path. Expected the path of an image.")
        label = class_of.get((row["label"] or "").strip().upper())
        if label is None:
            refuse(number, f"label {row['label']!r}. Expected {classes[0]} or {classes[1]}.")
        named = (row.get("split") or "").strip().lower()
        if named and named not in SPLIT_OF_NAME:
            refuse(number, f"split {row['split']!r}. Expected train, val or test.")
        frame = (row.get(FRAME) or "").strip()
        if not re.fullmatch("([1-9][0-9]{0,8})?", frame):
            refuse(number, f"frame {frame!r} of {row['path']}. Expected a whole number from 1, or nothing.")
        before = first_line.setdefault((normpath(path.parent / row["path"]), frame or "1"), number)
        if before != number:
            refuse(number, f"{row['path']} is in line {before} already. Expected each path (and frame) once.")
        by_split.setdefault(SPLIT_OF_NAME.get(named, ""), []).append(row | {"label": label})
    if "" in by_split and len(by_split) > 1:
        raise DataError(
            f"{path}: {len(by_split[''])} rows have no split while others have. Fill the column or drop it.",
            path=path,
        )
    return {
        split: _set_from_rows(
            rows, split, folder=path.parent, classes=classes, patient_pattern=patient_pattern
        )
        for split, rows in by_split.items()
    }


def write_sets(
    path: str | PathLike[str],
    sets: Mapping[str, RadiographSet],
    *,
    relative: bool = False,
    fold_of: Mapping[str, int] | None = None,
) -> None:
    """Write labeled sets as a manifest: path, label, subtype, patient, split, digest, then any others.

    Args:
        path: the file.
        sets: the sets by split.
        relative: write paths relative to the file's folder where that is possible, and sort the rows by
            path; otherwise paths are absolute, in the order of the sets.
        fold_of: the fold's number by the radiograph's name, to add the column fold.
    """
    folder = Path(path).parent.absolute()
    rows = [
        row
        for split, radiographs in sets.items()
        for row in _rows_of_set(split, radiographs, relative_to=folder if relative else None)
    ]
    frame = [FRAME] if any(radiographs.frames.any() for radiographs in sets.values()) else []
    columns = (*COLUMNS, *frame, *columns_of(sets.values()))
    if fold_of is not None:
        columns = (*columns, FOLD)
        names = [name for radiographs in sets.values() for name in radiographs.names]
        rows = [row | {FOLD: fold_of.get(name)} for row, name in zip(rows, names, strict=True)]
    write_csv(path, columns, sorted(rows, key=lambda row: row["path"]) if relative else rows)


def _rows_of_set(
    split: str, radiographs: RadiographSet, *, relative_to: Path | None
) -> Iterator[dict[str, Any]]:
    def written(file: Path) -> str:
        return str(file.absolute()) if relative_to is None else _relative(file, relative_to)

    if isinstance(radiographs.images, np.ndarray):
        parts = [name.rpartition("::") for name in radiographs.names]
        names = [f"{written(Path(file))}::{row}" if mark else row for file, mark, row in parts]
    else:
        names = [written(file) for file in radiographs.images]
    columns = {
        "path": names,
        "label": [radiographs.class_names[label] for label in radiographs.require_labels()],
        "subtype": radiographs.subtypes,
        "patient": radiographs.patients,
        "split": [split] * len(radiographs),
        "digest": radiographs.digests,
        **(
            {FRAME: [frame or None for frame in radiographs.frames.tolist()]}
            if radiographs.frames.any()
            else {}
        ),
        **radiographs.columns,
    }
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _relative(file: Path, folder: Path) -> str:
    file = file.absolute()
    if file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    try:
        # A folder's ".." is that of the folder itself, not of a link to it.
        return Path(os.path.relpath(file, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return file.as_posix()


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows, each with its line number."""
    try:
        reader = csv_reader(path)
        columns = [column.strip().lower() for column in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(
            f"Cannot read {path}: {error.strerror}. Expected a CSV manifest.", path=path
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{path} is no manifest: {error}. Expected comma-separated values.", path=path
        ) from error
    if not {"path", "label"} <= set(columns):
        found = ", ".join(columns) or "none"
        raise DataError(
            f"{path} is no manifest: expected the columns path and label, found {found}.", path=path
        )
    if not rows:
        raise DataError(f"{path} has no rows. Expected one for each radiograph.", path=path)
    return rows


def _set_from_rows(
    rows: list[dict[str, str]],
    split: str,
    *,
    folder: Path,
    classes: tuple[str, str],
    patient_pattern: str | None,
) -> RadiographSet:
    names = [row["path"] for row in rows]
    labels = np.array([classes.index(row["label"]) for row in rows], dtype=np.int64)
    patients = [row.get("patient") or "" for row in rows]
    subtypes = [row.get("subtype") or "" for row in rows]
    columns = {
        name: np.array([(row[name] or "").strip() for row in rows], dtype=object)
        for name in rows[0]
        if name and name not in (*COLUMNS, FRAME, FOLD)
    }
    frames = np.array([int(row.get(FRAME) or 0) for row in rows], dtype=np.int64)
    if any(ARRAY_MARK in name for name in names):
        if frames.max() > 1:
            raise DataError(
                f"{names[frames.argmax()]} is an array, so there is no frame {frames.max()}. Expected none."
            )
        arrays = rows_of_npz(names, folder, classes=classes)
        return replace(
            arrays,
            labels=labels,
            patients=filled(patients, arrays.patients),
            subtypes=filled(subtypes, arrays.subtypes),
            split=split,
            columns=columns,
        )
    films = RadiographSet.from_files(
        [folder / name for name in names],
        labels=labels,
        class_names=classes,
        patients=patients,
        patient_pattern=patient_pattern,
        root=folder,
        subtypes=subtypes,
        split=split,
        columns=columns,
    )
    named = [f"{name}::{frame}" if frame else name for name, frame in zip(films.names, frames, strict=True)]
    return replace(films, names=np.array(named, dtype=object), frames=frames)
