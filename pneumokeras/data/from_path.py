"""A folder, a PneumoniaMNIST file or a CSV manifest -> radiographs for training, choosing and testing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from os import PathLike
from pathlib import Path

import numpy as np

from pneumokeras.core.errors import DataError, one_line
from pneumokeras.data.dataset import CLASS_NAMES, SPLITS, RadiographSet, Skipped, joined, skipped_notice
from pneumokeras.data.readers.folder import images_beside, read_folder
from pneumokeras.data.readers.manifest import read_manifest
from pneumokeras.data.readers.npz import ARRAY_MARK, read_npz
from pneumokeras.data.readers.synthetic import are_phantoms
from pneumokeras.data.splits import Splits
from pneumokeras.data.splitting import split_by_patient, tie_duplicates

logger = logging.getLogger(__name__)
MIN_VAL = 100

MIN_VAL_CLASS = 20


def find_radiographs(
    path: str | PathLike[str],
    *,
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
) -> dict[str, RadiographSet]:
    """The sets at `path` as they were published, by split, or the one set under the key `""`.

    Arguments and errors as for `load_splits`; nothing is split, and no class has to be there.
    """
    path = Path(path)
    if not _exists(path):
        raise DataError(
            f"{path} does not exist. Expected a folder of radiographs, an .npz or a .csv manifest."
        )
    if path.is_dir():
        return read_folder(path, classes=classes, patient_pattern=patient_pattern)
    if path.suffix.lower() == ".npz":
        return read_npz(path, classes=classes)
    if path.suffix.lower() == ".csv":
        return read_manifest(path, classes=classes, patient_pattern=patient_pattern)
    raise DataError(f"{path} is neither a folder, an .npz file nor a .csv manifest.")


def load_splits(
    path: str | PathLike[str],
    *,
    seed: int = 0,
    keep_val: bool = False,
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
    skip_bad: bool = False,
) -> Splits:
    """Find the radiographs under `path` and put each into train, val or test.

    A folder holds `train/`, `val/` and `test/`, each with one folder a class, or the class folders alone,
    which are split 80/10/10; files whose names say the class may take the place of class folders. A
    PneumoniaMNIST-style `.npz` holds `train_images`, `train_labels` and so on. A CSV manifest has the columns
    path and label, and may have patient, split and subtype. A val that is missing or too small to choose on
    (under 100 images, or 20 of a class) is replaced by a tenth of train and val. Nothing that is split here
    puts a patient or a content on two sides, and classes and subtypes are kept in proportion.

    Args:
        path: folder, `.npz` file or `.csv` manifest.
        seed: which of the possible splits.
        keep_val: keep a val however small.
        classes: names of class 0 and class 1.
        patient_pattern: regular expression searched in file names; its group `patient`, or its first
            group, is the patient. By default what DICOM headers say (hashed), then the Kaggle set's naming.
        skip_bad: decode every radiograph once, and leave out those that cannot be decoded; they stand in
            `skipped`.

    Returns:
        The splits, with a sentence in `notices` on whatever was decided here, and on patients and contents
        that two splits share.

    Raises:
        DataError: if nothing usable is found, there are not exactly the two classes, or a file cannot be
            read (without `skip_bad`, whether it can be decoded is not tried: see `RadiographLoader.preload`).
    """
    found = find_radiographs(path, classes=classes, patient_pattern=patient_pattern)
    notices: list[str] = []
    skipped: tuple[Skipped, ...] = ()
    if skip_bad:
        found = {split: radiographs.without_bad() for split, radiographs in found.items()}
        skipped = tuple(bad for radiographs in found.values() for bad in radiographs.skipped)
    if skipped:
        notices.append(skipped_notice(skipped))
    beside = images_beside(Path(path), classes=classes) if Path(path).is_dir() else 0
    if beside:
        notices.append(f"Left out, since they lie beside the folders of splits or classes: {beside} images.")
    if any(are_phantoms(radiographs.images) for radiographs in found.values()):
        notices.append("These radiographs are synthetic drawings: their figures say nothing about patients.")
    if "train" not in found and "" not in found:
        raise DataError(
            f"{path} has no train split ({_listing(found)} found). Expected train/ or bare class folders."
        )
    if "" in found:
        found = _dealt(found[""], {"train": 0.8, "val": 0.1, "test": 0.1}, seed)
        notices.append("The data had no splits: patients were dealt out 80/10/10 to train, val and test.")
    elif not keep_val and ("val" not in found or is_too_small(found["val"].counts)):
        before = len(found.get("val", ()))
        pool = joined([found[split] for split in ("train", "val") if split in found])
        found |= _dealt(pool, {"train": 0.9, "val": 0.1}, seed)
        reason = f"had {before} images, too few to choose on" if before else "was missing"
        notices.append(
            f"val {reason}: it is now a tenth of the patients of train and val, {len(found['val'])} images."
        )
    nothing = found["train"].subset(np.arange(0))
    splits = Splits(
        train=found["train"],
        val=found.get("val", replace(nothing, split="val")),
        test=found.get("test", replace(nothing, split="test")),
        source=str(path),
        skipped=skipped,
    )
    _require_both_classes(splits.train, "train")
    _require_both_classes(splits.val, "val")
    notices += _warnings_about(splits)
    notices = [one_line(notice) for notice in notices]
    for notice in notices:
        logger.info(notice)
    return replace(splits, notices=tuple(notices))


def load_radiographs(
    path: str | PathLike[str],
    *,
    split: str = "test",
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
    skip_bad: bool = False,
) -> RadiographSet:
    """Load one set to evaluate, never splitting anything.

    Args:
        path: a folder, `.npz` or `.csv` as in `load_splits`. Bare class folders and a manifest without
            `split` are the set, whole.
        split: which split to take where there are several.
        classes: names of class 0 and class 1.
        patient_pattern: as in `load_splits`.
        skip_bad: as in `load_splits`; what is left out stands in the set's `skipped`.

    Returns:
        The set, in file order.

    Raises:
        DataError: if nothing usable is found or there is no such split.
    """
    found = find_radiographs(path, classes=classes, patient_pattern=patient_pattern)
    if "" in found:
        split = ""
    if split not in found:
        raise DataError(
            f"{path} has no {split} split ({_listing(found)} found). Choose one of these with split."
        )
    return found[split].without_bad() if skip_bad else found[split]


def is_too_small(val: Mapping[str, int]) -> bool:
    """Whether a val of so many radiographs by class is too small to choose on."""
    return sum(val.values()) < MIN_VAL or min(val.values()) < MIN_VAL_CLASS


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a folder on the way that cannot be searched, a name that is too long
        raise DataError(f"Cannot read {path}: {error.strerror}. May you read it?") from error


def _dealt(radiographs: RadiographSet, fractions: dict[str, float], seed: int) -> dict[str, RadiographSet]:
    splits = split_by_patient(
        radiographs.require_labels(),
        tie_duplicates(radiographs.patients, radiographs.digests),
        fractions=fractions,
        seed=seed,
        subtypes=radiographs.subtypes,
    )
    return {split: replace(radiographs.subset(splits == split), split=split) for split in fractions}


def _require_both_classes(radiographs: RadiographSet, split: str) -> None:
    absent = [name for name, count in radiographs.counts.items() if not count]
    if absent:
        raise DataError(
            f"The {split} split has no {absent[0]} radiographs ({len(radiographs)} in all). "
            "Expected both classes; add images or patients of the missing one."
        )


def _warnings_about(splits: Splits) -> Iterator[str]:
    if is_too_small(splits.val.counts):
        counts = ", ".join(f"{count} {name}" for name, count in splits.val.counts.items())
        yield f"val holds {len(splits.val)} images ({counts}): too few to rank trials reliably."
    pairs = list(combinations(zip(SPLITS, splits, strict=True), 2))
    for (one, radiographs), (other, others) in pairs:
        patients = radiographs.known_patients & others.known_patients
        if patients:
            yield f"Suspected: {_are(patients, 'patient', one)} also in {other}, such as {min(patients)}."
    for (one, radiographs), (other, others) in pairs:
        contents = set(radiographs.digests) & set(others.digests)
        if contents:
            example = next(
                name
                for name, digest in zip(radiographs.names, radiographs.digests, strict=True)
                if digest in contents
            )
            yield (
                f"{_are(contents, 'radiograph', one)} also in {other} (same content), "
                f"such as {_short_name(example)}."
            )
    if not len(splits.test):
        yield "There is no test split: report on other radiographs with --data, or on val with --split val."


def _are(shared: Collection[str], what: str, split: str) -> str:
    return f"1 {what} of {split} is" if len(shared) == 1 else f"{len(shared)} {what}s of {split} are"


def _short_name(name: str) -> str:
    file, mark, member = name.partition(ARRAY_MARK)
    return member if mark else Path(file).name


def _listing(found: dict[str, RadiographSet]) -> str:
    return ", ".join(name for name in found if name) or "no split"
