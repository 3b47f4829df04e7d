"""What an audit says: frozen dataclasses that hold names and numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any, Literal

from pneumokeras.data.audit.findings import Finding, findings_of
from pneumokeras.data.audit.page import render_page, render_summary
from pneumokeras.files import write_json, write_text

SCHEMA = 1


@dataclass(frozen=True)
class Range:
    """The least, the middle and the greatest of some values."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be trained on.

    Attributes:
        name: its path within the source.
        split: where it stands.
        problem: `unreadable`, `empty`, `truncated` or `undecodable`.
        reason: why, in a sentence or two.
    """

    name: str
    split: str
    problem: str
    reason: str


@dataclass(frozen=True)
class DuplicateGroup:
    """Radiographs that are copies of one film.

    Attributes:
        kind: `exact` where all pixels are equal, `near` where they differ as copies of a film do; then one
            radiograph stands for those with equal pixels.
        names: the radiographs, two or more.
        splits: the split of each.
        classes: the class of each.
    """

    kind: Literal["exact", "near"]
    names: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def crosses_splits(self) -> bool:
        """Whether copies stand in more than one split."""
        return len(set(self.splits)) > 1

    @property
    def conflicts(self) -> bool:
        """Whether copies have different labels."""
        return len(set(self.classes)) > 1


@dataclass(frozen=True)
class SharedPatient:
    """A patient who is in more than one split.

    Attributes:
        patient: as a manifest, the DICOM headers (hashed) or the file names have it.
        images: radiographs of the patient by split.
        suspected: whether the files' own names say so, which may mislead.
    """

    patient: str
    images: dict[str, int]
    suspected: bool


@dataclass(frozen=True)
class Outlier:
    """A radiograph unlike the others in exposure or shape.

    Attributes:
        name: its path within the source.
        split: where it stands.
        reason: in what, such as `aspect 3.10`.
    """

    name: str
    split: str
    reason: str


@dataclass(frozen=True)
class Shortcut:
    """How well size, brightness and border alone tell the classes apart.

    Attributes:
        split: the split it was measured on.
        images: how many radiographs.
        auc: cross-validated AUC of a logistic regression; 0.5 is chance.
        chance: what `auc` reaches in one of 40 cases where there is nothing to tell.
        alone: AUC of the most telling statistics, each by itself.
    """

    split: str
    images: int
    auc: float
    chance: float
    alone: dict[str, float]


@dataclass(frozen=True)
class Shift:
    """How well train and test of one class are told apart by a coarse picture.

    Attributes:
        class_name: the class.
        images: radiographs by split.
        auc: cross-validated AUC of a logistic regression; 0.5 is chance.
        chance: what `auc` reaches in one of 40 cases where there is nothing to tell.
        examples: names of radiographs by what they are examples of.
    """

    class_name: str
    images: dict[str, int]
    auc: float
    chance: float
    examples: dict[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found in a set of radiographs before anything is trained on it.

    Attributes:
        source: the folder or file.
        class_names: names of class 0 and class 1.
        counts: radiographs by split and class.
        patients: patients by split; `None` where nobody said whose any radiograph is.
        formats: radiographs by format and mode, such as `JPEG gray`.
        misnamed: files whose ending is another format's.
        heights: in pixels; `None` where nothing could be read, as with the next three.
        widths: in pixels.
        aspects: width by height.
        brightness: mean gray levels, 0 to 255, by split and class.
        bad_files: files that cannot be trained on.
        outliers: radiographs unlike the others in exposure or shape.
        duplicates: copies of one film, conflicts first, then those across splits.
        shared_patients: patients in more than one split.
        shortcut: `None` where there are too few radiographs or patients to tell.
        shifts: between train and test, a class each; empty where there are too few to tell.
        pictures: JPEG bytes of the radiographs shown on the page, by name.
    """

    source: str
    class_names: tuple[str, str]
    counts: dict[str, dict[str, int]]
    patients: dict[str, int | None]
    formats: dict[str, int]
    misnamed: tuple[str, ...]
    heights: Range | None
    widths: Range | None
    aspects: Range | None
    brightness: dict[str, dict[str, Range]]
    bad_files: tuple[BadFile, ...]
    outliers: tuple[Outlier, ...]
    duplicates: tuple[DuplicateGroup, ...]
    shared_patients: tuple[SharedPatient, ...]
    shortcut: Shortcut | None
    shifts: tuple[Shift, ...]
    pictures: dict[str, bytes] = field(repr=False)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What a reader has to know, a sentence each, the serious first."""
        return findings_of(self)

    @property
    def radiographs(self) -> int:
        """How many there are, bad files included."""
        return sum(sum(classes.values()) for classes in self.counts.values())

    @property
    def is_serious(self) -> bool:
        """Whether anything serious was found."""
        return any(finding.severity == "serious" for finding in self.findings)

    def json(self) -> dict[str, Any]:
        """All of it as JSON-ready numbers, texts, lists and mappings, without the pictures."""
        content = asdict(self)
        del content["pictures"]
        findings = [asdict(finding) for finding in self.findings]
        groups = [
            asdict(group) | {"crosses_splits": group.crosses_splits, "conflicts": group.conflicts}
            for group in self.duplicates
        ]
        return {"schema": SCHEMA, "findings": findings} | content | {"duplicates": groups}

    def write_json(self, path: str | PathLike[str]) -> None:
        """Write `json()` to a file, whole or not at all."""
        write_json(path, self.json())

    def write_html(self, path: str | PathLike[str]) -> None:
        """Write one page that holds its style and pictures and needs no network, whole or not at all."""
        write_text(path, render_page(self))

    def _repr_html_(self) -> str:
        return render_summary(self)
