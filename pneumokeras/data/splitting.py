"""Split radiographs into train, val and test, or into folds; patients stay whole and duplicates together."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import overload

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pneumokeras.core.arguments import finite, seed_number, whole
from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.core.words import number_of
from pneumokeras.data.dataset import SPLITS, RadiographSet, in_threads, require_set
from pneumokeras.data.duplicates import merge_near_duplicates, pixel_digest, thumbnail_of
from pneumokeras.data.splits import Splits

logger = logging.getLogger(__name__)

SPLIT_RULE = "version 2: patients and duplicates kept together; test drawn first, then val"
"""The rule of `split`. A rule that gives other sets for the same seed needs another version."""

FOLD_RULE = "version 2: patients and duplicates kept together; test drawn first, then folds"

_ONE_SPLIT = (
    "These are the {split} radiographs of a collection that has splits; its others are left out. "
    'load_radiographs(path, split="all") loads all of it.'
)

TOLERANCE = 0.01
"""A notice is given where the size or class rate of a split is off by more than this."""


def tie_duplicates(patients: np.ndarray, films: np.ndarray) -> np.ndarray:
    """Return the group of each radiograph: patients tied together by duplicates, directly or through others.

    Args:
        patients: `(n,)` strings.
        films: `(n,)` strings, equal for duplicates.

    Returns:
        `(n,)` strings, each group named after the first of its patients in the alphabet.
    """
    names, patient_of = np.unique(patients, return_inverse=True)
    film_of = len(names) + np.unique(films, return_inverse=True)[1]
    nodes = len(names) + len(films)
    links = coo_array((np.ones(len(films)), (patient_of, film_of)), shape=(nodes, nodes))
    group_of_patient = connected_components(links, directed=False)[1][: len(names)]
    _, first, group_of_patient = np.unique(group_of_patient, return_index=True, return_inverse=True)
    return names[first][group_of_patient[patient_of]].astype(object)


def split_by_patient(
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    fractions: dict[str, float],
    seed: int = 0,
    subtypes: np.ndarray | None = None,
) -> np.ndarray:
    """Assign patients to splits, class by class.

    Patients are ordered by a hash of seed and name, so that the same seed gives the same split on any
    machine and in any file order, and a patient added later moves few others.

    Args:
        labels: `(n,)` integers, the class of each radiograph.
        patients: `(n,)` strings, its patient or group.
        fractions: share of the radiographs for each split, in (0, 1), adding up to 1. The first split takes
            what the others leave; these are filled in order, each with at least one patient of each class
            while two or more are left.
        seed: chooses one of the possible splits.
        subtypes: `(n,)` strings, kept in proportion within the classes; `None` if unknown.

    Returns:
        `(n,)` strings, the split of each radiograph. All radiographs of one patient get the same.
    """
    names, groups = np.unique(patients, return_inverse=True)
    counts = _radiographs_of_each_kind(labels, subtypes, groups, len(names))
    sizes = counts.sum(axis=1)
    order = _order(names, seed)
    first, *others = fractions
    split_of_patient = np.full(len(names), first, dtype=object)
    done = np.zeros(len(names), dtype=bool)
    for kinds, stratum in _strata(counts):
        waiting = [patient for patient in order if stratum[patient]]
        done |= stratum
        counted = counts[:, kinds].sum(axis=1)
        total = counted[done].sum()
        for split in others:
            if len(waiting) < 2:
                break
            missing = round(fractions[split] * total) - counted[split_of_patient == split].sum()
            taken = _first_that_fit(waiting, sizes, max(missing, sizes[waiting].min()))
            split_of_patient[taken] = split
            waiting = [patient for patient in waiting if split_of_patient[patient] == first]
    return split_of_patient[groups].astype(str)


def fold_by_patient(
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    folds: int,
    seed: int = 0,
    subtypes: np.ndarray | None = None,
) -> np.ndarray:
    """Assign patients to folds of equal size, class by class.

    The largest patients come first, equally large ones in the order of a hash of seed and name; each goes to
    the fold that has the fewest radiographs of its class or, if these are equal, the fewest of all.

    Args:
        labels: `(n,)` integers, the class of each radiograph.
        patients: `(n,)` strings, its patient or group.
        folds: number of folds, at least 2.
        seed: chooses one of the possible assignments.
        subtypes: `(n,)` strings, kept in proportion within the classes; `None` if unknown.

    Returns:
        `(n,)` integers, 0 to `folds - 1`. All radiographs of one patient get the same.
    """
    names, groups = np.unique(patients, return_inverse=True)
    counts = _radiographs_of_each_kind(labels, subtypes, groups, len(names))
    sizes = counts.sum(axis=1)
    order = sorted(_order(names, seed), key=lambda patient: -sizes[patient])
    fold_of_patient = np.zeros(len(names), dtype=int)
    filled = np.zeros((folds, counts.shape[1]), dtype=int)
    for kinds, stratum in _strata(counts):
        for patient in (patient for patient in order if stratum[patient]):
            fold = np.lexsort((filled.sum(axis=1), filled[:, kinds].sum(axis=1)))[0]
            fold_of_patient[patient] = fold
            filled[fold] += counts[patient]
    return fold_of_patient[groups]


def _order(names: np.ndarray, seed: int) -> np.ndarray:
    return np.argsort(
        [blake2b(f"{seed}:{name}".encode("utf-8", "surrogateescape")).hexdigest() for name in names]
    )


def _radiographs_of_each_kind(
    labels: np.ndarray, subtypes: np.ndarray | None, groups: np.ndarray, patients: int
) -> np.ndarray:
    """Return `(patients, kinds)` integers; a kind is a class, or a class with a subtype."""
    named = [""] * len(labels) if subtypes is None else subtypes
    texts = [f"{label} {subtype}" for label, subtype in zip(labels, named, strict=True)]
    kinds, kind_of = np.unique(np.array(texts, dtype=object), return_inverse=True)
    counts = np.zeros((patients, len(kinds)), dtype=int)
    np.add.at(counts, (groups, kind_of), 1)
    return counts


def _strata(counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the patients with the same kinds of radiographs: a mask of kinds and a mask of patients.

    Patients with several kinds come first, so that those with one can balance what they leave uneven.
    """
    shown = counts > 0
    found = sorted(set(map(tuple, shown.tolist())), key=lambda kinds: (-sum(kinds), kinds))
    for kinds in found:
        yield np.array(kinds), (shown == kinds).all(axis=1)


