"""The audit itself: find the sets as they are, measure each file once, and compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pneumokeras.core.errors import DataError, one_line
from pneumokeras.data.audit.measure import STATISTICS, Collection, Measurements, measure
from pneumokeras.data.audit.page import names_shown
from pneumokeras.data.audit.results import Audit
from pneumokeras.data.audit.separability import Separation, separation, shift_features
from pneumokeras.data.audit.types import (
    BadFile,
    DuplicateGroup,
    Outlier,
    Range,
    SharedPatient,
    Shift,
    Shortcut,
)
from pneumokeras.data.dataset import CLASS_NAMES, SPLITS, WHOLE, RadiographSet, are_named
from pneumokeras.data.duplicates import exact_groups, near_groups
from pneumokeras.data.from_path import find_radiographs
from pneumokeras.data.images.image import resize
from pneumokeras.data.splits import Splits

UNUSUAL = 6.0
"""From how many robust standard deviations from the median an exposure is unusual."""

MIN_CONTRAST = 8.0  # gray levels, standard deviation
WIDEST_ASPECT = 2.0
MIN_SHARE = 0.25  # of the median side
SHIFT_STRENGTH = 0.003  # a strong penalty: there are more features than test radiographs of a class
MAX_SHORTCUT_CUES = 3
SHOWN_EXAMPLES = 4
PICTURE_SIDE, JPEG_QUALITY = 200, 82  # pixels


def audit(
    data: Splits | str | PathLike[str],
    *,
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
    seed: int = 0,
) -> Audit:
    """Look at radiographs before anything is trained on them.

    Each file is decoded once. Unreadable files are findings, not errors.

    Args:
        data: splits, or a folder, `.npz` file or `.csv` manifest as `load_splits` takes them. A path is
            looked at as it was published: nothing is split, and a small val is left as it is.
        classes: names of class 0 and class 1, for a path.
        patient_pattern: as in `load_splits`, for a path.
        seed: of the folds of the cross-validated figures.

    Returns:
        What was found; shows itself in a notebook, and has `findings`, `json()` and `write_html()`.

    Raises:
        DataError: if nothing usable lies there, there are not exactly the two classes, or labels are missing.
    """
    if isinstance(data, Splits):
        source, found = data.source, dict(zip(SPLITS, data, strict=True))
    else:
        source = str(data)
        found = find_radiographs(data, classes=classes, patient_pattern=patient_pattern)
    sets = {split or WHOLE: found[split] for split in (*SPLITS, "") if len(found.get(split, ()))}
    if not sets:
        raise DataError(f"{source or 'This'} holds no radiographs. Expected some of two classes.")
    collection = Collection.of(sets)
    measurements = measure(collection)
    names = _shown_names(collection, source)
    duplicates = tuple(_duplicates(collection, measurements, names))
    shifts = tuple(_shifts(collection, measurements, names, seed))
    heights, widths = measurements.sizes.T
    return Audit(
        source=one_line(source),
        class_names=collection.class_names,
        counts={split: found.counts for split, found in sets.items()},
        patients={split: _number_of_patients(found) for split, found in sets.items()},
        formats=dict(Counter(measurements.formats).most_common()),
        misnamed=tuple(names[measurements.indices[measurements.misnamed]]),
        heights=_range(heights),
        widths=_range(widths),
        aspects=_range(widths / heights),
        brightness=_brightness(collection, measurements),
        bad_files=tuple(
            BadFile(names[index], collection.splits[index], problem.kind, problem.reason)
            for index, problem in measurements.problems.items()
        ),
        outliers=tuple(_outliers(collection, measurements, names)),
        duplicates=duplicates,
        shared_patients=tuple(_shared_patients(collection)),
        shortcut=_shortcut(collection, measurements, seed),
        shifts=shifts,
        pictures=_pictures(collection, names, names_shown(duplicates, shifts)),
    )


def _shown_names(collection: Collection, source: str) -> np.ndarray:
    """A name for each radiograph that no other has: arrays of two splits may be called the same."""
    names = [_shown_name(name, source) for name in collection.names]
    number = Counter(names)
    shown = [
        name if number[name] == 1 else f"{split}: {name}"
        for name, split in zip(names, collection.splits, strict=True)
    ]
    return np.array(shown, dtype=object)


def _shown_name(name: str, source: str) -> str:
    """A radiograph's name within the folder it came from, or within that of the file that names it."""
    path = Path(name)
    for folder in (Path(source), Path(source).parent) if source else ():
        if path.is_relative_to(folder):
            return one_line(path.relative_to(folder).as_posix())
    return one_line(name)


def _number_of_patients(radiographs: RadiographSet) -> int | None:
    return len(set(radiographs.patients)) if radiographs.known_patients else None


def _range(values: np.ndarray) -> Range | None:
    if not len(values):
        return None
    return Range(float(values.min()), float(np.median(values)), float(values.max()))


def _brightness(collection: Collection, measurements: Measurements) -> dict[str, dict[str, Range]]:
    brightness = measurements.statistic("brightness")
    splits, labels = collection.splits[measurements.indices], collection.labels[measurements.indices]
    found: dict[str, dict[str, Range]] = {split: {} for split in collection.sets}
    for split, ranges in found.items():
        for label, name in enumerate(collection.class_names):
            values = _range(brightness[(splits == split) & (labels == label)])
            if values is not None:
                ranges[name] = values
    return found


