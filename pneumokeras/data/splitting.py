"""Splits that keep a patient whole and the classes in proportion."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def split_by_patient(
    labels: np.ndarray, patients: np.ndarray, *, fractions: dict[str, float], seed: int = 0
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

    Returns:
        `(n,)` strings, the split of each radiograph. All radiographs of one patient get the same.
    """
    names, groups, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    strata = _stratum_of_each_patient(labels, groups, len(names))
    order = np.argsort(
        [blake2b(f"{seed}:{name}".encode("utf-8", "surrogateescape")).hexdigest() for name in names]
    )
    first, *others = fractions
    split_of_patient = np.full(len(names), first, dtype=object)
    for stratum in np.unique(strata):
        waiting = [patient for patient in order if strata[patient] == stratum]
        total = sizes[waiting].sum()
        for split in others:
            if len(waiting) < 2:
                break
            room = max(round(fractions[split] * total), sizes[waiting].min())
            taken = _first_that_fit(waiting, sizes, room)
            split_of_patient[taken] = split
            waiting = [patient for patient in waiting if split_of_patient[patient] == first]
    return split_of_patient[groups].astype(str)


def _stratum_of_each_patient(labels: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The classes a patient's radiographs show, as a bit mask: most patients show one."""
    strata = np.zeros(count, dtype=int)
    np.bitwise_or.at(strata, groups, 1 << np.asarray(labels, dtype=int))
    return strata


def _first_that_fit(waiting: list[int], sizes: np.ndarray, room: int) -> list[int]:
    taken = []
    for patient in waiting:
        if sizes[patient] <= room:
            taken.append(patient)
            room -= sizes[patient]
    return taken
