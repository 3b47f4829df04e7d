"""Load radiographs from a folder, a PneumoniaMNIST file or a CSV manifest."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

from pneumokeras.core.arguments import flag, path_of, seed_number
from pneumokeras.core.errors import DataError, SettingsError, one_line
from pneumokeras.core.words import number_of
from pneumokeras.data.dataset import CLASS_NAMES, SPLITS, WHOLE, RadiographSet, skipped_notice, union
from pneumokeras.data.images.image import Depth
from pneumokeras.data.readers.folder import Contents, read_folder, unread_notices
from pneumokeras.data.readers.manifest import read_manifest
from pneumokeras.data.readers.npz import ARRAY_MARK, read_npz
from pneumokeras.data.readers.synthetic import are_phantoms
from pneumokeras.data.splits import AS_PUBLISHED, Splits
from pneumokeras.data.splitting import SPLIT_RULE, duplicates_notice, films_of, split

logger = logging.getLogger(__name__)

MIN_VAL = 100
MIN_VAL_CLASS = 20


def find_radiographs(
    path: str | PathLike[str],
    *,
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
) -> dict[str, RadiographSet]:
    """Return the sets at `path` as they were published, by split, or the one set under the key `""`.

    Arguments and errors are those of `load_splits`, but nothing is split, and no class has to be present.
    """
    return _read(path, classes=classes, patient_pattern=patient_pattern).sets


def load_splits(
    path: str | PathLike[str],
    *,
    seed: int = 0,
    keep_val: bool = False,
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
    skip_bad: bool = False,
) -> Splits:
    """Load the radiographs at `path` as train, val and test, and split them where they are not.

    A folder holds `train/`, `val/` and `test/`, each with one folder per class, or the class folders alone,
    which are split 80/10/10; files whose names contain the class may take the place of class folders. A
    PneumoniaMNIST-style `.npz` holds `train_images`, `train_labels` and so on. A CSV manifest has the columns
    path and label, and may have patient, split and subtype. A val that is missing or too small (under 100
    images, or 20 of a class) is replaced by a tenth of train and val, or by as much as it held if
    that is more; it is kept if that would be no larger and give no more of the smaller class. New splits are
    those that `split` makes for the same seed: patients and duplicates stay together, classes and subtypes
    keep their proportions, and each radiograph concerned is decoded once.

    Args:
        path: folder, `.npz` file or `.csv` manifest.
        seed: chooses one of the possible splits.
        keep_val: keep a val however small.
        classes: names of class 0 and class 1.
        patient_pattern: regular expression searched in file names; its group `patient`, or its first
            group, is the patient. By default the patient in a DICOM header (hashed), then the naming of
            the Kaggle set.
        skip_bad: leave out the radiographs that cannot be decoded, and list them in `skipped`; each is
            tried once.

    Returns:
        The splits, with a sentence in `notices` on everything that was decided here, and on patients and
        contents that two splits share.

    Raises:
        SettingsError: if `patient_pattern`, `classes`, `seed` or another setting is invalid.
        DataError: if nothing usable is found, there are not exactly the two classes, a file cannot be read,
            or a file that has to be split cannot be decoded. (Other files are not decoded without `skip_bad`;
            see `RadiographLoader.preload`.)

    Example:
        >>> splits = pk.load_splits("chest_xray", seed=7)
        >>> [part.split for part in splits]
        ['train', 'val', 'test']
        >>> set(splits.train.patients) & set(splits.val.patients)
        set()
    """
    seed = seed_number(seed)
    keep_val, skip_bad = flag("keep_val", keep_val), flag("skip_bad", skip_bad)
    contents = _read(path, classes=classes, patient_pattern=patient_pattern)
    found = dict(contents.sets)
    if skip_bad:
        found = {name: radiographs.without_bad() for name, radiographs in found.items()}
    skipped = tuple(bad for radiographs in found.values() for bad in radiographs.skipped)
    notices = list(_notices_on_reading(found, contents))
    if "train" not in found and "" not in found:
        raise DataError(
            f"{path} has no train split ({_listing(found)} found). Expected train/ or bare class folders.",
            path=path,
        )
    rule, kept = AS_PUBLISHED, ""
    if "" in found:
        notices.append("The data had no splits: patients were split 80/10/10 into train, val and test.")
        found, of_duplicates = _split(found[""], val=0.1, test=0.1, seed=seed)
        notices += of_duplicates
        rule = SPLIT_RULE
    elif not keep_val and ("val" not in found or is_too_small(found["val"].counts)):
        before = len(found.get("val", ()))
        reason = f"had {before} images, too few to choose on" if before else "was missing"
        both = union(found[name] for name in ("train", "val") if name in found)
        drawn, of_duplicates = _with_val_of(both, at_least=before, seed=seed)
        if "val" in found and not _is_better(drawn["val"], found["val"]):
            kept = "; another part of train and val would be no larger"
        else:
            found = found | {name: drawn[name] for name in ("train", "val")}
            of_test = f"test {AS_PUBLISHED}; " if "test" in found else ""
            rule = f"{of_test}train and val by {SPLIT_RULE}"
            notices.append(
                f"val {reason}: it is now {'a tenth' if before <= 0.1 * len(both) else 'another part'} of "
                f"the patients of train and val, {len(found['val'])} images."
            )
            notices += of_duplicates
    train, val, test = (
        found[name] if name in found else found["train"].subset((), split=name) for name in SPLITS
    )
    splits = Splits(train, val, test, source=str(path), skipped=skipped, rule=rule)
    _require_both_classes(splits.train, "train")
    _require_both_classes(splits.val, "val")
    notices += _warnings_about(splits, kept)
    notices = [one_line(notice) for notice in notices]
    for notice in notices:
        logger.warning(notice)
    return replace(splits, notices=tuple(notices))


def load_radiographs(
    path: str | PathLike[str],
    *,
    split: str = "test",
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
    skip_bad: bool = False,
) -> RadiographSet:
    """Load one set to evaluate, without splitting anything.

    Args:
        path: a folder, `.npz` or `.csv` as in `load_splits`. Bare class folders and a manifest without
            `split` are the whole set.
        split: the split to take if there are several; `"all"` takes all of them as one set, to split it anew.
        classes: names of class 0 and class 1.
        patient_pattern: as in `load_splits`.
        skip_bad: as in `load_splits`; the set's `skipped` lists what was left out.

    Returns:
        The set, in file order.

    Raises:
        SettingsError: if `patient_pattern` or `classes` is invalid.
        DataError: if nothing usable is found or there is no such split.

    Example:
        >>> radiographs = pk.load_radiographs("chest_xray")
        >>> radiographs.split, list(radiographs.counts)
        ('test', ['NORMAL', 'PNEUMONIA'])
        >>> everything = pk.load_radiographs("chest_xray", split="all")
        >>> len(everything) > len(radiographs)
        True
    """
    found = _read(path, classes=classes, patient_pattern=patient_pattern).sets
    if split == WHOLE:
        chosen = whole_of(found)
    elif (split := "" if "" in found else split) in found:
        chosen = found[split]
    else:
        raise DataError(
            f"{path} has no {split} split ({_listing(found)} found). "
            "Choose one of these, or all, with `split`.",
            path=path,
        )
    return chosen.without_bad() if skip_bad else chosen


def whole_of(found: Mapping[str, RadiographSet]) -> RadiographSet:
    """Return all radiographs that `find_radiographs` found as one set that is no split."""
    return replace(union(found.values()), split="")


def is_too_small(val: Mapping[str, int]) -> bool:
    """Return whether a val with these counts of radiographs by class is too small to choose on."""
    return sum(val.values()) < MIN_VAL or min(val.values()) < MIN_VAL_CLASS


def _is_better(new: RadiographSet, old: RadiographSet) -> bool:
    """Return whether a new val is large enough, or at least larger, in all or in its smaller class."""
    return (
        not is_too_small(new.counts)
        or len(new) > len(old)
        or min(new.counts.values()) > min(old.counts.values())
    )


def _read(path: str | PathLike[str], *, classes: tuple[str, str], patient_pattern: str | None) -> Contents:
    classes = _two_names(classes)
    path = path_of("path", path)
    try:
        exists = path.exists()
    except OSError as error:  # an outer folder that cannot be searched, a name that is too long
        raise DataError(
            f"Cannot read {path}: {error.strerror}. Check its name and permissions.", path=path
        ) from error
    if not exists:
        raise DataError(
            f"{path} does not exist. Expected a folder of radiographs, an .npz or a .csv manifest.", path=path
        )
    suffix = path.suffix.lower()
    if path.is_dir():
        contents = read_folder(path, classes=classes, patient_pattern=patient_pattern)
    elif suffix == ".npz":
        contents = Contents(read_npz(path, classes=classes))
    elif suffix == ".csv":
        contents = Contents(read_manifest(path, classes=classes, patient_pattern=patient_pattern))
    else:
        raise DataError(f"{path} is neither a folder, an .npz file nor a .csv manifest.", path=path)
    return replace(contents, sets=_with_one_depth(contents.sets))


def _two_names(classes: Any) -> tuple[str, str]:
    """Return the names of class 0 and class 1.

    Raises:
        SettingsError: if there are not exactly two, which differ in more than their case.
    """
    names = tuple(classes) if isinstance(classes, Iterable) and not isinstance(classes, str) else ()
    are_names = len(names) == 2 and all(isinstance(name, str) and name.strip() for name in names)
    if not are_names or names[0].upper() == names[1].upper():
        raise SettingsError(
            "Expected `classes` as the names of two classes, the healthy one first, such as "
            f"(NORMAL, PNEUMONIA). Received {classes!r}.",
            parameter="classes",
        )
    return names[0], names[1]


def _with_one_depth(sets: Mapping[str, RadiographSet]) -> dict[str, RadiographSet]:
    """Return sets whose images of more than eight bits are all reduced alike."""
    depth = Depth([file for radiographs in sets.values() for file in radiographs.depth.files])
    return {name: replace(radiographs, depth=depth) for name, radiographs in sets.items()}


def _notices_on_reading(found: Mapping[str, RadiographSet], contents: Contents) -> Iterator[str]:
    skipped = [bad for radiographs in found.values() for bad in radiographs.skipped]
    if skipped:
        yield skipped_notice(skipped)
    if contents.left_out:
        images = number_of(contents.left_out, "image")
        yield f"Left out, since they lie beside the folders of splits or classes: {images}."
    yield from unread_notices(contents.unread)
    if any(are_phantoms(radiographs.images) for radiographs in found.values()):
        yield "These radiographs are synthetic drawings: their figures say nothing about patients."


def _split(
    radiographs: RadiographSet, *, val: float, test: float, seed: int
) -> tuple[dict[str, RadiographSet], list[str]]:
    """Return the sets by split, and a notice on duplicates if there are any."""
    films = films_of(radiographs)
    parts = split(radiographs, val=val, test=test, seed=seed, films=films)
    return parts.by_name(), list(filter(None, [duplicates_notice(films)]))


def _with_val_of(
    radiographs: RadiographSet, *, at_least: int, seed: int
) -> tuple[dict[str, RadiographSet], list[str]]:
    """Return train and val, a tenth or `at_least` so many radiographs, and a notice on duplicates."""
    films, count = films_of(radiographs), len(radiographs)
    shares = [0.1] if at_least <= 0.1 * count else [size / count for size in range(at_least, count)]
    for share in shares:
        parts = split(radiographs, val=share, test=0.0, seed=seed, films=films)
        if len(parts.val) >= at_least:  # a share is rounded class by class, and patients are kept whole
            break
    return parts.by_name(), list(filter(None, [duplicates_notice(films)]))


def _require_both_classes(radiographs: RadiographSet, name: str) -> None:
    absent = [class_name for class_name, count in radiographs.counts.items() if not count]
    if absent:
        raise DataError(
            f"The {name} split has no {absent[0]} radiographs ({len(radiographs)} in all). "
            "Expected both classes; add images or patients of the missing one."
        )


def _warnings_about(splits: Splits, kept: str) -> Iterator[str]:
    """Yield what is wrong with splits; `kept` says why a val that is too small was not replaced."""
    if is_too_small(splits.val.counts):
        counts = ", ".join(f"{count} {name}" for name, count in splits.val.counts.items())
        yield f"val holds {len(splits.val)} images ({counts}): too few to rank trials reliably{kept}."
    pairs = list(combinations(splits.by_name().items(), 2))
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
        yield "There is no test split: evaluate on other radiographs, or on val."


def _are(shared: Collection[str], noun: str, split: str) -> str:
    return f"1 {noun} of {split} is" if len(shared) == 1 else f"{len(shared)} {noun}s of {split} are"


def _short_name(name: str) -> str:
    file, mark, member = name.partition(ARRAY_MARK)
    return member if mark else Path(file).name


def _listing(found: dict[str, RadiographSet]) -> str:
    return ", ".join(name for name in found if name) or "no split"
