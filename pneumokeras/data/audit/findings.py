"""What an audit reports: the rules as data, then the functions that fill them in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pneumokeras.data.audit.types import (
    BadFile,
    DuplicateGroup,
    Finding,
    Outlier,
    Severity,
    SharedPatient,
    Shift,
    Shortcut,
)
from pneumokeras.data.dataset import WHOLE
from pneumokeras.data.from_path import is_too_small

REPORTED_AUC, SERIOUS_AUC = 0.7, 0.98
"""AUC from which a classifier that should have no information is reported, and from which it is serious."""

MAX_CLASS_RATIO = 2.0  # larger class to smaller class

MAX_RATE_DIFFERENCE = 0.1

MIN_PATIENTS = 3  # one for each split

Counts = Mapping[str, Mapping[str, int]]
"""Number of radiographs by split and class."""


@dataclass(frozen=True)
class Rule:
    """One kind of finding.

    Attributes:
        kind: a keyword for programs.
        severity: how much it matters.
        text: the sentence, with names of values in braces.
    """

    kind: str
    severity: Severity
    text: str

    def finding(self, *, severity: Severity | None = None, **values: object) -> Finding:
        """Return the finding with its values filled in, at the rule's severity unless another is given."""
        return Finding(severity or self.severity, self.kind, self.text.format(**values))


BAD_FILES = Rule("bad-files", "serious", "{files} cannot be used ({problems}), such as {example}.")
MISNAMED = Rule(
    "misnamed", "worth knowing", "{files_have} another format than the ending says, such as {example}."
)
FORMATS = Rule("formats", "worth knowing", "The files are of several kinds: {formats}.")
OUTLIERS = Rule(
    "outliers",
    "worth knowing",
    "{radiographs} unlike the others in exposure or shape, such as {example} ({reason}).",
)
MISSING_CLASS = Rule("missing-class", "serious", "{subject} has no {class_name} radiographs.")
SMALL_VAL = Rule("small-val", "worth knowing", "val has {counts}: too few to rank trials reliably.")
IMBALANCE = Rule(
    "imbalance", "worth knowing", "{subject} has {ratio:.1f} {larger} radiographs for each {smaller}."
)
CLASS_RATES = Rule(
    "class-rates", "worth knowing", "{train:.0%} of train and {test:.0%} of test are {class_name}."
)
LABEL_CONFLICT = Rule(
    "label-conflict", "serious", "{radiographs_have} copies under both classes, such as {example}."
)
ACROSS_SPLITS = Rule(
    "duplicates-across-splits",
    "serious",
    "{radiographs} of {second} {are} also in {first} ({meaning}), such as {example}.",
)
WITHIN_SPLIT = Rule(
    "duplicates-within-split",
    "worth knowing",
    "{radiographs_have} copies in the same split ({meaning}), such as {example}.",
)
FEW_PATIENTS = Rule(
    "few-patients",
    "serious",
    "All {radiographs} are of {patients}: too few to split, or to judge a model by.",
)
SHARED_PATIENTS = Rule(
    "patients-across-splits",
    "serious",
    "{patients} {are} in both {first} and {second}, such as {example}.",
)
SUSPECTED_PATIENTS = Rule(
    "patients-across-splits",
    "serious",
    "Suspected: {patients} {are} in both {first} and {second}, such as {example} "
    "(as far as file names tell).",
)
SHORTCUT = Rule(
    "shortcut",
    "worth knowing",
    "Size, brightness and border statistics alone tell the classes apart with an AUC of {auc:.2f}: "
    "the yardstick that any network must clearly beat.",
)
SHIFT = Rule(
    "shift",
    "worth knowing",
    "{class_name} radiographs of test are told from those of train with an AUC of {auc:.2f}: "
    "figures on val will look better than those on test.",
)

_MEANINGS = {"exact": "same pixels", "near": "near-duplicates"}


def file_findings(
    *,
    bad_files: Sequence[BadFile],
    misnamed: Sequence[str],
    formats: Mapping[str, int],
    outliers: Sequence[Outlier],
) -> Iterator[Finding]:
    """Yield what is wrong or unusual in single files."""
    if bad_files:
        problems = Counter(file.problem for file in bad_files)
        yield BAD_FILES.finding(
            files=_count(len(bad_files), "file"),
            problems=", ".join(f"{number} {problem}" for problem, number in problems.items()),
            example=bad_files[0].name,
        )
    if misnamed:
        yield MISNAMED.finding(files_have=_have(len(misnamed), "file"), example=misnamed[0])
    if len(formats) > 1:
        yield FORMATS.finding(formats=", ".join(f"{number:,} {name}" for name, number in formats.items()))
    if outliers:
        yield OUTLIERS.finding(
            radiographs=_count(len(outliers), "radiograph"),
            example=outliers[0].name,
            reason=outliers[0].reason,
        )


