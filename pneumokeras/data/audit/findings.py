"""From what was measured to sentences, each with how much it matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from pneumokeras.data.audit.types import Finding
from pneumokeras.data.dataset import WHOLE
from pneumokeras.data.from_path import is_too_small

if TYPE_CHECKING:
    from pneumokeras.data.audit.results import Audit
    from pneumokeras.data.audit.types import DuplicateGroup

TELLING_AUC, GIVING_AWAY_AUC = 0.7, 0.98
"""From where a classifier that ought to know nothing is worth knowing of, and from where it is serious."""

IMBALANCE = 2.0  # of the larger class to the smaller

RATE_DIFFERENCE = 0.1

FEWEST_PATIENTS = 3  # one for each split

_KINDS = {"exact": "same pixels", "near": "near-duplicates"}


def findings_of(audit: Audit) -> tuple[Finding, ...]:
    """What an audit found, the serious first."""
    found = [
        *_on_files(audit),
        *_on_counts(audit),
        *_on_duplicates(audit),
        *_on_patients(audit),
        *_on_separations(audit),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity != "serious"))


def _on_files(audit: Audit) -> Iterator[Finding]:
    if audit.bad_files:
        problems = Counter(file.problem for file in audit.bad_files)
        kinds = ", ".join(f"{number} {problem}" for problem, number in problems.items())
        names = [file.name for file in audit.bad_files]
        text = f"{_count(names, 'file')} cannot be used ({kinds}), such as {names[0]}."
        yield Finding("serious", "bad-files", text)
    if audit.misnamed:
        what = f"{_have(audit.misnamed, 'file')} another format than the ending says"
        yield Finding("worth knowing", "misnamed", f"{what}, such as {audit.misnamed[0]}.")
    if len(audit.formats) > 1:
        formats = ", ".join(f"{number:,} {name}" for name, number in audit.formats.items())
        yield Finding("worth knowing", "formats", f"The files are of several kinds: {formats}.")
    if audit.outliers:
        first = audit.outliers[0]
        what = f"{_count(audit.outliers, 'radiograph')} unlike the others in exposure or shape"
        yield Finding("worth knowing", "outliers", f"{what}, such as {first.name} ({first.reason}).")


def _on_counts(audit: Audit) -> Iterator[Finding]:
    for split, counts in audit.counts.items():
        for name in (name for name, count in counts.items() if not count):
            yield Finding("serious", "missing-class", f"{_subject(split)} has no {name} radiographs.")
    val = audit.counts.get("val")
    if val and is_too_small(val):
        held = ", ".join(f"{count} {name}" for name, count in val.items())
        yield Finding("worth knowing", "small-val", f"val has {held}: too few to rank trials reliably.")
    split, counts = next(iter(audit.counts.items()))
    (rarer, fewer), (more_frequent, more) = sorted(counts.items(), key=lambda item: item[1])
    if fewer and more >= IMBALANCE * fewer:
        text = f"{_subject(split)} has {more / fewer:.1f} {more_frequent} radiographs for each {rarer}."
        yield Finding("worth knowing", "imbalance", text)
    if {"train", "test"} <= audit.counts.keys():
        name = audit.class_names[1]
        train, test = (
            audit.counts[split][name] / sum(audit.counts[split].values()) for split in ("train", "test")
        )
        if abs(train - test) >= RATE_DIFFERENCE:
            text = f"{train:.0%} of train and {test:.0%} of test are {name}."
            yield Finding("worth knowing", "class-rates", text)


def _on_duplicates(audit: Audit) -> Iterator[Finding]:
    conflicts = [group for group in audit.duplicates if group.conflicts]
    if conflicts:
        example = _two_of(conflicts[0], conflicts[0].classes, *audit.class_names)
        text = f"{_have(conflicts, 'radiograph')} copies under both classes, such as {example}."
        yield Finding("serious", "label-conflict", text)
    for kind, meaning in _KINDS.items():
        groups = [group for group in audit.duplicates if group.kind == kind]
        for one, other in combinations(audit.counts, 2):
            both = [group for group in groups if {one, other} <= set(group.splits)]
            if both:
                number = sum(group.splits.count(other) for group in both)
                subject = (
                    f"{number:,} {_plural('radiograph', number)} of {other} {'is' if number == 1 else 'are'}"
                )
                example = _two_of(both[0], both[0].splits, one, other)
                text = f"{subject} also in {one} ({meaning}), such as {example}."
                yield Finding("serious", "duplicates-across-splits", text)
        within = [group for group in groups if len(set(group.splits)) < len(group.splits)]
        if within:
            what = f"{_have(within, 'radiograph')} copies in the same split ({meaning})"
            (split, _), *_ = Counter(within[0].splits).most_common(1)
            text = f"{what}, such as {_two_of(within[0], within[0].splits, split, split)}."
            yield Finding("worth knowing", "duplicates-within-split", text)


def _on_patients(audit: Audit) -> Iterator[Finding]:
    for split, number in audit.patients.items():
        radiographs = sum(audit.counts[split].values())
        if number is not None and number < min(FEWEST_PATIENTS, radiographs):
            which = "" if split == WHOLE else f" of {split}"
            text = (
                f"All {radiographs:,} radiographs{which} are of {number} {_plural('patient', number)}: "
                "too few to split, or to judge a model by."
            )
            yield Finding("serious", "few-patients", text)
    for one, other in combinations(audit.counts, 2):
        shared = [patient for patient in audit.shared_patients if {one, other} <= patient.images.keys()]
        for suspected in (False, True):
            patients = [patient for patient in shared if patient.suspected == suspected]
            if patients:
                who = f"{_count(patients, 'patient')} {'is' if len(patients) == 1 else 'are'}"
                text = f"{who} in both {one} and {other}, such as {patients[0].patient}"
                text = f"Suspected: {text} (as far as file names tell)." if suspected else f"{text}."
                yield Finding("serious", "patients-across-splits", text)


def _on_separations(audit: Audit) -> Iterator[Finding]:
    shortcut = audit.shortcut
    if shortcut and shortcut.auc >= max(TELLING_AUC, shortcut.chance):
        text = (
            f"Size, brightness and border statistics alone tell the classes apart with an AUC of "
            f"{shortcut.auc:.2f}: the yardstick that any network must clearly beat."
        )
        yield Finding(_severity(shortcut.auc), "shortcut", text)
    for shift in audit.shifts:
        if shift.auc >= max(TELLING_AUC, shift.chance):
            text = (
                f"{shift.class_name} radiographs of test are told from those of train with an AUC of "
                f"{shift.auc:.2f}: figures on val will look better than those on test."
            )
            yield Finding(_severity(shift.auc), "shift", text)


def _severity(auc: float) -> Literal["serious", "worth knowing"]:
    return "serious" if auc >= GIVING_AWAY_AUC else "worth knowing"


def _subject(split: str) -> str:
    return "The set" if split == WHOLE else split


def _two_of(group: DuplicateGroup, marks: Sequence[str], one: str, other: str) -> str:
    """The first radiograph of a group that has the first mark, and the first other one with the second."""
    first = marks.index(one)
    second = next(row for row, mark in enumerate(marks) if mark == other and row != first)
    return f"{group.names[first]} and {group.names[second]}"


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things):,} {_plural(noun, len(things))}"


def _have(things: Sequence[object], noun: str) -> str:
    return f"{_count(things, noun)} {'has' if len(things) == 1 else 'have'}"


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"
