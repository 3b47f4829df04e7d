"""The result of an audit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any

from pneumokeras.core.files import write_json, write_text
from pneumokeras.data.audit.findings import (
    count_findings,
    duplicate_findings,
    file_findings,
    patient_findings,
    separation_findings,
)
from pneumokeras.data.audit.page import render_page, render_summary
from pneumokeras.data.audit.types import (
    DuplicateGroup,
    Finding,
    Outlier,
    Range,
    SharedPatient,
    Shift,
    Shortcut,
)
from pneumokeras.data.dataset import BadFile

SCHEMA = 1


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What an audit found in a set of radiographs.

    Attributes:
        source: the folder or file.
        class_names: names of class 0 and class 1.
        counts: number of radiographs by split and class.
        patients: number of patients by split; `None` if no patient is known.
        formats: number of radiographs by format and mode, such as `JPEG gray`.
        misnamed: files whose ending belongs to another format.
        heights: in pixels; `None` if no file could be read, as with `widths` and `aspects`.
        widths: in pixels.
        aspects: width divided by height.
        brightness: mean gray levels, 0 to 255, by split and class.
        bad_files: files that cannot be trained on.
        outliers: radiographs unlike the others in exposure or shape.
        duplicates: groups of duplicates: label conflicts first, then those across splits.
        shared_patients: patients in more than one split.
        shortcut: `None` if there are too few radiographs or patients to measure it.
        shifts: between train and test, one per class; empty if there are too few to measure it.
        pictures: JPEG bytes of the radiographs shown on the page, by name.

    Example:
        >>> audit = pk.audit("chest_xray")
        >>> audit.radiographs
        96
        >>> audit.counts["val"]
        {'NORMAL': 8, 'PNEUMONIA': 12}
        >>> audit.write_html("audit.html")
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
        """What to know before training, serious findings first."""
        found = [
            *file_findings(
                bad_files=self.bad_files,
                misnamed=self.misnamed,
                formats=self.formats,
                outliers=self.outliers,
            ),
            *count_findings(self.counts, self.class_names),
            *duplicate_findings(self.duplicates, splits=tuple(self.counts), class_names=self.class_names),
            *patient_findings(self.shared_patients, patients=self.patients, counts=self.counts),
            *separation_findings(self.shortcut, self.shifts),
        ]
        return tuple(sorted(found, key=lambda finding: finding.severity != "serious"))

    @property
    def radiographs(self) -> int:
        """Number of radiographs, bad files included."""
        return sum(sum(classes.values()) for classes in self.counts.values())

    @property
    def is_serious(self) -> bool:
        """Whether any finding is serious."""
        return any(finding.severity == "serious" for finding in self.findings)

    def json(self) -> dict[str, Any]:
        """Return everything except the pictures as JSON-ready numbers, texts, lists and mappings."""
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
        """Write a page that needs no network and holds its style and pictures, whole or not at all."""
        write_text(path, render_page(self._parts()))

    def __repr__(self) -> str:
        """Return one line with the numbers of radiographs and of findings."""
        return f"<Audit of {self.source}: {self.radiographs} radiographs, {len(self.findings)} findings>"

    def _repr_html_(self) -> str:
        return render_summary(self._parts())

    def _parts(self) -> dict[str, Any]:
        """Return the attributes, findings and count of radiographs by name, for the page."""
        return {name: getattr(self, name) for name in (*self.__dataclass_fields__, "findings", "radiographs")}