def count_findings(counts: Counts, class_names: tuple[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with the numbers of radiographs."""
    for split, classes in counts.items():
        for name in (name for name, count in classes.items() if not count):
            yield MISSING_CLASS.finding(subject=_subject(split), class_name=name)
    val = counts.get("val")
    if val and is_too_small(val):
        yield SMALL_VAL.finding(counts=", ".join(f"{count} {name}" for name, count in val.items()))
    split, classes = next(iter(counts.items()))
    (smaller, fewer), (larger, more) = sorted(classes.items(), key=lambda item: item[1])
    if fewer and more >= MAX_CLASS_RATIO * fewer:
        yield IMBALANCE.finding(subject=_subject(split), ratio=more / fewer, larger=larger, smaller=smaller)
    if {"train", "test"} <= counts.keys():
        name = class_names[1]
        train, test = (counts[split][name] / sum(counts[split].values()) for split in ("train", "test"))
        if abs(train - test) >= MAX_RATE_DIFFERENCE:
            yield CLASS_RATES.finding(train=train, test=test, class_name=name)


def duplicate_findings(
    duplicates: Sequence[DuplicateGroup], *, splits: Sequence[str], class_names: tuple[str, str]
) -> Iterator[Finding]:
    """Yield which copies contradict each other, leak from one split into another, or count twice."""
    conflicts = [group for group in duplicates if group.conflicts]
    if conflicts:
        yield LABEL_CONFLICT.finding(
            radiographs_have=_have(len(conflicts), "radiograph"),
            example=_pair(conflicts[0], conflicts[0].classes, *class_names),
        )
    for kind, meaning in _MEANINGS.items():
        groups = [group for group in duplicates if group.kind == kind]
        for first, second in combinations(splits, 2):
            shared = [group for group in groups if {first, second} <= set(group.splits)]
            if shared:
                number = sum(group.splits.count(second) for group in shared)
                yield ACROSS_SPLITS.finding(
                    radiographs=_count(number, "radiograph"),
                    are=_are(number),
                    first=first,
                    second=second,
                    meaning=meaning,
                    example=_pair(shared[0], shared[0].splits, first, second),
                )
        repeated = [group for group in groups if len(set(group.splits)) < len(group.splits)]
        if repeated:
            (split, _), *_ = Counter(repeated[0].splits).most_common(1)
            yield WITHIN_SPLIT.finding(
                radiographs_have=_have(len(repeated), "radiograph"),
                meaning=meaning,
                example=_pair(repeated[0], repeated[0].splits, split, split),
            )


def patient_findings(
    shared_patients: Sequence[SharedPatient], *, patients: Mapping[str, int | None], counts: Counts
) -> Iterator[Finding]:
    """Yield which splits have too few patients, and which share some."""
    for split, number in patients.items():
        radiographs = sum(counts[split].values())
        if number is not None and number < min(MIN_PATIENTS, radiographs):
            of_split = "" if split == WHOLE else f" of {split}"
            yield FEW_PATIENTS.finding(
                radiographs=f"{radiographs:,} radiographs{of_split}", patients=_count(number, "patient")
            )
    for first, second in combinations(counts, 2):
        shared = [patient for patient in shared_patients if {first, second} <= patient.images.keys()]
        for rule, suspected in ((SHARED_PATIENTS, False), (SUSPECTED_PATIENTS, True)):
            found = [patient for patient in shared if patient.suspected == suspected]
            if found:
                yield rule.finding(
                    patients=_count(len(found), "patient"),
                    are=_are(len(found)),
                    first=first,
                    second=second,
                    example=found[0].patient,
                )


def separation_findings(shortcut: Shortcut | None, shifts: Sequence[Shift]) -> Iterator[Finding]:
    """Yield which classifiers do well although they should have no information."""
    if shortcut and shortcut.auc >= max(REPORTED_AUC, shortcut.chance):
        yield SHORTCUT.finding(severity=_severity(shortcut.auc), auc=shortcut.auc)
    for shift in shifts:
        if shift.auc >= max(REPORTED_AUC, shift.chance):
            yield SHIFT.finding(severity=_severity(shift.auc), class_name=shift.class_name, auc=shift.auc)


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
