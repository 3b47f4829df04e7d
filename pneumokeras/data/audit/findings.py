"""Turn what an audit measured into findings: sentences with a severity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from pneumokeras.data.audit.types import (
    DuplicateGroup,
    Finding,
    Outlier,
    Severity,
    SharedPatient,
    Shift,
    Shortcut,
)
from pneumokeras.data.dataset import WHOLE, BadFile
from pneumokeras.data.from_path import is_too_small

REPORTED_AUC, SERIOUS_AUC = 0.7, 0.98
"""AUC from which a classifier that should have no information is reported, and from which it is serious."""

MAX_CLASS_RATIO = 2.0  # larger class to smaller class

MAX_RATE_DIFFERENCE = 0.1

MIN_PATIENTS = 3  # one for each split

Counts = Mapping[str, Mapping[str, int]]
"""Number of radiographs by split and class."""


_MEANINGS = {"exact": "same pixels", "near": "near-duplicates"}


def file_findings(
    *,
    bad_files: Sequence[BadFile],
    misnamed: Sequence[str],
    formats: Mapping[str, int],
    outliers: Sequence[Outlier],
) -> Iterator[Finding]:
    """Yield findings on single files."""
    if bad_files:
        problems = Counter(file.problem for file in bad_files)
        kinds = ", ".join(f"{number} {problem}" for problem, number in problems.items())
        text = f"{_count(len(bad_files), 'file')} cannot be used ({kinds}), such as {bad_files[0].name}."
        yield Finding("serious", "bad-files", text)
    if misnamed:
        what = f"{_have(len(misnamed), 'file')} the ending of another format"
        yield Finding("worth knowing", "misnamed", f"{what}, such as {misnamed[0]}.")
    if len(formats) > 1:
        kinds = ", ".join(f"{number:,} {name}" for name, number in formats.items())
        yield Finding("worth knowing", "formats", f"The files are of several kinds: {kinds}.")
    if outliers:
        first = outliers[0]
        what = f"{_count(len(outliers), 'radiograph')} {_are(len(outliers))} unlike the others"
        text = f"{what} in exposure or shape, such as {first.name} ({first.reason})."
        yield Finding("worth knowing", "outliers", text)


def count_findings(counts: Counts, class_names: tuple[str, str]) -> Iterator[Finding]:
    """Yield findings on the numbers of radiographs."""
    for split, classes in counts.items():
        for name in (name for name, count in classes.items() if not count):
            yield Finding("serious", "missing-class", f"{_subject(split)} has no {name} radiographs.")
    val = counts.get("val")
    if val and is_too_small(val):
        held = ", ".join(f"{count} {name}" for name, count in val.items())
        yield Finding("worth knowing", "small-val", f"val has {held}: too few to rank trials reliably.")
    split, classes = next(iter(counts.items()))
    (smaller, fewer), (larger, more) = sorted(classes.items(), key=lambda item: item[1])
    if fewer and more >= MAX_CLASS_RATIO * fewer:
        text = f"{_subject(split)} has {more / fewer:.1f} {larger} radiographs for each {smaller}."
        yield Finding("worth knowing", "imbalance", text)
    if {"train", "test"} <= counts.keys():
        name = class_names[1]
        train, test = (counts[split][name] / sum(counts[split].values()) for split in ("train", "test"))
        if abs(train - test) >= MAX_RATE_DIFFERENCE:
            text = f"{train:.0%} of train and {test:.0%} of test are {name}."
            yield Finding("worth knowing", "class-rates", text)


def duplicate_findings(
    duplicates: Sequence[DuplicateGroup], *, splits: Sequence[str], class_names: tuple[str, str]
) -> Iterator[Finding]:
    """Yield duplicates that contradict each other, leak from one split into another, or count twice."""
    conflicts = [group for group in duplicates if group.conflicts]
    if conflicts:
        example = _pair(conflicts[0], conflicts[0].classes, *class_names)
        text = f"{_have(len(conflicts), 'radiograph')} duplicates under both classes, such as {example}."
        yield Finding("serious", "label-conflict", text)
    for kind, meaning in _MEANINGS.items():
        groups = [group for group in duplicates if group.kind == kind]
        for first, second in combinations(splits, 2):
            shared = [group for group in groups if {first, second} <= set(group.splits)]
            if shared:
                number = sum(group.splits.count(second) for group in shared)
                what = f"{_count(number, 'radiograph')} of {second} {_are(number)} also in {first}"
                example = _pair(shared[0], shared[0].splits, first, second)
                text = f"{what} ({meaning}), such as {example}."
                yield Finding("serious", "duplicates-across-splits", text)
        repeated = [group for group in groups if len(set(group.splits)) < len(group.splits)]
        if repeated:
            what = f"{_have(len(repeated), 'radiograph')} duplicates in the same split ({meaning})"
            (split, _), *_ = Counter(repeated[0].splits).most_common(1)
            files = _count(sum(len(group.splits) for group in repeated), "file")
            pair = _pair(repeated[0], repeated[0].splits, split, split)
            text = f"{what}, {files} in all, such as {pair}."
            yield Finding("worth knowing", "duplicates-within-split", text)


def patient_findings(
    shared_patients: Sequence[SharedPatient], *, patients: Mapping[str, int | None], counts: Counts
) -> Iterator[Finding]:
    """Yield splits that have too few patients, and pairs of splits that share some."""
    for split, number in patients.items():
        radiographs = sum(counts[split].values())
        if number is not None and number < min(MIN_PATIENTS, radiographs):
            of_split = "" if split == WHOLE else f" of {split}"
            text = (
                f"All {radiographs:,} radiographs{of_split} are of {_count(number, 'patient')}: "
                "too few to split, or to evaluate a model on."
            )
            yield Finding("serious", "few-patients", text)
    for first, second in combinations(counts, 2):
        shared = [patient for patient in shared_patients if {first, second} <= patient.images.keys()]
        for suspected in (False, True):
            found = [patient for patient in shared if patient.suspected == suspected]
            if found:
                who = f"{_count(len(found), 'patient')} {_are(len(found))}"
                text = f"{who} in both {first} and {second}, such as {found[0].patient}"
                text = f"Suspected: {text} (known from file names only)." if suspected else f"{text}."
                yield Finding("serious", "patients-across-splits", text)


def separation_findings(shortcut: Shortcut | None, shifts: Sequence[Shift]) -> Iterator[Finding]:
    """Yield classifiers that do well although they should have no information."""
    if shortcut and shortcut.auc >= max(REPORTED_AUC, shortcut.chance):
        text = (
            "Size, brightness and border statistics alone separate the classes with an AUC of "
            f"{shortcut.auc:.2f}: any network must clearly beat this."
        )
        yield Finding(_severity(shortcut.auc), "shortcut", text)
    for shift in shifts:
        if shift.auc >= max(REPORTED_AUC, shift.chance):
            text = (
                f"A linear classifier separates {shift.class_name} radiographs of test from those of train "
                f"with an AUC of {shift.auc:.2f}: metrics on val will look better than those on test."
            )
            yield Finding(_severity(shift.auc), "shift", text)


def _severity(auc: float) -> Severity:
    return "serious" if auc >= SERIOUS_AUC else "worth knowing"


def _subject(split: str) -> str:
    return "The set" if split == WHOLE else split


def _pair(group: DuplicateGroup, marks: Sequence[str], first: str, second: str) -> str:
    """Name two radiographs of a group: one marked `first` and another one marked `second`."""
    one = marks.index(first)
    other = next(row for row, mark in enumerate(marks) if mark == second and row != one)
    return f"{group.names[one]} and {group.names[other]}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _have(number: int, noun: str) -> str:
    return f"{_count(number, noun)} {'has' if number == 1 else 'have'}"
