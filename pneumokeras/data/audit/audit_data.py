"""Audit radiographs: find the sets, measure each file once, and compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pneumokeras.core.errors import DataError, one_line
from pneumokeras.data.audit.collection import Collection
from pneumokeras.data.audit.measure import STATISTICS, Measurements, measure
from pneumokeras.data.audit.page import names_shown
from pneumokeras.data.audit.results import Audit
from pneumokeras.data.audit.separability import Separation, separation, shift_features
from pneumokeras.data.audit.types import DuplicateGroup, Outlier, Range, SharedPatient, Shift, Shortcut
from pneumokeras.data.dataset import CLASS_NAMES, SPLITS, WHOLE, RadiographSet, are_named
from pneumokeras.data.duplicates import exact_groups, near_groups
from pneumokeras.data.from_path import find_radiographs
from pneumokeras.data.images.image import resize
from pneumokeras.data.splits import Splits

MAX_DEVIATION = 6.0
"""Exposures further from the median, in robust standard deviations, are outliers."""

MIN_CONTRAST = 8.0  # gray levels, standard deviation
MAX_ASPECT = 2.0
MIN_RELATIVE_SIDE = 0.25  # of the median side
SHIFT_INVERSE_PENALTY = 0.003  # a strong penalty: there are more features than test radiographs of a class
MAX_SHORTCUT_STATISTICS = 3
MAX_EXAMPLES = 4
PICTURE_SIDE, JPEG_QUALITY = 200, 82  # pixels


def audit(
    data: Splits | RadiographSet | str | PathLike[str],
    *,
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
    source: str = "",
    seed: int = 0,
) -> Audit:
    """Look for anything that would make a model's metrics wrong, before training.

    Each file is decoded once. Unreadable files are findings, not errors.

    Args:
        data: splits, a labeled set, or a folder, `.npz` file or `.csv` manifest as for `load_splits`. A path
            is audited as published: nothing is split, and a small val stays as it is.
        classes: names of class 0 and class 1, for a path.
        patient_pattern: as for `load_splits`, for a path.
        source: folder or file that names are shown relative to, for a `RadiographSet`.
        seed: seed of the cross-validation folds.

    Returns:
        The audit. It displays itself in a notebook, and has `findings`, `json()` and `write_html()`.

    Raises:
        DataError: if there are no radiographs, not exactly the two classes, or no labels.

    Example:
        >>> audit = pk.audit("chest_xray", seed=7)
        >>> list(audit.counts)
        ['train', 'val', 'test']
        >>> audit.bad_files
        ()
    """
    if isinstance(data, Splits):
        source, found = data.source, data.by_name()
    elif isinstance(data, RadiographSet):
        found = {data.split: data}
    else:
        source = str(data)
        found = find_radiographs(data, classes=classes, patient_pattern=patient_pattern)
    sets = {split or WHOLE: found[split] for split in (*SPLITS, "") if len(found.get(split, ()))}
    if not sets:
        raise DataError(
            f"{source or 'The set'} holds no radiographs. Expected radiographs of two classes.",
            path=source or None,
        )
    collection = Collection.of(sets, source=source)
    measurements = measure(collection)
    duplicates = tuple(_duplicates(collection, measurements))
    shifts = tuple(_shifts(collection, measurements, seed=seed))
    heights, widths = measurements.sizes.T
    return Audit(
        source=one_line(source),
        class_names=collection.class_names,
        counts={split: found.counts for split, found in sets.items()},
        patients={split: _number_of_patients(found) for split, found in sets.items()},
        formats=dict(Counter(measurements.formats).most_common()),
        misnamed=tuple(collection.shown_names[measurements.indices[measurements.misnamed]]),
        heights=_range(heights),
        widths=_range(widths),
        aspects=_range(widths / heights),
        brightness=_brightness(collection, measurements),
        bad_files=measurements.bad_files,
        outliers=tuple(_outliers(collection, measurements)),
        duplicates=duplicates,
        shared_patients=tuple(_shared_patients(collection)),
        shortcut=_shortcut(collection, measurements, seed=seed),
        shifts=shifts,
        pictures=_pictures(collection, names_shown(duplicates, shifts)),
    )


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


def _outliers(collection: Collection, measurements: Measurements) -> Iterator[Outlier]:
    if not len(measurements.indices):
        return
    brightness, contrast = measurements.statistic("brightness"), measurements.statistic("contrast")
    heights, widths = measurements.sizes.T
    tests = (
        (_is_unusual(brightness), "brightness {brightness:.0f}"),
        (_is_unusual(contrast) | (contrast < MIN_CONTRAST), "contrast {contrast:.0f}"),
        (np.abs(np.log(widths / heights)) > np.log(MAX_ASPECT), "aspect {aspect:.2f}"),
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
        yield Outlier(collection.shown_names[index], collection.splits[index], reason)


def _is_unusual(values: np.ndarray) -> np.ndarray:
    """Mark values far from the median, in standard deviations estimated from the median deviation."""
    deviations = np.abs(values - np.median(values))
    spread = max(1.4826 * float(np.median(deviations)), 1.0)  # a single gray level is never an outlier
    return deviations > MAX_DEVIATION * spread


def _is_small(sides: np.ndarray) -> np.ndarray:
    return sides < MIN_RELATIVE_SIDE * np.median(sides)


def _duplicates(collection: Collection, measurements: Measurements) -> list[DuplicateGroup]:
    def group_of(kind: Literal["exact", "near"], rows: np.ndarray) -> DuplicateGroup:
        members = measurements.indices[rows]
        return DuplicateGroup(
            kind=kind,
            names=tuple(collection.shown_names[members]),
            splits=tuple(collection.splits[members]),
            classes=tuple(collection.class_names[label] for label in collection.labels[members]),
        )

    digests = measurements.digests
    groups = [group_of("exact", rows) for rows in exact_groups(digests)]
    groups += [group_of("near", rows) for rows in near_groups(digests, measurements.thumbnails)]
    return sorted(groups, key=lambda group: (not group.conflicts, not group.crosses_splits, group.kind))


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


def _shortcut(collection: Collection, measurements: Measurements, *, seed: int) -> Shortcut | None:
    """Measure the shortcut on train, or on the first split if there is no train."""
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
    alone = dict(list(found.alone.items())[:MAX_SHORTCUT_STATISTICS])
    return Shortcut(split, len(found.rows), found.auc, found.chance, alone)


def _shifts(collection: Collection, measurements: Measurements, *, seed: int) -> Iterator[Shift]:
    splits, labels = collection.splits[measurements.indices], collection.labels[measurements.indices]
    for label, class_name in enumerate(collection.class_names):
        rows = np.flatnonzero((labels == label) & np.isin(splits, ("train", "test")))
        indices = measurements.indices[rows]
        sides = (splits[rows] == "test").astype(int)
        found = separation(
            shift_features(measurements.thumbnails[rows], measurements.statistics[rows]),
            sides,
            collection.patients[indices],
            inverse_penalty=SHIFT_INVERSE_PENALTY,
            seed=seed,
        )
        if found is not None:
            numbers = np.bincount(sides[found.rows])
            yield Shift(
                class_name=class_name,
                images={"train": int(numbers[0]), "test": int(numbers[1])},
                auc=found.auc,
                chance=found.chance,
                examples=_examples(
                    found, sides, collection.patients[indices], collection.shown_names[indices]
                ),
            )


def _examples(
    found: Separation, sides: np.ndarray, patients: np.ndarray, names: np.ndarray
) -> dict[str, tuple[str, ...]]:
    """Return names from both ends of the scores, each of a different patient."""
    ascending = found.rows[np.argsort(found.scores, kind="stable")]
    train, test = ([row for row in ascending if sides[row] == side] for side in (0, 1))

    def chosen(rows: Sequence[int]) -> tuple[str, ...]:
        first_of_patient: dict[str, str] = {}
        for row in rows:
            first_of_patient.setdefault(patients[row], names[row])
        return tuple(first_of_patient.values())[:MAX_EXAMPLES]

    return {
        "train, least like test": chosen(train),
        "test, least like train": chosen(test[::-1]),
        "train, most like test": chosen(train[::-1]),
        "test, most like train": chosen(test),
    }


def _pictures(collection: Collection, wanted: set[str]) -> dict[str, bytes]:
    pictures = {}
    for index in np.flatnonzero(np.isin(collection.shown_names, list(wanted))):
        pixels = collection.read(int(index))
        scale = PICTURE_SIDE / max(pixels.shape)
        height, width = (max(1, round(scale * side)) for side in pixels.shape)
        _, encoded = cv2.imencode(
            ".jpg", resize(pixels, (height, width)), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        pictures[collection.shown_names[index]] = encoded.tobytes()
    return pictures