def _first_that_fit(waiting: list[int], sizes: np.ndarray, room: int) -> list[int]:
    taken = []
    for patient in waiting:
        if sizes[patient] <= room:
            taken.append(patient)
            room -= sizes[patient]
    return taken


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
    """Split a set of radiographs into train, val and test.

    Patients are kept whole, duplicates (equal decoded pixels, or near-duplicates as an audit finds them) stay
    together with all their patients, and classes and subtypes are kept in proportion. The same seed gives the
    same split on any machine, whatever the order of the radiographs. Test depends on `seed` and `test` alone.
    `load_splits` splits in the same way.

    Args:
        radiographs: the set, with labels. A radiograph of an unknown patient counts as a patient of its own.
        val: share of the radiographs for val, in [0, 1).
        test: share of the radiographs for test, in [0, 1).
        seed: chooses one of the possible splits.
        folds: split the radiographs that are not in test into this many folds instead; `val` is ignored.
        films: `(n,)` strings, equal for duplicates; by default the result of `films_of`, which decodes each
            radiograph once.

    Returns:
        The splits, with a sentence in `notices` on everything a reader has to know about them. With `folds`,
        one `Splits` per fold in a list, all with the same test: in number k, val is fold k, train the rest.

    A set that is one split of a collection is split without the others, which is logged and said in a notice,
    unless it is train and keeps the published test with `test=0`; `load_radiographs(path, split="all")` loads
    a whole collection.

    Raises:
        SettingsError: if the shares leave nothing to train on, or there are fewer than 2 folds.
        DataError: if there are no labels, a radiograph cannot be decoded, or there are too few patients to
            give each split both classes.

    Example:
        >>> radiographs = pk.load_radiographs("chest_xray", split="train")
        >>> splits = pk.split(radiographs, val=0.2, test=0.2, seed=7)
        >>> set(splits.train.patients) & set(splits.test.patients)
        set()
        >>> [fold.val.split for fold in pk.split(radiographs, folds=3, seed=7)]
        ['val', 'val', 'val']
    """
    require_set(radiographs)
    seed = seed_number(seed)
    val, test = checked_shares(val, test)
    if folds is not None:
        folds = whole("folds", folds, minimum=2)
    labels, subtypes = radiographs.require_labels(), radiographs.subtypes
    for class_name, count in radiographs.counts.items():
        if not count:
            raise DataError(
                f"There are no {class_name} radiographs to split ({len(radiographs)} in all). Expected both "
                "classes; add images of the missing one."
            )
    keeps_test = radiographs.split == "train" and not test
    part = "" if keeps_test or not radiographs.split else _ONE_SPLIT.format(split=radiographs.split)
    if part:
        logger.warning("%s", part)
    films = films_of(radiographs) if films is None else films
    groups = tie_duplicates(radiographs.patients, films)
    shares = {"train": 1 - val - test, "test": test, "val": val}
    fractions = {name: share for name, share in shares.items() if share}
    split_of = split_by_patient(labels, groups, fractions=fractions, seed=seed, subtypes=subtypes)
    if folds is None:
        return _as_splits(radiographs, films, split_of, fractions, rule=SPLIT_RULE, notice=part)
    rest = split_of != "test"
    fold_of = np.full(len(labels), -1)
    fold_of[rest] = fold_by_patient(
        labels[rest], groups[rest], folds=folds, seed=seed, subtypes=subtypes[rest]
    )
    fractions |= {"train": (1 - test) * (folds - 1) / folds, "val": (1 - test) / folds}
    in_fold = [np.where(rest, np.where(fold_of == fold, "val", "train"), "test") for fold in range(folds)]
    return [
        _as_splits(radiographs, films, split_of, fractions, rule=FOLD_RULE, notice=part)
        for split_of in in_fold
    ]


