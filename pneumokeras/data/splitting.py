"""Splits that keep a patient whole and the classes in proportion."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np


def are_named(names: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Whether somebody said whose each radiograph is; a patient who is only its own name is nobody.

    Args:
        names: `(n,)` strings, the radiographs.
        patients: `(n,)` strings, whose they are, or the names again, or the ends of these as paths.

    Returns:
        `(n,)` booleans.
    """

    def is_named(name: str, patient: str) -> bool:
        return name != patient and not name.replace("\\", "/").endswith((f"/{patient}", f"::{patient}"))

    return np.array([is_named(*pair) for pair in zip(names, patients, strict=True)], dtype=bool)


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
