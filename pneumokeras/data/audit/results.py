"""What an audit says: frozen dataclasses that hold names and numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any

from pneumokeras.core.files import write_json, write_text
from pneumokeras.data.audit.findings import findings_of
from pneumokeras.data.audit.page import render_page, render_summary
from pneumokeras.data.audit.types import (
    BadFile,
    DuplicateGroup,
    Finding,
    Outlier,
    Range,
    SharedPatient,
    Shift,
    Shortcut,
)

SCHEMA = 1


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