def checked_shares(val: float, test: float) -> tuple[float, float]:
    """Return the shares of val and test.

    Raises:
        SettingsError: if one is no number of at least 0, or they leave nothing to train on.
    """
    val, test = finite("val", val, minimum=0), finite("test", test, minimum=0)
    if val + test >= 1:
        raise SettingsError(
            "Expected `val` and `test` as shares of 0 or more that leave something to train on. "
            f"Received {val} and {test}.",
            parameter="val",
        )
    return val, test


def films_of(radiographs: RadiographSet) -> np.ndarray:
    """Return an identifier of what each radiograph shows: `(n,)` strings, equal for duplicates.

    Of files with equal bytes only the first is decoded.

    Raises:
        DataError: if a radiograph cannot be decoded.
    """
    if not len(radiographs):
        return np.array([], dtype=object)
    _, first, content_of = np.unique(radiographs.digests.astype(str), return_index=True, return_inverse=True)

    def look_at(content: int) -> tuple[str, np.ndarray]:
        pixels = radiographs.read(int(first[content]))
        return pixel_digest(pixels), thumbnail_of(pixels)

    digests, thumbnails = zip(*in_threads(look_at, len(first)), strict=True)
    return merge_near_duplicates(np.array(digests, dtype=object), np.stack(thumbnails))[content_of]


def duplicates_notice(films: np.ndarray) -> str:
    """Return a sentence on the duplicates in a set that is split; empty if there are none.

    Args:
        films: `(n,)` strings, equal for duplicates.
    """
    copies = [times for times in Counter(films).values() if times > 1]
    count = sum(copies) - len(copies)
    if not count:
        return ""
    verb = "is a duplicate" if count == 1 else "are duplicates"
    return (
        f"{count} of {number_of(len(films), 'radiograph')} {verb} of others "
        f"(further copies of {len(copies)}): duplicates stay in one split with all their patients."
    )


def _as_splits(
    radiographs: RadiographSet,
    films: np.ndarray,
    split_of: np.ndarray,
    fractions: dict[str, float],
    *,
    rule: str,
    notice: str,
) -> Splits:
    parts = {name: radiographs.subset(split_of == name, split=name) for name in SPLITS}
    for name in fractions:
        _require_both_classes(parts[name], radiographs, films)
    notices = tuple(filter(None, [notice, *_notices(radiographs, films, parts, fractions)]))
    return Splits(parts["train"], parts["val"], parts["test"], notices=notices, rule=rule)


def _require_both_classes(part: RadiographSet, radiographs: RadiographSet, films: np.ndarray) -> None:
    for label, (class_name, count) in enumerate(part.counts.items()):
        if not count:
            tied = tie_duplicates(radiographs.patients, films)
            groups = len(set(tied[radiographs.require_labels() == label]))
            held = "1 patient or group" if groups == 1 else f"{groups} patients or groups"
            own = films[radiographs.require_labels() == label]
            raise DataError(
                f"{part.split} gets no {class_name} radiographs: that class has {held} of patients tied by "
                f"duplicates, to be kept whole ({len(own)} radiographs with {len(set(own))} different "
                "contents). Expected both classes in each split or fold; make fewer of them, or add patients."
            )


def _notices(
    radiographs: RadiographSet,
    films: np.ndarray,
    parts: dict[str, RadiographSet],
    fractions: dict[str, float],
) -> Iterator[str]:
    if len(set(radiographs.patients)) == len(radiographs):
        yield "No patient has two radiographs, or none is known: each radiograph was split by itself."
    if notice := duplicates_notice(films):
        yield notice
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
                "too few radiographs, or too many of one patient, to come nearer."
            )
