"""Read patient, class and kind of pneumonia from the name of a radiograph's file, or its DICOM header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.images import dicom

PATIENT_PATTERN = (
    r"^(?P<patient>person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+|(?:NORMAL|BACTERIA|VIRUS)-\d+)[-_]"
)
"""Patient or series in the file names of the Kaggle set "chest-xray-pneumonia" and of its publisher's."""

SUBTYPES = ("bacteria", "virus")
"""Kinds of pneumonia, recognized as words of a file's name."""


def patients_of(
    files: Sequence[Path],
    *,
    pattern: str | None = None,
    root: Path | None = None,
    known: Sequence[str] | None = None,
) -> np.ndarray:
    """Return the patient of each file: `(n,)` strings; if unknown, a name that no other file has.

    Args:
        files: the image files.
        pattern: regular expression searched in each file's name; its group `patient`, or its first group, is
            the patient. By default the patient in a DICOM header, then `PATIENT_PATTERN`.
        root: folder that radiographs of unknown patients are named from; `None` takes the paths as they are.
        known: `(n,)` strings, the patients that are known; only files with an empty one are read.

    Raises:
        SettingsError: if the regular expression is invalid, has no group, or matches no file.
        DataError: if there are DICOM files and pydicom or the key for patients is missing.
    """
    if known is not None:
        patients = np.array(known, dtype=object)
        unknown = np.flatnonzero(patients == "").tolist()
        patients[unknown] = patients_of([files[index] for index in unknown], pattern=pattern, root=root)
        return patients
    expression = _expression(PATIENT_PATTERN if pattern is None else pattern)
    group = "patient" if "patient" in expression.groupindex else 1
    matches = [expression.search(file.name) for file in files]
    if pattern is not None and files and not any(matches):
        raise SettingsError(
            f"Expected `patient_pattern` to match file names such as {files[0].name}. Received {pattern!r}, "
            "which matches no file name.",
            parameter="patient_pattern",
        )
    found = [match[group] if match else None for match in matches]
    if pattern is None:
        found = [dicom.patient_of(file) or patient for file, patient in zip(files, found, strict=True)]
    return np.array(
        [patient or _path_within(root, file) for file, patient in zip(files, found, strict=True)],
        dtype=object,
    )


def subtypes_of(files: Sequence[Path]) -> np.ndarray:
    """Return the subtype that is a word of each file's name: `(n,)` strings, empty if there is none."""
    return np.array([next(iter(_words(file.name, SUBTYPES)), "") for file in files], dtype=object)


def label_of(file: Path, classes: tuple[str, str]) -> int:
    """Return the class that is a word of a file's name, as in `NORMAL-001.png`; a subtype means class 1.

    Raises:
        DataError: if the name contains neither class, or both.
    """
    named = {classes.index(name) for name in _words(file.name, classes)}
    if not set(SUBTYPES) & {name.lower() for name in classes}:
        named |= {1 for _ in _words(file.name, SUBTYPES)}
    if len(named) != 1:
        raise DataError(
            f"The name of {file} contains {'both classes' if named else 'no class'}. Expected one of "
            f"{classes[0]}, {classes[1]}, {' and '.join(SUBTYPES)} in it, or class folders, or a manifest.",
            path=file,
        )
    return named.pop()


def _words(name: str, wanted: Sequence[str]) -> list[str]:
    """Return the `wanted` words that occur in `name` with no letter beside them, in any case."""
    return [
        word for word in wanted if re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", name, re.IGNORECASE)
    ]


def _expression(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"Expected `patient_pattern` as a regular expression. Received {pattern!r}, which is no regular "
            f"expression ({error}).",
            parameter="patient_pattern",
        ) from error
    if not expression.groups:
        raise SettingsError(
            f"`patient_pattern` {pattern!r} has no group. Put the patient in brackets, as in '^(\\w+)_'.",
            parameter="patient_pattern",
        )
    return expression


def _path_within(root: Path | None, file: Path) -> str:
    return file.relative_to(root).as_posix() if root is not None and file.is_relative_to(root) else str(file)
