"""What an audit finds: plain values, without the pages and texts that show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing a reader has to know.

    Attributes:
        severity: `serious` where figures made from these radiographs would be wrong or cannot be made,
            else `worth knowing`.
        kind: a word for programs, such as `label-conflict`.
        text: a sentence or two for people.
    """

    severity: Literal["serious", "worth knowing"]
    kind: str
    text: str


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
