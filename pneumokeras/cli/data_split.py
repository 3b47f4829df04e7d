"""`pneumokeras data split`: split radiographs into train, val and test, or folds, as a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumokeras.cli.console import Talk, program, talking
from pneumokeras.cli.options import PATH, OutputFile, reading_options, seed_option, skip_bad_option
from pneumokeras.core.words import number_of

if TYPE_CHECKING:
    from pneumokeras.data.dataset import RadiographSet

SHARE = click.FloatRange(0.0, 1.0, max_open=True)


@click.command()
@click.argument("path", type=PATH)
@click.argument("out", type=OutputFile(), metavar="OUT.csv")
@click.option("--val", type=SHARE, default=0.1, show_default=True, help="Share of val.")
@click.option("--test", type=SHARE, default=0.1, show_default=True, help="Share of test.")
@seed_option("The same seed gives the same split.")
@click.option("--folds", type=click.IntRange(min=2), help="Also split all but test into this many folds.")
@click.option("--force", is_flag=True, help="Replace OUT.csv if it exists.")
@reading_options
@skip_bad_option
@talking
def split(
    talk: Talk,
    *,
    path: Path,
    out: Path,
    val: float,
    test: float,
    seed: int,
    folds: int | None,
    force: bool,
    skip_bad: bool,
    classes: tuple[str, str],
    patient_pattern: str | None,
) -> None:
    """Split the patients of PATH into train, val and test, and write the result to OUT.csv.

    Patients and duplicates stay in one split; classes and subtypes keep their proportions. Existing splits
    of PATH are merged and split again. No file is moved or changed.
    """
    from pneumokeras.data.dataset import skipped_notice
    from pneumokeras.data.from_path import find_radiographs, whole_of
    from pneumokeras.data.splits import check_manifest_path, write_manifest
    from pneumokeras.data.splitting import checked_shares, films_of
    from pneumokeras.data.splitting import split as split_set

    checked_shares(val, test)  # before the radiographs are read
    if out.is_file() and not force:
        raise click.UsageError(f"{out} already exists. Name another file, or replace it with --force.")
    check_manifest_path(out, overwrite=force)
    if out.exists() and path.exists() and out.samefile(path):
        raise click.UsageError(f"{out} is the manifest to split; name another file.")
    found = find_radiographs(path, classes=classes, patient_pattern=patient_pattern)
    if "" not in found:
        talk.say(f"{path} has splits of its own ({', '.join(found)}): they are merged and split again.")
    radiographs = whole_of(found)
    if skip_bad:
        radiographs = radiographs.without_bad()
    if radiographs.skipped:
        talk.say(skipped_notice(radiographs.skipped))
    films = films_of(radiographs)
    splits = split_set(radiographs, val=val, test=test, seed=seed, films=films)
    in_folds = (
        split_set(radiographs, val=val, test=test, seed=seed, folds=folds, films=films) if folds else []
    )
    for notice in splits.notices:
        talk.say(notice)
    for number, fold in enumerate(in_folds):
        for notice in fold.notices:
            if notice not in splits.notices:
                talk.say(f"fold {number}: {notice}")
    write_manifest(out, splits, folds=in_folds, overwrite=force)
    for part in splits:
        if len(part):
            talk.result(f"{part.split:<6} {_contents(part)}")
    for number, fold in enumerate(in_folds):
        talk.result(f"fold {number} {_contents(fold.val)}")
    keep_val = " --keep-val" if len(splits.val) else ""
    talk.result(f"Next: {program()} tune --data {out}{keep_val}")


def _contents(radiographs: RadiographSet) -> str:
    """Return such as "520 radiographs (134 NORMAL, 386 PNEUMONIA) of 310 patients"."""
    counts = ", ".join(f"{count} {name}" for name, count in radiographs.counts.items())
    patients = number_of(len(set(radiographs.patients)), "patient")
    return f"{number_of(len(radiographs), 'radiograph')} ({counts}) of {patients}"
