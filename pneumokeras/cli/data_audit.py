"""`pneumokeras data audit`: look for anything that would make a model's metrics wrong, before training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumokeras.cli.console import Talk, talking
from pneumokeras.cli.options import PATH, OutputFile, reading_options

if TYPE_CHECKING:
    from pneumokeras.data.audit import Audit


@click.command()
@click.argument("path", type=PATH)
@click.option(
    "--json",
    "json_file",
    type=OutputFile(allow_dash=True),
    metavar="FILE",
    help="Write the whole audit as JSON; - is stdout.",
)
@click.option(
    "--html", "html_file", type=OutputFile(), metavar="FILE", help="Write an HTML page with pictures."
)
@click.option("--strict", is_flag=True, help="Exit with 1 if anything serious is found.")
@reading_options
@talking
def audit(
    talk: Talk,
    *,
    path: Path,
    json_file: Path | None,
    html_file: Path | None,
    strict: bool,
    classes: tuple[str, str],
    patient_pattern: str | None,
) -> None:
    """Look for anything that would make metrics wrong, in a folder, .npz or CSV manifest.

    Finds unreadable files, duplicates, patients in several splits, contradicting labels, shortcuts, and
    differences between train and test. Nothing is split or changed.
    """
    from pneumokeras.data.audit import audit as audit_path

    found = audit_path(path, classes=classes, patient_pattern=patient_pattern)
    if json_file == Path("-"):
        talk.result(json.dumps(found.json(), indent=2))
    else:
        talk.result("\n".join(_audit_lines(found)))
    if json_file is not None and json_file != Path("-"):
        found.write_json(json_file)
        talk.say(f"JSON: {json_file}")
    if html_file is not None:
        found.write_html(html_file)
        talk.say(f"Page: {html_file}")
    if strict and found.is_serious:
        raise click.exceptions.Exit(1)


def _audit_lines(audit: Audit) -> Iterator[str]:
    """Yield counts, AUCs and findings, a line each."""
    for split, counts in audit.counts.items():
        classes = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        number = audit.patients[split]
        patients = "patients unknown" if number is None else f"{number:,} patient{'' if number == 1 else 's'}"
        yield f"{split:<6} {classes}; {patients}"
    if audit.shortcut:
        yield f"shortcut AUC {audit.shortcut.auc:.2f}: {', '.join(audit.shortcut.alone)}"
    for shift in audit.shifts:
        yield f"shift AUC {shift.auc:.2f}: train and test of {shift.class_name}"
    for finding in audit.findings:
        yield f"{finding.severity}: {finding.text}"
    if not audit.findings:
        yield "Nothing to report was found."
