"""The plain values that an audit consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["serious", "worth knowing"]


@dataclass(frozen=True)
class Finding:
    """One thing to know before training on the radiographs.

    Attributes:
        severity: `serious` if metrics computed on these radiographs would be wrong or cannot be computed,
            otherwise `worth knowing`.
        kind: a keyword for programs, such as `label-conflict`.
        text: one or two sentences.
    """

    severity: Severity
    kind: str
    text: str


@dataclass(frozen=True)
class Range:
    """Minimum, median and maximum of some values."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class DuplicateGroup:
    """A group of duplicates.

    Attributes:
        kind: `exact` if all pixels are equal; `near` if they differ, then exact duplicates are represented by
            one radiograph.
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
        """Whether the duplicates are in more than one split."""
        return len(set(self.splits)) > 1

    @property
    def conflicts(self) -> bool:
        """Whether the duplicates have different labels."""
        return len(set(self.classes)) > 1


@dataclass(frozen=True)
class SharedPatient:
    """A patient with radiographs in more than one split.

    Attributes:
        patient: the name from the manifest, the DICOM header (hashed) or the file name.
        images: number of the patient's radiographs by split.
        suspected: whether the patient is known only from file names, which can mislead.
    """

    patient: str
    images: dict[str, int]
    suspected: bool


@dataclass(frozen=True)
class Outlier:
    """A radiograph unlike the others in exposure or shape.

    Attributes:
        name: its path relative to the source.
        split: the split it belongs to.
        reason: what is unusual, such as `aspect 3.10`.
    """

    name: str
    split: str
    reason: str


@dataclass(frozen=True)
class Shortcut:
    """How well size, brightness and border alone separate the classes.

    Attributes:
        split: the split it was measured on.
        images: number of radiographs.
        auc: cross-validated AUC of a logistic regression; 0.5 is chance.
        chance: the AUC that 39 of 40 classifiers without any information stay below.
        alone: AUC of the most informative statistics, each by itself.
    """

    split: str
    images: int
    auc: float
    chance: float
    alone: dict[str, float]


@dataclass(frozen=True)
class Shift:
    """How well a coarse picture separates train from test within one class.

    Attributes:
        class_name: the class.
        images: number of radiographs by split.
        auc: cross-validated AUC of a logistic regression; 0.5 is chance.
        chance: the AUC that 39 of 40 classifiers without any information stay below.
        examples: names of radiographs, by what they show, such as `train, most like test`.
    """

    class_name: str
    images: dict[str, int]
    auc: float
    chance: float
    examples: dict[str, tuple[str, ...]]
