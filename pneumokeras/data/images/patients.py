"""What the name of a radiograph's file says: whose it is, which class, which kind of pneumonia."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.images import dicom

PATIENT_PATTERN = (
    r"^(?P<patient>person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+|(?:NORMAL|BACTERIA|VIRUS)-\d+)[-_]"
)
"""Patient or series in the file names of the Kaggle set "chest-xray-pneumonia" and of its publisher's."""

SUBTYPES = ("bacteria", "virus")
"""Kinds of pneumonia that are known by a word in the file's name."""


def patients_of(
    files: Sequence[Path], pattern: str | None, root: Path | None, *, told: Sequence[str] | None = None
) -> np.ndarray:
    """Whose radiographs these are.

    Args:
        files: the image files.
        pattern: regular expression searched in each file's name; its group `patient`, or its first group, is
            the patient. By default `PATIENT_PATTERN`, after what the header of a DICOM file says.
        root: folder that radiographs of unknown patients are named from; `None` takes the paths as they are.
        told: `(n,)` strings, who somebody says they are; the files are asked only where it is empty.

    Returns:
        `(n,)` strings; where no patient is known, a name that no other file has.

    Raises:
        DataError: if the regular expression is invalid, has no group, or matches no file.
    """
    if told is not None:
        patients = np.array(told, dtype=object)
        unknown = np.flatnonzero(patients == "").tolist()
        patients[unknown] = patients_of([files[index] for index in unknown], pattern, root)
        return patients
    expression = _expression(PATIENT_PATTERN if pattern is None else pattern)
    group = "patient" if "patient" in expression.groupindex else 1
    matches = [expression.search(file.name) for file in files]
    if pattern is not None and files and not any(matches):
        raise DataError(f"Patient pattern {pattern!r} matches no file name, such as {files[0].name}.")
    found = [match[group] if match else None for match in matches]
    if pattern is None:
        found = [dicom.patient_of(file) or patient for file, patient in zip(files, found, strict=True)]
    return np.array(
        [patient or _path_within(root, file) for file, patient in zip(files, found, strict=True)],
        dtype=object,
    )


def subtypes_of(files: Sequence[Path]) -> np.ndarray:
    """`(n,)` strings: the one of `SUBTYPES` that each file's name holds as a word, empty where none does."""
    return np.array([next(iter(_words(file.name, SUBTYPES)), "") for file in files], dtype=object)


def label_of(file: Path, classes: tuple[str, str]) -> int:
    """The class that a file's name holds as a word, as in `NORMAL-001.png`; a subtype stands for class 1.

    Raises:
        DataError: if the name says neither class, or both.
    """
    named = {classes.index(name) for name in _words(file.name, classes)}
    if not set(SUBTYPES) & {name.lower() for name in classes}:
        named |= {1 for _ in _words(file.name, SUBTYPES)}
    if len(named) != 1:
        raise DataError(
            f"The name of {file} says {'both classes' if named else 'no class'}. Expected {classes[0]}, "
            f"{classes[1]}, {' or '.join(SUBTYPES)} in it, or folders of these classes, or a manifest."
        )
    return named.pop()


def _words(name: str, wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` that stand in `name` with no letter beside them, in any case."""
    return [
        word for word in wanted if re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", name, re.IGNORECASE)
    ]


def _expression(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"Patient pattern {pattern!r} is no regular expression: {error}.") from error
    if not expression.groups:
        raise DataError(
            f"Patient pattern {pattern!r} has no group. Put the patient in brackets, as in '^(\\w+)_'."
        )
    return expression


def _path_within(root: Path | None, file: Path) -> str:
    return file.relative_to(root).as_posix() if root is not None and file.is_relative_to(root) else str(file)