def _outliers(collection: Collection, measurements: Measurements, names: np.ndarray) -> Iterator[Outlier]:
    if not len(measurements.indices):
        return
    brightness, contrast = measurements.statistic("brightness"), measurements.statistic("contrast")
    heights, widths = measurements.sizes.T
    tests = (
        (_is_unusual(brightness), "brightness {brightness:.0f}"),
        (_is_unusual(contrast) | (contrast < MIN_CONTRAST), "contrast {contrast:.0f}"),
        (np.abs(np.log(widths / heights)) > np.log(WIDEST_ASPECT), "aspect {aspect:.2f}"),
        (_is_small(heights) | _is_small(widths), "{width} x {height} pixels"),
    )
    for row in np.flatnonzero(np.any([failed for failed, _ in tests], axis=0)):
        values = {
            "brightness": brightness[row],
            "contrast": contrast[row],
            "aspect": widths[row] / heights[row],
            "width": widths[row],
            "height": heights[row],
        }
        index = measurements.indices[row]
        reason = ", ".join(text.format(**values) for failed, text in tests if failed[row])
        yield Outlier(names[index], collection.splits[index], reason)


def _is_unusual(values: np.ndarray) -> np.ndarray:
    """Which are far from the median, in standard deviations estimated from the median deviation."""
    deviations = np.abs(values - np.median(values))
    spread = max(1.4826 * float(np.median(deviations)), 1.0)  # of equal exposures a gray level is no outlier
    return deviations > UNUSUAL * spread


def _is_small(sides: np.ndarray) -> np.ndarray:
    return sides < MIN_SHARE * np.median(sides)


def _duplicates(
    collection: Collection, measurements: Measurements, names: np.ndarray
) -> Iterator[DuplicateGroup]:
    def described(kind: Literal["exact", "near"], rows: np.ndarray) -> DuplicateGroup:
        members = measurements.indices[rows]
        return DuplicateGroup(
            kind=kind,
            names=tuple(names[members]),
            splits=tuple(collection.splits[members]),
            classes=tuple(collection.class_names[label] for label in collection.labels[members]),
        )

    digests = measurements.digests
    groups = [described("exact", rows) for rows in exact_groups(digests)]
    groups += [described("near", rows) for rows in near_groups(digests, measurements.thumbnails)]
    yield from sorted(groups, key=lambda group: (not group.conflicts, not group.crosses_splits, group.kind))


def _shared_patients(collection: Collection) -> Iterator[SharedPatient]:
    splits: dict[str, list[str]] = {}
    files: dict[str, list[str]] = {}
    named = are_named(collection.names, collection.patients)
    columns = (collection.names[named], collection.patients[named], collection.splits[named])
    for name, patient, split in zip(*columns, strict=True):
        splits.setdefault(patient, []).append(split)
        files.setdefault(patient, []).append(Path(name).name)
    for patient, found in sorted(splits.items()):
        images = Counter(found)
        if len(images) > 1:
            suspected = all(patient in file for file in files[patient])
            yield SharedPatient(one_line(patient), dict(images), suspected)


def _shortcut(collection: Collection, measurements: Measurements, seed: int) -> Shortcut | None:
    """Measured on train, or on the first split there is."""
    split = next(iter(collection.sets))
    rows = np.flatnonzero(collection.splits[measurements.indices] == split)
    indices = measurements.indices[rows]
    found = separation(
        measurements.statistics[rows],
        collection.labels[indices],
        collection.patients[indices],
        names=STATISTICS,
        seed=seed,
    )
    if found is None:
        return None
    alone = dict(list(found.alone.items())[:MAX_SHORTCUT_CUES])
    return Shortcut(split, len(found.rows), found.auc, found.chance, alone)


def _shifts(
    collection: Collection, measurements: Measurements, names: np.ndarray, seed: int
) -> Iterator[Shift]:
    splits, labels = collection.splits[measurements.indices], collection.labels[measurements.indices]
    for label, class_name in enumerate(collection.class_names):
        rows = np.flatnonzero((labels == label) & np.isin(splits, ("train", "test")))
        indices = measurements.indices[rows]
        sides = (splits[rows] == "test").astype(int)
        found = separation(
            shift_features(measurements.thumbnails[rows], measurements.statistics[rows]),
            sides,
            collection.patients[indices],
            strength=SHIFT_STRENGTH,
            seed=seed,
        )
        if found is not None:
            numbers = np.bincount(sides[found.rows])
            yield Shift(
                class_name=class_name,
                images={"train": int(numbers[0]), "test": int(numbers[1])},
                auc=found.auc,
                chance=found.chance,
                examples=_examples(found, sides, collection.patients[indices], names[indices]),
            )


def _examples(
    found: Separation, sides: np.ndarray, patients: np.ndarray, names: np.ndarray
) -> dict[str, tuple[str, ...]]:
    """Radiographs from both ends of the scores, each of another patient."""
    ascending = found.rows[np.argsort(found.scores, kind="stable")]
    train, test = ([row for row in ascending if sides[row] == side] for side in (0, 1))

    def chosen(rows: Sequence[int]) -> tuple[str, ...]:
        first_of_patient: dict[str, str] = {}
        for row in rows:
            first_of_patient.setdefault(patients[row], names[row])
        return tuple(first_of_patient.values())[:SHOWN_EXAMPLES]

    return {
        "train, least like test": chosen(train),
        "test, least like train": chosen(test[::-1]),
        "train, most like test": chosen(train[::-1]),
        "test, most like train": chosen(test),
    }


def _pictures(collection: Collection, names: np.ndarray, wanted: set[str]) -> dict[str, bytes]:
    pictures = {}
    for index in np.flatnonzero(np.isin(names, list(wanted))):
        pixels = collection.read(int(index))
        scale = PICTURE_SIDE / max(pixels.shape)
        height, width = (max(1, round(scale * side)) for side in pixels.shape)
        _, encoded = cv2.imencode(
            ".jpg", resize(pixels, (height, width)), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        pictures[names[index]] = encoded.tobytes()
    return pictures
