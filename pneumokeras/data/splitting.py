"""Dealing radiographs to train, validation and test, or to folds: patients whole, copies together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import overload

import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.dataset import SPLITS, RadiographSet, in_threads, joined
from pneumokeras.data.duplicates import digests_of_films, pixel_digest, thumbnail_of
from pneumokeras.data.splits import Splits


def tie_duplicates(patients: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """Join the patients who share a radiograph, directly or through others.

    Args:
        patients: `(n,)` strings, whose radiograph it is.
        digests: `(n,)` strings, equal where two radiographs have the same content.

    Returns:
        `(n,)` strings, the patients with all who are tied together under the name of the first of them in
        the alphabet. Radiographs of one patient or of one content have the same name here.
    """
    name_of = {patient: patient for patient in patients}

    def first_of(patient: str) -> str:
        while name_of[patient] != patient:
            name_of[patient] = patient = name_of[name_of[patient]]
        return patient

    owner: dict[str, str] = {}
    for patient, digest in zip(patients, digests, strict=True):
        first, second = sorted((first_of(patient), first_of(owner.setdefault(digest, patient))))
        name_of[second] = first
    return np.array([first_of(patient) for patient in patients], dtype=object)


def split_by_patient(
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    fractions: dict[str, float],
    seed: int = 0,
    subtypes: np.ndarray | None = None,
) -> np.ndarray:
    """Deal patients out to splits, class by class.

    Patients are ordered by a hash of seed and name, so that the same seed gives the same split on any
    machine and in any file order, and a patient added later moves few others.

    Args:
        labels: `(n,)` integers, the class of each radiograph.
        patients: `(n,)` strings, whose radiograph it is.
        fractions: share of the radiographs for each split, in (0, 1), adding up to 1. What rounding
            leaves over falls to the first; each other split gets at least one patient of each class while
            two or more are left.
        seed: which of the possible splits.
        subtypes: `(n,)` strings, kept in proportion within the classes; `None` where there are none.

    Returns:
        `(n,)` strings, the split of each radiograph. All radiographs of one patient get the same.
    """
    names, groups = np.unique(patients, return_inverse=True)
    counts = _radiographs_of_each_kind(labels, subtypes, groups, len(names))
    sizes = counts.sum(axis=1)
    order = _order(names, seed)
    first, *others = fractions
    split_of_patient = np.full(len(names), first, dtype=object)
    dealt = np.zeros(len(names), dtype=bool)
    for kinds, stratum in _strata(counts):
        waiting = [patient for patient in order if stratum[patient]]
        dealt |= stratum
        counted = counts[:, kinds].sum(axis=1)
        total = counted[dealt].sum()
        for split in others:
            if len(waiting) < 2:
                break
            wanting = round(fractions[split] * total) - counted[split_of_patient == split].sum()
            taken = _first_that_fit(waiting, sizes, max(wanting, sizes[waiting].min()))
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
    """Deal patients out to folds of the same size, class by class.

    The largest patients come first, those of one size in the order of a hash of seed and name; each goes to
    the fold that has the fewest radiographs of its class, or where these are even, the fewest of all.

    Args:
        labels: `(n,)` integers, the class of each radiograph.
        patients: `(n,)` strings, whose radiograph it is.
        folds: how many, at least 2.
        seed: which of the possible folds.
        subtypes: `(n,)` strings, kept in proportion within the classes; `None` where there are none.

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
    """`(patients, kinds)` integers; a kind is a class, or a class with a subtype."""
    named = [""] * len(labels) if subtypes is None else subtypes
    texts = [f"{label} {subtype}" for label, subtype in zip(labels, named, strict=True)]
    kinds, kind_of = np.unique(np.array(texts, dtype=object), return_inverse=True)
    counts = np.zeros((patients, len(kinds)), dtype=int)
    np.add.at(counts, (groups, kind_of), 1)
    return counts


def _strata(counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Patients who show the same kinds: a mask of the kinds and one of the patients.

    Those of several kinds come first, so that those of one kind can make up for what is uneven in them.
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
